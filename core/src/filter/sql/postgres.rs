//! A clause that only Postgres can evaluate: its text written anew from what was parsed, what has to be asked of
//! Postgres before the clause is taken, and the query by which Postgres judges rows of the stream.

use super::deparse::Deparser;
use crate::filter::error::{FilterError, Reason};
use crate::filter::limits::check_size;
use crate::filter::syntax::ast::Node;
use crate::filter::syntax::parse::{self, Subqueries};
use crate::pg::relation::quote_identifier;
use crate::pg::{Column, Relation};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The functions of Postgres's own that are STABLE and still give the same for the same arguments under the
/// settings that every session of ours has (time zone, styles, digits). Sorted.
pub const STABLE_FUNCTIONS: &[&str] = &[
    "array_to_json",
    "array_to_string",
    "concat",
    "concat_ws",
    "date",
    "date_part",
    "date_trunc",
    "extract",
    "format",
    "json_build_array",
    "json_build_object",
    "jsonb_build_array",
    "jsonb_build_object",
    "jsonb_path_exists_tz",
    "jsonb_path_match_tz",
    "jsonb_path_query_array_tz",
    "jsonb_path_query_first_tz",
    "make_timestamptz",
    "money",
    "numeric",
    "overlaps",
    "quote_literal",
    "quote_nullable",
    "row_to_json",
    "text",
    "time",
    "timestamp",
    "timestamptz",
    "timetz",
    "timezone",
    "to_char",
    "to_date",
    "to_json",
    "to_jsonb",
    "to_number",
    "to_timestamp",
];

/// A WHERE clause that core reads but cannot evaluate. Before a shape has it, Postgres must confirm its
/// [`Claims`].
#[derive(Debug, Clone)]
pub struct PostgresFilter {
    sql: String,
    columns: Vec<usize>,
    claims: Arc<Claims>,
}

/// Claims that the catalog must confirm: the clause is valid, and its result depends on the row alone.
#[derive(Debug, Clone)]
pub struct Claims {
    /// Why core does not evaluate the clause: the answer where Postgres knows no such function, operator or type.
    pub beyond_core: FilterError,
    /// The clause with `$1`, `$2`, … in the place of [`Claims::clock_words`].
    pub condition: String,
    /// Literals that would read the clock if they were dates or times: what types Postgres infers for the
    /// parameters tells. One a parameter.
    pub clock_words: Vec<FilterError>,
    /// Functions, which must not be volatile, nor STABLE but for [`STABLE_FUNCTIONS`].
    pub functions: Vec<PurityClaim<Signature>>,
    /// Operators, of whose functions the same is true.
    pub operators: Vec<PurityClaim<Signature>>,
    /// Types to which something is cast, written as in the clause: the functions of those casts likewise.
    pub types: Vec<PurityClaim<Signature>>,
    /// Expressions that must not be texts: what is done with them would depend on more than the text.
    pub not_texts: Vec<PurityClaim<String>>,
}

/// One thing to confirm, and the answer where it is not so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PurityClaim<T> {
    /// The function, operator, type or expression.
    pub subject: T,
    /// The error where the catalog does not confirm it.
    pub refusal: FilterError,
}

/// A function or an operator, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// Its schema; that of the search path where absent.
    pub schema: Option<String>,
    /// Its name.
    pub name: String,
    /// How many arguments it is given.
    pub arity: usize,
}

impl PostgresFilter {
    /// Reads a clause for Postgres, even one that core could evaluate.
    ///
    /// # Errors
    /// As [`Filter::parse`](crate::filter::Filter::parse), as far as it can be told without types.
    pub fn parse(
        text: &str,
        params: &BTreeMap<u32, String>,
        columns: &[Column],
    ) -> Result<Self, FilterError> {
        check_size(text)?;
        let node = parse::parse(text, Subqueries::Refused, None)?;
        let beyond_core = FilterError::at(node.at, Reason::BeyondCore("expression"));
        Self::new(&node, params, columns, beyond_core)
    }

