//! A clause with subqueries, as an OR of ANDs: each term is either about the row alone or asks whether values of
//! the row are among those that a query of another table gives.

use super::Filter;
use super::clause::Clause;
use super::error::FilterError;
use super::limits::{MAX_DISJUNCTS, MAX_POSITIONS};
use super::membership::Equal;
use crate::pg::Relation;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

/// A WHERE clause with subqueries.
///
/// A row belongs to the shape where some disjunct has all its positions true. In SQL's logic with NULL, AND and
/// OR distribute over each other, and NOT goes through to the terms, so that this is what the clause says.
#[derive(Debug, Clone)]
pub struct SubqueryFilter {
    sql: String,
    columns: Vec<usize>,
    positions: Vec<Position>,
    disjuncts: Vec<Range<usize>>,
    dependencies: Vec<Dependency>,
}

/// One term of one disjunct.
#[derive(Debug, Clone)]
pub struct Position {
    /// The condition, before the negation.
    pub condition: Condition,
    /// NOT IN: true where IN is false, not where it is NULL. Only [`Condition::Member`] is ever negated.
    pub negated: bool,
}

/// The condition of a term.
#[derive(Debug, Clone)]
pub enum Condition {
    /// Whether the row satisfies a filter.
    Plain(Arc<Filter>),
    /// Whether its values are among those of a subquery.
    Member {
        /// Which one, by its place in [`SubqueryFilter::dependencies`].
        dependency: usize,
        /// The positions of the values in the row, in the order of the subquery's columns.
        columns: Vec<usize>,
    },
}

/// A subquery.
#[derive(Debug, Clone)]
pub struct Dependency {
    /// The table that it reads.
    pub relation: Arc<Relation>,
    /// It says `FROM ONLY`, which means the same where no table inherits from its table.
    pub only: bool,
    /// Positions of the selected columns, in the order of the SELECT.
    pub columns: Vec<usize>,
    /// Which rows it selects; all where absent.
    pub filter: Option<Clause>,
    /// `SELECT "a", "b" FROM "s"."t" WHERE …`: rows may come more than once.
    pub sql: String,
    /// For each selected column, how texts of equal values become equal.
    pub equalities: Vec<Equal>,
}

impl SubqueryFilter {
    pub(super) fn new(tree: &Tree, dependencies: Vec<Dependency>) -> Result<Self, FilterError> {
        let (disjuncts, positions) = tree.size();
        if disjuncts > MAX_DISJUNCTS {
            return Err(FilterError::TooManyDisjuncts { disjuncts });
        }
        if positions > MAX_POSITIONS {
            return Err(FilterError::TooManyPositions { positions });
        }
        let mut filter = Self {
            sql: String::new(),
            columns: Vec::new(),
            positions: Vec::with_capacity(positions),
            disjuncts: Vec::with_capacity(disjuncts),
            dependencies,
        };
        tree.write(&mut filter.sql);
        for disjunct in tree.disjuncts() {
            let start = filter.positions.len();
            filter.positions.extend(disjunct.into_iter().map(|term| term.position.clone()));
            filter.disjuncts.push(start..filter.positions.len());
        }
        let columns: BTreeSet<usize> =
            filter.positions.iter().flat_map(|position| position.columns().iter().copied()).collect();
        filter.columns = columns.into_iter().collect();
        Ok(filter)
    }

    /// The canonical text, the subqueries in it as they would run. It belongs into parentheses before AND or NOT.
    #[must_use]
    pub fn sql(&self) -> &str {
        &self.sql
    }

    /// Positions of the columns of the outer table that the clause mentions, sorted.
    #[must_use]
    pub fn columns(&self) -> &[usize] {
        &self.columns
    }

    /// All terms, numbered from left to right through all disjuncts. One that stands in several disjuncts is here
    /// several times.
    #[must_use]
    pub fn positions(&self) -> &[Position] {
        &self.positions
    }

    /// The positions of each disjunct.
    #[must_use]
    pub fn disjuncts(&self) -> &[Range<usize>] {
        &self.disjuncts
    }

    /// The subqueries, each once however often it is written. What stands in them is theirs.
    #[must_use]
    pub fn dependencies(&self) -> &[Dependency] {
        &self.dependencies
    }
}

impl Position {
    /// The columns of the outer table that the term reads.
    #[must_use]
    pub fn columns(&self) -> &[usize] {
        match &self.condition {
            Condition::Plain(filter) => filter.columns(),
            Condition::Member { columns, .. } => columns,
        }
    }
}

impl Dependency {
    /// Positions of the columns of the inner table that the query mentions, sorted.
    #[must_use]
    pub fn used_columns(&self) -> Vec<usize> {
        let filtered = self.filter.iter().flat_map(Clause::columns);
        let used: BTreeSet<usize> = self.columns.iter().chain(filtered).copied().collect();
        used.into_iter().collect()
    }

    /// The text that stands for all values equal to this one, of the selected column at a place in
    /// [`Dependency::columns`] or of the value that is looked for there.
    #[must_use]
    pub fn key<'a>(&self, column: usize, text: &'a [u8]) -> Cow<'a, [u8]> {
        self.equalities.get(column).map_or(Cow::Borrowed(text), |equal| equal.key(text))
    }

    /// The query itself and the subqueries in it, at any depth.
    pub(super) fn with_inner(&self) -> Vec<&Self> {
        std::iter::once(self).chain(self.filter.iter().flat_map(Clause::dependencies)).collect()
    }
}

/// A clause whose NOTs have gone into its terms. AND never stands directly in AND, nor OR in OR.
#[derive(Debug)]
pub(super) enum Tree {
    Term(Term),
    And(Vec<Tree>),
    Or(Vec<Tree>),
}

#[derive(Debug)]
pub(super) struct Term {
    pub position: Position,
    pub sql: String,
}

impl Tree {
    /// How many disjuncts there will be, and how many positions in them.
    fn size(&self) -> (usize, usize) {
        match self {
            Self::Term(_) => (1, 1),
            Self::Or(trees) => trees
                .iter()
                .map(Self::size)
                .fold((0, 0), |sum, size| (sum.0.saturating_add(size.0), sum.1.saturating_add(size.1))),
            Self::And(trees) => trees.iter().map(Self::size).fold((1, 0), |product, size| {
                let left = product.1.saturating_mul(size.0);
                let right = size.1.saturating_mul(product.0);
                (product.0.saturating_mul(size.0), left.saturating_add(right))
            }),
        }
    }

    /// OR of ANDs, from left to right.
    fn disjuncts(&self) -> Vec<Vec<&Term>> {
        match self {
            Self::Term(term) => vec![vec![term]],
            Self::Or(trees) => trees.iter().flat_map(Self::disjuncts).collect(),
            Self::And(trees) => trees.iter().fold(vec![Vec::new()], |product, tree| {
                let disjuncts = tree.disjuncts();
                let with = |left: &Vec<_>| {
                    let joined = disjuncts.iter().map(|right| left.iter().chain(right).copied().collect());
                    joined.collect::<Vec<_>>()
                };
                product.iter().flat_map(with).collect()
            }),
        }
    }

    fn write(&self, sql: &mut String) {
        let (trees, word) = match self {
            Self::Term(term) => return sql.push_str(&term.sql),
            Self::And(trees) => (trees, " AND "),
            Self::Or(trees) => (trees, " OR "),
        };
        for (i, tree) in trees.iter().enumerate() {
            sql.push_str(if i > 0 { word } else { "" });
            sql.push('(');
            tree.write(sql);
            sql.push(')');
        }
    }
}
