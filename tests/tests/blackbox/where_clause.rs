//! Items 178–196: what a WHERE clause may say, and that the shape holds what Postgres selects, from the snapshot on
//! and after changes. Item 178 is proved in full by `where_differential`; here is a handful.

use super::{invalid, open};
use limn_tests::{Follower, Limn, Sql, encode};

/// A table whose column `touched` is there to be updated, and shapes of it.
struct Shapes {
    server: &'static Limn,
    sql: Sql,
    table: &'static str,
    shapes: Vec<(String, Follower)>,
}

impl Shapes {
    /// `columns` and `rows` as SQL has them; the column `id` comes first.
    async fn of(table: &'static str, columns: &str, rows: &str) -> Self {
        let server = open().await;
        let sql = server.sql().await;
        let create = format!("CREATE TABLE {table} (id int PRIMARY KEY, {columns}, touched int DEFAULT 0)");
        sql.execute(&create).await;
        sql.execute(&format!("INSERT INTO {table} VALUES {rows}")).await;
        Self { server, sql, table, shapes: Vec::new() }
    }

    /// Follows the clauses, and compares after the snapshot and after every row was updated.
    async fn agree(&mut self, clauses: &[&str]) {
        for clause in clauses {
            let query = format!("table={}&where={}", self.table, encode(clause));
            self.shapes.push(((*clause).to_owned(), self.server.follow(&query).await));
        }
        self.compare("the snapshot").await;
        self.change(&format!("UPDATE {} SET touched = touched + 1", self.table)).await;
    }

    /// Runs a statement and compares.
    async fn change(&mut self, statement: &str) {
        self.sql.execute(statement).await;
        self.compare(statement).await;
    }

    async fn compare(&mut self, after: &str) {
        let lsn = self.server.barrier(&self.sql).await;
        for (clause, follower) in &mut self.shapes {
            follower.sync_to(lsn).await;
            let select = format!("SELECT * FROM {} WHERE {clause}", self.table);
            let mut expected = self.sql.rows(&select).await;
            expected.sort();
            assert_eq!(follower.rows(), expected, "{clause} after {after}");
            assert_eq!(follower.rotations(), 0, "{clause} after {after}");
        }
    }

    async fn refused(&self, clause: &str, text: &str) {
        let query = format!("table={}&offset=-1&where={}", self.table, encode(clause));
        let response = self.server.get(&query).await;
        assert_eq!(response.status, 400, "{clause}: {}", response.text());
        assert_eq!(response.json(), invalid("where", text), "{clause}");
    }
}

#[tokio::test]
async fn item_178_operators_mean_what_they_mean_in_postgres() {
    let rows = "(1, 10, 1.50, 'NaN', true, 'abc', '10:00'), (2, -3, 0, -0.0, false, 'a b', '24:00'),
                (3, NULL, NULL, NULL, NULL, NULL, NULL), (4, 7, 'NaN', 'Infinity', true, 'ABC', '00:00')";
    let columns = "i int, nu numeric, f float8, b bool, t text, ti time";
    let mut shapes = Shapes::of("w178", columns, rows).await;
    shapes
        .agree(&[
            "i % 3 = 1 AND b",
            "nu = 'NaN' OR nu < 1",
            "f >= 'Infinity' OR f = 0",
            "i & 2 > 0 OR i << 1 = -6",
            "b IS NOT TRUE",
            "(t || '!') > 'a' AND ti <= '24:00'",
            "t ~ '^[a-b]+' OR t ~* 'BC$'",
        ])
        .await;
    shapes.change("UPDATE w178 SET i = -i, t = upper(t), b = NOT b, f = -f").await;
    shapes.change("UPDATE w178 SET id = id + 10 WHERE id > 2").await;
}

#[tokio::test]
async fn item_179_lists_with_null() {
    let mut shapes = Shapes::of("w179", "n int", "(1, 1), (2, 2), (3, NULL)").await;
    shapes.agree(&["n IN (1, NULL)", "n NOT IN (1, NULL)", "n NOT IN (1)", "NOT n IN (1, 5)"]).await;
    shapes.change("UPDATE w179 SET n = n % 2 + 1").await;
}

