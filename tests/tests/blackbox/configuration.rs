//! Electric's variables: what each does here, or that it does nothing.

use super::table;
use limn_tests::{Client, Cluster, Database, Process, Request, Signal, command, eventually, free_port};
use std::fs;

/// A server that is set up by variables alone, once it is active.
async fn start(database: &Database, variables: &[(&str, &str)]) -> (Process, Client) {
    let port = free_port();
    let mut command = command();
    command.arg("serve").env("DATABASE_URL", database.url()).env("ELECTRIC_PORT", port.to_string());
    command.env("ELECTRIC_INSECURE", "true").env("ELECTRIC_REPLICATION_STREAM_ID", &database.name);
    command.envs(variables.iter().copied());
    let mut process = Process::start(command, Signal::SIGKILL);
    let client = Client::new(port);
    let health = Request { method: "GET", target: "/v1/health", ..Request::default() };
    eventually("limn is active", async || {
        assert!(process.ended().is_none(), "limn ended: {}", process.output());
        client.try_send(&health).await.ok().filter(|health| health.status == 200)
    })
    .await;
    (process, client)
}

#[tokio::test]
async fn what_has_no_effect_is_said_once_and_nothing_else_is() {
    let database = Cluster::shared().await.database().await;
    let (mut process, _) = start(
        &database,
        &[
            ("ELECTRIC_STORAGE", "MEMORY"),
            ("ELECTRIC_REPLICATION_IDLE_TIMEOUT", "5min"),
            ("ELECTRIC_TWEAKS_CONN_MAX_REQUESTS", "50"),
            ("ELECTRIC_NO_SUCH_THING", "1"),
            ("ELECTRIC_TCP_SEND_TIMEOUT", "10sec"),
            ("ELECTRIC_DATABASE_TCP_KEEPALIVE_IDLE", "10s"),
            ("ELECTRIC_DATABASE_TCP_USER_TIMEOUT", "10s"),
        ],
    )
    .await;
    process.signal(Signal::SIGTERM);
    assert!(process.wait().await.success());
    let output = process.output();
    let said: Vec<&str> = output.lines().filter(|line| line.contains("has no effect here")).collect();
    for name in
        ["ELECTRIC_NO_SUCH_THING", "ELECTRIC_REPLICATION_IDLE_TIMEOUT", "ELECTRIC_TWEAKS_CONN_MAX_REQUESTS"]
    {
        assert_eq!(said.iter().filter(|line| line.contains(name)).count(), 1, "{output}");
    }
    assert_eq!(said.len(), 3, "{output}");
}

#[tokio::test]
async fn ours_wins_over_electrics_and_durations_have_units() {
    let database = Cluster::shared().await.database().await;
    table(&database.connect().await, "t").await;
    let variables = [
        ("ELECTRIC_STORAGE", "MEMORY"),
        ("ELECTRIC_LONG_POLL_TIMEOUT", "10min"),
        ("LIMN_LONG_POLL_TIMEOUT", "1s"),
        ("ELECTRIC_DB_POOL_SIZE", "6"),
    ];
    let (_process, client) = start(&database, &variables).await;
    let snapshot = client.get("/v1/shape?table=t&offset=-1").await;
    let handle = snapshot.header("electric-handle").expect("is sent");
    let live = client.get(&format!("/v1/shape?table=t&handle={handle}&offset=0_inf&live=true")).await;
    assert_eq!((live.status, live.header("electric-up-to-date")), (200, Some("")), "after a second");
}

#[tokio::test]
async fn what_is_kept_in_memory_leaves_nothing_behind() {
    let database = Cluster::shared().await.database().await;
    let sql = database.connect().await;
    table(&sql, "t").await;
    let folder = limn_tests::new_folder("temporary");
    let variables = [
        ("ELECTRIC_STORAGE", "MEMORY"),
        ("CLEANUP_REPLICATION_SLOTS_ON_SHUTDOWN", "true"),
        ("ELECTRIC_TEMPORARY_REPLICATION_SLOT_USE_RANDOM_NAME", "true"),
        ("TMPDIR", folder.to_str().expect("a plain path")),
    ];
    let slots = format!(
        "SELECT count(*)::text FROM pg_replication_slots
          WHERE database = '{}' AND temporary AND slot_name ~ '^electric_slot_[0-9a-f]{{32}}$'",
        database.name
    );
    for _ in 0..2 {
        let (mut process, client) = start(&database, &variables).await;
        assert_eq!(sql.value(&slots).await, "1");
        assert_eq!(client.get("/v1/shape?table=t&offset=-1").await.status, 200);
        assert_eq!(fs::read_dir(&folder).expect("is there").count(), 1);
        process.signal(Signal::SIGTERM);
        assert!(process.wait().await.success());
        assert_eq!(fs::read_dir(&folder).expect("is there").count(), 0);
        eventually("the slot has gone", async || (sql.value(&slots).await == "0").then_some(())).await;
    }
}

#[tokio::test]
async fn it_listens_by_ipv6() {
    let database = Cluster::shared().await.database().await;
    // Where the machine has IPv6 at all.
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        return;
    }
    let variables = [("ELECTRIC_STORAGE", "MEMORY"), ("ELECTRIC_LISTEN_ON_IPV6", "true")];
    let (process, client) = start(&database, &variables).await;
    assert!(process.output().contains("address=[::]:"), "{}", process.output());
    assert_eq!(client.get("/v1/health").await.status, 200, "and by IPv4");
}
