//! Clauses with subqueries: NOT goes through to the terms, every subquery is resolved against the table it names.

use super::Filter;
use super::check::{Checked, Checker};
use super::clause::Clause;
use super::data_type::ty::Type;
use super::error::{FilterError, Reason};
use super::eval::expr::Expr;
use super::limits::{MAX_DEPTH, MAX_TERMS};
use super::membership::{Equal, Unequal};
use super::subquery::{Condition, Dependency, Position, SubqueryFilter, Term, Tree};
use super::syntax::ast::{Kind, Node, Query};
use crate::pg::relation::quote_identifier;
use crate::pg::{Column, Relation};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Reads clauses of the table itself and of the tables in its subqueries.
pub(super) struct Resolver<'a> {
    checker: Checker<'a>,
    inner: &'a [Arc<Relation>],
    /// Levels of AND, OR and subqueries around what is being read.
    level: usize,
    /// Expressions in all terms so far.
    terms: usize,
}

/// The subqueries of one clause, with their polarity: false under NOT.
#[derive(Default)]
struct Dependencies {
    found: Vec<Dependency>,
    polarities: Vec<bool>,
}

impl<'a> Resolver<'a> {
    pub(super) fn new(
        columns: &'a [Column],
        params: &'a BTreeMap<u32, String>,
        inner: &'a [Arc<Relation>],
    ) -> Self {
        Self { checker: Checker::new(columns, params), inner, level: 0, terms: 0 }
    }

    pub(super) fn clause(&mut self, node: &Node) -> Checked<Clause> {
        if !node.has_subquery() {
            let expr = self.checker.clause(node)?;
            self.check_limits(node, &expr)?;
            return Ok(Clause::Plain(Arc::new(Filter::of(expr))));
        }
        let mut dependencies = Dependencies::default();
        let tree = self.tree(node, false, &mut dependencies)?;
        Ok(Clause::Subqueries(Arc::new(SubqueryFilter::new(&tree, dependencies.found)?)))
    }

    fn tree(&mut self, node: &Node, negated: bool, dependencies: &mut Dependencies) -> Checked<Tree> {
        match &node.kind {
            _ if !node.has_subquery() => self.plain(node, negated),
            Kind::Not(operand) => self.tree(operand, !negated, dependencies),
            Kind::And(terms) | Kind::Or(terms) => {
                self.level += 1;
                let trees = terms.iter().map(|term| self.tree(term, negated, dependencies));
                let trees = trees.collect::<Checked<Vec<_>>>()?;
                self.level -= 1;
                let is_and = matches!(node.kind, Kind::And(_)) != negated;
                Ok(if is_and { and(trees) } else { or(trees) })
            }
            Kind::Member { operand, query, negated: not } => {
                self.member(node, operand, query, negated != *not, dependencies)
            }
            _ => {
                let (at, inside) = misplaced(node, "").unwrap_or((node.at, "an expression"));
                Err(FilterError::at(at, Reason::SublinkInside(inside)))
            }
        }
    }

    fn plain(&mut self, node: &Node, negated: bool) -> Checked<Tree> {
        let expr = if negated {
            let kind = Kind::Not(Box::new(node.clone()));
            self.checker.term(&Node { at: node.at, start: node.start, depth: node.depth + 1, kind })?
        } else {
            self.checker.term(node)?
        };
        self.check_limits(node, &expr)?;
        Ok(plain_tree(expr))
    }

    /// What a canonical text holds must pass the parser's limits again.
    fn check_limits(&mut self, node: &Node, expr: &Expr) -> Checked<()> {
        self.terms += expr.terms();
        if self.terms > MAX_TERMS {
            return Err(FilterError::at(node.start, Reason::TooManyTerms));
        }
        if self.level + expr.depth() >= MAX_DEPTH {
            return Err(FilterError::at(node.start, Reason::TooDeep));
        }
        Ok(())
    }

