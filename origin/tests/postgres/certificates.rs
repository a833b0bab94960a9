//! Each kind of server certificate is accepted where libpq accepts it, and only there: `psql` is asked the same.

use super::server::Server;
use limn_origin::postgres::{PostgresConfig, ReplicationConnection, Session};
use std::time::Duration;
use tokio::time::sleep;

/// The hosts by which the server is known.
const HOSTS: [&str; 2] = ["localhost", "127.0.0.1"];

/// How `openssl` makes a server's certificate, what to trust, and in which of the modes `verify-ca` and `verify-full`
/// the two hosts are accepted.
struct Case {
    name: &'static str,
    /// Commands of `openssl`, one a line; the last makes `server.crt` of `server.key`.
    made_by: &'static str,
    /// Appended to what the server sends.
    chain: &'static [&'static str],
    root: &'static str,
    verify_ca: bool,
    verify_full: [bool; 2],
}

/// Certificate authorities, made once.
const AUTHORITIES: &str = "
req -x509 -newkey rsa:2048 -nodes -days 9 -subj /CN=ca -keyout ca.key -out ca.crt
req -x509 -newkey rsa:2048 -nodes -days 9 -subj /CN=stranger -keyout stranger.key -out stranger.crt
req -x509 -newkey rsa:2048 -nodes -days 9 -subj /CN=leaf -addext basicConstraints=critical,CA:FALSE -keyout noca.key -out noca.crt
req -x509 -newkey rsa:2048 -nodes -days 9 -subj /CN=short -addext basicConstraints=critical,CA:TRUE,pathlen:0 -keyout short.key -out short.crt
req -new -newkey rsa:2048 -nodes -subj /CN=old -keyout old.key -out old.csr
x509 -req -in old.csr -days 9 -signkey old.key -out old.crt
req -new -newkey rsa:2048 -nodes -subj /CN=middle -addext basicConstraints=critical,CA:TRUE -keyout middle.key -out middle.csr
x509 -req -in middle.csr -days 9 -CA ca.crt -CAkey ca.key -CAcreateserial -extfile ca.ext -out middle.crt
x509 -req -in middle.csr -days 9 -CA ca.crt -CAkey ca.key -CAcreateserial -extfile mute.ext -out mute.crt
x509 -req -in middle.csr -days 9 -CA short.crt -CAkey short.key -CAcreateserial -extfile ca.ext -out beyond.crt
req -new -newkey rsa:2048 -nodes -subj /CN=localhost -keyout server.key -out server.csr
req -new -key server.key -subj /CN=dbhost -out dbhost.csr";

const EXTENSIONS: [(&str, &str); 10] = [
    ("mute.ext", "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,digitalSignature"),
    ("ca.ext", "basicConstraints=critical,CA:TRUE"),
    ("localhost.ext", "subjectAltName=DNS:localhost"),
    ("address.ext", "subjectAltName=IP:127.0.0.1"),
    ("both.ext", "subjectAltName=DNS:LOCALHOST,IP:127.0.0.1"),
    ("other.ext", "subjectAltName=DNS:other"),
    ("mail.ext", "subjectAltName=email:a@b"),
    ("client.ext", "subjectAltName=DNS:localhost\nextendedKeyUsage=clientAuth"),
    ("sign.ext", "subjectAltName=DNS:localhost\nkeyUsage=critical,keyCertSign"),
    ("critical.ext", "subjectAltName=DNS:localhost\n1.2.3.4=critical,DER:0500"),
];

const fn case(name: &'static str, made_by: &'static str, root: &'static str) -> Case {
    Case { name, made_by, chain: &[], root, verify_ca: false, verify_full: [false; 2] }
}

const fn accepted(name: &'static str, made_by: &'static str, root: &'static str, full: [bool; 2]) -> Case {
    Case { name, made_by, chain: &[], root, verify_ca: true, verify_full: full }
}

const LOCALHOST: [bool; 2] = [true, false];

