//! What clients send never becomes SQL of its own, and secrets show nowhere.

use super::{shared, table};
use limn_tests::{Cluster, Limn, Request, encode};

/// A word that only attacks contain: in SQL it may stand in literals and quoted names, nowhere else.
const EVIL: &str = "limn_evil";

const TABLES: [&str; 6] = [
    "t; DROP TABLE limn_evil",
    "\"t\"; DROP TABLE limn_evil; --",
    "public.t\"; SELECT limn_evil; --",
    "t WHERE limn_evil",
    "\"limn_evil\"\"; DROP TABLE t; --\"",
    "limn_evil",
];

const CLAUSES: [&str; 22] = [
    "a = 'x'; DROP TABLE limn_evil",
    "a = 'limn_evil'; DROP TABLE t; --'",
    "a = 'limn_evil''; DROP TABLE t; --'",
    "a = 'x' OR limn_evil()",
    "a = 'x' OR pg_sleep(limn_evil)",
    "a = $$limn_evil$$",
    "a = $q$'; DROP TABLE limn_evil; --$q$",
    "a = E'\\'; DROP TABLE limn_evil; --'",
    "a = 'x\\' OR limn_evil = '",
    "a = 'x\\'' OR ''='limn_evil'",
    "/* limn_evil */ a = 'x'",
    "a = 'x' -- limn_evil",
    "a = 'x' /* limn_evil",
    "a IN (SELECT a FROM t; DROP TABLE limn_evil)",
    "a IN (SELECT limn_evil FROM t)",
    "a IN (SELECT a FROM t WHERE a = 'limn_evil''); DROP TABLE t; --')",
    "a LIKE 'limn_evil''%'",
    "\"limn_evil\" = 1",
    "a = U&'limn\\005fevil limn_evil'",
    "a::\"limn_evil\" = 'x'",
    "n = limn_evil.n",
    "a = 'x') UNION SELECT limn_evil FROM (t",
];

const VALUES: [&str; 5] = [
    "limn_evil' OR 1=1; DROP TABLE t; --",
    "limn_evil\\' OR 1=1; DROP TABLE t; --",
    "\\'; limn_evil; --",
    "$$limn_evil$$",
    "limn_evil\u{2019}; --",
];

const LISTS: [&str; 5] = [
    "id,a; DROP TABLE limn_evil",
    "id,\"a\"\"; limn_evil\"",
    "id,a) FROM t; SELECT limn_evil; --",
    "id,limn_evil",
    "\"id\",\"limn_evil\"",
];

const ORDERS: [&str; 6] = [
    "a; DROP TABLE limn_evil",
    "a) limn_evil",
    "limn_evil",
    "\"limn_evil\"",
    "a NULLS limn_evil",
    "(SELECT limn_evil)",
];

/// Every attack as a request's query.
fn attacks() -> Vec<String> {
    let (shape, snapshot) = ("table=t&offset=-1", "offset=-1");
    let mut attacks: Vec<String> = Vec::new();
    attacks.extend(TABLES.map(|table| format!("{snapshot}&table={}", encode(table))));
    attacks.extend(TABLES.map(|table| format!("{snapshot}&table={}", encode(&format!("public.{table}")))));
    attacks.extend(CLAUSES.map(|clause| format!("{shape}&where={}", encode(clause))));
    attacks.extend(VALUES.map(|value| format!("{shape}&where=a%3D$1&params[1]={}", encode(value))));
    attacks.extend(VALUES.map(|value| format!("{shape}&where=a%20LIKE%20$1&params[1]={}", encode(value))));
    attacks.extend(LISTS.map(|list| format!("{shape}&columns={}", encode(list))));
    attacks.extend(LISTS.map(|list| format!("{shape}&queryable_columns={}", encode(list))));
    attacks.extend(CLAUSES.map(|clause| format!("{shape}&subset__where={}", encode(clause))));
    let value = |value| format!("{shape}&subset__where=a%3D$1&subset__params[1]={}", encode(value));
    attacks.extend(VALUES.map(value));
    attacks.extend(ORDERS.map(|order| format!("{shape}&subset__order_by={}&subset__limit=1", encode(order))));
    for number in ["1; DROP TABLE limn_evil", "limn_evil", "1 OFFSET limn_evil"] {
        attacks.push(format!("{shape}&subset__order_by=id&subset__limit={}", encode(number)));
        attacks
            .push(format!("{shape}&subset__order_by=id&subset__limit=1&subset__offset={}", encode(number)));
        attacks.push(format!("{shape}&replica={}", encode(number)));
        attacks.push(format!("{shape}&handle={}", encode(number)));
        attacks.push(format!("table=t&offset={}", encode(number)));
    }
    attacks
}

