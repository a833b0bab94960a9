//! The checked clause: every node knows its type, every comparison knows how it orders its operands. Constant
//! parts are already folded. A later construct is a variant here, an arm in the check, one in the evaluation
//! and one in the canonical text.

use super::function::Function;
use super::like::Pattern;
use super::operation::Operator;
use crate::filter::data_type::operator::{Arithmetic, Comparison, Order, Unary};
use crate::filter::data_type::ty::Type;
use crate::filter::data_type::value::Value;
use crate::filter::syntax::ast::Truth;
use crate::pg::Collation;
use std::collections::BTreeSet;

#[derive(Debug, Clone)]
pub(crate) enum Expr {
    Const {
        ty: Type,
        value: Value<'static>,
    },
    Column {
        index: usize,
        name: String,
        ty: Type,
        collation: Collation,
    },
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Not(Box<Expr>),
    IsNull {
        operand: Box<Expr>,
        negated: bool,
    },
    IsTruth {
        operand: Box<Expr>,
        truth: Truth,
        negated: bool,
    },
    Compare {
        op: Comparison,
        order: Order,
        left: Box<Expr>,
        right: Box<Expr>,
    },
    /// `(a, b) < (c, d)`: the first fields that are not equal decide.
    CompareRows {
        op: Comparison,
        orders: Vec<Order>,
        left: Vec<Expr>,
        right: Vec<Expr>,
    },
    /// Without an order one side is NULL, and only the other one's nullness counts.
    Distinct {
        order: Option<Order>,
        left: Box<Expr>,
        right: Box<Expr>,
        negated: bool,
    },
    In {
        operand: Box<Expr>,
        list: Vec<(Expr, Order)>,
        /// The same elements, sorted, where all are constants of one order.
        constants: Option<Constants>,
        negated: bool,
    },
    Between {
        operand: Box<Expr>,
        low: Box<(Expr, Order)>,
        high: Box<(Expr, Order)>,
        symmetric: bool,
        negated: bool,
    },
    Like {
        operand: Box<Expr>,
        pattern: Box<Expr>,
        escape: Option<char>,
        /// The pattern where it is a constant.
        compiled: Option<Pattern>,
        /// ILIKE, by the case rules of a collation.
        fold_case: Option<Collation>,
        negated: bool,
    },
    /// `left op ANY (array)`
    Quantified {
        test: Test,
        left: Box<Expr>,
        array: Box<Expr>,
        all: bool,
        /// The array's elements, sorted, where it is a constant and the test is for equality.
        constants: Option<Constants>,
    },
    Arithmetic {
        op: Arithmetic,
        ty: Type,
        left: Box<Expr>,
        right: Box<Expr>,
    },
    Unary {
        op: Unary,
        ty: Type,
        operand: Box<Expr>,
    },
    Concat {
        left: Box<Expr>,
        right: Box<Expr>,
    },
    /// An operator, or a function of arrays, that is not one of those above.
    Operation {
        op: Operator,
        ty: Type,
        operands: Vec<Expr>,
    },
    Call {
        function: &'static Function,
        arguments: Vec<Expr>,
        collation: Collation,
    },
    Case {
        arms: Vec<(Expr, Expr)>,
        otherwise: Option<Box<Expr>>,
        ty: Type,
    },
    Coalesce {
        terms: Vec<Expr>,
        ty: Type,
    },
    /// GREATEST, LEAST
    Extreme {
        greatest: bool,
        order: Order,
        terms: Vec<Expr>,
        ty: Type,
    },
    NullIf {
        order: Order,
        left: Box<Expr>,
        right: Box<Expr>,
    },
    /// `ARRAY[…]`, of arrays where `nested`.
    Array {
        elements: Vec<Expr>,
        nested: bool,
        ty: Type,
    },
    Subscript {
        array: Box<Expr>,
        subscripts: Vec<Subscript>,
        ty: Type,
    },
    Cast {
        operand: Box<Expr>,
        ty: Type,
        modifiers: Vec<i32>,
    },
}