fn cases() -> Vec<Case> {
    vec![
        accepted(
            "the manual's recipe",
            "req -new -x509 -days 9 -key server.key -subj /CN=localhost -out server.crt",
            "server.crt",
            LOCALHOST,
        ),
        accepted(
            "the same for another host",
            "req -new -x509 -days 9 -key server.key -subj /CN=dbhost -out server.crt",
            "server.crt",
            [false; 2],
        ),
        accepted(
            "self-signed, no CA",
            "req -new -x509 -days 9 -key server.key -subj /CN=localhost -addext basicConstraints=critical,CA:FALSE -out server.crt",
            "server.crt",
            LOCALHOST,
        ),
        accepted(
            "self-signed, version 1",
            "x509 -req -in server.csr -days 9 -signkey server.key -out server.crt",
            "server.crt",
            LOCALHOST,
        ),
        accepted(
            "self-signed, for clients",
            "req -new -x509 -days 9 -key server.key -subj /CN=localhost -addext extendedKeyUsage=serverAuth,clientAuth -out server.crt",
            "server.crt",
            LOCALHOST,
        ),
        case(
            "self-signed, for clients only",
            "req -new -x509 -days 9 -key server.key -subj /CN=localhost -addext extendedKeyUsage=clientAuth -out server.crt",
            "server.crt",
        ),
        case(
            "self-signed, another is trusted",
            "req -new -x509 -days 9 -key server.key -subj /CN=localhost -out server.crt",
            "stranger.crt",
        ),
        case(
            "self-signed, expired",
            "x509 -req -in server.csr -days -1 -signkey server.key -out server.crt",
            "server.crt",
        ),
        accepted(
            "of a CA, version 1",
            "x509 -req -in server.csr -days 9 -CA ca.crt -CAkey ca.key -CAcreateserial -out server.crt",
            "ca.crt",
            LOCALHOST,
        ),
        accepted(
            "of a CA of version 1, version 1",
            "x509 -req -in server.csr -days 9 -CA old.crt -CAkey old.key -CAcreateserial -out server.crt",
            "old.crt",
            LOCALHOST,
        ),
        accepted(
            "of a CA of version 1",
            "x509 -req -in server.csr -days 9 -CA old.crt -CAkey old.key -CAcreateserial -extfile localhost.ext -out server.crt",
            "old.crt",
            LOCALHOST,
        ),
        accepted(
            "of a CA",
            "x509 -req -in server.csr -days 9 -CA ca.crt -CAkey ca.key -CAcreateserial -extfile localhost.ext -out server.crt",
            "ca.crt",
            LOCALHOST,
        ),
        accepted(
            "for an address",
            "x509 -req -in dbhost.csr -days 9 -CA ca.crt -CAkey ca.key -CAcreateserial -extfile address.ext -out server.crt",
            "ca.crt",
            [false, true],
        ),
        accepted(
            "for both",
            "x509 -req -in dbhost.csr -days 9 -CA ca.crt -CAkey ca.key -CAcreateserial -extfile both.ext -out server.crt",
            "ca.crt",
            [true; 2],
        ),
        accepted(
            "common name beside an address",
            "x509 -req -in server.csr -days 9 -CA ca.crt -CAkey ca.key -CAcreateserial -extfile address.ext -out server.crt",
            "ca.crt",
            [true; 2],
        ),
        accepted(
            "common name beside another name",
            "x509 -req -in server.csr -days 9 -CA ca.crt -CAkey ca.key -CAcreateserial -extfile other.ext -out server.crt",
            "ca.crt",
            [false; 2],
        ),
        accepted(
            "common name beside a mail address",
            "x509 -req -in server.csr -days 9 -CA ca.crt -CAkey ca.key -CAcreateserial -extfile mail.ext -out server.crt",
            "ca.crt",
            LOCALHOST,
        ),
        accepted(
            "may itself sign",
            "x509 -req -in server.csr -days 9 -CA ca.crt -CAkey ca.key -CAcreateserial -extfile ca.ext -out server.crt",
            "ca.crt",
            LOCALHOST,
        ),
        case(
            "of a CA, expired",
            "x509 -req -in server.csr -days -1 -CA ca.crt -CAkey ca.key -CAcreateserial -extfile localhost.ext -out server.crt",
            "ca.crt",
        ),
        case(
            "of a CA, version 1, expired",
            "x509 -req -in server.csr -days -1 -CA ca.crt -CAkey ca.key -CAcreateserial -out server.crt",
            "ca.crt",
        ),
        case(
            "of a CA, for clients only",
            "x509 -req -in server.csr -days 9 -CA ca.crt -CAkey ca.key -CAcreateserial -extfile client.ext -out server.crt",
            "ca.crt",
        ),
        case(
            "of a CA, for signing only",
            "x509 -req -in server.csr -days 9 -CA ca.crt -CAkey ca.key -CAcreateserial -extfile sign.ext -out server.crt",
            "ca.crt",
        ),
        case(
            "of a CA, with something unknown",
            "x509 -req -in server.csr -days 9 -CA ca.crt -CAkey ca.key -CAcreateserial -extfile critical.ext -out server.crt",
            "ca.crt",
        ),
        case(
            "of another CA",
            "x509 -req -in server.csr -days 9 -CA stranger.crt -CAkey stranger.key -CAcreateserial -extfile localhost.ext -out server.crt",
            "ca.crt",
        ),
        case(
            "of another CA, version 1",
            "x509 -req -in server.csr -days 9 -CA stranger.crt -CAkey stranger.key -CAcreateserial -out server.crt",
            "ca.crt",
        ),
        case(
            "of one that is no CA",
            "x509 -req -in server.csr -days 9 -CA noca.crt -CAkey noca.key -CAcreateserial -extfile localhost.ext -out server.crt",
            "noca.crt",
        ),
        Case {
            chain: &["middle.crt"],
            ..accepted(
                "of a chain",
                "x509 -req -in server.csr -days 9 -CA middle.crt -CAkey middle.key -CAcreateserial -extfile localhost.ext -out server.crt",
                "ca.crt",
                LOCALHOST,
            )
        },
        case(
            "of a chain with a gap",
            "x509 -req -in server.csr -days 9 -CA middle.crt -CAkey middle.key -CAcreateserial -extfile localhost.ext -out server.crt",
            "ca.crt",
        ),
        case(
            "the chain's middle alone is trusted",
            "x509 -req -in server.csr -days 9 -CA middle.crt -CAkey middle.key -CAcreateserial -extfile localhost.ext -out server.crt",
            "middle.crt",
        ),
        Case {
            chain: &["mute.crt"],
            ..case(
                "of a chain whose middle may not sign",
                "x509 -req -in server.csr -days 9 -CA mute.crt -CAkey middle.key -CAcreateserial -extfile localhost.ext -out server.crt",
                "ca.crt",
            )
        },
        Case {
            chain: &["beyond.crt"],
            ..case(
                "of a chain that is too long",
                "x509 -req -in server.csr -days 9 -CA beyond.crt -CAkey middle.key -CAcreateserial -extfile localhost.ext -out server.crt",
                "short.crt",
            )
        },
    ]
}

