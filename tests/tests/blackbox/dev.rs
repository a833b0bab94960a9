//! `limn dev`, without arguments but for its port: page, rows, button, and nothing left behind.

use limn_tests::{DevServer, Follower, Request, Signal, command, command_lines_with, free_port, new_folder};
use std::fs;
use std::net::TcpListener;

#[tokio::test]
async fn everything_is_there_and_then_nothing() {
    let mut server = DevServer::start().await;
    let client = server.client();
    let folder = server.temporary.display().to_string();
    assert!(!command_lines_with(&folder).is_empty(), "a Postgres of its own runs");

    let page = client.get("/").await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let config = client.get("/demo/config.json").await.json();
    let table = config["table"].as_str().expect("the demo's table").to_owned();
    let mut shape = Follower::new(client.clone(), &format!("table={table}"));
    shape.sync().await;
    let rows = shape.rows().len();

    let button = Request { method: "POST", target: "/demo/insert", ..Request::default() };
    assert!((200..300).contains(&client.send(&button).await.status));
    assert_eq!(shape.changes(1).await[0]["headers"]["operation"], "insert");
    assert_eq!(shape.rows().len(), rows + 1);

    assert!(server.end(Signal::SIGINT).await.success());
    assert_eq!(command_lines_with(&folder), Vec::<String>::new());
    assert_eq!(fs::read_dir(&folder).expect("the folder that held it").count(), 0);
}

#[tokio::test]
async fn it_ends_as_well_when_a_supervisor_ends_it() {
    let mut server = DevServer::start().await;
    let folder = server.temporary.display().to_string();
    assert!(server.end(Signal::SIGTERM).await.success());
    assert_eq!(command_lines_with(&folder), Vec::<String>::new());
    assert_eq!(fs::read_dir(&folder).expect("the folder that held it").count(), 0);
}

#[tokio::test]
async fn a_port_in_use_is_told_before_anything_is_made() {
    let holder = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let port = holder.local_addr().expect("it listens").port();
    for option in ["--port", "--metrics-port"] {
        let temporary = new_folder("dev");
        let other = free_port().to_string();
        let mut command = command();
        command.args(["dev", option, &port.to_string()]).env("TMPDIR", &temporary).current_dir(&temporary);
        if option != "--port" {
            command.args(["--port", &other]);
        }
        let output = command.output().expect("it can be started");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && told.contains(&format!("127.0.0.1:{port}")), "{told}");
        assert!(told.contains(&format!("Choose another with `{option}`")), "{told}");
        assert_eq!(fs::read_dir(&temporary).expect("its folder").count(), 0, "no Postgres was made");
    }
}