/// What is left of SQL without its literals and quoted names; `None` where one of them does not end.
fn without_quoted(sql: &str) -> Option<String> {
    let mut rest = sql.chars().peekable();
    let mut left = String::new();
    while let Some(c) = rest.next() {
        if c != '\'' && c != '"' {
            left.push(c);
            continue;
        }
        let escapes = c == '\'' && left.ends_with(['E', 'e']);
        loop {
            match rest.next()? {
                '\\' if escapes => drop(rest.next()?),
                end if end == c && rest.next_if_eq(&c).is_none() => break,
                _ => {}
            }
        }
        left.push(' ');
    }
    Some(left)
}

/// The statements that a server logged, each on one line.
fn statements(log: &str) -> Vec<String> {
    let mut statements: Vec<String> = Vec::new();
    let mut inside = false;
    for line in log.lines() {
        let begun = ["LOG:  statement: ", "LOG:  execute "].iter().find_map(|start| line.split_once(start));
        match begun {
            Some((_, statement)) => statements.push(statement.to_owned()),
            // Further lines of a statement are indented.
            None if inside && line.starts_with('\t') => {
                if let Some(last) = statements.last_mut() {
                    last.push_str(line);
                }
            }
            None => {}
        }
        inside = begun.is_some() || (inside && line.starts_with('\t'));
    }
    statements
}

