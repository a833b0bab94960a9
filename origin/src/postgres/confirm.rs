//! Clauses that only Postgres can evaluate: whether they are valid, and depend on the row alone.

use super::error::PostgresError;
use super::sqlstate;
use limn_core::filter::{Claims, FilterError, PostgresFilter, PurityClaim, STABLE_FUNCTIONS, Signature};
use limn_core::pg::Relation;
use tokio_postgres::Client;
use tokio_postgres::types::{Kind, ToSql, Type};

/// SQLSTATEs by which Postgres says that it knows no such function, operator, type or cast.
const UNKNOWN_TO_POSTGRES: [&str; 3] =
    [sqlstate::UNDEFINED_FUNCTION, sqlstate::UNDEFINED_OBJECT, sqlstate::CANNOT_COERCE];

/// The claimed functions of which some that may be meant is volatile, or STABLE and not known to be harmless. Of
/// those in the catalog's own schema the harmless ones are named; `arity` counts default and variadic arguments in.
const UNFIT_FUNCTIONS: &str = "
    SELECT min(w.n) - 1
      FROM unnest($1::text[], $2::text[], $3::int4[]) WITH ORDINALITY AS w(schema, name, arity, n)
      JOIN pg_proc p ON p.proname = w.name
       AND (w.arity BETWEEN p.pronargs - p.pronargdefaults AND p.pronargs
            OR p.provariadic <> 0 AND w.arity >= p.pronargs - 1)
      JOIN pg_namespace s ON s.oid = p.pronamespace
     WHERE (s.nspname = w.schema OR w.schema IS NULL AND s.nspname = ANY (current_schemas(true)))
       AND p.provolatile <> 'i'
       AND NOT (p.provolatile = 's' AND s.nspname = 'pg_catalog' AND p.proname = ANY ($4::text[]))";

/// The same of operators. The STABLE ones of Postgres's own are about time zones and output styles, which are fixed,
/// and about the configuration of text search, which is another claim.
const UNFIT_OPERATORS: &str = "
    SELECT min(w.n) - 1
      FROM unnest($1::text[], $2::text[], $3::int4[]) WITH ORDINALITY AS w(schema, name, arity, n)
      JOIN pg_operator o ON o.oprname = w.name AND (o.oprleft = 0) = (w.arity = 1)
      JOIN pg_namespace s ON s.oid = o.oprnamespace
      JOIN pg_proc p ON p.oid = o.oprcode
     WHERE (s.nspname = w.schema OR w.schema IS NULL AND s.nspname = ANY (current_schemas(true)))
       AND p.provolatile <> 'i'
       AND NOT (p.provolatile = 's' AND s.nspname = 'pg_catalog')";

/// The same of the functions that cast to a type. Postgres's own are about output styles and time zones; where they
/// read more of a text than it says is another claim.
const UNFIT_CASTS: &str = "
    SELECT min(w.n) - 1
      FROM unnest($1::text[], $2::text[], $3::int4[]) WITH ORDINALITY AS w(schema, name, arity, n)
      JOIN pg_cast c ON c.casttarget = to_regtype(w.name)
      JOIN pg_proc p ON p.oid = c.castfunc
      JOIN pg_namespace s ON s.oid = p.pronamespace
     WHERE p.provolatile <> 'i' AND s.nspname <> 'pg_catalog'";

/// No shape can have the clause.
#[derive(Debug, thiserror::Error)]
pub enum Unconfirmed {
    /// The text of the 400.
    #[error("{0}")]
    Refused(String),
    /// Postgres cannot be asked.
    #[error(transparent)]
    Postgres(PostgresError),
}

/// Has Postgres confirm that a clause is valid and depends on the row alone.
///
/// # Errors
/// [`Unconfirmed`]
pub async fn confirm(
    client: &Client,
    relation: &Relation,
    filter: &PostgresFilter,
) -> Result<(), Unconfirmed> {
    let claims = filter.claims();
    confirm_condition(client, relation, claims).await?;
    confirm_not_texts(client, relation, claims).await?;
    let stable: &(dyn ToSql + Sync) = &STABLE_FUNCTIONS;
    confirm_none_unfit(client, UNFIT_FUNCTIONS, &claims.functions, Some(stable)).await?;
    confirm_none_unfit(client, UNFIT_OPERATORS, &claims.operators, None).await?;
    confirm_none_unfit(client, UNFIT_CASTS, &claims.types, None).await
}