#[tokio::test]
async fn item_180_between_in_any_order() {
    let mut shapes = Shapes::of("w180", "n int", "(1, 1), (2, 5), (3, NULL)").await;
    shapes
        .agree(&["n BETWEEN SYMMETRIC 3 AND 1", "n BETWEEN 3 AND 1", "n NOT BETWEEN SYMMETRIC 3 AND 1"])
        .await;
    shapes.change("UPDATE w180 SET n = 6 - n").await;
}

#[tokio::test]
async fn item_181_distinct_from_null() {
    let mut shapes = Shapes::of("w181", "n int, d date", "(1, 1, '2026-01-31'), (2, NULL, NULL)").await;
    shapes
        .agree(&["n IS DISTINCT FROM 1", "n IS NOT DISTINCT FROM NULL", "d IS DISTINCT FROM '2026-01-31'"])
        .await;
    shapes.change("UPDATE w181 SET n = CASE WHEN n IS NULL THEN 1 END").await;
}

#[tokio::test]
async fn item_182_like_escapes_and_sees_newlines() {
    let rows = r"(1, 'a%b'), (2, E'a\nb'), (3, 'a\b'), (4, E'ab\n'), (5, 'a_b')";
    let mut shapes = Shapes::of("w182", "t text", rows).await;
    shapes
        .agree(&[
            r"t LIKE 'a\%b'",
            "t LIKE 'a_b'",
            "t LIKE 'a%b'",
            r"t LIKE 'a\\b'",
            "t LIKE 'a#_b' ESCAPE '#'",
            "t NOT LIKE 'ab%'",
        ])
        .await;
}

#[tokio::test]
async fn item_183_ilike_folds_case() {
    let mut shapes = Shapes::of("w183", "t text", "(1, 'AbC'), (2, 'abd'), (3, NULL)").await;
    shapes.agree(&["t ILIKE 'aBc'", "t NOT ILIKE 'ab%'", "t ~~* 'AB_'"]).await;
    shapes.change("UPDATE w183 SET t = t || 'x' WHERE id = 1").await;
}

#[tokio::test]
async fn item_184_any_and_all_of_an_array() {
    let mut shapes =
        Shapes::of("w184", "n int, a int[]", "(1, 1, '{1,2}'), (2, 3, '{NULL,3}'), (3, 4, '{}')").await;
    shapes.agree(&["n = ANY ('{1,3}')", "n <> ALL ('{1,NULL}')", "3 = ANY (a)", "n > ALL (a)"]).await;
    shapes.change("UPDATE w184 SET a = a || n").await;
}

#[tokio::test]
async fn item_185_arrays_contain_and_overlap() {
    let rows = "(1, '{a,b}'), (2, '{b}'), (3, '{{a,c},{b,d}}'), (4, '[2:3]={a,b}'), (5, NULL)";
    let mut shapes = Shapes::of("w185", "a text[]", rows).await;
    shapes.agree(&["a @> '{a}'", "a <@ '{a,b}'", "a && ARRAY['c', 'b']", "a = '{a,b}'"]).await;
    shapes.change("UPDATE w185 SET a = array_remove(a, 'b') WHERE id <> 3").await;
}

#[tokio::test]
async fn item_186_a_uuid_has_no_case() {
    let rows = "(1, 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'), (2, NULL)";
    let mut shapes = Shapes::of("w186", "u uuid", rows).await;
    shapes
        .agree(&[
            "u = 'A0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'",
            "u = '{a0eebc999c0b4ef8bb6d6bb9bd380a11}'",
            "u::text LIKE 'a0%'",
        ])
        .await;
    shapes.change("UPDATE w186 SET u = 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11' WHERE id = 2").await;
}

#[tokio::test]
async fn item_187_dates_times_and_intervals() {
    let rows = "(1, '2026-01-31', '2026-01-31 10:00', '2026-01-31 10:00+02', '1 mon'),
                (2, 'infinity', '-infinity', '0044-03-15 BC', '36:00'), (3, NULL, NULL, NULL, NULL)";
    let mut shapes = Shapes::of("w187", "d date, ts timestamp, tz timestamptz, iv interval", rows).await;
    shapes
        .agree(&[
            "d + 1 = '2026-02-01'",
            "ts + '1 mon' > '2026-02-27'",
            "tz - interval '2 hours' < '2026-01-31 06:30Z'",
            "iv > '1 day'",
            "tz AT TIME ZONE 'Asia/Tokyo' > '2026-01-31'",
            "to_char(d, 'YYYY') = '2026'",
        ])
        .await;
    shapes.change("UPDATE w187 SET d = d + 1, ts = ts + '1 day', iv = iv - '10 days' WHERE id <> 2").await;
}