#[tokio::test]
async fn what_clients_send_stands_in_literals_and_quoted_names_only() {
    let cluster =
        Cluster::start(&["log_statement=all", "log_parameter_max_length=0", "logging_collector=off"]).await;
    let database = cluster.database().await;
    let sql = database.connect().await;
    table(&sql, "t").await;
    sql.execute(
        r#"CREATE TABLE "limn_evil'; DROP TABLE t; --" ("id" int PRIMARY KEY, "c""'; limn_evil" text);
           INSERT INTO "limn_evil'; DROP TABLE t; --" VALUES (1, 'x')"#,
    )
    .await;
    let server = Limn::start(&database, &[]).await;
    let client = server.client();
    for query in attacks() {
        let response = client.get(&format!("/v1/shape?{query}")).await;
        assert!(response.status < 500, "{query}: {} {}", response.status, response.text());
        assert!(response.status == 400 || response.status == 200, "{query}: {}", response.status);
    }
    let body = serde_json::json!({ "where": "a = $1", "params": { "1": VALUES[0] }, "order_by": ORDERS[0] });
    let body = body.to_string();
    let target = "/v1/shape?table=t&offset=-1";
    let headers = [("content-type", "application/json")];
    let response = client.send(&Request { method: "POST", target, headers: &headers, body: &body }).await;
    assert_eq!(response.status, 400, "{}", response.text());
    // Names like these exist; they are served like any other.
    let strange = encode(r#""limn_evil'; DROP TABLE t; --""#);
    let clause = encode(r#""c""'; limn_evil" = 'x'"#);
    let served = server.get(&format!("table={strange}&offset=-1&where={clause}")).await;
    assert_eq!(served.status, 200, "{}", served.text());
    assert_eq!(served.json()[0]["value"]["id"], "1");

    assert_eq!(sql.value("SELECT count(*)::text FROM t").await, "3");
    let statements = statements(&cluster.log());
    assert!(statements.iter().any(|statement| statement.contains(EVIL)), "literals reach Postgres as such");
    for statement in &statements {
        let left = without_quoted(statement).unwrap_or_else(|| unreachable!("unbalanced: {statement}"));
        assert!(!left.contains(EVIL), "{statement}");
    }
}

#[tokio::test]
async fn a_clause_can_neither_act_nor_read_anything_but_its_row() {
    let server = shared(&[]).await;
    let sql = server.sql().await;
    sql.execute(
        "CREATE SEQUENCE s; CREATE TABLE told (a text);
         CREATE FUNCTION tell(text) RETURNS text LANGUAGE sql AS 'INSERT INTO told VALUES ($1) RETURNING a'",
    )
    .await;
    for clause in [
        "pg_sleep(60)::text = a",
        "(SELECT pg_sleep(60)::text) = a",
        "nextval('s') = n",
        "setval('s', 7) = n",
        "set_config('work_mem', '1GB', false) = a",
        "current_setting('data_directory') = a",
        "pg_read_file('/etc/passwd') = a",
        "pg_ls_dir('.') = a",
        "lo_import('/etc/passwd') = n",
        "query_to_xml('SELECT 1', true, true, '')::text = a",
        "pg_terminate_backend(n)",
        "pg_try_advisory_lock(n)",
        "tell(a) = a",
        "public.tell(a) = a",
        "to_regclass(a) IS NULL",
        "has_table_privilege(a, 'SELECT')",
        "current_user = a",
        "version() = a",
        "now() > '2000-01-01'",
        "random() < 0.5",
    ] {
        let clause = encode(clause);
        let response = server.get(&format!("table=t&offset=-1&where={clause}")).await;
        assert_eq!(response.status, 400, "{clause}: {}", response.text());
        let subset = server.get(&format!("table=t&offset=-1&subset__where={clause}")).await;
        assert_eq!(subset.status, 400, "subset {clause}: {}", subset.text());
    }
    assert_eq!(sql.value("SELECT count(*)::text FROM told").await, "0");
    assert_eq!(sql.value("SELECT is_called::text FROM s").await, "false");
}

#[test]
fn the_judge_sees_what_stands_outside() {
    assert!(
        without_quoted(r#"SELECT "limn_evil" WHERE a = 'it''s limn_evil' AND E'\'limn_evil'"#)
            .is_some_and(|left| !left.contains(EVIL))
    );
    assert!(without_quoted("SELECT 'x' || limn_evil").is_some_and(|left| left.contains(EVIL)));
    assert!(without_quoted(r"SELECT 'x\'; limn_evil; --'").is_none_or(|left| left.contains(EVIL)));
}

const SECRET: &str = "hidden-secret-7f3a";
const PASSWORD: &str = "hidden-password-91c4";
const ROW: &str = "hidden-row-5d20";

#[tokio::test]
async fn secrets_and_rows_show_in_no_log_and_no_refusal() {
    let mut cluster = Cluster::start(&[]).await;
    let database = cluster.database().await;
    let sql = database.connect().await;
    table(&sql, "t").await;
    sql.execute(&format!(
        "CREATE ROLE keeper LOGIN SUPERUSER PASSWORD '{PASSWORD}'; UPDATE t SET a = '{ROW}' WHERE id = 1"
    ))
    .await;
    let mut server = Limn::stopped(&database, &["--secret", SECRET, "--allow-shape-deletion"]);
    server.log_in_as(&format!("keeper:{PASSWORD}"));
    server.set_variables(vec![("LIMN_LOG_LEVEL".to_owned(), "trace".to_owned())]);
    server.resume().await;
    let client = server.client();
    let authorization = format!("Bearer {SECRET}");
    let headers = [("authorization", authorization.as_str())];
    let mut refusals = String::new();
    for (method, query) in [
        ("GET", format!("table=t&offset=-1&secret={SECRET}")),
        ("GET", format!("table=t&offset=-1&secret={SECRET}x")),
        ("GET", format!("table=t&offset=-1&secret={SECRET}&where=nonsense(")),
        ("GET", format!("table=unknown&offset=-1&api_secret={SECRET}")),
        ("GET", format!("table=t&offset=-1&handle=1-1&secret={SECRET}")),
        ("DELETE", format!("table=t&handle=1-1&secret={SECRET}")),
        ("PUT", format!("table=t&secret={SECRET}")),
    ] {
        let target = format!("/v1/shape?{query}");
        let response = client.send(&Request { method, target: &target, ..Request::default() }).await;
        if response.status != 200 {
            refusals.push_str(&format!("{:?}{}", response.headers, response.text()));
        }
        client
            .send(&Request { method, target: "/v1/shape?table=t&offset=-1", headers: &headers, body: "" })
            .await;
    }
    sql.execute(&format!("INSERT INTO t VALUES (4, '{ROW}', 1); UPDATE t SET n = 5")).await;
    cluster.stop().await;
    limn_tests::eventually("the outage is noticed", async || {
        let health = client.get("/v1/health").await;
        (health.status == 202).then_some(())
    })
    .await;
    refusals.push_str(
        &client.get(&format!("/v1/shape?table=t&columns=id&offset=-1&secret={SECRET}")).await.text(),
    );
    let log = server.output();
    assert!(log.contains("DEBUG") || log.contains("TRACE"), "nothing was logged");
    for hidden in [SECRET, PASSWORD, ROW] {
        let shown = log.lines().find(|line| line.contains(hidden));
        assert_eq!(shown, None, "a log shows `{hidden}`");
        assert!(!refusals.contains(hidden), "a refusal shows `{hidden}`: {refusals}");
    }
}
