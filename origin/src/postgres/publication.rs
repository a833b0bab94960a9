//! The publication: which tables' changes the stream carries, and with how much of the old rows.

mod error;

pub use error::PublicationError;

use super::catalog::Description;
use super::conflict::{self, Assumed, Guard, conflicts};
use super::error::PostgresError;
use super::sqlstate;
use limn_core::pg::relation::{quote_identifier, quote_literal};
use limn_core::shape::GeneratedColumns;
use std::time::Duration;
use tokio::time::Instant;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

/// How long a statement waits for a table's lock. Whoever asks for that table meanwhile queues behind it, readers too.
const LOCK_MS_MAX: u32 = 30;
/// After this time no further statement is begun without a pause: a query over a table with many partitions, which locks
/// one after the other, could otherwise wait behind each of these statements.
const ALTER_TIME_MAX: Duration = Duration::from_millis(100);

/// From this version on, generated columns can be published.
pub(crate) const GENERATED_COLUMNS_VERSION: u32 = 180_000;

/// Postgres's own tables have lower oids, and are in no publication.
pub(crate) const FIRST_USER_OID: u32 = 16_384;

/// A publication by name.
#[derive(Debug, Clone)]
pub struct Publication {
    name: String,
    manual: bool,
}

/// The publication as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicationState {
    /// True where it was created now: a slot from before has missed changes.
    pub created: bool,
    /// True where stored generated columns are published.
    pub generated_columns: bool,
}

/// The statements that are due before a table is published as shapes need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publishing {
    /// Nothing where the table is published already. Each is a transaction of its own, so that no lock is held while
    /// another one is waited for, and fails where publications have changed meanwhile. Identities come first: without
    /// them UPDATE fails in a published table that has no primary key.
    pub statements: Vec<Alteration>,
    /// True where a table has to be added to the publication.
    pub adds: bool,
    /// True where the table itself has to be added: its changes are in no stream.
    pub is_missing: bool,
    /// The entries of the publication that name the table, one above it or one below it. Where they are others than
    /// before, the table was taken out and put back.
    pub memberships: Vec<u32>,
}

/// A statement that alters a table or the publication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alteration {
    /// The statement, as a person would run it.
    pub sql: String,
    /// Runs behind it in the same transaction, and fails where publications have changed meanwhile.
    guard: Option<String>,
}

/// How far [`Publication::alter`] came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Altered {
    /// Every statement was run.
    All,
    /// Some were; the others are to be run after a pause.
    Some,
    /// A table was locked by others. The statements before it were run.
    Locked,
    /// Publications changed while a table's lock was waited for: the statement was undone, and
    /// [`publishing`](Publication::publishing) has to look again. The statements before it were run.
    Outdated,
}

