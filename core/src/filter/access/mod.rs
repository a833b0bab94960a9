//! The keys by which an index finds the rows that may satisfy a clause.
//!
//! A clause stands in one or more *places*; a row satisfies it only where it is found in one of them. So an index that
//! looks up the places of a row finds every clause that the row satisfies, and perhaps others. Where the places are
//! *exact*, it finds no others. A place says what is true of the row, never that something is not, since NOT of what is
//! NULL is NULL.

mod combined;
mod key;
mod lane;
mod term;

pub(crate) use lane::{Lane, LaneName, Probe, Sight};

use crate::filter::eval::expr::Expr;
use crate::filter::syntax::ast::Truth;
use combined::Combined;
use key::Form;
use lane::Reading;

/// The places of a clause.
#[derive(Debug)]
pub(crate) struct Access<'a> {
    /// None where no row can satisfy the clause.
    pub(crate) places: Vec<Place<'a>>,
    /// A row that is found in one of them satisfies the clause.
    pub(crate) exact: bool,
}

/// A place at which an index finds a clause.
#[derive(Debug)]
pub(crate) enum Place<'a> {
    /// The keys of the probes, one behind the other, are this one.
    Equal(Vec<Probe<'a>>, Vec<u8>),
    /// An element has this key.
    Element(Probe<'a>, Vec<u8>),
    /// The key lies behind the one bound and before the other, where there is one. A bound is no key: it ends with
    /// [`BEFORE`] or [`BEHIND`], or it is the beginning of keys.
    Between(Probe<'a>, Vec<u8>, Option<Vec<u8>>),
    /// The text has this piece in it.
    Piece(Probe<'a>, Vec<u8>),
    /// There is no value.
    Null(Probe<'a>),
    /// There is one.
    Filled(Probe<'a>),
}

/// The byte that follows a key in a bound right before it.
pub(crate) const BEFORE: u8 = 0;
/// The byte that follows a key that is compared with bounds.
pub(crate) const AT: u8 = 1;
/// The byte that follows a key in a bound right behind it.
pub(crate) const BEHIND: u8 = 2;

impl<'a> Access<'a> {
    /// The places of a clause; `None` where it has to be evaluated for every row.
    pub(crate) fn of(clause: &'a Expr) -> Option<Self> {
        demand(clause, true)
    }

    /// The places of clauses that must all be true.
    pub(crate) fn all(clauses: impl IntoIterator<Item = &'a Expr>) -> Option<Self> {
        let mut terms = Vec::new();
        clauses.into_iter().for_each(|clause| collect_terms(clause, true, &mut terms));
        all(&terms)
    }

    /// Those of clauses of which one is true.
    pub(crate) fn any(arms: impl IntoIterator<Item = Option<Self>>) -> Option<Self> {
        let mut joined = Self { places: Vec::new(), exact: true };
        for arm in arms {
            let arm = arm?;
            joined.places.extend(arm.places);
            joined.exact &= arm.exact;
        }
        Some(joined)
    }

    const fn exact(places: Vec<Place<'a>>) -> Self {
        Self { places, exact: true }
    }

    /// True where few rows are expected.
    pub(crate) fn is_selective(&self) -> bool {
        self.rank() <= 1
    }

    /// The number of rows expected here, roughly: the least first.
    fn rank(&self) -> u8 {
        self.places.iter().map(Place::rank).max().unwrap_or(0)
    }
}

impl Place<'_> {
    fn rank(&self) -> u8 {
        match self {
            Self::Equal(probes, _) => {
                let tells_little = |probe: &Probe<'_>| probe.reading == Reading::Key(Form::Bool);
                if probes.iter().all(tells_little) { 6 } else { 1 }
            }
            Self::Element(..) => 1,
            Self::Between(_, low, Some(_)) if !low.is_empty() => 2,
            Self::Piece(_, piece) if piece.len() > 3 => 3,
            Self::Between(..) => 4,
            Self::Piece(..) => 5,
            Self::Null(_) => 6,
            Self::Filled(_) => 7,
        }
    }
}

/// An expression, and the truth value that it must have.
type Term<'a> = (&'a Expr, bool);

/// The places of rows for which an expression has a truth value.
fn demand(expr: &Expr, wanted: bool) -> Option<Access<'_>> {
    let mut terms = Vec::new();
    collect_terms(expr, wanted, &mut terms);
    match terms.as_slice() {
        [term] => single(*term),
        terms => all(terms),
    }
}

/// Splits into terms that must all hold.
fn collect_terms<'a>(expr: &'a Expr, wanted: bool, out: &mut Vec<Term<'a>>) {
    match expr {
        Expr::And(terms) if wanted => terms.iter().for_each(|term| collect_terms(term, wanted, out)),
        Expr::Or(terms) if !wanted => terms.iter().for_each(|term| collect_terms(term, wanted, out)),
        Expr::Not(operand) => collect_terms(operand, !wanted, out),
        Expr::IsTruth { operand, truth: Truth::True, negated } if *negated != wanted => {
            collect_terms(operand, true, out);
        }
        Expr::IsTruth { operand, truth: Truth::False, negated } if *negated != wanted => {
            collect_terms(operand, false, out);
        }
        _ => out.push((expr, wanted)),
    }
}

/// The places of a term that [`collect_terms`] does not split.
fn single<'a>((expr, wanted): Term<'a>) -> Option<Access<'a>> {
    match expr {
        Expr::Or(arms) | Expr::And(arms) => Access::any(arms.iter().map(|arm| demand(arm, wanted))),
        _ => term::access(expr, wanted),
    }
}

/// The places of that one among several terms, or that combination of them, where the fewest rows are expected.
fn all<'a>(terms: &[Term<'a>]) -> Option<Access<'a>> {
    let mut combined = Combined::default();
    let mut found: Vec<(Access<'a>, usize)> = Vec::new();
    let mut complete = true;
    for term in terms {
        let Some(access) = single(*term) else {
            complete = false;
            continue;
        };
        complete &= access.exact;
        if access.places.is_empty() {
            return Some(access);
        }
        found.extend(combined.take(access).map(|access| (access, 1)));
    }
    found.extend(combined.finish());
    let (best, covered) = found.into_iter().min_by_key(|(access, _)| access.rank())?;
    Some(Access { exact: complete && covered == terms.len(), ..best })
}
