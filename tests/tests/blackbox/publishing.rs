//! Items 215, 216: the publication and the replica identity.

use super::{shared, table};
use limn_tests::{Cluster, Limn, Sql};

async fn identity(sql: &Sql) -> String {
    sql.value("SELECT relreplident::text FROM pg_class WHERE oid = 't'::regclass").await
}

async fn published(sql: &Sql) -> String {
    sql.value("SELECT count(*)::text FROM pg_publication_tables WHERE tablename = 't'").await
}

#[tokio::test]
async fn item_215_a_table_is_published_with_its_first_shape() {
    let server = shared(&[]).await;
    let sql = server.sql().await;
    assert_eq!((identity(&sql).await.as_str(), published(&sql).await.as_str()), ("d", "0"));
    server.follow("table=t").await;
    assert_eq!((identity(&sql).await.as_str(), published(&sql).await.as_str()), ("f", "1"));
}

#[tokio::test]
async fn item_216_by_hand_it_is_published_by_hand() {
    let database = Cluster::shared().await.database().await;
    let sql = database.connect().await;
    table(&sql, "t").await;
    let publication = format!("electric_publication_{}", database.name);
    sql.execute(&format!("CREATE PUBLICATION {publication}")).await;
    let server = Limn::start(&database, &["--manual-table-publishing"]).await;
    let missing = server.get("table=t&offset=-1").await;
    assert_eq!(missing.status, 503, "{}", missing.text());
    let text = format!("Database table \"public.t\" is missing from the publication \"{publication}\"");
    assert!(
        missing.json()["message"].as_str().is_some_and(|message| message.starts_with(&text)),
        "{}",
        missing.text()
    );
    assert!(missing.header("retry-after").is_some());

    sql.execute(&format!("ALTER PUBLICATION {publication} ADD TABLE t")).await;
    let partial = server.get("table=t&offset=-1").await;
    assert_eq!(partial.status, 503, "{}", partial.text());
    let text = "Database table \"public.t\" does not have its replica identity set to FULL";
    assert_eq!(partial.json()["message"], text);
    assert_eq!(identity(&sql).await, "d", "nothing was altered");

    sql.execute("ALTER TABLE t REPLICA IDENTITY FULL").await;
    let mut shape = server.follow("table=t").await;
    sql.execute("UPDATE t SET n = 11 WHERE id = 1").await;
    assert_eq!(shape.changes(1).await[0]["value"]["n"], "11");
}
