//! Event streams that break: whoever resumes has every row, wherever the connection was cut.

use super::{followed_as, open, small_chunks, table};
use limn_tests::{Cluster, EventClient, Follower, Limn, Random, Row, Sql, eventually, parse_begun};

/// What is pending when a stream begins: every operation, keys that change, and texts that look like events.
const CHANGES: &str = "
    BEGIN; INSERT INTO {t} VALUES (4, E'two\\n\\nlines', 1), (5, 'data: {}', 2); DELETE FROM {t} WHERE id = 1; COMMIT;
    UPDATE {t} SET a = 'Größe' WHERE id = 2;
    UPDATE {t} SET id = 30 WHERE id = 3;
    BEGIN; DELETE FROM {t} WHERE id = 4; INSERT INTO {t} VALUES (4, 'again', NULL); COMMIT;";

async fn in_sql(sql: &Sql, query: &str) -> Vec<Row> {
    let mut rows = sql.rows(query).await;
    rows.sort();
    rows
}

/// A client that stands before `changes`, which the shape shows already, and the LSN that has seen them.
async fn behind(server: &Limn, sql: &Sql, query: &str, changes: &str) -> (EventClient, u64) {
    let mut shape: Follower = server.follow(query).await;
    let start = EventClient::behind(&shape, server.client(), query);
    sql.execute(changes).await;
    let lsn = server.barrier(sql).await;
    shape.sync_to(lsn).await;
    (start, sql.lsn().await.min(lsn))
}

/// Cuts a stream from `start` at each of `cuts`; after one resume the client must have `wanted`.
async fn assert_no_row_is_lost(start: &EventClient, cuts: impl Iterator<Item = usize>, wanted: &[Row]) {
    for cut in cuts {
        let mut client = start.clone();
        client.read(cut).await.expect("a stream begins");
        if client.rows() != wanted {
            client.read_to_up_to_date().await.expect("a stream begins");
        }
        assert_eq!(client.rows(), wanted, "the stream was cut behind byte {cut}");
    }
}

#[tokio::test]
async fn a_stream_that_breaks_at_any_byte_loses_no_row() {
    for (name, parameters) in [("b1", ""), ("b2", "&replica=full")] {
        let (server, sql, _) = followed_as(name, parameters).await;
        let query = format!("table={name}{parameters}");
        let (start, _) = behind(server, &sql, &query, &CHANGES.replace("{t}", name)).await;
        let wanted = in_sql(&sql, &format!("SELECT * FROM {name}")).await;
        let whole = start.clone().read_to_up_to_date().await.expect("a stream begins");
        assert!(whole.len() > 1_000, "{} positions to cut at", whole.len());
        assert_no_row_is_lost(&start, 0..=whole.len(), &wanted).await;
    }
}

#[tokio::test]
async fn a_stream_of_several_chunks_that_breaks_loses_no_row() {
    const CUTS: usize = 150;
    let server = small_chunks().await;
    let sql = server.sql().await;
    table(&sql, "b3").await;
    let insert = "INSERT INTO b3 SELECT i, repeat('x', 1000), 1 FROM generate_series(10, 49) i";
    let (start, _) = behind(server, &sql, "table=b3", insert).await;
    let wanted = in_sql(&sql, "SELECT * FROM b3").await;
    let length = start.clone().read_to_up_to_date().await.expect("a stream begins").len();
    let mut random = Random::new(8);
    let cuts = (0..CUTS).map(|_| usize::try_from(random.below(length as u64)).expect("a length"));
    assert_no_row_is_lost(&start, cuts, &wanted).await;
}

/// The rows of an inner table move rows of the shape in and out, by events without keys.
#[tokio::test]
async fn a_stream_with_moves_that_breaks_at_any_byte_loses_no_row() {
    let server = open().await;
    let sql = server.sql().await;
    sql.execute(
        "CREATE TABLE b4_groups (id int PRIMARY KEY, shown bool);
         CREATE TABLE b4 (id int PRIMARY KEY, g int);
         INSERT INTO b4_groups VALUES (1, true), (2, false);
         INSERT INTO b4 SELECT i, 1 + i % 2 FROM generate_series(1, 6) i",
    )
    .await;
    let condition = "g IN (SELECT id FROM b4_groups WHERE shown)";
    let query = format!("table=b4&where={}", limn_tests::encode(condition));
    let selected = format!("SELECT * FROM b4 WHERE {condition}");
    let start = EventClient::behind(&server.follow(&query).await, server.client(), &query);
    sql.execute("UPDATE b4_groups SET shown = NOT shown; INSERT INTO b4 VALUES (7, 2)").await;
    let wanted = in_sql(&sql, &selected).await;
    let mut shape = server.follow(&query).await;
    eventually("the shape shows the move", async || {
        shape.sync().await;
        (shape.rows() == wanted).then_some(())
    })
    .await;
    let length = start.clone().read_to_up_to_date().await.expect("a stream begins").len();
    assert_no_row_is_lost(&start, 0..=length, &wanted).await;
}