    pub(crate) fn new(
        node: &Node,
        params: &BTreeMap<u32, String>,
        columns: &[Column],
        beyond_core: FilterError,
    ) -> Result<Self, FilterError> {
        let sql = Deparser::new(columns, params).draft().clause(node)?.sql;
        let deparsed = Deparser::new(columns, params).with_parameters().clause(node)?;
        let mut mentioned = deparsed.columns;
        // Rows are counted by the values of a column, which any clause has to mention then.
        if mentioned.is_empty() {
            let first = columns.iter().position(|column| !column.generated);
            mentioned.insert(first.ok_or_else(|| beyond_core.clone())?);
        }
        let claims = Claims {
            beyond_core,
            condition: deparsed.sql,
            clock_words: deparsed.clock_words,
            functions: deparsed.functions,
            operators: deparsed.operators,
            types: deparsed.types,
            not_texts: deparsed.not_texts,
        };
        Ok(Self { sql, columns: mentioned.into_iter().collect(), claims: Arc::new(claims) })
    }

    /// The canonical text: names and literals quoted, operations in parentheses. It belongs into parentheses
    /// before AND or NOT.
    #[must_use]
    pub fn sql(&self) -> &str {
        &self.sql
    }

    /// Positions of the columns that the clause mentions, sorted; never none.
    #[must_use]
    pub fn columns(&self) -> &[usize] {
        &self.columns
    }

    /// The claims that Postgres must confirm before a shape has the clause.
    #[must_use]
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// The query that judges rows. It takes one `text[]` for each of [`PostgresFilter::columns`] in their order,
    /// with the text of that column in each row, and gives one bool a row, in order: whether the row satisfies the
    /// clause. In a WHERE as here Postgres tests the parts of an AND in the order it does for the snapshot, cheap
    /// ones first, so that the same rows fail or do not.
    #[must_use]
    pub fn batch_sql(&self, relation: &Relation) -> String {
        let mentioned: Vec<&Column> =
            self.columns.iter().filter_map(|index| relation.columns.get(*index)).collect();
        let numbered = |write: &dyn Fn(usize, &Column) -> String| {
            let parts = mentioned.iter().enumerate().map(|(i, column)| write(i + 1, column));
            parts.collect::<Vec<_>>().join(", ")
        };
        let arrays = numbered(&|n, _| format!("${n}::text[]"));
        let names = numbered(&|n, _| format!("c{n}"));
        let values = numbered(&|n, column| {
            format!("c{n}::{}{} AS {}", type_sql(column), collate_sql(column), quote_identifier(&column.name))
        });
        format!(
            "SELECT EXISTS (SELECT FROM (SELECT {values}) AS judged WHERE ({})) \
             FROM unnest({arrays}) WITH ORDINALITY AS given({names}, ordinal) ORDER BY ordinal",
            self.sql
        )
    }
}

impl Claims {
    /// The statement whose description shows that the clause is valid, and the types of its parameters.
    #[must_use]
    pub fn condition_sql(&self, relation: &Relation) -> String {
        format!("SELECT FROM {} WHERE ({})", relation.name, self.condition)
    }

    /// The statement whose description shows the types of [`Claims::not_texts`]; `None` where there are none.
    #[must_use]
    pub fn not_texts_sql(&self, relation: &Relation) -> Option<String> {
        let expressions: Vec<String> =
            self.not_texts.iter().map(|claim| format!("({})", claim.subject)).collect();
        let any = !expressions.is_empty();
        any.then(|| format!("SELECT {} FROM {}", expressions.join(", "), relation.name))
    }
}

/// The type of a column as a cast names it, without modifiers: the values have them already.
fn type_sql(column: &Column) -> String {
    let schema = &column.typing.schema;
    let schema = if schema.is_empty() { String::new() } else { format!("{}.", quote_identifier(schema)) };
    let brackets = if column.type_oid == column.element_oid { "" } else { "[]" };
    format!("{schema}{}{brackets}", quote_identifier(&column.type_name))
}

fn collate_sql(column: &Column) -> String {
    let collation = column.typing.collation_name.as_ref();
    collation.map_or_else(String::new, |name| format!(" COLLATE {name}"))
}

pub(crate) fn refused_function(at: usize, name: &str, arity: usize) -> FilterError {
    FilterError::at(at, Reason::NotImmutable { name: name.to_owned(), arity })
}
