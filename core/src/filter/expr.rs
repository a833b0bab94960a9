//! The checked clause: every node knows its type, every comparison knows how it orders its operands. Constant
//! parts are already folded. A later construct (arrays, functions, CASE, subqueries) is a variant here, an arm
//! in the check, one in the evaluation and one in the canonical text.

use super::ast::Truth;
use super::like::Pattern;
use super::value::{Type, Value};
use std::cmp::Ordering;

#[derive(Debug, Clone)]
pub(super) enum Expr {
    Const {
        ty: Type,
        value: Value<'static>,
    },
    Column {
        index: usize,
        name: String,
        ty: Type,
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
        fold_case: bool,
        negated: bool,
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
    Cast {
        operand: Box<Expr>,
        ty: Type,
        modifiers: Vec<i32>,
    },
}

impl Expr {
    pub(super) fn ty(&self) -> &Type {
        match self {
            Self::Const { ty, .. }
            | Self::Column { ty, .. }
            | Self::Arithmetic { ty, .. }
            | Self::Unary { ty, .. }
            | Self::Cast { ty, .. } => ty,
            Self::Concat { .. } => &Type::Text,
            _ => &Type::Bool,
        }
    }

    pub(super) fn is_const(&self) -> bool {
        matches!(self, Self::Const { .. })
    }

    /// The expressions directly below.
    pub(super) fn children(&self) -> Vec<&Expr> {
        match self {
            Self::Const { .. } | Self::Column { .. } => Vec::new(),
            Self::And(terms) | Self::Or(terms) => terms.iter().collect(),
            Self::Not(operand)
            | Self::IsNull { operand, .. }
            | Self::IsTruth { operand, .. }
            | Self::Unary { operand, .. }
            | Self::Cast { operand, .. } => vec![operand],
            Self::Compare { left, right, .. }
            | Self::Distinct { left, right, .. }
            | Self::Arithmetic { left, right, .. }
            | Self::Concat { left, right } => vec![left, right],
            Self::In { operand, list, .. } => {
                std::iter::once(&**operand).chain(list.iter().map(|(element, _)| element)).collect()
            }
            Self::Between { operand, low, high, .. } => vec![operand, &low.0, &high.0],
            Self::Like { operand, pattern, .. } => vec![operand, pattern],
        }
    }

    pub(super) fn depth(&self) -> usize {
        1 + self.children().into_iter().map(Self::depth).max().unwrap_or(0)
    }

    pub(super) fn reads_columns(&self) -> bool {
        matches!(self, Self::Column { .. }) || self.children().into_iter().any(Self::reads_columns)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparison {
    pub(super) fn from_op(op: &str) -> Option<Self> {
        Some(match op {
            "=" => Self::Equal,
            "<>" => Self::NotEqual,
            "<" => Self::Less,
            "<=" => Self::LessOrEqual,
            ">" => Self::Greater,
            ">=" => Self::GreaterOrEqual,
            _ => return None,
        })
    }

    pub(super) fn op(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "<>",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }

    pub(super) fn holds(self, ordering: Ordering) -> bool {
        match self {
            Self::Equal => ordering.is_eq(),
            Self::NotEqual => ordering.is_ne(),
            Self::Less => ordering.is_lt(),
            Self::LessOrEqual => ordering.is_le(),
            Self::Greater => ordering.is_gt(),
            Self::GreaterOrEqual => ordering.is_ge(),
        }
    }
}

/// How two values are compared: the type both are brought to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Bool,
    Int,
    Numeric,
    Float,
    /// By bytes; a `bpchar` loses its padding first.
    Text {
        trim_left: bool,
        trim_right: bool,
    },
    Uuid,
    Time,
    /// Dates and timestamps, all in UTC.
    Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    BitAnd,
    BitOr,
    BitXor,
}

impl Arithmetic {
    pub(super) fn from_op(op: &str) -> Option<Self> {
        Some(match op {
            "+" => Self::Add,
            "-" => Self::Subtract,
            "*" => Self::Multiply,
            "/" => Self::Divide,
            "%" => Self::Remainder,
            "&" => Self::BitAnd,
            "|" => Self::BitOr,
            "#" => Self::BitXor,
            _ => return None,
        })
    }

    pub(super) fn op(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Remainder => "%",
            Self::BitAnd => "&",
            Self::BitOr => "|",
            Self::BitXor => "#",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unary {
    Minus,
    Absolute,
    BitNot,
    SquareRoot,
}

impl Unary {
    pub(super) fn op(self) -> &'static str {
        match self {
            Self::Minus => "-",
            Self::Absolute => "@",
            Self::BitNot => "~",
            Self::SquareRoot => "|/",
        }
    }
}

/// The constants of an IN list, for a search by halves.
#[derive(Debug, Clone)]
pub(super) struct Constants {
    pub order: Order,
    pub sorted: Vec<Value<'static>>,
    pub has_null: bool,
}
