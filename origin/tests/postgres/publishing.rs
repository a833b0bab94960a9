//! The publication, and the seam between a table's snapshot and its stream.

use super::next_transaction;
use super::server::Server;
use futures::StreamExt;
use limn_core::Lsn;
use limn_core::pg::copy::CopyDecoder;
use limn_core::pg::{QualifiedName, SnapshotFilter};
use limn_core::pgoutput::ReplicaIdentity;
use limn_origin::postgres::catalog::{Description, describe, server_version_num};
use limn_origin::postgres::lock_holders::{Held, lock_holders};
use limn_origin::postgres::publication::{Altered, Publication, PublicationError};
use limn_origin::postgres::snapshot::Snapshot;
use limn_origin::postgres::{PostgresConfig, ReplicationConnection, Session, slot};

async fn setup(sql: &str) -> (PostgresConfig, Session) {
    let server = Server::shared();
    let config = server.local(&server.database().await);
    let session = Session::connect(&config).await.expect("connects");
    session.batch_execute(sql).await.expect(sql);
    (config, session)
}

async fn table(session: &Session, name: &str) -> Description {
    let name = QualifiedName::new("public", name);
    describe(session, &name).await.expect("answers").expect("exists")
}

async fn ensure(publication: &Publication, session: &Session) -> Result<bool, PublicationError> {
    let version = server_version_num(session).await.expect("answers");
    publication.ensure(session, version).await.map(|state| state.created)
}

/// Publishes a table that nobody has locked; false where it was published already.
async fn publish(
    publication: &Publication,
    session: &Session,
    table: &Description,
) -> Result<bool, PublicationError> {
    let publishing = publication.publishing(session, table).await?;
    let altered = publication.alter(session, &publishing.statements).await?;
    assert_eq!(altered, Altered::All);
    Ok(!publishing.statements.is_empty())
}

/// A transaction that wrote before the table was published is decoded as if it were not, however
/// late it commits. Each row must reach the shape exactly once all the same.
#[tokio::test]
async fn a_row_of_an_open_writer_is_neither_lost_nor_doubled() {
    let (config, session) = setup(
        "CREATE TABLE t (id int8 PRIMARY KEY); ALTER TABLE t REPLICA IDENTITY FULL;
         INSERT INTO t VALUES (1)",
    )
    .await;
    let publication = Publication::new("p", false);
    assert!(ensure(&publication, &session).await.expect("creates"));
    let mut connection = ReplicationConnection::connect(&config).await.expect("connects");
    let slot = format!("slot_{}", config.database);
    slot::ensure(&mut connection, &slot, true).await.expect("creates");
    let mut stream = connection.start(&slot, "p", Lsn::ZERO).await.expect("starts");

    let writer = Session::connect(&config).await.expect("connects");
    writer.batch_execute("BEGIN; INSERT INTO t VALUES (2)").await.expect("writes");
    let description = table(&session, "t").await;
    assert!(publish(&publication, &session, &description).await.expect("publishes"));
    let oid = description.relation.oid;
    let open = lock_holders(&session, oid, Held::ForWriting).await.expect("answers");
    assert_eq!(open.len(), 1, "{open:?}");

    writer.batch_execute("INSERT INTO t VALUES (3); COMMIT").await.expect("commits");
    assert_eq!(lock_holders(&session, oid, Held::ForWriting).await.expect("answers"), []);
    // Visible to the snapshot and in the stream: the filter keeps it from being told twice.
    session.batch_execute("INSERT INTO t VALUES (4)").await.expect("writes");
    let reader = Session::connect(&config).await.expect("connects");
    let snapshot = Snapshot::begin(reader, &[], &config).await.expect("begins");
    session.batch_execute("INSERT INTO t VALUES (5)").await.expect("writes");
    let mut ids = copied_ids(&snapshot).await;
    assert_eq!(ids, ["1", "2", "3", "4"]);

    let filter = SnapshotFilter { bounds: snapshot.bounds().clone(), ends_at: snapshot.ends_at().as_u64() };
    snapshot.finish().await.expect("commits");
    while ids.last().is_none_or(|id| id != "5") {
        let transaction = next_transaction(&mut stream).await;
        if filter.admits(transaction.xid, transaction.commit) {
            ids.extend(transaction.inserted.into_iter().filter_map(|mut row| row.remove(0)));
        }
    }
    assert_eq!(ids, ["1", "2", "3", "4", "5"]);
    stream.stop().await;
}

