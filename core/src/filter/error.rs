//! Why a clause is refused, in the words that go on the wire, and why a row cannot be judged.

use super::limits::{MAX_BYTES, MAX_DEPTH, MAX_DISJUNCTS, MAX_POSITIONS, MAX_SUBQUERIES, MAX_TERMS};
use crate::pg::QualifiedName;
use thiserror::Error;

/// A WHERE clause that is refused. `Display` is the text of the 400 answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FilterError {
    /// Something at one place of the clause.
    #[error("At location {at}: {reason}")]
    At {
        /// The byte position; syntax errors count a prefix of 15 bytes, as the grammar's own cursor does.
        at: usize,
        /// The mistake there.
        reason: Reason,
    },
    /// A valid expression of another type than bool.
    #[error("WHERE clause must return a boolean")]
    NotBoolean,
    /// More than [`MAX_BYTES`].
    #[error("WHERE clause of {size} bytes is bigger than maximum size of {MAX_BYTES} bytes")]
    TooLarge {
        /// The size in bytes.
        size: usize,
    },
    /// A second statement.
    #[error("unescaped \";\" causing statement split")]
    StatementSplit,
    /// `ORDER BY`, `LIMIT`, `UNION` and their like after the expression.
    #[error("malformed query ending with SQL clauses")]
    TrailingClause,
    /// DISTINCT, ORDER BY, LIMIT, WITH and their like in a subquery.
    #[error("SELECT statement must not contain any clauses")]
    SubqueryClauses,
    /// A subquery that reads something else than one table.
    #[error("Expected a single table reference")]
    SubqueryTable,
    /// A subquery's table that does not exist.
    #[error("Table {0} does not exist")]
    UnknownTable(QualifiedName),
    /// A subquery selects columns that its table has not.
    #[error("The following columns are not found on the table: {}", .0.join(", "))]
    UnknownColumns(Vec<String>),
    /// `a IN (q) AND b NOT IN (q)`
    #[error(
        "a subquery dependency cannot be used with both positive and negative polarity in the same filter"
    )]
    BothPolarities,
    /// AND of ORs that would be too many ORs of ANDs.
    #[error(
        "WHERE clause too complex for DNF decomposition ({disjuncts} disjuncts exceeds limit of {MAX_DISJUNCTS})"
    )]
    TooManyDisjuncts {
        /// How many they would be.
        disjuncts: usize,
    },
    /// The same, counted in all their terms.
    #[error(
        "WHERE clause too complex for DNF decomposition ({positions} positions exceeds limit of {MAX_POSITIONS})"
    )]
    TooManyPositions {
        /// How many they would be.
        positions: usize,
    },
    /// What only Postgres can evaluate, in a clause with subqueries.
    #[error("{0} (beside a subquery, where Postgres is not asked to evaluate it)")]
    BesideSubquery(Box<FilterError>),
}

impl FilterError {
    /// Whether the clause may be valid SQL that only Postgres can evaluate: core lacks a type, an operator or a
    /// function. Postgres may still refuse it. What has a wrong syntax or wrong types, and what reads the clock or
    /// the session, is refused for good.
    #[must_use]
    pub fn needs_postgres(&self) -> bool {
        matches!(self, Self::At { reason, .. } if reason.is_limit_of_core())
    }

    /// The name of the function, operator or type that core does not know, where that is what is wrong.
    #[must_use]
    pub fn unknown_name(&self) -> Option<&str> {
        match self {
            Self::At { reason, .. } => reason.unknown_name(),
            _ => None,
        }
    }

    pub(super) fn at(at: usize, reason: Reason) -> Self {
        Self::At { at, reason }
    }
}

