//! Which publications bear REPLICA IDENTITY FULL: what the catalog is read to say, against what Postgres does.

use super::server::Server;
use limn_origin::postgres::Session;
use limn_origin::postgres::catalog::server_version_num;
use limn_origin::postgres::conflict::{Assumed, conflicts};
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// Tables that a shape may be made of, and all that their rows are in. Two schemas, since a publication may hold one.
const TREES: [(&str, &[&str]); 6] = [
    ("s.t", &["s.t"]),
    ("s.r", &["s.k", "o.l"]),
    ("o.m", &["o.l"]),
    ("o.l", &["o.l"]),
    ("s.p", &["s.p", "o.c"]),
    ("o.c", &["o.c"]),
];

/// `g` stands for the generated column, where there is one.
fn tables(generated: &str) -> String {
    format!(
        "CREATE SCHEMA s; CREATE SCHEMA o;
         CREATE TABLE s.t (id int PRIMARY KEY, a int{generated});
         CREATE TABLE s.r (id int PRIMARY KEY, a int{generated}) PARTITION BY RANGE (id);
         CREATE TABLE s.k PARTITION OF s.r FOR VALUES FROM (0) TO (10);
         CREATE TABLE o.m PARTITION OF s.r FOR VALUES FROM (10) TO (20) PARTITION BY RANGE (id);
         CREATE TABLE o.l PARTITION OF o.m FOR VALUES FROM (10) TO (20);
         CREATE TABLE s.p (id int PRIMARY KEY, a int{generated});
         CREATE TABLE o.c (PRIMARY KEY (id)) INHERITS (s.p);
         CREATE UNLOGGED TABLE s.u (id int PRIMARY KEY, a int{generated})"
    )
}

/// What a publication of somebody else is made `FOR`, and `WITH` which options.
fn publications(version: u32) -> Vec<String> {
    let mut all = Vec::new();
    let carried = ["s.t", "s.r", "s.k", "o.m", "o.l", "s.p", "o.c", "ONLY s.p"];
    let generated: &[&str] = if version >= 180_000 { &["none", "stored"] } else { &[""] };
    for stored in generated {
        let stored = match *stored {
            "" => String::new(),
            stored => format!(", publish_generated_columns = {stored}"),
        };
        let options = |via_root: bool, operations: &str| {
            format!("WITH (publish_via_partition_root = {via_root}, publish = '{operations}'{stored})")
        };
        let everything = "insert, update, delete, truncate";
        for via_root in [false, true] {
            for columns in ["", " (id)", " (id, a, g)"] {
                for filter in ["", " WHERE (a > 0)", " WHERE (g > 0)"] {
                    let tables = carried.iter().map(|table| format!("TABLE {table}{columns}{filter}"));
                    all.extend(tables.map(|table| format!("{table} {}", options(via_root, everything))));
                }
            }
            // The topmost table that the publication names decides, with a list or without.
            for pair in ["s.r, o.l (id)", "s.r (id), o.l", "s.r, o.m (id)", "o.m, o.l (id)"] {
                all.push(format!("TABLE {pair} {}", options(via_root, everything)));
            }
            for schema in ["s", "o"] {
                all.push(format!("TABLES IN SCHEMA {schema} {}", options(via_root, everything)));
                all.push(format!("TABLES IN SCHEMA {schema} {}", options(via_root, "insert")));
            }
            all.push(format!("ALL TABLES {}", options(via_root, everything)));
            all.push(format!("ALL TABLES {}", options(via_root, "insert, truncate")));
        }
        for operations in ["insert", "update", "delete", "truncate"] {
            all.push(format!("TABLE s.t (id) {}", options(false, operations)));
            all.push(format!("TABLE o.l {}", options(false, operations)));
        }
    }
    all
}

/// The tables, of these, to which UPDATE or DELETE fails.
async fn broken(session: &Session, tables: &[&str]) -> BTreeSet<String> {
    let mut broken = BTreeSet::new();
    for table in tables {
        for statement in [format!("UPDATE ONLY {table} SET a = a"), format!("DELETE FROM ONLY {table}")] {
            session.batch_execute("SAVEPOINT write").await.expect("a savepoint");
            if let Err(error) = session.batch_execute(&statement).await {
                let code = error.code().map(|code| code.code().to_owned());
                assert_eq!(code.as_deref(), Some("42P10"), "{statement}: {error:?}");
                broken.insert((*table).to_owned());
                session.batch_execute("ROLLBACK TO SAVEPOINT write").await.expect("goes back");
            }
        }
    }
    broken
}