/// One client whose streams break again and again, while the table changes.
#[tokio::test]
async fn a_client_whose_streams_break_1000_times_has_every_row() {
    const CUTS: usize = 1_000;
    const SEED: u64 = 130;
    let (server, sql, shape) = followed_as("b5", "").await;
    let mut client = EventClient::behind(&shape, server.client(), "table=b5");
    let mut random = Random::new(SEED);
    for cut in 0..CUTS {
        let (id, n) = (random.below(40), random.below(1_000));
        let upsert = format!(
            "INSERT INTO b5 VALUES ({id}, 'x', {n}), ({}, 'y', {n})
             ON CONFLICT (id) DO UPDATE SET a = 'z', n = excluded.n",
            id + 100
        );
        let change = match random.below(3) {
            0 => upsert,
            1 => format!("BEGIN; DELETE FROM b5 WHERE id = {id}; {upsert}; COMMIT"),
            _ => format!("DELETE FROM b5 WHERE id IN ({id}, {})", id + 100),
        };
        sql.execute(&change).await;
        let length = 300 + usize::try_from(random.below(1_500)).expect("a length");
        let read = client.read(length);
        // A stream that has nothing more to send stays open.
        let came = tokio::time::timeout(std::time::Duration::from_millis(20), read).await;
        came.map_or(Ok(Vec::new()), |came| came).unwrap_or_else(|error| unreachable!("cut {cut}: {error}"));
    }
    let lsn = server.barrier(&sql).await;
    sql.execute("INSERT INTO b5 VALUES (1000, 'end', 1)").await;
    while client.seen_lsn() < lsn {
        client.read_to_up_to_date().await.expect("a stream begins");
    }
    assert_eq!(client.rows(), in_sql(&sql, "SELECT * FROM b5").await, "seed {SEED}");
}

/// Nothing but an up-to-date message moves a client on: one follows the rows of a snapshot too.
#[tokio::test]
async fn a_stream_from_inside_a_snapshot_sends_the_rest_as_events() {
    let server = small_chunks().await;
    let sql = server.sql().await;
    sql.execute(
        "CREATE TABLE b6 (id int PRIMARY KEY, a text);
         INSERT INTO b6 SELECT i, repeat('x', 1000) FROM generate_series(1, 40) i",
    )
    .await;
    let mut first = Follower::new(server.client(), "table=b6");
    first.step(false).await;
    assert!(first.rows().len() < 40 && first.offset() == "0_0", "one chunk of several");
    let start = EventClient::behind(&first, server.client(), "table=b6");
    server.follow("table=b6").await;
    let wanted = in_sql(&sql, "SELECT * FROM b6").await;
    let length = start.clone().read_to_up_to_date().await.expect("a stream begins").len();
    assert_no_row_is_lost(&start, (0..=length).step_by(length / 50), &wanted).await;
}

/// Whoever has the tag of a stream may have received a part of it only.
#[tokio::test]
async fn a_stream_is_never_not_modified() {
    let (server, sql, _) = followed_as("b7", "").await;
    let (start, _) = behind(server, &sql, "table=b7", &CHANGES.replace("{t}", "b7")).await;
    let whole = start.clone().read_to_up_to_date().await.expect("a stream begins");
    let etag = parse_begun(&whole).expect("a head").header("etag").expect("a tag").to_owned();
    let request = limn_tests::Request {
        method: "GET",
        target: &start.target(),
        headers: &[("if-none-match", &etag)],
        ..limn_tests::Request::default()
    };
    assert_eq!(server.client().send(&request).await.status, 200);
}

/// Nothing may say up-to-date while Postgres is away, and a stream is no JSON.
#[tokio::test]
async fn a_stream_with_pending_rows_is_503_while_postgres_is_away() {
    let mut cluster = Cluster::start(&[]).await;
    let database = cluster.database().await;
    let sql = database.connect().await;
    table(&sql, "t").await;
    let server = Limn::start(&database, &[]).await;
    let (start, _) = behind(&server, &sql, "table=t", &CHANGES.replace("{t}", "t")).await;
    cluster.stop().await;
    eventually("Postgres is missed", async || {
        (server.client().get("/v1/health").await.json()["status"] != "active").then_some(())
    })
    .await;
    let answer = server.client().get(&start.target()).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("5")), "{}", answer.text());
}
