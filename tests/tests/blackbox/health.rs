//! `limn health`, as a container's health check runs it.

use limn_tests::{Cluster, Limn, Signal, command};
use std::process::Output;
use tokio::task::spawn_blocking;

async fn health(port: u16) -> Output {
    let mut command = command();
    command.args(["health", "--port", &port.to_string()]);
    spawn_blocking(move || command.output().expect("limn can be started")).await.expect("it ends")
}

#[tokio::test]
async fn limn_health_succeeds_while_the_server_serves() {
    let database = Cluster::shared().await.database().await;
    let mut server = Limn::start(&database, &[]).await;
    let answer = health(server.port()).await;
    assert!(answer.status.success(), "{answer:?}");
    assert!(String::from_utf8_lossy(&answer.stdout).contains("\"active\""), "{answer:?}");

    server.signal(Signal::SIGTERM);
    server.wait().await;
    let answer = health(server.port()).await;
    assert!(!answer.status.success(), "{answer:?}");
    assert!(String::from_utf8_lossy(&answer.stderr).contains("nobody answers at 127.0.0.1"), "{answer:?}");
}
