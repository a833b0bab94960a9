//! The disk below the storage folder fails.

use super::table;
use limn_tests::{Cluster, Limn, Shim};

/// More than one file of the commit log holds, so that the segments are synced.
const ROWS: usize = 9_000;
const TEXT_BYTES: usize = 8_192;

#[tokio::test]
async fn segments_that_cannot_be_synced_end_the_server_and_nothing_is_lost() {
    let Some(shim) = Shim::new() else {
        return eprintln!("skipped: faults of the disk need Linux and a C compiler");
    };
    let database = Cluster::shared().await.database().await;
    let sql = database.connect().await;
    table(&sql, "t").await;
    let mut server = Limn::stopped(&database, &[]);
    server.set_variables(shim.variables(&server.storage().join("shapes")));
    server.resume().await;
    let mut shape = server.follow("table=t").await;
    server.wait_durable(&shape).await;

    shim.fail_syncs(true);
    sql.execute(&format!(
        "INSERT INTO t SELECT n + 10, repeat(md5(n::text), {}), n FROM generate_series(1, {ROWS}) n",
        TEXT_BYTES / 32
    ))
    .await;
    let (status, output) = server.wait().await;
    assert!(!status.success());
    assert!(output.contains("cannot sync the shapes' segments"), "{output}");

    shim.fail_syncs(false);
    server.resume().await;
    let lsn = server.barrier(&sql).await;
    shape.sync_to(lsn).await;
    assert_eq!((shape.rows().len(), shape.rotations()), (ROWS + 3, 0));
}
