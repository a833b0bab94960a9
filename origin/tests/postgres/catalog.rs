//! Descriptions of tables.

use super::server::Server;
use limn_core::pg::{Column, QualifiedName, oid};
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
    assert_eq!((parent.kind, parent.is_partition()), (TableKind::Partitioned, false));
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