#[tokio::test]
async fn item_188_an_enum_as_text() {
    let sql = open().await.sql().await;
    sql.execute("CREATE TYPE w188_mood AS ENUM ('sad', 'ok', 'happy')").await;
    let mut shapes = Shapes::of("w188", "m w188_mood", "(1, 'sad'), (2, 'happy'), (3, NULL)").await;
    shapes.agree(&["m::text = 'sad'", "m > 'sad'", "m IN ('ok', 'happy')", "m IS NOT NULL"]).await;
    shapes.change("UPDATE w188 SET m = 'ok'").await;
}

#[tokio::test]
async fn item_189_a_parameter_has_the_one_type_of_its_context() {
    let shapes = Shapes::of("w189", "n int, t text", "(1, 5, '5'), (2, 6, 'x')").await;
    let query = |clause: &str| format!("table=w189&where={}&params[1]=5", encode(clause));
    for (clause, rows) in [("n = $1", 1), ("t = $1", 1), ("n + $1 > 10", 1), ("n::text = $1 OR t = $1", 1)] {
        assert_eq!(shapes.server.follow(&query(clause)).await.rows().len(), rows, "{clause}");
    }
    let response = shapes.server.get(&format!("{}&offset=-1", query("n = $1 OR t = $1"))).await;
    let text = "At location 12: Could not select an operator overload";
    assert_eq!((response.status, response.json()), (400, invalid("where", text)));
}

#[tokio::test]
async fn item_190_a_parameter_is_never_sql() {
    let shapes = Shapes::of("w190", "t text", r"(1, 'it''s'), (2, ''' OR true --'), (3, '\''')").await;
    for (clause, row) in [("t = $1", 2), ("t ~ ('^' || $1)", 2), ("upper(t) COLLATE \"C\" = upper($1)", 2)] {
        let value = encode("' OR true --");
        let query = format!("table=w190&where={}&params[1]={value}", encode(clause));
        let ids = shapes.server.follow(&query).await;
        let ids: Vec<_> = ids.rows().iter().map(|row| row["id"].clone()).collect();
        assert_eq!(ids, [Some(row.to_string())], "{clause}");
    }
    let query = |clause: &str| format!("table=w190&where={}&params[1]={}", encode(clause), encode(r"\'"));
    for (clause, rows) in [("t = $1", 1), ("t ~ $1", 3)] {
        assert_eq!(shapes.server.follow(&query(clause)).await.rows().len(), rows, "{clause}");
    }
}

#[tokio::test]
async fn item_191_large_integers() {
    let rows = "(1, 3000000000, 5), (2, -3000000000, 6), (3, 1, 7)";
    let mut shapes = Shapes::of("w191", "n int8, i int", rows).await;
    shapes
        .agree(&["n = 3000000000", "i < 3000000000", "n > -9223372036854775808", "n < 1e5", "n > .5"])
        .await;
    shapes.change("UPDATE w191 SET n = -n").await;
}

#[tokio::test]
async fn item_192_documents() {
    let rows = r#"(1, '{"a": {"b": 1}}'), (2, '["a"]'), (3, NULL), (4, '{"a": 1.0}')"#;
    let mut shapes = Shapes::of("w192", "j jsonb", rows).await;
    shapes
        .agree(&["j -> 'a' ->> 'b' = '1'", "j ? 'a'", "j @> '{\"a\": 1}'", "j @? '$.a.b'", "j < '[1]'"])
        .await;
    shapes.change("UPDATE w192 SET j = jsonb_build_object('a', j)").await;
}

