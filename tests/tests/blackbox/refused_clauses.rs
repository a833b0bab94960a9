//! Clauses that Postgres will never take are refused with its reason; names that it understands are understood.

use super::open;
use limn_tests::{Cluster, Limn, Sql, encode};

/// A table `"User"`, with a domain over an enum among its columns.
async fn users() -> (Limn, Sql) {
    let database = Cluster::shared().await.database().await;
    let sql = database.connect().await;
    sql.execute(
        r#"CREATE TYPE mood AS ENUM ('sad', 'new', 'ok');
           CREATE DOMAIN state AS mood; CREATE DOMAIN inner_state AS state;
           CREATE DOMAIN amount AS int CHECK (VALUE > 0); CREATE DOMAIN states AS mood[];
           CREATE TABLE "User" (id int PRIMARY KEY, role text, d state, dd inner_state, n amount, ds states, da state[]);
           INSERT INTO "User" VALUES (1, 'x', 'new', 'new', 1, '{new}', '{new}'), (2, 'y', 'ok', 'sad', 2, '{sad}', '{ok}'), (3, 'x', NULL, NULL, 3, NULL, NULL);
           CREATE TABLE team (id int PRIMARY KEY, "User" int, role text); INSERT INTO team VALUES (1, 1, 'x'), (2, 2, 'z')"#,
    )
    .await;
    let server = Limn::start(&database, &[]).await;
    (server, sql)
}

const TABLE: &str = "table=%22User%22";

