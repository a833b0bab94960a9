//! Logins, encryption, and what is said when they fail.

use super::server::Server;
use limn_origin::health::preflight::{self, PreflightError};
use limn_origin::postgres::{PostgresConfig, PostgresError, ReplicationConnection, Session};

/// Connects both ways; says for each whether it is encrypted.
async fn connect(config: &PostgresConfig) -> Result<[bool; 2], PostgresError> {
    let sql = "SELECT ssl::text FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let session = Session::connect(config).await?;
    let row = session.query_one(sql, &[]).await?;
    let mut replication = ReplicationConnection::connect(config).await?;
    let rows = replication.query(sql).await?;
    Ok([row.get::<_, &str>(0) == "true", rows[0][0].as_deref() == Some("true")])
}

#[tokio::test]
async fn passwords_of_every_kind() {
    let server = Server::shared();
    for role in ["scram", "md5", "cleartext"] {
        for (mode, encrypted) in [("disable", false), ("require", true)] {
            let config = server.tcp(&format!("{role}:sesame"), mode, None);
            let connected = connect(&config).await;
            assert_eq!(connected.expect(role), [encrypted; 2], "{role} {mode}");
            let wrong = server.tcp(&format!("{role}:open"), mode, None);
            let error = connect(&wrong).await.expect_err("a wrong password");
            assert_eq!(error.code(), Some("28P01"), "{role} {mode}: {error}");
            let none = ReplicationConnection::connect(&server.tcp(role, mode, None)).await;
            assert!(matches!(none, Err(PostgresError::Login(_))), "{role} {mode}");
        }
    }
}

#[tokio::test]
async fn encryption_follows_the_mode_and_the_server() {
    let server = Server::shared();
    for (role, mode, expected) in [
        ("plain", "disable", Some(false)),
        ("plain", "allow", Some(false)),
        ("plain", "prefer", Some(true)),
        ("plain", "require", Some(true)),
        ("encrypted", "disable", None),
        ("encrypted", "allow", Some(true)),
        ("encrypted", "prefer", Some(true)),
        ("unencrypted", "prefer", Some(false)),
        ("unencrypted", "require", None),
    ] {
        let connected = connect(&server.tcp(role, mode, None)).await;
        match expected {
            Some(encrypted) => assert_eq!(connected.expect(role), [encrypted; 2], "{role} {mode}"),
            None => assert_eq!(connected.expect_err(role).code(), Some("28000"), "{role} {mode}"),
        }
    }
}

#[tokio::test]
async fn a_ca_file_makes_the_server_prove_itself() {
    let server = Server::shared();
    let trusted = server.tcp("scram:sesame", "require", Some(&server.certificate()));
    assert_eq!(connect(&trusted).await.expect("is trusted"), [true; 2]);
    let untrusted = server.tcp("scram:sesame", "prefer", Some(&server.other_certificate()));
    for error in
        [Session::connect(&untrusted).await.err(), ReplicationConnection::connect(&untrusted).await.err()]
    {
        assert!(matches!(error, Some(PostgresError::Tls(_))), "{error:?}");
    }
}

#[tokio::test]
async fn preflight_says_what_to_run() {
    let server = Server::shared();
    let good = server.local("postgres");
    let checked = preflight::check(&good, "p", false).await.expect("all is there");
    assert!(checked.server.version_num >= 140_000);

    let failure = async |config: &PostgresConfig, manual| {
        preflight::check(config, "p", manual).await.map(|_| ()).expect_err("is missing").to_string()
    };
    let bystander = server.local_as("bystander", "postgres");
    let expected = "GRANT CREATE ON DATABASE \"postgres\" TO \"bystander\";";
    assert!(failure(&bystander, false).await.contains(expected));
    assert!(failure(&bystander, true).await.contains("ALTER ROLE \"bystander\" WITH REPLICATION;"));
    let nowhere = server.local("nowhere");
    assert!(failure(&nowhere, false).await.contains("CREATE DATABASE \"nowhere\";"));
    let wrong = server.tcp("scram:open", "disable", None);
    assert!(failure(&wrong, false).await.contains("check user and password in DATABASE_URL"));

    let closed = PostgresConfig::parse("postgres://me@127.0.0.1:1/db", None, false).expect("well-formed");
    let error = preflight::check(&closed, "p", false).await.map(|_| ()).expect_err("nobody listens");
    assert!(error.is_transient() && matches!(error, PreflightError::Connection(_)), "{error}");
}