async fn copied_ids(snapshot: &Snapshot) -> Vec<String> {
    let mut chunks = snapshot.copy("SELECT id FROM t ORDER BY id").await.expect("starts");
    let mut decoder = CopyDecoder::new();
    while let Some(chunk) = chunks.next().await {
        decoder.push(&chunk.expect("arrives"));
    }
    let mut ids = Vec::new();
    while let Some(row) = decoder.next_row().expect("well-formed") {
        ids.push(String::from_utf8_lossy(row.cell(0).expect("not null")).into_owned());
    }
    ids
}

#[tokio::test]
async fn publishing_again_alters_nothing() {
    let (_, session) = setup("CREATE TABLE \"T\"\"x\" (id int8)").await;
    let publication = Publication::new("p", false);
    assert!(ensure(&publication, &session).await.expect("creates"));
    assert!(!ensure(&publication, &session).await.expect("finds"));
    let description = table(&session, "T\"x").await;
    assert_eq!(description.replica_identity, ReplicaIdentity::Default);
    assert!(publish(&publication, &session, &description).await.expect("publishes"));
    assert!(!publish(&publication, &session, &description).await.expect("finds"));
    assert_eq!(table(&session, "T\"x").await.replica_identity, ReplicaIdentity::Full);
}

#[tokio::test]
async fn partitions_are_published_with_full_old_rows() {
    let (_, session) = setup(
        "CREATE TABLE r (id int8, region text) PARTITION BY LIST (region);
         CREATE TABLE r_eu PARTITION OF r FOR VALUES IN ('eu') PARTITION BY RANGE (id);
         CREATE TABLE r_eu_1 PARTITION OF r_eu FOR VALUES FROM (0) TO (10)",
    )
    .await;
    let publication = Publication::new("p", false);
    ensure(&publication, &session).await.expect("creates");
    let root = table(&session, "r").await;
    assert!(publish(&publication, &session, &root).await.expect("publishes"));
    let leaf = table(&session, "r_eu_1").await;
    assert_eq!(leaf.replica_identity, ReplicaIdentity::Full);
    assert!(!publish(&publication, &session, &leaf).await.expect("by its ancestor"));
    let attach = "CREATE TABLE r_eu_2 PARTITION OF r_eu FOR VALUES FROM (10) TO (20)";
    session.batch_execute(attach).await.expect("creates");
    assert!(publish(&publication, &session, &root).await.expect("publishes"));
    assert_eq!(table(&session, "r_eu_2").await.replica_identity, ReplicaIdentity::Full);
}

#[tokio::test]
async fn manual_mode_alters_nothing_and_says_what_is_missing() {
    let (_, session) = setup("CREATE TABLE t (id int8); CREATE ROLE by_hand").await;
    let publication = Publication::new("p", true);
    session.batch_execute("SET ROLE by_hand").await.expect("sets");
    let missing = ensure(&publication, &session).await.expect_err("is missing").to_string();
    assert!(missing.contains("run `CREATE PUBLICATION \"p\";`"), "{missing}");
    session.batch_execute("RESET ROLE").await.expect("sets");
    assert!(ensure(&publication, &session).await.expect("is made, without tables"));
    let refusal = async || {
        let table = table(&session, "t").await;
        publish(&publication, &session, &table).await.expect_err("is refused").to_string()
    };
    assert_eq!(
        refusal().await,
        "Database table \"public.t\" is missing from the publication \"p\" and the \
         ELECTRIC_MANUAL_TABLE_PUBLISHING setting prevents Electric from adding it"
    );
    session.batch_execute("ALTER PUBLICATION p ADD TABLE t").await.expect("alters");
    assert_eq!(refusal().await, "Database table \"public.t\" does not have its replica identity set to FULL");
    session.batch_execute("ALTER TABLE t REPLICA IDENTITY FULL").await.expect("alters");
    assert!(!publish(&publication, &session, &table(&session, "t").await).await.expect("is as it must"));
}