    fn member(
        &mut self,
        node: &Node,
        operand: &Node,
        query: &Query,
        negated: bool,
        dependencies: &mut Dependencies,
    ) -> Checked<Tree> {
        let (left, columns) = self.left_side(node, operand)?;
        let dependency = self.dependency(node, query, &left)?;
        let names: Vec<String> = left.iter().map(|column| quote_identifier(&column.name)).collect();
        let names = if names.len() == 1 { names.concat() } else { format!("({})", names.join(", ")) };
        let not = if negated { "NOT " } else { "" };
        let sql = format!("{names} {not}IN ({})", dependency.sql);
        let dependency = dependencies.add(dependency, !negated)?;
        let position = Position { condition: Condition::Member { dependency, columns }, negated };
        Ok(Tree::Term(Term { position, sql }))
    }

    /// The columns left of IN, and their positions.
    fn left_side(&mut self, node: &Node, operand: &Node) -> Checked<(Vec<&'a Column>, Vec<usize>)> {
        let fields = match &operand.kind {
            Kind::Row(fields) => fields.as_slice(),
            _ => std::slice::from_ref(operand),
        };
        let mut left = (Vec::new(), Vec::new());
        for field in fields {
            let Kind::Column(parts) = &field.kind else {
                return Err(FilterError::at(node.at, Reason::SublinkLeft));
            };
            if let Expr::Column { index, .. } = self.checker.column(field.at, parts)? {
                left.0.extend(self.checker.columns.get(index));
                left.1.push(index);
            }
        }
        if left.0.is_empty() { Err(FilterError::at(node.at, Reason::SublinkLeft)) } else { Ok(left) }
    }

    fn dependency(&mut self, node: &Node, query: &Query, left: &[&Column]) -> Checked<Dependency> {
        let unknown = || FilterError::UnknownTable(query.table.clone());
        let relation = self.inner.iter().find(|relation| relation.name == query.table).ok_or_else(unknown)?;
        let columns = selected(relation, &query.select)?;
        let right: Vec<&Column> = columns.iter().filter_map(|index| relation.columns.get(*index)).collect();
        let mut filter = None;
        if let Some(clause) = &query.filter {
            let outer = std::mem::replace(&mut self.checker.columns, &relation.columns);
            self.level += 1;
            filter = Some(self.clause(clause)?);
            self.level -= 1;
            self.checker.columns = outer;
        }
        let sql = query_sql(relation, &right, filter.as_ref());
        let equalities = equalities(node, left, &right)?;
        Ok(Dependency { relation: Arc::clone(relation), only: query.only, columns, filter, sql, equalities })
    }
}

impl Dependencies {
    /// The place of a subquery among the others; the same one is there once.
    fn add(&mut self, dependency: Dependency, polarity: bool) -> Checked<usize> {
        let same = |known: &Dependency| known.sql == dependency.sql;
        let Some(index) = self.found.iter().position(same) else {
            self.found.push(dependency);
            self.polarities.push(polarity);
            return Ok(self.found.len() - 1);
        };
        if let Some(known) = self.found.get_mut(index) {
            known.only |= dependency.only;
        }
        match self.polarities.get(index) {
            Some(known) if *known != polarity => Err(FilterError::BothPolarities),
            _ => Ok(index),
        }
    }
}

fn selected(relation: &Relation, names: &[String]) -> Checked<Vec<usize>> {
    let known = names.iter().filter_map(|name| relation.column_index(name));
    let columns: Vec<usize> = known.collect();
    if columns.len() == names.len() {
        return Ok(columns);
    }
    let mut unknown = names.to_vec();
    unknown.retain(|name| relation.column_index(name).is_none());
    Err(FilterError::UnknownColumns(unknown))
}

fn query_sql(relation: &Relation, columns: &[&Column], filter: Option<&Clause>) -> String {
    let names: Vec<String> = columns.iter().map(|column| quote_identifier(&column.name)).collect();
    let mut sql = format!("SELECT {} FROM {}", names.join(", "), relation.name);
    if let Some(filter) = filter {
        sql.push_str(" WHERE ");
        sql.push_str(filter.sql());
    }
    sql
}

