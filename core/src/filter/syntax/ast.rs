//! The clause as it was written: names and literals not yet looked up. The parser makes it, the check turns
//! it into a [`crate::filter::eval::expr::Expr`].

use crate::pg::QualifiedName;

/// One node. Chains of AND and OR are flat; everything else is at most [`crate::filter::limits::MAX_DEPTH`] deep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    /// Where messages point: the operator of an operation, else the first byte.
    pub at: usize,
    /// The first byte of the whole expression.
    pub start: usize,
    pub depth: usize,
    pub kind: Kind,
}

/// The subquery in the parentheses of `IN (SELECT …)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Query {
    /// The selected columns.
    pub select: Vec<String>,
    pub table: QualifiedName,
    /// `FROM ONLY`
    pub only: bool,
    pub filter: Option<Node>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `a`, or `t.a` as its parts.
    Column(Vec<String>),
    Null,
    Bool(bool),
    /// Digits as the lexer leaves them, perhaps with a sign.
    Number(String),
    Text(String),
    /// `B'…'` or `X'…'`, with its letter and quotes.
    Bits(String),
    Param(u32),
    And(Vec<Node>),
    Or(Vec<Node>),
    Not(Box<Node>),
    Unary {
        op: String,
        operand: Box<Node>,
    },
    Binary {
        op: String,
        left: Box<Node>,
        right: Box<Node>,
    },
    IsNull {
        operand: Box<Node>,
        negated: bool,
    },
    IsTruth {
        operand: Box<Node>,
        truth: Truth,
        negated: bool,
    },
    Distinct {
        left: Box<Node>,
        right: Box<Node>,
        negated: bool,
    },
    In {
        operand: Box<Node>,
        list: Vec<Node>,
        negated: bool,
    },
    /// `operand IN (SELECT …)`
    Member {
        operand: Box<Node>,
        query: Box<Query>,
        negated: bool,
    },
    Between {
        operand: Box<Node>,
        low: Box<Node>,
        high: Box<Node>,
        symmetric: bool,
        negated: bool,
    },
    Like {
        operand: Box<Node>,
        pattern: Box<Node>,
        escape: Option<Box<Node>>,
        fold_case: bool,
        negated: bool,
    },
    /// `::`, CAST and `type 'literal'`
    Cast {
        operand: Box<Node>,
        ty: TypeName,
    },
    Call {
        name: Vec<String>,
        arguments: Vec<Node>,
        /// The last argument is an array of the arguments that it stands for.
        variadic: bool,
    },
    Collate {
        operand: Box<Node>,
        collation: Vec<String>,
    },
    /// SIMILAR TO
    Similar {
        operand: Box<Node>,
        pattern: Box<Node>,
        escape: Option<Box<Node>>,
        negated: bool,
    },
    /// `IS [NOT] [NFC | …] NORMALIZED`
    Normalized {
        operand: Box<Node>,
        form: Option<&'static str>,
        negated: bool,
    },
    /// `(row).field`
    Field {
        operand: Box<Node>,
        name: String,
    },
    /// `(a, b) OVERLAPS (c, d)`
    Overlaps(Box<[Node; 4]>),
    /// `(a, b)`, `ROW(a, b)`
    Row(Vec<Node>),
    /// `ARRAY[…]`
    Array(Vec<Node>),
    Subscript {
        array: Box<Node>,
        subscripts: Vec<Subscript>,
    },
    /// `operand op ANY (array)`
    Quantified {
        op: String,
        operand: Box<Node>,
        array: Box<Node>,
        all: bool,
    },
    Case {
        operand: Option<Box<Node>>,
        arms: Vec<(Node, Node)>,
        otherwise: Option<Box<Node>>,
    },
    Coalesce(Vec<Node>),
    /// GREATEST, LEAST
    Extreme {
        greatest: bool,
        list: Vec<Node>,
    },
    NullIf(Box<Node>, Box<Node>),
    AtTimeZone {
        operand: Box<Node>,
        zone: Box<Node>,
    },
}

/// The content of one pair of brackets: an index, or a slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Subscript {
    Index(Node),
    Slice(Option<Node>, Option<Node>),
}

/// The truth value that `IS [NOT]` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Truth {
    True,
    False,
    Unknown,
}

/// A type as it was written, its name in the catalog's spelling (`int4`, not `integer`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TypeName {
    pub at: usize,
    pub name: String,
    /// Its parts, as the catalog has them.
    pub path: Vec<String>,
    /// The numbers in the parentheses.
    pub modifiers: Vec<i32>,
    /// `[]` follows.
    pub array: bool,
}

impl Node {
    /// Whether a subquery stands somewhere in the expression.
    pub(crate) fn has_subquery(&self) -> bool {
        matches!(self.kind, Kind::Member { .. }) || self.children().into_iter().any(Self::has_subquery)
    }

    /// The nodes directly below.
    pub(crate) fn children(&self) -> Vec<&Node> {
        match &self.kind {
            Kind::Column(_)
            | Kind::Null
            | Kind::Bool(_)
            | Kind::Number(_)
            | Kind::Text(_)
            | Kind::Bits(_)
            | Kind::Param(_) => Vec::new(),
            Kind::And(terms) | Kind::Or(terms) => terms.iter().collect(),
            Kind::Call { arguments, .. } => arguments.iter().collect(),
            Kind::Not(operand)
            | Kind::Unary { operand, .. }
            | Kind::Collate { operand, .. }
            | Kind::Normalized { operand, .. }
            | Kind::Field { operand, .. }
            | Kind::IsNull { operand, .. }
            | Kind::IsTruth { operand, .. }
            | Kind::Cast { operand, .. } => vec![operand],
            Kind::Binary { left, right, .. } | Kind::Distinct { left, right, .. } => vec![left, right],
            Kind::In { operand, list, .. } => std::iter::once(&**operand).chain(list).collect(),
            Kind::Member { operand, query, .. } => {
                std::iter::once(&**operand).chain(query.filter.as_ref()).collect()
            }
            Kind::Between { operand, low, high, .. } => vec![operand, low, high],
            Kind::Overlaps(parts) => parts.iter().collect(),
            Kind::Like { operand, pattern, escape, .. } | Kind::Similar { operand, pattern, escape, .. } => {
                let mut children: Vec<&Node> = vec![operand, pattern];
                children.extend(escape.as_deref());
                children
            }
            Kind::Row(list) | Kind::Array(list) | Kind::Coalesce(list) | Kind::Extreme { list, .. } => {
                list.iter().collect()
            }
            Kind::NullIf(left, right) => vec![left, right],
            Kind::AtTimeZone { operand, zone } => vec![operand, zone],
            Kind::Quantified { operand, array, .. } => vec![operand, array],
            Kind::Case { operand, arms, otherwise } => {
                let mut children: Vec<&Node> = operand.as_deref().into_iter().collect();
                children.extend(arms.iter().flat_map(|(condition, result)| [condition, result]));
                children.extend(otherwise.as_deref());
                children
            }
            Kind::Subscript { array, subscripts } => {
                let mut children: Vec<&Node> = vec![array];
                for subscript in subscripts {
                    match subscript {
                        Subscript::Index(index) => children.push(index),
                        Subscript::Slice(lower, upper) => children.extend(lower.iter().chain(upper)),
                    }
                }
                children
            }
        }
    }
}
