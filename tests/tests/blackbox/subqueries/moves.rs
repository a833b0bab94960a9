//! Items 197–199, 207–209: tags, and how rows leave and come by other tables' changes.

use super::{Followed, IN_ACTIVE, TABLES, follow, kinds, named, row, tag};
use crate::small_chunks;
use limn_tests::{Cluster, Limn, Request, encode, peak_memory_kb};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

/// Executes a change of `PROJ` in a transaction of its own, and returns its id.
async fn transaction(followed: &Followed<'_>, change: &str) -> u64 {
    let change =
        format!("WITH changed AS ({change} RETURNING 1) SELECT max(pg_current_xact_id()::text) FROM changed");
    followed.sql.value(&named(followed.name, &change)).await.parse().expect("a transaction's id")
}

fn header_names(message: &Value) -> BTreeSet<&str> {
    message["headers"].as_object().expect("headers").keys().map(String::as_str).collect()
}

#[tokio::test]
async fn item_197_rows_carry_tags_wherever_they_come_from() {
    let mut f = follow("s197", IN_ACTIVE).await;
    let snapshot = f.snapshot().await;
    assert_eq!(kinds(&snapshot), ["insert 1", "insert 3", "snapshot-end"]);
    let (one, three) = (tag(row(&snapshot, "1")), tag(row(&snapshot, "3")));
    assert!(one.len() == 32 && one.bytes().all(|byte| byte.is_ascii_hexdigit()), "{one}");
    assert_ne!(one, three);
    assert_eq!(row(&snapshot, "1")["headers"]["active_conditions"], json!([true]));

    let came = f.after("UPDATE ITEM SET code = 'new' WHERE id = 1").await;
    let headers = &came[0]["headers"];
    assert_eq!((tag(&came[0]), &headers["active_conditions"]), (one, &json!([true])));
    assert_eq!(headers["removed_tags"], json!([]));
    let came = f.after("UPDATE ITEM SET proj_id = 3 WHERE id = 1").await;
    assert_eq!((tag(&came[0]), &came[0]["headers"]["removed_tags"]), (three, &json!([one])));
    let came = f.after("INSERT INTO ITEM VALUES (9, 1, 1, 'n')").await;
    assert_eq!((tag(&came[0]), came[0]["headers"].get("removed_tags")), (one, None));
    let came = f.after("DELETE FROM ITEM WHERE id = 9").await;
    assert_eq!((tag(&came[0]), &came[0]["headers"]["active_conditions"]), (one, &json!([true])));

    let query = format!("table=s197_item&where={}&offset=-1&subset__where=id%3D3", encode(&f.clause));
    let subset = f.server.get(&query).await.json();
    let found = &subset["data"][0];
    assert_eq!((tag(found), &found["headers"]["active_conditions"]), (three, &json!([true])));
}

#[tokio::test]
async fn item_197_a_changed_key_takes_its_tags_along() {
    let mut f = follow("s197k", IN_ACTIVE).await;
    let snapshot = f.snapshot().await;
    let came = f.after("UPDATE ITEM SET id = 11, proj_id = 3 WHERE id = 1").await;
    assert_eq!(kinds(&came), ["delete 1", "insert 11"]);
    assert_eq!(tag(&came[1]), tag(row(&snapshot, "3")));
    let tags = came[0]["headers"]["tags"].as_array().expect("tags");
    assert!(tags.contains(&json!(tag(row(&snapshot, "1")))), "{tags:?}");
    assert!(came.iter().all(|message| message["headers"].get("removed_tags").is_none()), "{came:?}");
}

#[tokio::test]
async fn item_198_an_inner_row_that_leaves_moves_rows_out() {
    let mut f = follow("s198", IN_ACTIVE).await;
    let snapshot = f.snapshot().await;
    let xid = transaction(&f, "UPDATE PROJ SET active = false WHERE id = 1").await;
    let lsn = f.sql.lsn().await;
    let came = f.judge().await;
    let patterns = json!([{ "pos": 0, "value": tag(row(&snapshot, "1")) }]);
    let event = json!({ "headers": { "event": "move-out", "patterns": patterns, "txids": [xid] } });
    assert_eq!((came, f.ids()), (vec![event], vec!["3".to_owned()]));
    // The place of the move is that of the commit that caused it.
    let (commit, _) = f.shape.offset().split_once('_').expect("a position");
    let commit: u64 = commit.parse().expect("decimal");
    assert!(commit > 0 && commit < lsn, "{commit} {lsn}");
}

