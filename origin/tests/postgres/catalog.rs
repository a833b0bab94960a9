//! Descriptions of tables.

use super::server::Server;
use limn_core::pg::{Collation, Column, DomainBase, QualifiedName, TypeKind, Typing, oid};
use limn_origin::postgres::Session;
use limn_origin::postgres::catalog::{TableKind, describe, describe_oid, wal_positions};

async fn session(sql: &str) -> Session {
    let server = Server::shared();
    let database = server.database().await;
    let session = Session::connect(&server.local(&database)).await.expect("connects");
    session.batch_execute(sql).await.expect(sql);
    session
}

#[tokio::test]
async fn columns_are_described_as_the_catalog_has_them() {
    let session = session(
        "CREATE SCHEMA \"My schema\"; CREATE DOMAIN name_domain AS varchar(20);
         CREATE TABLE \"My schema\".\"It's\" (
            b int4, gone int4, a varchar(9) NOT NULL, tags text[], grid int4[][],
            twice int4 GENERATED ALWAYS AS (b * 2) STORED, n name_domain, v oidvector, extra int4,
            PRIMARY KEY (a, b) INCLUDE (extra));
         ALTER TABLE \"My schema\".\"It's\" DROP COLUMN gone",
    )
    .await;
    let name = QualifiedName::new("My schema", "It's");
    let table = describe(&session, &name).await.expect("answers").expect("exists");
    assert_eq!((table.kind, table.ancestors.as_slice()), (TableKind::Ordinary, [].as_slice()));
    let relation = &table.relation;
    assert_eq!(relation.name, name);
    let names: Vec<_> = relation.columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(names, ["b", "a", "tags", "grid", "twice", "n", "v", "extra"]);
    assert_eq!(relation.key_columns(), [1, 0]);
    let expected = Column {
        name: "a".to_owned(),
        type_oid: oid::VARCHAR,
        type_name: "varchar".to_owned(),
        element_oid: oid::VARCHAR,
        dims: 0,
        type_mod: 13,
        not_null: true,
        pk_index: Some(0),
        generated: false,
        is_virtual: false,
        typing: Typing { schema: "pg_catalog".to_owned(), ..relation.columns[1].typing.clone() },
    };
    assert_eq!(relation.columns[1], expected);
    let tags = &relation.columns[2];
    assert_eq!((tags.type_oid, tags.type_name.as_str(), tags.element_oid), (1009, "text", oid::TEXT));
    assert_eq!((tags.dims, relation.columns[3].dims), (1, 2));
    assert!(relation.columns[4].generated);
    assert_eq!(relation.columns[5].type_name, "name_domain");
    assert_eq!((relation.columns[6].type_name.as_str(), relation.columns[6].dims), ("oidvector", 0));
    let by_oid = describe_oid(&session, relation.oid).await.expect("answers");
    assert_eq!(by_oid.as_ref(), Some(&table));
}

#[tokio::test]
async fn types_are_described_with_their_kinds() {
    let session = session(
        "CREATE TYPE mood AS ENUM ('sad', 'happy'); ALTER TYPE mood ADD VALUE 'ok' BEFORE 'happy';
         CREATE DOMAIN inner_domain AS mood[]; CREATE DOMAIN moods AS inner_domain; CREATE DOMAIN small AS int2;
         CREATE TYPE pair AS (a int4, b text);
         CREATE TABLE kinds (
            m mood, ms mood[], d moods, s small, ss small[], p pair, r int4range, i int4,
            c text COLLATE \"C\", l text COLLATE \"und-x-icu\")",
    )
    .await;
    let name = QualifiedName::new("public", "kinds");
    let table = describe(&session, &name).await.expect("answers").expect("exists");
    let typing = |index: usize| &table.relation.columns[index].typing;
    let mood = TypeKind::Enum { labels: ["sad", "ok", "happy"].map(str::to_owned).to_vec() };
    assert_eq!((&typing(0).kind, typing(0).schema.as_str()), (&mood, "public"));
    assert_eq!(typing(1).kind, mood);
    let TypeKind::Domain(base) = &typing(2).kind else { unreachable!("a domain, not {:?}", typing(2)) };
    let mood_oid = table.relation.columns[0].type_oid;
    assert_eq!((base.type_oid, base.element_oid), (table.relation.columns[1].type_oid, mood_oid));
    assert_eq!((base.type_name.as_str(), base.schema.as_str(), &base.kind), ("mood", "public", &mood));
    let small = DomainBase {
        type_oid: oid::INT2,
        type_name: "int2".to_owned(),
        element_oid: oid::INT2,
        schema: "pg_catalog".to_owned(),
        kind: TypeKind::Base,
    };
    assert_eq!(typing(3).kind, TypeKind::Domain(Box::new(small)));
    assert!(matches!(typing(4).kind, TypeKind::Domain(_)));
    assert_eq!((&typing(5).kind, &typing(6).kind), (&TypeKind::Composite, &TypeKind::Other));
    assert_eq!(typing(7).kind, TypeKind::Base);
    assert_eq!((typing(8).collation, typing(9).collation), (Collation::C, Collation::Linguistic));
}

#[tokio::test]
async fn only_tables_are_described() {
    let session = session(
        "CREATE TABLE parent (id int4) PARTITION BY LIST (id);
         CREATE TABLE middle PARTITION OF parent FOR VALUES IN (1, 2) PARTITION BY LIST (id);
         CREATE TABLE leaf PARTITION OF middle FOR VALUES IN (1);
         CREATE TABLE empty (); CREATE VIEW view AS SELECT 1 AS id",
    )
    .await;
    let describe =
        async |name| describe(&session, &QualifiedName::new("public", name)).await.expect("answers");
    let parent = describe("parent").await.expect("exists");
    assert_eq!((parent.kind, parent.is_partition), (TableKind::Partitioned, false));
    let middle = describe("middle").await.expect("exists");
    let leaf = describe("leaf").await.expect("exists");
    assert_eq!(leaf.ancestors, [middle.relation.oid, parent.relation.oid]);
    assert!(describe("empty").await.expect("exists").relation.columns.is_empty());
    assert_eq!((describe("view").await, describe("nothing").await), (None, None));
}

#[tokio::test]
async fn inserted_wal_is_not_behind_written_wal() {
    let session = session("CREATE TABLE t (id int4)").await;
    let positions = wal_positions(&session).await.expect("answers");
    assert!(positions.inserted >= positions.written);
}
