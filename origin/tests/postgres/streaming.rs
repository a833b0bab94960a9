//! Slot and stream: what is sent, when, and again after a restart.

use super::server::Server;
use super::{PATIENCE, next_transaction};
use futures::StreamExt;
use limn_core::Lsn;
use limn_core::pg::QualifiedName;
use limn_core::pg::copy::CopyDecoder;
use limn_origin::postgres::catalog::{describe, server_version_num};
use limn_origin::postgres::publication::Publication;
use limn_origin::postgres::slot::{self, SlotError};
use limn_origin::postgres::snapshot::Snapshot;
use limn_origin::postgres::{
    PostgresConfig, ReplicationConnection, ReplicationError, ReplicationStream, Session,
};
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

/// A database with a published table `t`, and a slot of its own.
struct Setup {
    config: PostgresConfig,
    session: Session,
    slot: String,
}

impl Setup {
    async fn new(columns: &str) -> Self {
        let server = Server::shared();
        let database = server.database().await;
        let config = server.local(&database);
        let session = Session::connect(&config).await.expect("connects");
        session.batch_execute(&format!("CREATE TABLE t ({columns})")).await.expect("creates");
        let publication = Publication::new("limn's \"own\"", false);
        let version = server_version_num(&session).await.expect("answers");
        publication.ensure(&session, version).await.expect("creates the publication");
        let table = describe(&session, &QualifiedName::new("public", "t")).await.expect("answers");
        let publishing = publication.publishing(&session, &table.expect("exists")).await.expect("may");
        publication.alter(&session, &publishing.statements).await.expect("publishes");
        Self { config, session, slot: format!("slot_{database}") }
    }

    async fn connection(&self) -> ReplicationConnection {
        ReplicationConnection::connect(&self.config).await.expect("connects")
    }

    async fn stream(&self) -> ReplicationStream {
        let mut connection = self.connection().await;
        slot::ensure(&mut connection, &self.slot, false).await.expect("creates the slot");
        connection.start(&self.slot, "limn's \"own\"", Lsn::ZERO).await.expect("starts")
    }

    async fn execute(&self, sql: &str) {
        self.session.batch_execute(sql).await.expect(sql);
    }
}

#[tokio::test]
async fn values_have_the_same_text_in_stream_and_snapshot() {
    let setup = Setup::new(
        "id int8 PRIMARY KEY, at timestamptz, during interval, bytes bytea, f float8, s text, d date",
    )
    .await;
    let mut stream = setup.stream().await;
    setup
        .execute(
            "INSERT INTO t VALUES (1, '2026-02-03 04:05:06+00', '1 day 02:00', '\\x00ff', \
             0.1::float8 + 0.2, E'tab\\tback\\\\slash\\nline', '2026-12-31'), \
             (2, NULL, NULL, NULL, NULL, NULL, NULL)",
        )
        .await;
    let streamed = next_transaction(&mut stream).await.inserted;
    let expected = [
        "1",
        "2026-02-03 04:05:06+00",
        "P1DT2H",
        "\\x00ff",
        "0.30000000000000004",
        "tab\tback\\slash\nline",
        "2026-12-31",
    ];
    assert_eq!(streamed[0], expected.map(|text| Some(text.to_owned())));
    assert_eq!(streamed[1][1..], [const { None }; 6]);

    let session = Session::connect(&setup.config).await.expect("connects");
    let snapshot = Snapshot::begin(session, &[], &setup.config).await.expect("begins");
    let mut chunks = snapshot.copy("SELECT * FROM t ORDER BY id").await.expect("starts");
    let mut decoder = CopyDecoder::new();
    let mut copied = Vec::new();
    while let Some(chunk) = chunks.next().await {
        decoder.push(&chunk.expect("arrives"));
        while let Some(row) = decoder.next_row().expect("well-formed") {
            let text = |cell: &[u8]| String::from_utf8_lossy(cell).into_owned();
            copied.push(row.cells().map(|cell| cell.map(text)).collect::<Vec<_>>());
        }
    }
    assert_eq!(decoder.finish(), Ok(()));
    snapshot.finish().await.expect("commits");
    assert_eq!(copied, streamed);
    stream.stop().await;
}

#[tokio::test]
async fn a_lone_commit_is_not_delayed() {
    let setup = Setup::new("id int8 PRIMARY KEY").await;
    let mut stream = setup.stream().await;
    let mut delays = Vec::new();
    for id in 0..11 {
        sleep(Duration::from_millis(30)).await;
        setup.execute(&format!("INSERT INTO t VALUES ({id})")).await;
        let committed = Instant::now();
        next_transaction(&mut stream).await;
        delays.push(committed.elapsed());
    }
    delays.sort();
    assert!(delays[5] < Duration::from_millis(50), "{delays:?}");
    stream.stop().await;
}

#[tokio::test]
async fn a_busy_stream_is_read_in_large_portions() {
    const ROWS: usize = 20_000;
    let setup = Setup::new("id int8 PRIMARY KEY, s text").await;
    let mut stream = setup.stream().await;
    setup
        .execute(&format!("INSERT INTO t SELECT i, repeat('x', 100) FROM generate_series(1, {ROWS}) i"))
        .await;
    let mut fills = 0;
    let mut frames = 0;
    while frames < ROWS {
        while stream.frame().expect("goes on").is_some() {
            frames += 1;
        }
        timeout(PATIENCE, stream.fill()).await.expect("in time").expect("goes on");
        fills += 1;
    }
    assert!(fills < ROWS / 4, "{fills} reads for {frames} frames");
    stream.stop().await;
}