async fn found(session: &Session, top: &str, assumed: Assumed) -> BTreeSet<String> {
    let oid = session.query_one(&format!("SELECT '{top}'::regclass::oid"), &[]).await.expect("exists").get(0);
    let found = conflicts(session, &[oid], "ours", assumed).await.expect("answers");
    assert!(found.iter().all(|conflict| conflict.top == oid && !conflict.reasons.is_empty()), "{found:?}");
    found.into_iter().map(|conflict| conflict.table).collect()
}

/// Whether a publication may carry a table of that tree.
fn concerns(made: &str, top: &str) -> bool {
    let families: [&[&str]; 3] = [&["s.t"], &["s.r", "s.k", "o.m", "o.l"], &["s.p", "o.c"]];
    let family = families.iter().find(|family| family.contains(&top)).expect("every table has a family");
    !made.starts_with("TABLE ") || family.iter().any(|table| made.contains(table))
}

/// What publishing `top` does, whose rows are in `rows`, to the identities of `altered`.
fn publish(top: &str, rows: &[&str], altered: &[&str]) -> String {
    let mut sql = String::new();
    for table in altered {
        let _ = write!(sql, "ALTER TABLE ONLY {table} REPLICA IDENTITY FULL;");
    }
    match top {
        "s.p" => rows.iter().for_each(|table| {
            let _ = write!(sql, "ALTER PUBLICATION ours ADD TABLE ONLY {table};");
        }),
        _ => {
            let _ = write!(sql, "ALTER PUBLICATION ours ADD TABLE ONLY {top};");
        }
    }
    sql
}

async fn compare(session: &Session, made: &str) -> (usize, usize) {
    let (mut broken_ones, mut whole_ones) = (0, 0);
    for (top, rows) in TREES.iter().filter(|(top, _)| concerns(made, top)) {
        let (top, rows) = (*top, *rows);
        session.batch_execute("BEGIN").await.expect("begins");
        let create = format!("CREATE PUBLICATION warehouse FOR {made}");
        if session.batch_execute(&create).await.is_err() {
            // Postgres does not take everything that this test makes up.
            session.batch_execute("ROLLBACK").await.expect("goes back");
            return (0, 0);
        }
        let expected = found(session, top, Assumed::Published).await;
        let mut altered = rows.to_vec();
        altered.extend((!rows.contains(&top)).then_some(top));
        session.batch_execute(&publish(top, rows, &altered)).await.expect("is published");
        let truth = broken(session, rows).await;
        assert_eq!(expected, truth, "before it is published: {top}, {made}");
        assert_eq!(found(session, top, Assumed::Nothing).await, truth, "afterwards: {top}, {made}");
        session.batch_execute("ROLLBACK").await.expect("goes back");
        match truth.is_empty() {
            true => whole_ones += 1,
            false => broken_ones += 1,
        }
    }
    (broken_ones, whole_ones)
}

#[tokio::test]
async fn what_the_catalog_says_is_what_postgres_does() {
    let server = Server::shared();
    let version = {
        let session = Session::connect(&server.local("postgres")).await.expect("connects");
        server_version_num(&session).await.expect("answers")
    };
    let mut generated = vec!["", ", g int GENERATED ALWAYS AS (id + 1) STORED"];
    if version >= 180_000 {
        generated.push(", g int GENERATED ALWAYS AS (id + 1) VIRTUAL");
    }
    let (mut broken, mut whole) = (0, 0);
    for generated in generated {
        let session = Session::connect(&server.local(&server.database().await)).await.expect("connects");
        session.batch_execute(&tables(generated)).await.expect("makes tables");
        let options: &[&str] = match version >= 180_000 {
            true => &[" WITH (publish_generated_columns = stored)", ""],
            false => &[""],
        };
        for options in options {
            let ours = format!("DROP PUBLICATION IF EXISTS ours; CREATE PUBLICATION ours{options}");
            session.batch_execute(&ours).await.expect("is made");
            for made in publications(version) {
                let (broken_ones, whole_ones) = compare(&session, &made).await;
                broken += broken_ones;
                whole += whole_ones;
            }
        }
        if !generated.is_empty() {
            // A column that is gone is no generated one.
            session.batch_execute("ALTER TABLE s.t DROP COLUMN g").await.expect("is dropped");
            compare(&session, "ALL TABLES").await;
        }
    }
    assert!(whole > 100, "{whole} whole, {broken} broken");
    assert_eq!(broken > 100, version >= 150_000, "{whole} whole, {broken} broken");
}
