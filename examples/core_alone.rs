//! What the core does, without Postgres, server or disk: frames of the replication stream go in, log items for the
//! clients come out. Run it with `cargo run -p limn-core --example core_alone`.
#![allow(clippy::print_stdout, reason = "an example talks to its terminal")]

use limn_core::ShapeId;
use limn_core::pg::{Column, QualifiedName, Relation, SnapshotBounds, SnapshotFilter, oid};
use limn_core::pgoutput::decode;
use limn_core::protocol::request::parse_shape_request;
use limn_core::protocol::route::Method;
use limn_core::shape::dependent::DependentState;
use limn_core::shape::{Definition, GeneratedColumns, Router, Step};
use std::error::Error;
use std::sync::Arc;

const ITEMS: u32 = 16384;

fn main() -> Result<(), Box<dyn Error>> {
    for line in run()? {
        println!("{line}");
    }
    Ok(())
}

/// Routes one transaction to two shapes, and returns what each of their logs gets.
fn run() -> Result<Vec<String>, Box<dyn Error>> {
    let items = Arc::new(items());
    let mut router = Router::default();
    let queries = ["table=items&offset=-1", "table=items&offset=-1&where=price%20%3E%20100"];
    for (id, query) in (0..).zip(queries) {
        // A request as it comes over HTTP, checked against the table as the catalog describes it.
        let request = parse_shape_request(Method::Get, query)?;
        let definition = Definition::resolve(&request.definition, &items, &GeneratedColumns::Never, &[])?;
        // Each shape begins behind its snapshot: the changes of the transactions that the snapshot holds are left out.
        let bounds = SnapshotBounds { xmin: 800, xmax: 800, xip: Vec::new() };
        let filter = SnapshotFilter { bounds, ends_at: 50 };
        router.add_restored(ShapeId(id), &definition, "", filter, DependentState::default());
    }
    let mut lines = Vec::new();
    for frame in transaction() {
        match router.handle_message(&decode(&frame)?)? {
            Step::Committed { commit, .. } => lines.push(format!("the transaction commits at {commit}")),
            Step::Began | Step::Continued => {}
        }
        let mut pairs = Vec::new();
        for item in router.fragment().by_shape(&mut pairs) {
            let bytes = String::from_utf8_lossy(item.bytes);
            lines.push(format!("shape {} operation {}: {bytes}", item.shape.0, item.op));
        }
        router.clear_fragment();
    }
    Ok(lines)
}

/// `CREATE TABLE items (id int PRIMARY KEY, price int)`, as the catalog tells it.
fn items() -> Relation {
    let column = |name: &str, pk_index| Column {
        not_null: pk_index == Some(0),
        pk_index,
        ..Column::new(name, oid::INT4, "int4")
    };
    Relation::new(
        ITEMS,
        QualifiedName::new("public", "items"),
        vec![column("id", Some(0)), column("price", None)],
    )
}

/// `INSERT INTO items VALUES (1, 40), (2, 140)`, as pgoutput sends it: begin, relation, two inserts, commit.
fn transaction() -> Vec<Vec<u8>> {
    let (commit, end, time, xid) =
        (100_u64.to_be_bytes(), 108_u64.to_be_bytes(), [0; 8], 900_u32.to_be_bytes());
    let relation = ITEMS.to_be_bytes();
    // Part of the key, name, type, no type modifier.
    let column = |name: &str| {
        let (type_oid, modifier) = (oid::INT4.to_be_bytes(), (-1_i32).to_be_bytes());
        [b"\x01", name.as_bytes(), b"\0", &type_oid, &modifier].concat()
    };
    let insert = |id: &str, price: &str| {
        let cell = |text: &str| [b"t", &[0, 0, 0, text.len() as u8][..], text.as_bytes()].concat();
        [b"I", &relation[..], b"N\0\x02", &cell(id), &cell(price)].concat()
    };
    vec![
        [b"B", &commit[..], &time, &xid].concat(),
        [b"R", &relation[..], b"public\0items\0f\0\x02", &column("id"), &column("price")].concat(),
        insert("1", "40"),
        insert("2", "140"),
        [b"C\0", &commit[..], &end, &time].concat(),
    ]
}

#[test]
fn each_shape_gets_the_rows_that_its_clause_lets_in() {
    let lines = run().expect("valid input");
    let shapes: Vec<&str> =
        lines.iter().map(|line| line.split(" operation").next().unwrap_or(line)).collect();
    assert_eq!(shapes, ["shape 0", "shape 0", "shape 1", "the transaction commits at 0/64"]);
}