#[tokio::test]
async fn what_was_not_confirmed_comes_again() {
    let setup = Setup::new("id int8 PRIMARY KEY").await;
    let mut connection = setup.connection().await;
    let created = slot::ensure(&mut connection, &setup.slot, false).await.expect("creates");
    assert!(created.created && created.confirmed_flush > Lsn::ZERO);
    let mut stream = setup.stream().await;
    setup.execute("INSERT INTO t VALUES (1)").await;
    setup.execute("INSERT INTO t VALUES (2)").await;
    let first = next_transaction(&mut stream).await;
    let second = next_transaction(&mut stream).await;
    assert!(first.commit < first.end && first.end <= second.commit);
    stream.confirm(second.end, first.end).await.expect("is sent");
    stream.stop().await;

    let mut connection = setup.connection().await;
    let found = slot::ensure(&mut connection, &setup.slot, false).await.expect("finds");
    assert_eq!((found.created, found.confirmed_flush), (false, first.end));
    let mut stream = setup.stream().await;
    let again = next_transaction(&mut stream).await;
    assert_eq!((again.commit, again.xid, again.inserted), (second.commit, second.xid, second.inserted));
    stream.stop().await;
}

#[tokio::test]
async fn a_cancelled_fill_loses_nothing() {
    let setup = Setup::new("id int8 PRIMARY KEY").await;
    let mut stream = setup.stream().await;
    setup.execute("INSERT INTO t SELECT generate_series(1, 2000)").await;
    let mut ids = 0;
    let deadline = Instant::now() + PATIENCE;
    while ids < 2000 && Instant::now() < deadline {
        let _may_be_cancelled = timeout(Duration::from_micros(50), stream.fill()).await;
        while let Some(frame) = stream.frame().expect("goes on") {
            if let limn_origin::postgres::Frame::XLogData { data: [b'I', ..], .. } = frame {
                ids += 1;
            }
        }
    }
    assert_eq!(ids, 2000);
    stream.stop().await;
}

#[tokio::test]
async fn failures_to_start_say_what_to_do() {
    let setup = Setup::new("id int8 PRIMARY KEY").await;
    let start =
        async |slot: &str| setup.connection().await.start(slot, "limn's \"own\"", Lsn::ZERO).await.err();
    assert!(matches!(start("no_such_slot").await, Some(ReplicationError::SlotMissing(_))));
    let stream = setup.stream().await;
    assert!(matches!(start(&setup.slot).await, Some(ReplicationError::SlotInUse(_))));
    stream.stop().await;

    let elsewhere = Server::shared().local("postgres");
    let mut connection = ReplicationConnection::connect(&elsewhere).await.expect("connects");
    let foreign = slot::ensure(&mut connection, &setup.slot, false).await;
    assert!(matches!(foreign, Err(SlotError::Foreign { .. })), "{foreign:?}");
}

#[tokio::test]
async fn a_missing_publication_ends_the_stream() {
    let setup = Setup::new("id int8 PRIMARY KEY").await;
    let mut stream = setup.stream().await;
    setup.execute("DROP PUBLICATION \"limn's \"\"own\"\"\"; INSERT INTO t VALUES (1)").await;
    let failure = async {
        loop {
            while let Some(_frame) = stream.frame()? {}
            stream.fill().await?;
        }
    };
    let result: Result<(), ReplicationError> = timeout(PATIENCE, failure).await.expect("ends in time");
    assert!(matches!(result, Err(ReplicationError::Configuration(_))), "{result:?}");
}

#[tokio::test]
async fn a_terminated_backend_means_connecting_again() {
    let setup = Setup::new("id int8 PRIMARY KEY").await;
    let mut stream = setup.stream().await;
    let terminate = format!(
        "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '{}'",
        setup.slot
    );
    setup.execute(&terminate).await;
    let failure = async {
        loop {
            while let Some(_frame) = stream.frame()? {}
            stream.fill().await?;
        }
    };
    let result: Result<(), ReplicationError> = timeout(PATIENCE, failure).await.expect("ends in time");
    assert!(matches!(result, Err(ReplicationError::Disconnected(_))), "{result:?}");
}

#[tokio::test]
async fn the_lock_goes_to_one_and_then_to_the_next() {
    let config = Server::shared().local("postgres");
    let connect = async || ReplicationConnection::connect(&config).await.expect("connects");
    let (mut first, mut second) = (connect().await, connect().await);
    slot::lock(&mut first, "it's a slot", || unreachable!("it is free")).await.expect("locks");
    assert!(!slot::try_lock(&mut second, "it's a slot").await.expect("answers"));
    let locking = slot::lock(&mut second, "it's a slot", || drop(first));
    timeout(PATIENCE, locking).await.expect("in time").expect("locks");
}

#[tokio::test]
async fn the_system_is_identified() {
    let config = Server::shared().local("postgres");
    let mut connection = ReplicationConnection::connect(&config).await.expect("connects");
    let system = connection.identify_system().await.expect("answers");
    assert!(system.system_id.parse::<u64>().is_ok() && system.timeline == 1, "{system:?}");
    assert!(connection.query("SELECT nonsense").await.is_err());
    let rows = connection.query("SELECT 1, NULL, 'x'").await.expect("usable after an error");
    assert_eq!(rows, [[Some("1".to_owned()), None, Some("x".to_owned())]]);
}
