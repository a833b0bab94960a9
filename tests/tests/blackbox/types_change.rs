//! Types that change without the table: enums, row types, domains. Exactly the shapes concerned start over, and within
//! seconds everybody knows the new type.

use super::{must_refetch, open, shared, table};
use limn_tests::{Cluster, Follower, Limn, Proxy, Request, Response, Sql, encode, eventually};
use serde_json::Value;

/// A table of its own, with columns of types of its own: `mood` (an enum), `moods`, `dmood` (a domain over it), `pair`
/// (a row type with the enum inside), and shapes of it.
struct World {
    server: &'static Limn,
    sql: Sql,
    name: &'static str,
}

impl World {
    async fn new(name: &'static str) -> Self {
        let server = open().await;
        let sql = server.sql().await;
        create(&sql, name).await;
        Self { server, sql, name }
    }

    async fn follow(&self, parameters: &str) -> Follower {
        self.server.follow(&self.query(parameters)).await
    }

    fn query(&self, parameters: &str) -> String {
        format!("table={}{parameters}", self.name)
    }

    /// The shapes by what they show and ask.
    async fn shapes(&self) -> Shapes {
        Shapes {
            plain: self.follow("&columns=id,n").await,
            output: self.follow("&columns=id,m").await,
            array: self.follow("&columns=id,ms").await,
            domain: self.follow("&columns=id,d").await,
            nested: self.follow("&columns=id,p").await,
            equal: self.follow(&clause("&columns=id", "m = 'ok'")).await,
            ordered: self.follow(&clause("&columns=id", "m < 'happy'")).await,
        }
    }

    async fn execute(&self, sql: &str) {
        self.sql.execute(&sql.replace('$', self.name)).await;
    }

    /// Waits until the server has looked at the catalog twice.
    async fn wait_noticed(&self) {
        for turn in 1..=2 {
            let canary = format!("{}_canary{turn}", self.name);
            table(&self.sql, &canary).await;
            let shape = self.server.follow(&format!("table={canary}&columns=id,a")).await;
            self.sql.execute(&format!("ALTER TABLE {canary} RENAME COLUMN a TO b")).await;
            refusal(self.server, &shape).await;
        }
    }
}

struct Shapes {
    plain: Follower,
    output: Follower,
    array: Follower,
    domain: Follower,
    nested: Follower,
    equal: Follower,
    ordered: Follower,
}

async fn create(sql: &Sql, name: &str) {
    sql.execute(&format!(
        "CREATE TYPE {name}_mood AS ENUM ('sad', 'ok', 'happy');
         CREATE DOMAIN {name}_dmood AS {name}_mood;
         CREATE TYPE {name}_pair AS (x int, m {name}_mood);
         CREATE TABLE {name} (id int PRIMARY KEY, n int, m {name}_mood, ms {name}_mood[], d {name}_dmood, p {name}_pair);
         INSERT INTO {name} VALUES (1, 1, 'ok', '{{ok}}', 'ok', (1, 'ok')), (2, 2, 'sad', NULL, NULL, NULL)"
    ))
    .await;
}

fn clause(parameters: &str, clause: &str) -> String {
    format!("{parameters}&where={}", encode(clause))
}

async fn refusal(server: &Limn, shape: &Follower) -> Response {
    eventually("the shape is refused", async || {
        let response = server.client().get(&shape.target(false)).await;
        (response.status != 200).then_some(response)
    })
    .await
}

async fn assert_rotates(server: &Limn, shape: &Follower, what: &str) {
    let refused = refusal(server, shape).await;
    assert_eq!((refused.status, refused.json()), (409, must_refetch()), "{what}: {}", refused.text());
}

async fn assert_goes_on(server: &Limn, shape: &Follower, what: &str) {
    let response = server.client().get(&shape.target(false)).await;
    assert_eq!(response.status, 200, "{what}: {}", response.text());
}

#[tokio::test]
async fn a_new_label_concerns_clauses_that_compare_by_order() {
    let world = World::new("ty_add").await;
    let server = world.server;
    let mut shapes = world.shapes().await;
    world.execute("ALTER TYPE $_mood ADD VALUE 'fine' BEFORE 'happy'").await;
    assert_rotates(server, &shapes.ordered, "ordered").await;
    world.wait_noticed().await;
    world.execute("INSERT INTO $ VALUES (3, 3, 'fine', '{fine}', 'fine', (3, 'fine'))").await;
    for shape in
        [&mut shapes.plain, &mut shapes.output, &mut shapes.array, &mut shapes.domain, &mut shapes.nested]
    {
        shape.changes(1).await;
        assert_eq!((shape.rows().len(), shape.rotations()), (3, 0));
    }
    assert_goes_on(server, &shapes.equal, "equal").await;
    let ordered = world.follow(&clause("&columns=id", "m < 'happy'")).await;
    assert_eq!(ordered.rows().len(), 3, "the new label stands before `happy`");
    let by_label = world.follow(&clause("&columns=id", "m = 'fine'")).await;
    assert_eq!(by_label.rows().len(), 1);
}