#[tokio::test]
async fn a_clause_that_postgres_refuses_for_good_is_a_400_with_its_reason() {
    let (server, _sql) = users().await;
    for (clause, reason) in [
        ("d = 'new'", "operator does not exist: state = unknown"),
        ("d <> 'new'", "operator does not exist: state <> unknown"),
        ("d < 'ok'", "operator does not exist: state < unknown"),
        ("dd IN ('new', 'ok')", "operator does not exist: inner_state = mood"),
        ("d = dd", "operator does not exist: state = inner_state"),
        ("d IS DISTINCT FROM 'new'", "operator does not exist: state = unknown"),
        ("da[1] = 'new'", "operator does not exist: state = unknown"),
        ("no_such_function(id)", "unknown or unsupported function"),
        ("no_such_schema.f(id)", "no_such_schema"),
        ("no_such_column = 1", "unknown reference no_such_column"),
        ("id = 'x'::no_such_type", "no_such_type"),
    ] {
        for round in 0..2 {
            let response = server.get(&format!("{TABLE}&offset=-1&where={}", encode(clause))).await;
            assert_eq!(response.status, 400, "{clause}, {round}: {}", response.text());
            assert!(response.text().contains(reason), "{clause}: {}", response.text());
        }
        let subset = format!("{TABLE}&offset=-1&subset__where={}", encode(clause));
        assert_eq!(server.get(&subset).await.status, 400, "{clause}");
    }
    let told = server.get(&format!("{TABLE}&offset=-1&where={}", encode("d = 'new'"))).await.text();
    assert!(told.contains(r#"write `\"d\"::\"public\".\"mood\"`"#), "{told}");
}

#[tokio::test]
async fn a_domain_over_an_enum_is_judged_as_postgres_judges_it() {
    let (server, sql) = users().await;
    let clauses = [
        "d::mood = 'new'",
        "d::text = 'new'",
        "dd::mood IN ('sad', 'ok')",
        "d IS NOT NULL",
        "coalesce(d, 'sad') = 'sad'",
        "n > 1",
        "n IN (1, 3)",
        "ds = '{new}'",
        "'new' = ANY (ds)",
        "da = '{new}'",
        "da @> '{ok}'",
        r#"d::mood = 'new' AND id IN (SELECT "User" FROM team)"#,
        r#"id IN (SELECT "User" FROM team) AND dd::text <> 'sad'"#,
    ];
    let mut shapes = Vec::new();
    for clause in clauses {
        shapes.push(server.follow(&format!("{TABLE}&where={}", encode(clause))).await);
    }
    sql.execute(
        r#"UPDATE "User" SET d = 'ok', dd = 'ok', ds = '{sad,new}', da = '{ok,new}' WHERE id = 1;
           UPDATE "User" SET d = 'new', n = 9 WHERE id = 2;
           INSERT INTO "User" VALUES (4, 'z', 'sad', 'sad', 3, '{new}', '{new}'); DELETE FROM "User" WHERE id = 3"#,
    )
    .await;
    let lsn = server.barrier(&sql).await;
    for (clause, shape) in clauses.iter().zip(&mut shapes) {
        shape.sync_to(lsn).await;
        let mut expected = sql.rows(&format!(r#"SELECT * FROM "User" WHERE {clause}"#)).await;
        expected.sort();
        assert_eq!(shape.rows(), expected, "{clause}");
        assert_eq!(shape.rotations(), 0, "{clause}");
    }
}

#[tokio::test]
async fn columns_may_be_qualified_by_their_table() {
    let (server, sql) = users().await;
    let plain = server.follow(&format!("{TABLE}&where={}", encode("role = 'x'"))).await;
    for clause in [r#""User".role = 'x'"#, r#"public."User".role = 'x'"#, r#""User"."role" = 'x'"#] {
        let shape = server.follow(&format!("{TABLE}&where={}", encode(clause))).await;
        assert_eq!(shape.handle(), plain.handle(), "{clause}: the same shape");
    }
    for clause in [
        "\"user\".role = 'x'",
        "User.role = 'x'",
        "other.\"User\".role = 'x'",
        "\"User\".nope = 'x'",
        "t.role = 'x'",
    ] {
        let response = server.get(&format!("{TABLE}&offset=-1&where={}", encode(clause))).await;
        assert_eq!(response.status, 400, "{clause}: {}", response.text());
    }
    for clause in [
        r#""User".id IN (SELECT team."User" FROM team WHERE team.role = 'x')"#,
        r#"id IN (SELECT t."User" FROM team AS t WHERE t.role = 'x' AND role = 'x')"#,
        r#""User".id IN (SELECT "User" FROM public.team WHERE public.team.role = "role")"#,
    ] {
        let mut shape = server.follow(&format!("{TABLE}&where={}", encode(clause))).await;
        let expected = sql.rows(&format!(r#"SELECT * FROM "User" WHERE {clause}"#)).await;
        shape.sync().await;
        assert_eq!(shape.rows().len(), expected.len(), "{clause}");
    }
    for clause in [
        r#"id IN (SELECT "User" FROM team WHERE "User".role = 'x')"#,
        r#"id IN (SELECT team."User" FROM team AS t)"#,
        r#"id IN (SELECT "User" FROM team AS t WHERE team.role = 'x')"#,
    ] {
        let response = server.get(&format!("{TABLE}&offset=-1&where={}", encode(clause))).await;
        assert_eq!(response.status, 400, "{clause}: {}", response.text());
    }
    let subset = |clause: &str, order: &str| {
        format!(
            "{TABLE}&offset=-1&subset__where={}&subset__order_by={}&subset__limit=9",
            encode(clause),
            encode(order)
        )
    };
    let response = server.get(&subset(r#""User".role = 'x'"#, r#"public."User".id DESC, "User".role"#)).await;
    let body = response.json();
    let ids: Vec<_> =
        body["data"].as_array().unwrap().iter().map(|row| row["value"]["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["3", "1"]);
    assert_eq!(server.get(&subset("t.role = 'x'", "id")).await.status, 400);
    assert_eq!(server.get(&subset("role = 'x'", "t.id")).await.status, 400);
}

#[tokio::test]
async fn a_column_that_is_dropped_under_a_shape_is_still_a_409() {
    let server = open().await;
    let sql = server.sql().await;
    sql.execute("CREATE TABLE rc_gone (id int PRIMARY KEY, a text)").await;
    let shape = server.follow("table=rc_gone").await;
    sql.execute("ALTER TABLE rc_gone DROP COLUMN a; INSERT INTO rc_gone VALUES (1)").await;
    let query = format!("table=rc_gone&offset=0_inf&handle={}", shape.handle());
    limn_tests::eventually("the shape rotates", async || {
        (server.get(&query).await.status == 409).then_some(())
    })
    .await;
}