/// The mistake at one place of a clause.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[allow(missing_docs, reason = "the text beside each variant says it all")]
pub enum Reason {
    #[error("syntax error at end of input")]
    SyntaxAtEnd,
    #[error("syntax error at or near \"{0}\"")]
    Syntax(String),
    #[error("{what} at or near \"{near}\"")]
    Lexical { what: &'static str, near: String },
    #[error("expression is nested more than {MAX_DEPTH} levels deep")]
    TooDeep,
    #[error("expression has more than {MAX_TERMS} terms")]
    TooManyTerms,
    #[error("BitString values are not supported")]
    BitString,
    #[error("{0} is not supported in this context")]
    Unsupported(&'static str),
    #[error("aggregation is not supported in this context")]
    Aggregation,
    #[error("explicit VARIADIC function calls are not currently supported")]
    Variadic,
    #[error("{0} is not supported in this context")]
    BeyondCore(&'static str),
    #[error("{what} of type {ty} is not supported in this context")]
    BeyondType { what: &'static str, ty: String },
    #[error("only `value IN (SELECT ...)` sublinks are supported right now")]
    Sublink,
    #[error("IN (SELECT ...) is only supported under AND, OR and NOT, not inside {0}")]
    SublinkInside(&'static str),
    #[error("clause has more than {MAX_SUBQUERIES} subqueries")]
    TooManySubqueries,
    #[error("Expected a plain column reference")]
    NotPlainColumn,
    #[error(
        "currently, left side of `IN (SELECT ...)` can only be a column reference or a list of column references"
    )]
    SublinkLeft,
    #[error("left side of `IN (SELECT ...)` has type {left} but subquery returns {right}[]")]
    SublinkTypes { left: String, right: String },
    #[error("IN (SELECT ...) is not supported for type {0}: equal values may differ in their texts")]
    SublinkType(String),
    #[error("IN (SELECT ...) is not supported under a nondeterministic collation")]
    SublinkCollation,
    #[error("unknown reference {0}")]
    UnknownReference(String),
    #[error("parameter ${0} was not provided")]
    MissingParameter(u32),
    #[error("type conflict for ${number}: {known} and {wanted}")]
    ParameterType { number: u32, known: String, wanted: String },
    #[error("invalid syntax for type {ty}: {text}")]
    InvalidSyntax { ty: String, text: String },
    /// Perhaps in a spelling that core does not read.
    #[error("invalid syntax for type {ty}: {text}")]
    UnreadLiteral { ty: String, text: String },
    #[error("unknown binary operator \"{0}\"")]
    UnknownBinary(String),
    #[error("unknown unary operator \"{0}\"")]
    UnknownUnary(String),
    #[error("Could not select an operator overload")]
    NoOverload,
    #[error("unknown or unsupported function {name}/{arity}")]
    UnknownFunction { name: String, arity: usize },
    /// It reads the clock, the session, other rows, or chance.
    #[error("unknown or unsupported function {name}/{arity}")]
    NotImmutable { name: String, arity: usize },
    #[error("Could not select a function overload for {name}({arguments})")]
    NoFunctionOverload { name: String, arguments: String },
    #[error("argument of {0} must be an array")]
    NotArray(&'static str),
    #[error("{context} types {left} and {right} cannot be matched")]
    NotMatched { context: &'static str, left: String, right: String },
    #[error("cannot determine type of empty array")]
    EmptyArray,
    #[error("unequal number of entries in row expressions")]
    RowLength,
    #[error("{0} is not castable to bool")]
    NotCastableToBool(String),
    #[error("argument of {context} must be bool, not {ty}")]
    ArgumentNotBool { context: &'static str, ty: String },
    #[error("unsupported type {0}")]
    UnsupportedType(String),
    #[error("unknown cast from type {from} to type {to}")]
    UnknownCast { from: String, to: String },
    /// Perhaps in a part that Postgres never comes to.
    #[error("Failed to apply function to constant arguments")]
    ConstantFailed,
    #[error("LIKE pattern must not end with escape character")]
    PatternEndsWithEscape,
    #[error("invalid escape string")]
    InvalidEscape,
}

impl Reason {
    fn unknown_name(&self) -> Option<&str> {
        match self {
            Self::UnknownFunction { name, .. }
            | Self::NoFunctionOverload { name, .. }
            | Self::UnknownBinary(name)
            | Self::UnknownUnary(name)
            | Self::UnsupportedType(name)
            | Self::UnknownCast { to: name, .. } => Some(name),
            _ => None,
        }
    }

    fn is_limit_of_core(&self) -> bool {
        matches!(
            self,
            Self::BeyondCore(_)
                | Self::BeyondType { .. }
                | Self::BitString
                | Self::Variadic
                | Self::ConstantFailed
                | Self::UnreadLiteral { .. }
                | Self::UnknownBinary(_)
                | Self::UnknownUnary(_)
                | Self::UnknownFunction { .. }
                | Self::NoFunctionOverload { .. }
                | Self::UnsupportedType(_)
                | Self::UnknownCast { .. }
        )
    }
}

/// A row that cannot be judged. Postgres fails its snapshot query on such a row, or core does not know the
/// value's form; either way the shape cannot go on from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum EvalError {
    /// A text that is not of the type it should have, or in a form core does not read.
    #[error("a value is not a valid `{ty}`")]
    InvalidValue {
        /// The type's name.
        ty: &'static str,
    },
    /// `x / 0`
    #[error("division by zero")]
    DivisionByZero,
    /// A result that its type cannot hold.
    #[error("`{ty}` out of range")]
    OutOfRange {
        /// The type's name.
        ty: &'static str,
    },
    /// `'infinity'::date - …`
    #[error("cannot subtract infinite dates")]
    InfiniteDates,
    /// `|/ -1`
    #[error("cannot take square root of a negative number")]
    NegativeRoot,
    /// A pattern ending in its escape character.
    #[error("pattern of LIKE ends with its escape character")]
    PatternEndsWithEscape,
    /// Operands beyond what core is willing to multiply or divide per row.
    #[error("numeric of too many digits for arithmetic")]
    NumericTooLong,
    /// A function or an operator that fails on its operands.
    #[error("{0}")]
    Failed(&'static str),
    /// A value that the planner replaced by nothing: an expression is not of the type it was checked to have.
    #[error("expression did not give a `{ty}`")]
    WrongType {
        /// The expected type.
        ty: &'static str,
    },
}
