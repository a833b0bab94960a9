//! What a database forbids by rules of its own: event triggers, and bytes that are no text. The reply says what
//! refused, and blames nothing that the client did not send.

use super::table;
use limn_tests::{Cluster, Limn, Sql};

/// An event trigger that raises before every command that alters a table.
const REFUSE_ALTER: &str = "
    CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'no ALTER at noon'; END $$;
    CREATE EVENT TRIGGER refuse ON ddl_command_start WHEN TAG IN ('ALTER TABLE', 'ALTER PUBLICATION')
    EXECUTE FUNCTION refuse()";

async fn server_with_table() -> (Limn, Sql) {
    let database = Cluster::shared().await.database().await;
    let sql = database.connect().await;
    table(&sql, "t").await;
    let server = Limn::start(&database, &[]).await;
    (server, sql)
}

#[tokio::test]
async fn an_event_trigger_that_refuses_to_publish_is_named_until_it_is_gone() {
    let (server, sql) = server_with_table().await;
    sql.execute(REFUSE_ALTER).await;
    for _ in 0..2 {
        let refused = server.get("table=t&offset=-1").await;
        assert_eq!(refused.status, 503, "{}", refused.text());
        assert!(refused.header("retry-after").is_some(), "{refused:?}");
        let message = refused.json()["message"].as_str().expect("a text").to_owned();
        assert!(message.contains("`ALTER TABLE ONLY public.t REPLICA IDENTITY FULL`"), "{message}");
        assert!(message.contains("no ALTER at noon"), "{message}");
    }
    sql.execute("DROP EVENT TRIGGER refuse").await;
    assert_eq!(server.follow("table=t").await.rows().len(), 3);
}

#[tokio::test]
async fn an_event_trigger_behind_a_published_table_harms_nothing() {
    let (server, sql) = server_with_table().await;
    assert_eq!(server.follow("table=t").await.rows().len(), 3);
    sql.execute(REFUSE_ALTER).await;
    assert_eq!(server.follow("table=t&columns=id").await.rows().len(), 3);
}

#[tokio::test]
async fn bytes_that_are_no_text_are_blamed_on_the_table() {
    let database = Cluster::shared().await.database().await;
    let ascii = database.sibling(&format!("{}_ascii", database.name));
    let create = format!(
        "CREATE DATABASE {} TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'",
        ascii.name
    );
    database.connect().await.execute(&create).await;
    let sql = ascii.connect().await;
    table(&sql, "t").await;
    table(&sql, "u").await;
    let server = Limn::start(&ascii, &[]).await;
    sql.execute(r"INSERT INTO t VALUES (4, E'\xe9', 1)").await;
    for (query, parameter) in [("table=t", "table"), ("table=t&where=id%3E0", "where")] {
        let refused = server.get(&format!("{query}&offset=-1")).await;
        assert_eq!(refused.status, 400, "{}", refused.text());
        let reason = refused.json()["errors"][parameter][0].as_str().unwrap_or_default().to_owned();
        assert!(reason.contains("invalid byte sequence"), "{}", refused.text());
    }
    assert_eq!(server.follow("table=u").await.rows().len(), 3);
    let check = super::check::report(server.check_arguments()).await;
    assert!(check.contains("SQL_ASCII"), "{check}");
}