impl Expr {
    pub(crate) fn ty(&self) -> &Type {
        match self {
            Self::Const { ty, .. }
            | Self::Column { ty, .. }
            | Self::Arithmetic { ty, .. }
            | Self::Unary { ty, .. }
            | Self::Operation { ty, .. }
            | Self::Case { ty, .. }
            | Self::Coalesce { ty, .. }
            | Self::Extreme { ty, .. }
            | Self::Array { ty, .. }
            | Self::Subscript { ty, .. }
            | Self::Cast { ty, .. } => ty,
            Self::NullIf { left, .. } => left.ty(),
            Self::Call { function, .. } => &function.result,
            Self::Concat { .. } => &Type::Text,
            _ => &Type::Bool,
        }
    }

    pub(crate) fn is_const(&self) -> bool {
        matches!(self, Self::Const { .. })
    }

    /// The expressions directly below.
    pub(crate) fn children(&self) -> Vec<&Expr> {
        match self {
            Self::Const { .. } | Self::Column { .. } => Vec::new(),
            Self::And(terms)
            | Self::Or(terms)
            | Self::Operation { operands: terms, .. }
            | Self::Call { arguments: terms, .. }
            | Self::Coalesce { terms, .. }
            | Self::Extreme { terms, .. }
            | Self::Array { elements: terms, .. } => terms.iter().collect(),
            Self::Not(operand)
            | Self::IsNull { operand, .. }
            | Self::IsTruth { operand, .. }
            | Self::Unary { operand, .. }
            | Self::Cast { operand, .. } => vec![operand],
            Self::Compare { left, right, .. }
            | Self::Distinct { left, right, .. }
            | Self::Arithmetic { left, right, .. }
            | Self::NullIf { left, right, .. }
            | Self::Concat { left, right } => vec![left, right],
            Self::CompareRows { left, right, .. } => left.iter().chain(right).collect(),
            Self::Quantified { left, array, .. } => vec![left, array],
            Self::Case { arms, otherwise, .. } => {
                let arms = arms.iter().flat_map(|(condition, result)| [condition, result]);
                arms.chain(otherwise.as_deref()).collect()
            }
            Self::Subscript { array, subscripts, .. } => {
                std::iter::once(&**array).chain(subscripts.iter().flat_map(Subscript::parts)).collect()
            }
            Self::In { operand, list, .. } => {
                std::iter::once(&**operand).chain(list.iter().map(|(element, _)| element)).collect()
            }
            Self::Between { operand, low, high, .. } => vec![operand, &low.0, &high.0],
            Self::Like { operand, pattern, .. } => vec![operand, pattern],
        }
    }

    pub(crate) fn depth(&self) -> usize {
        1 + self.children().into_iter().map(Self::depth).max().unwrap_or(0)
    }

    /// Expressions in all, casts left out, as the parser counts them in the canonical text.
    pub(crate) fn terms(&self) -> usize {
        let below: usize = self.children().into_iter().map(Self::terms).sum();
        below + usize::from(!matches!(self, Self::Cast { .. }))
    }

    /// Adds the positions of the columns that the expression reads.
    pub(crate) fn collect_columns(&self, into: &mut BTreeSet<usize>) {
        if let Self::Column { index, .. } = self {
            into.insert(*index);
        }
        for child in self.children() {
            child.collect_columns(into);
        }
    }

    pub(crate) fn reads_columns(&self) -> bool {
        matches!(self, Self::Column { .. }) || self.children().into_iter().any(Self::reads_columns)
    }
}

/// What a value is asked against each element of an array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Test {
    Compare(Comparison, Order),
    /// The flags: ILIKE by a collation, NOT.
    Like(Option<Collation>, bool),
}

/// One pair of brackets after an array.
#[derive(Debug, Clone)]
pub(crate) enum Subscript {
    Index(Expr),
    Slice(Option<Expr>, Option<Expr>),
}

impl Subscript {
    fn parts(&self) -> impl Iterator<Item = &Expr> {
        let (first, second) = match self {
            Self::Index(index) => (Some(index), None),
            Self::Slice(lower, upper) => (lower.as_ref(), upper.as_ref()),
        };
        first.into_iter().chain(second)
    }
}

/// The constants of an IN list, for a search by halves.
#[derive(Debug, Clone)]
pub(crate) struct Constants {
    pub order: Order,
    pub sorted: Vec<Value<'static>>,
    pub has_null: bool,
}