#[tokio::test]
async fn item_198_an_event_is_sent_though_no_row_has_its_value() {
    let mut f = follow("s198n", IN_ACTIVE).await;
    let came = f.after("INSERT INTO PROJ VALUES (70, 1, true, 'n')").await;
    assert_eq!(kinds(&came), ["move-in"]);
    let came = f.after("DELETE FROM PROJ WHERE id = 70").await;
    assert_eq!(kinds(&came), ["move-out"]);
}

#[tokio::test]
async fn item_198_only_the_last_of_equal_inner_rows_moves() {
    let mut f = follow("s198d", IN_ACTIVE).await;
    assert_eq!(f.after("INSERT INTO PROJ VALUES (1, 9, true, 'again')").await, [] as [Value; 0]);
    assert_eq!(f.after("DELETE FROM PROJ WHERE code = 'x'").await, [] as [Value; 0]);
    assert_eq!(kinds(&f.after("DELETE FROM PROJ WHERE code = 'again'").await), ["move-out"]);
}

#[tokio::test]
async fn item_199_an_inner_row_that_enters_moves_rows_in() {
    let mut f = follow("s199", IN_ACTIVE).await;
    let xid = transaction(&f, "UPDATE PROJ SET active = true WHERE id = 2").await;
    let came = f.judge().await;
    assert_eq!(kinds(&came), ["move-in", "insert 2", "snapshot-end"]);
    assert_eq!(came[0]["headers"]["txids"], json!([xid]));
    assert_eq!(header_names(&came[0]), BTreeSet::from(["event", "patterns", "txids"]));
    let moved = &came[1]["headers"];
    assert_eq!(came[0]["headers"]["patterns"], json!([{ "pos": 0, "value": tag(&came[1]) }]));
    assert_eq!((&moved["is_move_in"], &moved["active_conditions"]), (&json!(true), &json!([true])));
    let names = ["active_conditions", "is_move_in", "operation", "relation", "tags"];
    assert_eq!(header_names(&came[1]), BTreeSet::from(names));
    assert_eq!(came[1]["value"], json!({ "id": "2", "proj_id": "2", "alt_id": "1", "code": "y" }));
    let end = &came[2]["headers"];
    let running = end["xip_list"].as_array().expect("a list");
    let is_seen = end["xmax"].as_str().and_then(|xmax| xmax.parse().ok()) > Some(xid);
    assert!(is_seen && !running.contains(&json!(xid.to_string())), "the rows are read behind it: {end}");
    // A row that is moved in is a row like others.
    let came = f.after("UPDATE ITEM SET code = 'new' WHERE id = 2").await;
    assert_eq!(kinds(&came), ["update 2"]);
}

#[tokio::test]
async fn item_199_whoever_waits_gets_the_move() {
    let mut f = follow("s199w", IN_ACTIVE).await;
    let (client, target) = (f.server.client(), f.shape.target(true));
    let waiting = tokio::spawn(async move { client.get(&target).await });
    let stream = format!("{}&live_sse=true", f.shape.target(true));
    let request = Request { method: "GET", target: &stream, ..Request::default() };
    let told = |body: &[u8]| String::from_utf8_lossy(body).contains("global_last_seen_lsn");
    let client = f.server.client();
    let (events, ()) = tokio::join!(
        client.read_while_open(&request, Duration::from_secs(60), told),
        f.write("UPDATE PROJ SET active = NOT active WHERE id IN (1, 2)")
    );
    let polled = waiting.await.expect("it is answered");
    let Value::Array(messages) = polled.json() else { unreachable!("no array") };
    assert_eq!(kinds(&messages), ["move-out", "move-in", "insert 2", "snapshot-end", "up-to-date"]);
    let (events, _) = events.expect("a stream");
    let frames: Vec<String> = messages[..4].iter().map(|message| format!("data: {message}\n\n")).collect();
    let frame = |text: &str| serde_json::from_str::<Value>(text.trim_start_matches("data: ")).expect("JSON");
    let streamed: Vec<Value> =
        events.text().split("\n\n").filter(|text| text.starts_with("data")).map(frame).collect();
    assert_eq!(streamed[..4], messages[..4], "{frames:?}");
    f.judge().await;
}