#[tokio::test]
async fn unusable_publications_are_refused_with_the_mending_statement() {
    let (_, session) = setup(
        "CREATE PUBLICATION v WITH (publish_via_partition_root);
         CREATE PUBLICATION o WITH (publish = 'insert')",
    )
    .await;
    for (name, statement) in [
        ("v", "ALTER PUBLICATION \"v\" SET (publish_via_partition_root = false);"),
        ("o", "ALTER PUBLICATION \"o\" SET (publish = 'insert, update, delete, truncate');"),
    ] {
        let publication = Publication::new(name, false);
        let refusal = ensure(&publication, &session).await.expect_err("is refused").to_string();
        assert!(refusal.contains(statement), "{refusal}");
        session.batch_execute(statement).await.expect("mends");
        assert!(!ensure(&publication, &session).await.expect("is usable"));
    }
}

#[tokio::test]
async fn a_locked_table_is_given_up() {
    let (config, session) = setup("CREATE TABLE t (id int8)").await;
    let publication = Publication::new("p", false);
    ensure(&publication, &session).await.expect("creates");
    let holder = Session::connect(&config).await.expect("connects");
    holder.batch_execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE").await.expect("locks");
    let description = table(&session, "t").await;
    let publishing = publication.publishing(&session, &description).await.expect("may");
    let locked = publication.alter(&session, &publishing.statements).await.expect("tries");
    assert_eq!(locked, Altered::Locked);
    holder.batch_execute("COMMIT").await.expect("releases");
    assert!(publish(&publication, &session, &description).await.expect("publishes"));
}

/// What comes between the look at the catalog and the table's lock, and what has to be run for it.
#[tokio::test]
async fn what_comes_before_the_lock_is_found_behind_it() {
    let cases = [
        (150_000, "CREATE PUBLICATION warehouse FOR TABLE t (id)"),
        (150_000, "CREATE PUBLICATION warehouse FOR TABLE t; ALTER PUBLICATION warehouse SET TABLE t (id)"),
        (150_000, "CREATE PUBLICATION warehouse FOR TABLE k (id)"),
        (150_000, "CREATE PUBLICATION warehouse FOR TABLE r (id) WITH (publish_via_partition_root)"),
        (180_000, "ALTER TABLE t ADD COLUMN g int8 GENERATED ALWAYS AS (id) VIRTUAL"),
        (180_000, "ALTER TABLE r ADD COLUMN g int8 GENERATED ALWAYS AS (id) VIRTUAL"),
    ];
    for is_full in [false, true] {
        for (version, comes) in cases {
            let (_, session) = setup(
                "CREATE TABLE t (id int8 PRIMARY KEY); INSERT INTO t VALUES (1);
                 CREATE TABLE r (id int8 PRIMARY KEY) PARTITION BY RANGE (id);
                 CREATE TABLE k PARTITION OF r FOR VALUES FROM (0) TO (10); INSERT INTO r VALUES (1)",
            )
            .await;
            if server_version_num(&session).await.expect("answers") < version {
                continue;
            }
            if is_full {
                // Only the place in the publication is missing, and that matters to generated columns alone.
                let all = "ALTER TABLE ONLY t REPLICA IDENTITY FULL; ALTER TABLE ONLY r REPLICA IDENTITY FULL; ALTER TABLE k REPLICA IDENTITY FULL";
                session.batch_execute(all).await.expect("alters");
            }
            let publication = Publication::new("p", false);
            ensure(&publication, &session).await.expect("creates");
            let mut found = Vec::new();
            let mut attempts = Vec::new();
            for name in ["t", "r"] {
                let table = table(&session, name).await;
                attempts.push((publication.publishing(&session, &table).await.expect("may"), table));
            }
            session.batch_execute(comes).await.expect(comes);
            for (publishing, table) in attempts {
                let altered = publication.alter(&session, &publishing.statements).await.expect("answers");
                if altered == Altered::All {
                    continue;
                }
                assert_eq!(altered, Altered::Outdated, "{comes}");
                match publication.publishing(&session, &table).await {
                    Err(PublicationError::Conflict { .. }) => found.push(table.relation.name.name.clone()),
                    other => {
                        let publishing = other.expect("it concerns another table");
                        let altered = publication.alter(&session, &publishing.statements).await;
                        assert_eq!(altered.expect("answers"), Altered::All, "{comes}");
                    }
                }
            }
            let expected = if comes.contains(" t") { "t" } else { "r" };
            assert_eq!(found, [expected], "{comes}");
            if !is_full {
                session.batch_execute("UPDATE t SET id = 2; UPDATE r SET id = 2").await.expect(comes);
            }
        }
    }
}