#[tokio::test]
async fn a_subset_knows_a_new_label_within_seconds() {
    let world = World::new("ty_sub").await;
    let shape = world.follow("&columns=id,m").await;
    world.execute("ALTER TYPE $_mood ADD VALUE 'new'").await;
    world.execute("INSERT INTO $ (id, m) VALUES (3, 'new')").await;
    let query = world.query(&format!("&columns=id,m&offset=-1&subset__where={}", encode("m = 'new'")));
    let subset = eventually("the label is known", async || {
        let response = world.server.get(&query).await;
        (response.status == 200).then_some(response)
    })
    .await;
    assert_eq!(subset.header("electric-handle"), Some(shape.handle()));
    assert_eq!(subset.json()["data"].as_array().map(Vec::len), Some(1), "{}", subset.text());
    assert_goes_on(world.server, &shape, "the shape").await;
}

#[tokio::test]
async fn a_renamed_label_concerns_everybody_who_shows_or_asks_for_it() {
    let world = World::new("ty_ren").await;
    let shapes = world.shapes().await;
    let inner = world.follow(&clause("&columns=id", "m IN (SELECT m FROM ty_ren)")).await;
    world.execute("ALTER TYPE $_mood RENAME VALUE 'ok' TO 'okay'").await;
    let Shapes { plain, output, array, domain, nested, equal, ordered } = &shapes;
    for (shape, what) in [
        (output, "output"),
        (array, "array"),
        (domain, "domain"),
        (nested, "nested"),
        (equal, "equal"),
        (ordered, "ordered"),
        (&inner, "inner"),
    ] {
        let refused = refusal(world.server, shape).await;
        assert!(matches!(refused.status, 400 | 409), "{what}: {}", refused.text());
    }
    world.wait_noticed().await;
    assert_goes_on(world.server, plain, "plain").await;
    let again = world.follow("&columns=id,m,d,p").await;
    assert!(again.rows().iter().any(|row| row["m"].as_deref() == Some("okay")), "{:?}", again.rows());
}

#[tokio::test]
async fn a_label_that_is_renamed_during_a_snapshot_is_noticed() {
    let world = World::new("ty_snap").await;
    world.execute("INSERT INTO $ (id, m) SELECT i, 'ok' FROM generate_series(10, 40) i").await;
    // With another shape of the table, the look at the catalog knows the new label before the slow one can be read.
    let other = world.follow("&columns=id,m").await;
    let slow = clause("&columns=id,m", "length(repeat(m::text || id::text, 6000000)) > 0");
    let rename = async {
        let reads = "SELECT count(*) > 0 FROM pg_stat_activity WHERE query LIKE '%repeat%' AND query LIKE 'COPY%' AND state = 'active'";
        eventually("the snapshot is read", async || (world.sql.value(reads).await == "t").then_some(()))
            .await;
        world.execute("ALTER TYPE $_mood RENAME VALUE 'ok' TO 'okay'").await;
        assert_rotates(world.server, &other, "the other shape").await;
    };
    let follow = async {
        // On a busy machine the snapshot outlasts a request.
        let target = format!("{}&offset=-1", world.query(&slow));
        eventually("it is read", async || (world.server.get(&target).await.status == 200).then_some(()))
            .await;
        world.follow(&slow).await
    };
    let (shape, ()) = tokio::join!(follow, rename);
    if shape.rows().iter().any(|row| row["m"].as_deref() == Some("ok")) {
        assert_rotates(world.server, &shape, "it has rows with the old label").await;
    }
}