#[tokio::test]
async fn item_199_a_large_move_comes_in_chunks_and_whole() {
    let mut f = Followed::start(small_chunks().await, "s199c", IN_ACTIVE, "").await;
    f.after("INSERT INTO ITEM SELECT n, 2, n, repeat('x', 100) FROM generate_series(100, 600) n").await;
    let came = f.after("UPDATE PROJ SET active = NOT active WHERE id < 3").await;
    assert_eq!(came.len(), 2 + 502 + 1);
    assert_eq!((kinds(&came[..2]).join(" "), f.ids().len()), ("move-out move-in".to_owned(), 503));
    let fresh = f.server.follow(&format!("table=s199c_item&where={}", encode(&f.clause))).await;
    assert_eq!((fresh.rows(), fresh.handle()), (f.shape.rows(), f.shape.handle()), "read from the beginning");
}

#[tokio::test]
async fn item_199_changes_only_and_columns_move_rows_too() {
    let server = crate::open().await;
    for (name, parameters) in [("s199o", "&log=changes_only"), ("s199p", "&columns=id,code")] {
        let f = Followed::start(server, name, IN_ACTIVE, parameters).await;
        let mut shape = f.shape;
        f.sql.execute(&named(name, "UPDATE PROJ SET active = true WHERE id = 2")).await;
        let lsn = server.barrier(&f.sql).await;
        let mut came = shape.sync_to(lsn).await;
        came.retain(|message| message["headers"]["control"] != "up-to-date");
        assert_eq!(kinds(&came), ["move-in", "insert 2", "snapshot-end"], "{parameters}");
        let columns = came[1]["value"].as_object().expect("a row").len();
        assert_eq!(columns, if name == "s199p" { 2 } else { 4 }, "{}", came[1]);
    }
}

#[tokio::test]
async fn item_207_both_sides_of_one_transaction_converge() {
    let mut f = follow("s207", IN_ACTIVE).await;
    for change in [
        "UPDATE PROJ SET active = true WHERE id = 2; INSERT INTO ITEM VALUES (20, 2, 2, 'n')",
        "UPDATE PROJ SET active = false WHERE id = 1; UPDATE ITEM SET proj_id = 3 WHERE id = 1",
        "UPDATE ITEM SET proj_id = 1 WHERE id = 3; UPDATE PROJ SET active = NOT active WHERE id < 3",
        "DELETE FROM ITEM WHERE id = 20; UPDATE PROJ SET active = true",
        "UPDATE ITEM SET id = id + 100; UPDATE PROJ SET active = id = 2; UPDATE ITEM SET alt_id = 9",
        "INSERT INTO ITEM VALUES (60, 2, 1, 'n'), (61, 1, 1, 'n'); UPDATE PROJ SET active = id = 1;
         INSERT INTO ITEM VALUES (62, 2, 1, 'n'), (63, 1, 1, 'n')",
        "UPDATE PROJ SET id = 4 - id; DELETE FROM ITEM WHERE id = 62",
    ] {
        f.after(&format!("BEGIN; {change}; COMMIT")).await;
    }
    assert_eq!(f.shape.rotations(), 0);
}

#[tokio::test]
async fn item_208_events_name_the_inner_transactions() {
    let mut f = follow("s208", IN_ACTIVE).await;
    let xid = transaction(&f, "UPDATE PROJ SET active = NOT active").await;
    let came = f.judge().await;
    assert_eq!(kinds(&came), ["move-out", "move-in", "insert 2", "snapshot-end"]);
    assert_eq!((&came[0]["headers"]["txids"], &came[1]["headers"]["txids"]), (&json!([xid]), &json!([xid])));
    assert_eq!(came[0]["headers"]["patterns"].as_array().map(Vec::len), Some(2));

    let clause =
        "proj_id IN (SELECT id FROM PROJ WHERE org_id IN (SELECT id FROM ORG WHERE region = 'north'))";
    let mut f = follow("s208d", clause).await;
    let xid = transaction(&f, "UPDATE ORG SET region = 'north'").await;
    let came = f.judge().await;
    assert_eq!(came[0]["headers"]["txids"], json!([xid]), "over two levels: {came:?}");
}

#[tokio::test]
async fn item_209_what_comes_back_has_not_moved() {
    let mut f = follow("s209", IN_ACTIVE).await;
    let toggle = "UPDATE PROJ SET active = NOT active WHERE id = 1";
    assert_eq!(f.after(&format!("BEGIN; {toggle}; {toggle}; COMMIT")).await, [] as [Value; 0]);
    assert_eq!(f.after(&format!("BEGIN; {toggle}; ROLLBACK")).await, [] as [Value; 0]);
    let toggles = |count: u32| {
        named("s209", &format!("DO $$ BEGIN FOR i IN 1..{count} LOOP {toggle}; COMMIT; END LOOP; END $$"))
    };
    // How many moves these come to depends on how fast they are seen; where they end does not.
    f.after(&toggles(30)).await;
    f.after(&toggles(31)).await;
    assert_eq!((f.ids(), f.shape.rotations()), (vec!["3".to_owned()], 0));
}