async fn confirm_condition(client: &Client, relation: &Relation, claims: &Claims) -> Result<(), Unconfirmed> {
    let described = client.prepare(&claims.condition_sql(relation)).await.map_err(PostgresError::from);
    let statement = described.map_err(|error| match (error.code(), claims.clock_words.first()) {
        (Some(sqlstate::INDETERMINATE_DATATYPE), Some(refusal)) => refused(refusal),
        (Some(code), _) if UNKNOWN_TO_POSTGRES.contains(&code) => unknown(&error, &claims.beyond_core),
        _ => judged(error),
    })?;
    let read_clock = statement.params().iter().zip(&claims.clock_words).find(|(ty, _)| !is_timeless(ty));
    read_clock.map_or(Ok(()), |(_, refusal)| Err(refused(refusal)))
}

async fn confirm_not_texts(client: &Client, relation: &Relation, claims: &Claims) -> Result<(), Unconfirmed> {
    let Some(sql) = claims.not_texts_sql(relation) else { return Ok(()) };
    let described = client.prepare(&sql).await.map_err(PostgresError::from);
    let statement = described.map_err(judged)?;
    let text = statement.columns().iter().zip(&claims.not_texts).find(|(column, _)| is_text(column.type_()));
    text.map_or(Ok(()), |(_, claim)| Err(refused(&claim.refusal)))
}

/// The query gives the place of the first claim that does not hold.
async fn confirm_none_unfit(
    client: &Client,
    sql: &str,
    claims: &[PurityClaim<Signature>],
    stable: Option<&(dyn ToSql + Sync)>,
) -> Result<(), Unconfirmed> {
    let schemas: Vec<Option<&str>> = claims.iter().map(|claim| claim.subject.schema.as_deref()).collect();
    let names: Vec<&str> = claims.iter().map(|claim| claim.subject.name.as_str()).collect();
    let arities: Vec<i32> =
        claims.iter().map(|claim| i32::try_from(claim.subject.arity).unwrap_or(i32::MAX)).collect();
    let mut parameters: Vec<(&(dyn ToSql + Sync), Type)> =
        vec![(&schemas, Type::TEXT_ARRAY), (&names, Type::TEXT_ARRAY), (&arities, Type::INT4_ARRAY)];
    parameters.extend(stable.map(|names| (names, Type::TEXT_ARRAY)));
    let answer = client.query_typed(sql, &parameters).await.map_err(PostgresError::from);
    let rows = answer.map_err(Unconfirmed::Postgres)?;
    let unfit: Option<i64> = rows.first().and_then(|row| row.get(0));
    let claim = unfit.and_then(|place| claims.get(usize::try_from(place).ok()?));
    claim.map_or(Ok(()), |claim| Err(refused(&claim.refusal)))
}

fn refused(error: &FilterError) -> Unconfirmed {
    Unconfirmed::Refused(error.to_string())
}

/// Where both miss the same thing core's words are said, which tell its place.
fn unknown(error: &PostgresError, beyond_core: &FilterError) -> Unconfirmed {
    let message = error.message();
    let same = beyond_core.unknown_name().is_some_and(|name| message.contains(name));
    if same { refused(beyond_core) } else { Unconfirmed::Refused(message) }
}

/// Postgres's own words, where it was Postgres that refused.
fn judged(error: PostgresError) -> Unconfirmed {
    match error {
        error if error.code() == Some(sqlstate::LOCK_NOT_AVAILABLE) => Unconfirmed::Postgres(error),
        PostgresError::Server(_) if !error.is_transient() => Unconfirmed::Refused(error.message()),
        error => Unconfirmed::Postgres(error),
    }
}

/// Whether a literal of the type says the same at any time.
fn is_timeless(ty: &Type) -> bool {
    let documents = [Type::JSON, Type::JSONB, Type::TS_VECTOR, Type::TSQUERY, Type::XML, Type::BYTEA];
    is_text(ty) || documents.contains(ty) || matches!(ty.kind(), Kind::Enum(_))
}

fn is_text(ty: &Type) -> bool {
    match ty.kind() {
        Kind::Array(of) | Kind::Domain(of) => is_text(of),
        _ => [Type::TEXT, Type::VARCHAR, Type::BPCHAR, Type::NAME, Type::UNKNOWN].contains(ty),
    }
}