async fn connects(config: &PostgresConfig) -> bool {
    let session = Session::connect(config).await;
    let replication = ReplicationConnection::connect(config).await;
    assert_eq!(session.is_ok(), replication.is_ok(), "{:?} {:?}", session.err(), replication.err());
    session.is_ok()
}

#[tokio::test]
async fn certificates_are_accepted_where_libpq_accepts_them() {
    let server = Server::start("certificates");
    for (name, text) in EXTENSIONS {
        server.write(name, text);
    }
    AUTHORITIES.trim().lines().for_each(|line| server.openssl(line));
    let mut wrong = Vec::new();
    for case in cases() {
        server.openssl(case.made_by);
        server.show(&["server.crt"], case.chain).await;
        let root = server.file(case.root);
        for (host, full) in HOSTS.into_iter().zip(case.verify_full) {
            for (mode, expected) in
                [("require", case.verify_ca), ("verify-ca", case.verify_ca), ("verify-full", full)]
            {
                let url = format!("postgres://plain@{host}:{}/postgres?sslmode={mode}", server.port());
                let config = PostgresConfig::parse(&url, Some(&root), false).expect("well-formed");
                let (ours, libpq) = (connects(&config).await, server.psql_connects(&url, &root));
                if (ours, libpq) != (expected, expected) {
                    wrong.push(format!(
                        "{} {host} {mode}: {expected} expected, {ours}, libpq {libpq}",
                        case.name
                    ));
                }
            }
        }
        // Without a CA file nothing is verified, whatever the certificate.
        let url = format!("postgres://plain@localhost:{}/postgres?sslmode=require", server.port());
        let config = PostgresConfig::parse(&url, None, false).expect("well-formed");
        assert!(connects(&config).await, "{}", case.name);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

impl Server {
    /// Has the server show these certificates, and waits until it does.
    async fn show(&self, own: &[&str], chain: &[&str]) {
        let read = |name: &&str| std::fs::read_to_string(self.file(name)).expect("it was made");
        let sent: String = own.iter().chain(chain).map(read).collect();
        self.write("shown.crt", &sent);
        let session = Session::connect(&self.local("postgres")).await.expect("connects");
        let settings = ["shown.crt", "server.key"].map(|name| self.file(name).display().to_string());
        for (name, file) in ["ssl_cert_file", "ssl_key_file"].into_iter().zip(settings) {
            session.batch_execute(&format!("ALTER SYSTEM SET {name} = '{file}'")).await.expect("is set");
        }
        session.batch_execute("SELECT pg_reload_conf()").await.expect("is read again");
        while !self.shown().contains(body(&read(&own[0]))) {
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// What stands between the first certificate's lines of dashes.
fn body(pem: &str) -> &str {
    pem.split("-----").nth(2).expect("a certificate").trim()
}

#[tokio::test]
async fn what_the_url_names_is_used() {
    let server = Server::start("named");
    AUTHORITIES.trim().lines().filter(|line| line.contains("CN=ca ")).for_each(|line| server.openssl(line));
    server.openssl("req -new -newkey rsa:2048 -nodes -subj /CN=certified -keyout client.key -out client.csr");
    server
        .openssl("x509 -req -in client.csr -days 9 -CA ca.crt -CAkey ca.key -CAcreateserial -out client.crt");
    let file = |name: &str| server.file(name).display().to_string();
    let session = Session::connect(&server.local("postgres")).await.expect("connects");
    session
        .batch_execute(&format!("ALTER SYSTEM SET ssl_ca_file = '{}'", file("ca.crt")))
        .await
        .expect("is set");
    session
        .batch_execute("CREATE ROLE certified LOGIN REPLICATION; SELECT pg_reload_conf()")
        .await
        .expect("runs");
    let url = |rest: &str| format!("postgres://certified@localhost:{}/postgres?{rest}", server.port());
    let parse = |url: &str| PostgresConfig::parse(url, None, false);
    let root = format!("sslmode=verify-full&sslrootcert={}", file("server.crt"));
    let with = format!("{root}&sslcert={}&sslkey={}", file("client.crt"), file("client.key"));
    let certified = parse(&url(&with)).expect("well-formed");
    while !connects(&certified).await {
        sleep(Duration::from_millis(20)).await;
    }
    assert!(!connects(&parse(&url(&root)).expect("well-formed")).await, "without a certificate");
    assert!(
        parse(&url("sslrootcert=/no/ca.pem")).is_err_and(|error| error.to_string().contains("/no/ca.pem"))
    );
    let system = parse(&url("sslrootcert=system")).expect("the system has some");
    assert!(!connects(&system).await, "none of them has made ours");
    let bound = |login: &str, mode: &str| {
        let url = format!(
            "postgres://{login}@localhost:{}/postgres?sslmode={mode}&channel_binding=require",
            server.port()
        );
        PostgresConfig::parse(&url, None, false).expect("well-formed")
    };
    assert!(connects(&bound("scram:sesame", "require")).await);
    for (login, mode) in [
        ("scram:sesame", "disable"),
        ("md5:sesame", "require"),
        ("cleartext:sesame", "require"),
        ("plain", "require"),
    ] {
        assert!(!connects(&bound(login, mode)).await, "{login} {mode}");
    }
    let version = session.query_one("SELECT current_setting('server_version_num')::int", &[]).await;
    let direct = connects(&server.tcp("plain", "require&sslnegotiation=direct", None)).await;
    assert_eq!(direct, version.expect("a number").get::<_, i32>(0) >= 170_000);
}