#[tokio::test]
async fn item_209_a_move_waits_for_no_one_elses_transaction() {
    let server: &Limn = crate::open().await;
    let mut f = Followed::start(server, "s209o", IN_ACTIVE, "").await;
    let other = server.sql().await;
    other.execute("BEGIN; UPDATE s209o_item SET code = 'open' WHERE id = 1; UPDATE s209o_proj SET code = 'o' WHERE id = 3").await;
    f.after("UPDATE PROJ SET active = NOT active WHERE id < 3").await;
    other.execute("UPDATE s209o_proj SET active = false WHERE id = 3; COMMIT").await;
    f.judge().await;
    assert_eq!((f.ids(), f.shape.rotations()), (vec!["2".to_owned()], 0));
}

/// Clauses whose questions to Postgres compare lists: a value alone, rows, rows with NULLs, arrays.
const MANY: [(&str, &str); 4] = [
    ("manya", "proj_id IN (SELECT id FROM PROJ WHERE active)"),
    ("manyb", "(proj_id, code) IN (SELECT id, code FROM PROJ WHERE active)"),
    ("manyc", "(proj_id, code) NOT IN (SELECT id, code FROM PROJ WHERE active AND code <> '')"),
    ("manyd", "codes IN (SELECT codes FROM PROJ WHERE active)"),
];

/// Makes every column hold what no literal may take as it is.
const ARRAYS: &str = "
    ALTER TABLE PROJ ADD COLUMN codes text[];
    ALTER TABLE ITEM ADD COLUMN codes text[];
    INSERT INTO PROJ SELECT n, 1, false, 'it''s \"' || n % 7 || '\\{},', ARRAY['a' || n, 'b'] FROM generate_series(100, 400) n;
    INSERT INTO ITEM SELECT n, nullif(n, 250), 2, nullif('it''s \"' || n % 5 || '\\{},', 'it''s \"3\\{},'), ARRAY['a' || n, 'b']
        FROM generate_series(50, 450) n;";

#[tokio::test]
async fn moves_of_many_values_equal_their_sql() {
    for (name, clause) in MANY {
        let mut f =
            Followed::start_on(crate::open().await, name, &format!("{TABLES};{ARRAYS}"), clause, "").await;
        for change in [
            "UPDATE PROJ SET active = true WHERE id < 190",
            "UPDATE PROJ SET active = NOT active WHERE id > 100",
            "UPDATE PROJ SET active = true, code = code || 'x' WHERE id % 2 = 0",
            "UPDATE ITEM SET code = NULL WHERE id % 3 = 0; UPDATE PROJ SET code = 'it''s \"0\\{},', active = id > 200",
            "DELETE FROM PROJ",
        ] {
            f.after(change).await;
        }
        assert_eq!(f.shape.rotations(), 0, "{clause}");
    }
}

/// A condition for each value would take Postgres, which is somebody else's, 50 kB a row of the subquery.
#[tokio::test]
async fn a_move_of_many_values_costs_postgres_little_memory() {
    const MEMORY_KB_MAX: u64 = 256 << 10;
    let database = Cluster::shared().await.database().await;
    let server = Limn::start(&database, &[]).await;
    for (name, clause) in MANY {
        let mut f = Followed::start_on(&server, name, &format!("{TABLES};{ARRAYS}"), clause, "").await;
        f.after("INSERT INTO PROJ SELECT n, 1, true, n, ARRAY[n::text] FROM generate_series(1000, 21000) n")
            .await;
        f.after("INSERT INTO ITEM SELECT n, n, 1, n, ARRAY[n::text] FROM generate_series(2000, 2009) n")
            .await;
        f.after("UPDATE PROJ SET active = false WHERE id >= 1000").await;
        assert_eq!(f.shape.rotations(), 0, "{clause}");
        let sessions = "SELECT pid::text FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'limn'";
        for session in f.sql.rows(sessions).await {
            let pid = session["pid"].as_ref().and_then(|pid| pid.parse().ok()).expect("each session has one");
            // A system without /proc says nothing, and a session may have gone.
            let memory = peak_memory_kb(pid).unwrap_or(0);
            assert!(memory < MEMORY_KB_MAX, "{clause}: {memory} kB");
        }
    }
}