impl Publication {
    /// A publication by its name. In `manual` mode no table's identity and no place in it is ever altered.
    pub fn new(name: impl Into<String>, manual: bool) -> Self {
        Self { name: name.into(), manual }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether tables and their identities are somebody else's business.
    #[must_use]
    pub const fn is_manual(&self) -> bool {
        self.manual
    }

    /// Finds the publication, or creates it without tables.
    ///
    /// # Errors
    /// Where it cannot be used or created.
    pub async fn ensure(
        &self,
        client: &Client,
        server_version_num: u32,
    ) -> Result<PublicationState, PublicationError> {
        if let Some(state) = self.find(client).await? {
            return Ok(state);
        }
        let generated_columns = server_version_num >= GENERATED_COLUMNS_VERSION;
        let options = match generated_columns {
            true => " WITH (publish_generated_columns = stored)",
            false => "",
        };
        let create = format!("CREATE PUBLICATION {}{options}", quote_identifier(&self.name));
        match client.batch_execute(&create).await.map_err(PostgresError::from) {
            Ok(()) => Ok(PublicationState { created: true, generated_columns }),
            Err(error) if self.manual && error.code() == Some(sqlstate::INSUFFICIENT_PRIVILEGE) => {
                Err(PublicationError::Missing { name: self.name.clone() })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The statements that are due so that the table is published with full old rows, partitions included.
    ///
    /// # Errors
    /// Where it is not and must not be made so.
    pub async fn publishing(
        &self,
        client: &Client,
        table: &Description,
    ) -> Result<Publishing, PublicationError> {
        let Some(_) = self.find(client).await? else {
            return Err(PublicationError::Missing { name: self.name.clone() });
        };
        self.check_filters(client, table).await?;
        let status = self.table_status(client, table).await?;
        let adds = !status.unpublished.is_empty();
        let mut guard = None;
        if adds || !status.not_full.is_empty() {
            guard = Guard::new(client, table.relation.oid).await?;
            self.check_conflicts(client, table).await?;
            self.check_allowed(table, &status)?;
        }
        let guarded = |sql: String, table: &str| {
            let guard = guard.as_ref().map(|guard| guard.statement(table));
            Alteration { sql, guard }
        };
        let publication = quote_identifier(&self.name);
        let identity =
            |table: &String| guarded(format!("ALTER TABLE ONLY {table} REPLICA IDENTITY FULL"), table);
        let add = |table: &String| {
            let alter = format!("ALTER PUBLICATION {publication} ADD TABLE {table}");
            guarded(alter, table.strip_prefix("ONLY ").unwrap_or(table))
        };
        Ok(Publishing {
            statements: status
                .not_full
                .iter()
                .map(identity)
                .chain(status.unpublished.iter().map(add))
                .collect(),
            adds,
            is_missing: status.is_missing && adds,
            memberships: status.memberships,
        })
    }

    /// Runs statements of [`publishing`](Self::publishing), for a moment. The client must not be inside a transaction.
    ///
    /// # Errors
    /// Where a statement fails for another reason than a lock.
    pub async fn alter(
        &self,
        client: &Client,
        statements: &[Alteration],
    ) -> Result<Altered, PublicationError> {
        let started = Instant::now();
        for (index, alteration) in statements.iter().enumerate() {
            if index > 0 && started.elapsed() > ALTER_TIME_MAX {
                return Ok(Altered::Some);
            }
            // One message is one transaction. The lock is held until it has committed, so that must wait for no disk and
            // no standby. A crash may undo it, but nothing that was committed or read in a snapshot behind it: the WAL
            // is flushed in its order, and snapshots wait for what they saw.
            let statement = &alteration.sql;
            let guard = alteration.guard.as_deref().unwrap_or_default();
            let sql = format!(
                "SET LOCAL lock_timeout = {LOCK_MS_MAX}; SET LOCAL synchronous_commit = off; {statement}; {guard}"
            );
            match client.batch_execute(&sql).await.map_err(PostgresError::from) {
                Ok(()) => {}
                Err(error) if error.code() == Some(sqlstate::LOCK_NOT_AVAILABLE) => {
                    return Ok(Altered::Locked);
                }
                Err(error) if error.code() == Some(conflict::GUARD_FAILED) => return Ok(Altered::Outdated),
                // Somebody else has added the table to the publication meanwhile.
                Err(error) if error.code() == Some(sqlstate::DUPLICATE_OBJECT) => {
                    return Ok(Altered::Outdated);
                }
                Err(error) if error::is_refusal(&error) => {
                    return Err(PublicationError::Refused { statement: statement.clone(), error });
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Altered::All)
    }

    /// Makes autovacuum leave a table and all below it. It does so for whoever has waited `deadlock_timeout` for its
    /// lock, and [`alter`](Self::alter) never waits as long. This waits for a lock behind which neither readers
    /// nor writers queue, only another VACUUM, an index being built, or DDL.
    ///
    /// # Errors
    /// Where a statement fails for another reason than a lock.
    pub async fn interrupt_autovacuum(client: &Client, table: u32) -> Result<(), PostgresError> {
        let sql = "
            WITH RECURSIVE tree (oid) AS (
                 SELECT $1::oid
                  UNION
                 SELECT i.inhrelid FROM pg_inherits i JOIN tree ON i.inhparent = tree.oid)
            SELECT format('%I.%I', n.nspname, c.relname)
              FROM tree JOIN pg_class c USING (oid) JOIN pg_namespace n ON n.oid = c.relnamespace
              JOIN pg_locks l ON l.relation = c.oid AND l.mode = 'ShareUpdateExclusiveLock' AND l.granted
             WHERE l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
               AND l.pid IN (SELECT pid FROM pg_stat_progress_vacuum UNION SELECT pid FROM pg_stat_progress_analyze)";
        for row in client.query_typed(sql, &[(&table, Type::OID)]).await? {
            let wait = "SELECT set_config('lock_timeout', (setting::int + 200)::text, true) FROM pg_settings WHERE name = 'deadlock_timeout'";
            let name: String = row.try_get(0)?;
            let lock = format!("{wait}; LOCK TABLE ONLY {name} IN SHARE UPDATE EXCLUSIVE MODE");
            match client.batch_execute(&lock).await.map_err(PostgresError::from) {
                Err(error) if error.code() != Some(sqlstate::LOCK_NOT_AVAILABLE) => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// True where it is there.
    ///
    /// # Errors
    /// Where the query fails.
    pub async fn exists(&self, client: &Client) -> Result<bool, PostgresError> {
        let sql = "SELECT FROM pg_publication WHERE pubname = $1";
        Ok(!client.query_typed(sql, &[(&self.name, Type::TEXT)]).await?.is_empty())
    }

    /// `pg_publication.oid`, where it is there: another one where it was dropped and created again.
    ///
    /// # Errors
    /// Where the query fails.
    pub async fn oid(&self, client: &Client) -> Result<Option<u32>, PostgresError> {
        let sql = "SELECT oid FROM pg_publication WHERE pubname = $1";
        let rows = client.query_typed(sql, &[(&self.name, Type::TEXT)]).await?;
        Ok(rows.first().map(|row| row.try_get(0)).transpose()?)
    }

    /// What was noted at the publication, by [`note`](Self::note) or by somebody else.
    ///
    /// # Errors
    /// Where the query fails.
    pub async fn noted(&self, client: &Client) -> Result<Option<String>, PostgresError> {
        let sql = "SELECT obj_description(oid, 'pg_publication') FROM pg_publication WHERE pubname = $1";
        let rows = client.query_typed(sql, &[(&self.name, Type::TEXT)]).await?;
        rows.first().map_or(Ok(None), |row| Ok(row.try_get(0)?))
    }

    /// Whether the role may note something at it.
    ///
    /// # Errors
    /// Where the query fails.
    pub async fn is_ours(&self, client: &Client) -> Result<bool, PostgresError> {
        let sql = "SELECT FROM pg_publication WHERE pubname = $1 AND pg_has_role(pubowner, 'USAGE')";
        Ok(!client.query_typed(sql, &[(&self.name, Type::TEXT)]).await?.is_empty())
    }

    /// Notes a text at the publication, as its comment.
    ///
    /// # Errors
    /// Where the role does not own the publication.
    pub async fn note(&self, client: &Client, text: &str) -> Result<(), PostgresError> {
        let name = quote_identifier(&self.name);
        let comment = format!("COMMENT ON PUBLICATION {name} IS {}", quote_literal(text));
        Ok(client.batch_execute(&comment).await?)
    }

    /// Which generated columns it carries.
    ///
    /// # Errors
    /// Where the query fails.
    pub async fn generated_columns(&self, client: &Client) -> Result<GeneratedColumns, PostgresError> {
        // Where there is none yet, it will be made with the option.
        let sql = "SELECT current_setting('server_version_num')::int4,
                          coalesce((SELECT to_jsonb(p) ->> 'pubgencols' FROM pg_publication p WHERE pubname = $1), 's') = 's'";
        let rows = client.query_typed(sql, &[(&self.name, Type::TEXT)]).await?;
        let row = rows.first().ok_or_else(|| PostgresError::Protocol("no row of constants".to_owned()))?;
        let can_publish = row.try_get::<_, i32>(0)? >= GENERATED_COLUMNS_VERSION.cast_signed();
        Ok(match (can_publish, row.try_get(1)?) {
            (false, _) => GeneratedColumns::Never,
            (true, true) => GeneratedColumns::Stored,
            (true, false) => GeneratedColumns::LeftOut { publication: self.name.clone() },
        })
    }

    async fn find(&self, client: &Client) -> Result<Option<PublicationState>, PublicationError> {
        // A column that only newer versions have is read through JSON.
        let sql = "SELECT pubviaroot, pubinsert AND pubupdate AND pubdelete AND pubtruncate,
                          coalesce(to_jsonb(p) ->> 'pubgencols' = 's', false)
                     FROM pg_publication p WHERE pubname = $1";
        let rows = client.query_typed(sql, &[(&self.name, Type::TEXT)]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        if row.try_get(0)? {
            return Err(PublicationError::ViaPartitionRoot { name: self.name.clone() });
        }
        if !row.try_get::<_, bool>(1)? {
            return Err(PublicationError::LacksOperations { name: self.name.clone() });
        }
        Ok(Some(PublicationState { created: false, generated_columns: row.try_get(2)? }))
    }

    /// A row filter or a list of columns would leave out changes.
    async fn check_filters(&self, client: &Client, table: &Description) -> Result<(), PublicationError> {
        // Columns that 14 does not have are read through JSON.
        let sql = "
            WITH RECURSIVE below (oid) AS (
                 SELECT $2::oid
                  UNION
                 SELECT i.inhrelid
                   FROM pg_inherits i JOIN below b ON i.inhparent = b.oid JOIN pg_class k ON k.oid = i.inhrelid
                  WHERE k.relpersistence <> 't')
            SELECT format('%I.%I', n.nspname, c.relname)
              FROM pg_publication p JOIN pg_publication_rel r ON r.prpubid = p.oid
              JOIN pg_class c ON c.oid = r.prrelid JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE p.pubname = $1 AND jsonb_strip_nulls(to_jsonb(r)) ?| ARRAY['prqual', 'prattrs']
               AND r.prrelid IN (SELECT oid FROM below UNION SELECT relid FROM pg_partition_ancestors($2::oid))";
        let oid = table.relation.oid;
        let rows = client.query_typed(sql, &[(&self.name, Type::TEXT), (&oid, Type::OID)]).await?;
        match rows.first() {
            None => Ok(()),
            Some(row) => Err(PublicationError::Filtered { table: row.try_get(0)?, name: self.name.clone() }),
        }
    }

    async fn table_status(
        &self,
        client: &Client,
        table: &Description,
    ) -> Result<TableStatus, PublicationError> {
        // A partitioned table is published through itself, an ancestor, or all of its leaves; children by
        // INHERITS only as themselves.
        let sql = format!(
            "WITH RECURSIVE below (oid) AS (
                 SELECT $2::oid
                  UNION
                 SELECT i.inhrelid
                   FROM pg_inherits i JOIN below b ON i.inhparent = b.oid JOIN pg_class k ON k.oid = i.inhrelid
                  WHERE k.relpersistence <> 't'),
            tree AS (
                 SELECT c.oid, c.relkind, c.relreplident, pg_has_role(c.relowner, 'USAGE') AS is_ours, format('%I.%I', n.nspname, c.relname) AS name,
                        {carries} AS published
                   FROM below JOIN pg_class c USING (oid) JOIN pg_namespace n ON n.oid = c.relnamespace),
            root AS (
                 SELECT name, EXISTS (
                        SELECT FROM pg_publication p JOIN pg_publication_rel r ON r.prpubid = p.oid
                         WHERE p.pubname = $1 AND r.prrelid IN (
                               SELECT $2::oid UNION SELECT relid FROM pg_partition_ancestors($2::oid))) AS published
                   FROM tree WHERE oid = $2 AND relkind = 'p')
            SELECT ARRAY(SELECT name FROM root
                          WHERE NOT published
                            AND NOT (SELECT coalesce(bool_and(published), false) FROM tree WHERE relkind = 'r')
                         UNION ALL
                         SELECT 'ONLY ' || name FROM tree
                          WHERE relkind = 'r' AND NOT published AND NOT EXISTS (SELECT FROM root)),
                   ARRAY(SELECT name FROM tree
                          WHERE relkind IN ('r', 'p') AND relreplident <> 'f' ORDER BY oid),
                   EXISTS (SELECT FROM tree WHERE oid = $2 AND NOT published),
                   ARRAY(SELECT r.oid FROM pg_publication p JOIN pg_publication_rel r ON r.prpubid = p.oid
                          WHERE p.pubname = $1 AND r.prrelid IN (
                                SELECT oid FROM tree UNION SELECT relid FROM pg_partition_ancestors($2::oid))
                          ORDER BY 1),
                   ARRAY(SELECT name FROM tree
                          WHERE relkind IN ('r', 'p') AND relreplident <> 'f' AND NOT is_ours ORDER BY oid),
                   (SELECT is_ours FROM tree WHERE oid = $2),
                   (SELECT pg_has_role(pubowner, 'USAGE') FROM pg_publication WHERE pubname = $1),
                   current_user::text",
            carries = carries("$1", "c")
        );
        let oid = table.relation.oid;
        let rows = client.query_typed(&sql, &[(&self.name, Type::TEXT), (&oid, Type::OID)]).await?;
        let row = rows
            .first()
            .ok_or_else(|| PostgresError::Protocol("a query without FROM gave no row".to_owned()))?;
        Ok(TableStatus {
            unpublished: row.try_get(0)?,
            not_full: row.try_get(1)?,
            is_missing: row.try_get(2)?,
            memberships: row.try_get(3)?,
            foreign: row.try_get(4)?,
            table_is_ours: row.try_get::<_, Option<bool>>(5)?.unwrap_or(true),
            publication_is_ours: row.try_get::<_, Option<bool>>(6)?.unwrap_or(true),
            role: row.try_get(7)?,
        })
    }

    /// Checks that the application can go on writing to the table once it is published, in every publication of
    /// the database. One that is created after this check is found behind the table's lock, see [`Guard`], and
    /// one that is created after that is reported by the next look at the catalog.
    async fn check_conflicts(&self, client: &Client, table: &Description) -> Result<(), PublicationError> {
        let oid = table.relation.oid;
        let conflicts = conflicts(client, &[oid], &self.name, Assumed::Published).await?;
        match conflicts.is_empty() {
            true => Ok(()),
            false => Err(PublicationError::Conflict { table: table.relation.name.to_string(), conflicts }),
        }
    }

    /// Checks that everything that is to be altered may be: nothing is altered where only a part could be.
    fn check_allowed(&self, table: &Description, status: &TableStatus) -> Result<(), PublicationError> {
        if self.manual {
            let name = &table.relation.name;
            let table = format!("{}.{}", name.schema, name.name);
            return Err(match status.unpublished.is_empty() {
                false => PublicationError::TableMissing { table, name: self.name.clone() },
                true => PublicationError::IdentityNotFull { table },
            });
        }
        let publication = quote_identifier(&self.name);
        let mut run: Vec<String> = Vec::new();
        let may_add = status.publication_is_ours && status.table_is_ours;
        if !may_add {
            let add = |table: &String| format!("ALTER PUBLICATION {publication} ADD TABLE {table};");
            run.extend(status.unpublished.iter().map(add));
        }
        run.extend(
            status.foreign.iter().map(|table| format!("ALTER TABLE ONLY {table} REPLICA IDENTITY FULL;")),
        );
        match run.is_empty() {
            true => Ok(()),
            false => Err(PublicationError::NotOwner {
                table: table.relation.name.to_string(),
                role: status.role.clone(),
                name: self.name.clone(),
                run: run.join(" "),
            }),
        }
    }
}

/// SQL that says whether a publication (its name, as SQL) carries the changes of a table (an alias of
/// `pg_class`): alone, with a partitioned table above it, with a schema, or with everything.
///
/// The view `pg_publication_tables` says so too. But from 16 on it opens every table, and so waits for whoever
/// has locked any of them. What a publication has of schemas is in a catalog that 14 does not know; all know
/// what it depends on. Each search starts at the table, whose place in the indexes is known: thousands of tables
/// are asked about in one query.
pub(crate) fn carries(publication: &str, class: &str) -> String {
    let tree = format!("(SELECT {class}.oid UNION SELECT relid FROM pg_partition_ancestors({class}.oid))");
    format!(
        "EXISTS (SELECT FROM pg_publication p WHERE p.pubname = {publication} AND (
             p.puballtables AND {class}.relpersistence = 'p' AND {class}.oid >= {FIRST_USER_OID}
             OR EXISTS (SELECT FROM {tree} above (oid) JOIN pg_publication_rel r ON r.prrelid = above.oid
                         WHERE r.prpubid = p.oid)
             OR EXISTS (SELECT FROM {tree} above (oid) JOIN pg_class t ON t.oid = above.oid
                         WHERE t.relnamespace IN (
                               SELECT on_schema.refobjid
                                 FROM pg_publication q
                                 JOIN pg_depend of_publication
                                   ON of_publication.refclassid = 'pg_publication'::regclass
                                  AND of_publication.refobjid = q.oid
                                 JOIN pg_depend on_schema
                                   ON on_schema.classid = of_publication.classid
                                  AND on_schema.objid = of_publication.objid
                                WHERE q.pubname = {publication}
                                  AND on_schema.refclassid = 'pg_namespace'::regclass))))"
    )
}

/// A table and its partitions, as far as publishing goes.
struct TableStatus {
    /// The tables that must be added to the publication, as its `ADD TABLE` takes them.
    unpublished: Vec<String>,
    /// Tables whose identity is not FULL, quoted for SQL.
    not_full: Vec<String>,
    /// Whether the table itself is not published.
    is_missing: bool,
    /// Entries of the publication that name it, or a table above or below it.
    memberships: Vec<u32>,
    /// Those of `not_full` that the role does not own.
    foreign: Vec<String>,
    /// Whether the role owns the table itself.
    table_is_ours: bool,
    /// Whether the role owns the publication.
    publication_is_ours: bool,
    /// The role.
    role: String,
}