#[tokio::test]
async fn item_193_what_depends_on_more_than_the_row_is_refused() {
    let shapes = Shapes::of("w193", "ts timestamptz, t text", "(1, now(), 'x')").await;
    for (clause, text) in [
        ("now() > ts", "At location 0: unknown or unsupported function now/0"),
        ("ts > current_timestamp", "At location 5: SQLValueFunction is not supported in this context"),
        ("random() > 0.5 OR t ~ 'x'", "At location 0: unknown or unsupported function random/0"),
        ("ts > 'now'", "At location 5: invalid syntax for type timestamptz: now"),
        ("t ~ 'x' AND ts > 'yesterday'", "At location 17: invalid syntax for type text: yesterday"),
        ("to_tsvector(t) @@ 'x'", "At location 0: unknown or unsupported function to_tsvector/1"),
        ("t ~ '('", "invalid regular expression: parentheses () not balanced"),
        ("t ~ 'x' AND nope(t)", "function nope(text) does not exist"),
    ] {
        shapes.refused(clause, text).await;
    }
}

#[tokio::test]
async fn item_194_exists_is_refused() {
    let shapes = Shapes::of("w194", "n int", "(1, 1)").await;
    let text = "only `value IN (SELECT ...)` sublinks are supported right now";
    shapes.refused("EXISTS (SELECT id FROM w194)", &format!("At location 0: {text}")).await;
    shapes.refused("n = (SELECT id FROM w194)", &format!("At location 4: {text}")).await;
}

#[tokio::test]
async fn item_195_case_chooses() {
    let mut shapes = Shapes::of("w195", "n int", "(1, 1), (2, 2), (3, NULL)").await;
    shapes
        .agree(&[
            "CASE n WHEN 1 THEN true ELSE n > 5 END",
            "CASE WHEN n IS NULL THEN true END",
            "COALESCE(n, 2) = 2",
        ])
        .await;
    shapes.change("UPDATE w195 SET n = n + 4").await;
}

#[tokio::test]
async fn item_196_dates_that_are_not_a_literal() {
    let mut shapes =
        Shapes::of("w196", "d date, ti time", "(1, '2026-01-31', '10:00'), (2, NULL, NULL)").await;
    shapes
        .agree(&["d <> '2026-01-31'", "NOT d = '2026-02-01'", "ti != '10:00'", "d NOT IN ('2026-01-30')"])
        .await;
    shapes.change("UPDATE w196 SET d = '2026-02-01', ti = '11:00'").await;
}

/// A data error is the clause's, and no reader tries for ever.
#[tokio::test]
async fn a_clause_that_fails_on_a_row_is_refused() {
    let shapes = Shapes::of("w_fails", "n int, t text", "(1, 0, 'x')").await;
    for (clause, text) in [
        ("1 / n = 1", "division by zero"),
        ("t::int = 1", "invalid input syntax for type integer: \"x\""),
        ("t ~ 'x' AND 1 / n = 1", "division by zero"),
        ("'a' ~ (t || '(')", "invalid regular expression: parentheses () not balanced"),
    ] {
        shapes.refused(clause, text).await;
        shapes.refused(clause, text).await;
    }
}

/// The first part of a snapshot may have been read before a row fails: the reader is sent back to the beginning once,
/// and told there.
#[tokio::test]
async fn a_clause_that_fails_on_a_late_row_is_refused_in_the_end() {
    let shapes = Shapes::of("w_fails_late", "n int, t text", "(0, 1, '')").await;
    let rows = "INSERT INTO w_fails_late SELECT i, (i < 40000)::int, repeat('x', 100) FROM generate_series(1, 40000) i";
    shapes.sql.execute(rows).await;
    let beginning = format!("table=w_fails_late&where={}&offset=", encode("1 / n = 1"));
    let mut query = format!("{beginning}-1");
    let mut restarts = 0;
    let response = loop {
        let response = shapes.server.get(&query).await;
        let sent = |name: &str| response.header(name).expect("is sent").to_owned();
        match response.status {
            200 => {
                query = format!("{beginning}{}&handle={}", sent("electric-offset"), sent("electric-handle"));
            }
            409 => {
                restarts += 1;
                query = format!("{beginning}-1");
            }
            _ => break response,
        }
        assert!(restarts < 3, "sent back again and again");
    };
    assert_eq!((response.status, response.json()), (400, invalid("where", "division by zero")));
}
