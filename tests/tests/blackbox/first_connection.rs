//! The first connection: a pooler in Postgres's place is told from Postgres, and who holds up the slot is named.

use super::table;
use limn_tests::{Cluster, Database, Limn, Process, Signal, command, eventually, free_port, new_folder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What a pooler does with a connection for replication.
#[derive(Clone, Copy)]
enum Refusal {
    /// PgBouncer before 1.23: an error that names the parameter.
    Parameter,
    /// Others pass the connection on without the parameter.
    Dropped,
    /// A service's own words.
    Words,
}

/// Answers as a pooler before the database does; gives its port.
async fn pooler(database: &Database, refusal: Refusal) -> u16 {
    let port = free_port();
    let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("the port is free");
    let url = database.url();
    let server: u16 = url.split([':', '/']).find_map(|part| part.parse().ok()).expect("a port");
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(pool(client, server, refusal));
        }
    });
    port
}

async fn pool(mut client: TcpStream, server: u16, refusal: Refusal) -> std::io::Result<()> {
    let length = client.read_i32().await?;
    let mut start_up = vec![0; usize::try_from(length - 4).expect("a length")];
    client.read_exact(&mut start_up).await?;
    let parameter = b"replication\0database\0";
    let place = start_up.windows(parameter.len()).position(|window| window == parameter);
    if let Some(place) = place {
        let message = match refusal {
            Refusal::Parameter => "C08P01\0Munsupported startup parameter: replication\0",
            Refusal::Words => "CXX000\0MTenant or user not found\0",
            Refusal::Dropped => "",
        };
        if !message.is_empty() {
            let fields = format!("SFATAL\0VFATAL\0{message}\0");
            client.write_u8(b'E').await?;
            client.write_i32(i32::try_from(fields.len()).expect("short") + 4).await?;
            return client.write_all(fields.as_bytes()).await;
        }
        start_up.drain(place..place + parameter.len());
    }
    let mut server = TcpStream::connect(("127.0.0.1", server)).await?;
    server.write_i32(i32::try_from(start_up.len()).expect("short") + 4).await?;
    server.write_all(&start_up).await?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await.map(drop)
}

#[tokio::test]
async fn a_pooler_is_told_and_where_it_may_stand() {
    let database = Cluster::shared().await.database().await;
    table(&database.connect().await, "t").await;
    for refusal in [Refusal::Parameter, Refusal::Dropped, Refusal::Words] {
        let pooled = database.through(pooler(&database, refusal).await).url();
        for program in ["serve", "check"] {
            let mut command = command();
            command.args([program, "--insecure", "--database-url", &pooled, "--storage-dir"]);
            command.arg(new_folder("pooled").join("storage"));
            let mut process = Process::start(command, Signal::SIGKILL);
            assert!(!process.wait().await.success(), "{}", process.output());
            let output = process.output();
            for part in ["this looks like a pooler", "--pooled-database-url", "DATABASE_URL"] {
                assert!(output.contains(part), "`{part}` is missing in: {output}");
            }
        }
        let mut server = Limn::stopped(&database, &["--pooled-database-url", &pooled]);
        server.resume().await;
        assert_eq!(server.follow("table=t").await.rows().len(), 3);
        let slot = format!("electric_slot_{}", database.name);
        server.stop().await;
        let drop = format!("SELECT pg_drop_replication_slot('{slot}')");
        let sql = database.connect().await;
        eventually("the slot is free", async || sql.try_execute(&drop).await.ok()).await;
    }
}

#[tokio::test]
async fn who_holds_up_the_slot_is_named() {
    let cluster = Cluster::start(&["max_prepared_transactions=2"]).await;
    let (database, elsewhere) = (cluster.database().await, cluster.database().await);
    let (sql, writer) = (database.connect().await, elsewhere.connect().await);
    writer.execute("CREATE TABLE u (id int); SET application_name = 'nightly import'").await;
    writer.execute("BEGIN; INSERT INTO u VALUES (1)").await;
    let pid = writer.value("SELECT pg_backend_pid()::text").await;
    let preparer = elsewhere.connect().await;
    preparer.execute("BEGIN; INSERT INTO u VALUES (2)").await;
    preparer.execute("PREPARE TRANSACTION 'forgotten one'").await;
    let role = format!("limn_{}", database.name);
    let name = &database.name;
    sql.execute(&format!("CREATE ROLE {role} LOGIN REPLICATION; GRANT CREATE ON DATABASE {name} TO {role}"))
        .await;
    let mut server = Limn::stopped(&database, &[]);
    server.log_in_as(&role);
    let check = |server: &Limn| {
        let mut command = command();
        command.arg("check").args(server.check_arguments());
        async move {
            let mut process = Process::start(command, Signal::SIGKILL);
            process.wait().await;
            process.output()
        }
    };
    // Those that have just begun are passed over.
    let said = eventually("it is told before the server starts", async || {
        Some(check(&server).await).filter(|said| said.contains("`forgotten one`"))
    })
    .await;
    assert!(said.contains(&format!("process {pid}")) && said.contains("`nightly import`"), "{said}");
    server.spawn();
    let told = async |part: &str| {
        eventually("the log says who it is", async || server.output().contains(part).then_some(())).await;
    };
    // The creation waits for one after the other.
    told(&format!("process {pid} (application `nightly import`")).await;
    let said = check(&server).await;
    assert!(said.contains("creating") && said.contains(&format!("pg_terminate_backend({pid})")), "{said}");
    writer.execute("COMMIT").await;
    told("the prepared transaction `forgotten one`").await;
    assert!(check(&server).await.contains("run: ROLLBACK PREPARED 'forgotten one';"));
    preparer.execute("ROLLBACK PREPARED 'forgotten one'").await;
    server.wait_active().await;
}