/// How each pair of columns compares by its texts, which both sides must do alike.
fn equalities(node: &Node, left: &[&Column], right: &[&Column]) -> Checked<Vec<Equal>> {
    let types =
        |columns: &[&Column]| columns.iter().map(|column| Type::of_column(column)).collect::<Vec<_>>();
    let (left_types, right_types) = (types(left), types(right));
    if left_types != right_types {
        let (left, right) = (row_name(&left_types), row_name(&right_types));
        return Err(FilterError::at(node.at, Reason::SublinkTypes { left, right }));
    }
    let unequal = |unequal| {
        FilterError::at(
            node.at,
            match unequal {
                Unequal::Type(name) => Reason::SublinkType(name),
                Unequal::Collation => Reason::SublinkCollation,
            },
        )
    };
    for column in left {
        Equal::of(column).map_err(unequal)?;
    }
    right.iter().map(|column| Equal::of(column).map_err(unequal)).collect()
}

fn row_name(types: &[Type]) -> String {
    match types {
        [only] => only.name().into_owned(),
        types => {
            let names: Vec<_> = types.iter().map(Type::name).collect();
            format!("row of ({})", names.join(", "))
        }
    }
}

fn plain_tree(expr: Expr) -> Tree {
    let filter = Filter::of(expr);
    let sql = filter.sql().to_owned();
    Tree::Term(Term {
        position: Position { condition: Condition::Plain(Arc::new(filter)), negated: false },
        sql,
    })
}

/// A row is null where all its fields are, so that a term may be an AND itself.
fn and(trees: Vec<Tree>) -> Tree {
    Tree::And(
        trees
            .into_iter()
            .flat_map(|tree| match tree {
                Tree::And(trees) => trees,
                tree => match plain_expr(&tree) {
                    Some(Expr::And(terms)) => terms.iter().cloned().map(plain_tree).collect(),
                    _ => vec![tree],
                },
            })
            .collect(),
    )
}

fn or(trees: Vec<Tree>) -> Tree {
    Tree::Or(
        trees
            .into_iter()
            .flat_map(|tree| match tree {
                Tree::Or(trees) => trees,
                tree => match plain_expr(&tree) {
                    Some(Expr::Or(terms)) => terms.iter().cloned().map(plain_tree).collect(),
                    _ => vec![tree],
                },
            })
            .collect(),
    )
}

fn plain_expr(tree: &Tree) -> Option<&Expr> {
    match tree {
        Tree::Term(Term { position: Position { condition: Condition::Plain(filter), .. }, .. }) => {
            Some(&filter.expr)
        }
        _ => None,
    }
}

/// The first subquery that stands in another construct than AND, OR and NOT, and that construct.
fn misplaced(node: &Node, inside: &'static str) -> Option<(usize, &'static str)> {
    if matches!(node.kind, Kind::Member { .. }) {
        return Some((node.at, inside));
    }
    let inside = construct(&node.kind).unwrap_or(inside);
    node.children().into_iter().find_map(|child| misplaced(child, inside))
}

fn construct(kind: &Kind) -> Option<&'static str> {
    Some(match kind {
        Kind::IsNull { .. } => "IS NULL",
        Kind::IsTruth { .. } => "IS TRUE, IS FALSE or IS UNKNOWN",
        Kind::Unary { .. }
        | Kind::Binary { .. }
        | Kind::Like { .. }
        | Kind::Similar { .. }
        | Kind::Overlaps(_) => "an operator",
        Kind::Collate { .. } => "COLLATE",
        Kind::Normalized { .. } => "IS NORMALIZED",
        Kind::Field { .. } => "a field of a row",
        Kind::Distinct { .. } => "IS DISTINCT FROM",
        Kind::In { .. } => "the list of an IN",
        Kind::Between { .. } => "BETWEEN",
        Kind::Cast { .. } => "a cast",
        Kind::Call { .. } => "a function call",
        Kind::Row(_) => "a row",
        Kind::Array(_) | Kind::Subscript { .. } => "an array",
        Kind::Quantified { .. } => "ANY or ALL",
        Kind::Case { .. } => "CASE",
        Kind::Coalesce(_) => "COALESCE",
        Kind::Extreme { .. } => "GREATEST or LEAST",
        Kind::NullIf(..) => "NULLIF",
        Kind::AtTimeZone { .. } => "AT TIME ZONE",
        _ => return None,
    })
}