#[tokio::test]
async fn a_label_that_is_renamed_before_rows_are_read_is_no_fault_of_the_clause() {
    let cluster = Cluster::shared().await;
    let database = cluster.database().await;
    let sql = database.connect().await;
    let names = "SELECT i || repeat('x', 1000) FROM generate_series(1, 50000) i";
    sql.execute(&format!(
        "CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TABLE known (name text PRIMARY KEY);
         INSERT INTO known {names}; CREATE TABLE t (name text PRIMARY KEY, m mood);
         INSERT INTO t VALUES ('a', 'ok'), ('b', 'sad')"
    ))
    .await;
    let wire = Proxy::start(cluster.port()).await;
    let server = Limn::start(&database.through(wire.port()), &[]).await;
    let query = format!("table=t&where={}", encode("name IN (SELECT name FROM known) OR m > 'sad'"));
    let target = format!("/v1/shape?{query}&offset=-1");
    let get = Request { method: "GET", target: &target, ..Request::default() };
    let client = server.client();
    let begun = target.clone();
    let first = tokio::spawn(async move { client.get(&begun).await });
    // The subquery's rows are read between the look at the types and the table's rows.
    let reads =
        "SELECT count(*) > 0 FROM pg_stat_activity WHERE query LIKE 'COPY%known%' AND state = 'active'";
    eventually("the subquery is read", async || (sql.value(reads).await == "t").then_some(())).await;
    wire.hold(true);
    sql.execute("ALTER TYPE mood RENAME VALUE 'ok' TO 'okay'").await;
    assert_eq!(sql.value(reads).await, "t", "it was read to its end before the label was renamed");
    wire.hold(false);
    let first = first.await.expect("it is answered");
    assert_ne!(first.status, 400, "{}", first.text());
    let again = eventually("it is served", async || {
        let answer = server.client().try_send(&get).await.ok()?;
        assert_ne!(answer.status, 400, "{}", answer.text());
        (answer.status == 200).then_some(answer.text())
    })
    .await;
    assert!(again.contains("okay"), "{again}");
}

#[tokio::test]
async fn fields_of_a_row_type_concern_the_shapes_that_show_it() {
    let world = World::new("ty_row").await;
    let (plain, nested) = (world.follow("&columns=id,m").await, world.follow("&columns=id,p").await);
    world.execute("ALTER TYPE $_pair ADD ATTRIBUTE z int").await;
    assert_rotates(world.server, &nested, "a field came").await;
    let again = world.follow("&columns=id,p").await;
    assert_eq!(again.rows()[0]["p"].as_deref(), Some("(1,ok,)"));
    world.execute("ALTER TYPE $_pair DROP ATTRIBUTE x").await;
    assert_rotates(world.server, &again, "a field went").await;
    let again = world.follow("&columns=id,p").await;
    world.execute("ALTER TYPE $_pair RENAME ATTRIBUTE z TO y").await;
    world.wait_noticed().await;
    assert_goes_on(world.server, &again, "a field's name is in no text").await;
    assert_goes_on(world.server, &plain, "plain").await;
}

#[tokio::test]
async fn constraints_of_a_domain_change_no_row() {
    let world = World::new("ty_dom").await;
    let shape = world.follow("&columns=id,d").await;
    let asked = world.follow(&clause("&columns=id,d", "m = 'ok'")).await;
    for change in [
        "ALTER DOMAIN $_dmood ADD CONSTRAINT c CHECK (VALUE <> 'sad')",
        "ALTER DOMAIN $_dmood SET DEFAULT 'ok'",
        "ALTER DOMAIN $_dmood DROP CONSTRAINT c",
    ] {
        world.execute(change).await;
    }
    world.wait_noticed().await;
    assert_goes_on(world.server, &shape, "output").await;
    assert_goes_on(world.server, &asked, "clause").await;
}

#[tokio::test]
async fn the_header_follows_a_type_that_is_renamed() {
    let world = World::new("ty_name").await;
    let (shown, plain) = (world.follow("&columns=id,m").await, world.follow("&columns=id").await);
    let asked = world.follow(&clause("&columns=id", "m = 'ok'")).await;
    world.execute("ALTER TYPE $_mood RENAME TO $_temper").await;
    assert_rotates(world.server, &asked, "the clause names the type").await;
    eventually("the header names the type", async || {
        let response = world.server.client().get(&shown.target(false)).await;
        assert_eq!(response.status, 200, "{}", response.text());
        let schema: Value = serde_json::from_str(response.header("electric-schema")?).ok()?;
        (schema["m"]["type"] == "ty_name_temper").then_some(())
    })
    .await;
    assert_goes_on(world.server, &plain, "plain").await;
    assert_eq!(world.follow(&clause("&columns=id", "m = 'ok'")).await.rows().len(), 1);
}

#[tokio::test]
async fn what_changed_while_the_server_was_down_is_noticed_at_the_start() {
    let mut server = shared(&[]).await;
    let sql = server.sql().await;
    create(&sql, "ty_down").await;
    let shown = server.follow("table=ty_down&columns=id,m").await;
    let nested = server.follow("table=ty_down&columns=id,p").await;
    let plain = server.follow("table=ty_down&columns=id,n").await;
    for shape in [&shown, &nested, &plain] {
        server.wait_durable(shape).await;
    }
    server.stop().await;
    sql.execute("ALTER TYPE ty_down_mood RENAME VALUE 'ok' TO 'okay'").await;
    server.resume().await;
    for shape in [&shown, &nested] {
        let refused = server.client().get(&shape.target(false)).await;
        assert_eq!(refused.status, 409, "{}", refused.text());
    }
    assert_goes_on(&server, &plain, "plain").await;
}
