//! Which operator Postgres would choose for two types, and which casts exist (`pg_operator`, `pg_cast` and the
//! rules of "Type Conversion", <https://www.postgresql.org/docs/current/typeconv.html>), as far as core can
//! evaluate them exactly.

use super::ty::Type;
use std::cmp::Ordering;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparison {
    pub(crate) fn from_op(op: &str) -> Option<Self> {
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

    pub(crate) fn op(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "<>",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }

    /// The operator that is true where this one is false.
    pub(crate) const fn negated(self) -> Self {
        match self {
            Self::Equal => Self::NotEqual,
            Self::NotEqual => Self::Equal,
            Self::Less => Self::GreaterOrEqual,
            Self::LessOrEqual => Self::Greater,
            Self::Greater => Self::LessOrEqual,
            Self::GreaterOrEqual => Self::Less,
        }
    }

    /// The same with the operands exchanged.
    pub(crate) const fn turned(self) -> Self {
        match self {
            Self::Equal | Self::NotEqual => self,
            Self::Less => Self::Greater,
            Self::LessOrEqual => Self::GreaterOrEqual,
            Self::Greater => Self::Less,
            Self::GreaterOrEqual => Self::LessOrEqual,
        }
    }

    pub(crate) fn holds(self, ordering: Ordering) -> bool {
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
pub(crate) enum Order {
    /// Both are of one type, or both points in time, or both integers.
    Natural,
    Numeric,
    Float,
    /// By bytes; a `bpchar` loses its padding first.
    Text {
        trim_left: bool,
        trim_right: bool,
    },
    /// Element by element; those of `bpchar[]` lose their padding first.
    Array {
        padded: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    BitAnd,
    BitOr,
    BitXor,
    ShiftLeft,
    ShiftRight,
}

impl Arithmetic {
    pub(crate) fn from_op(op: &str) -> Option<Self> {
        Some(match op {
            "+" => Self::Add,
            "-" => Self::Subtract,
            "*" => Self::Multiply,
            "/" => Self::Divide,
            "%" => Self::Remainder,
            "&" => Self::BitAnd,
            "|" => Self::BitOr,
            "#" => Self::BitXor,
            "<<" => Self::ShiftLeft,
            ">>" => Self::ShiftRight,
            _ => return None,
        })
    }

    pub(crate) fn op(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Remainder => "%",
            Self::BitAnd => "&",
            Self::BitOr => "|",
            Self::BitXor => "#",
            Self::ShiftLeft => "<<",
            Self::ShiftRight => ">>",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unary {
    Minus,
    Absolute,
    BitNot,
    SquareRoot,
}

impl Unary {
    pub(crate) fn op(self) -> &'static str {
        match self {
            Self::Minus => "-",
            Self::Absolute => "@",
            Self::BitNot => "~",
            Self::SquareRoot => "|/",
        }
    }
}

/// The order for `left < right` and its like; `None` where there is no such operator.
pub(crate) fn comparison(left: &Type, right: &Type) -> Option<Order> {
    match (left, right) {
        (a, b) if a.is_integer() && b.is_integer() => Some(Order::Natural),
        (a, b) if a.is_number() && b.is_number() && (a.is_float() || b.is_float()) => Some(Order::Float),
        (a, b) if a.is_number() && b.is_number() => Some(Order::Numeric),
        (a, b) if a.is_instant() && b.is_instant() => Some(Order::Natural),
        (a, b) if a.is_string() && b.is_string() => {
            // Beside `text` a `bpchar` becomes text, beside `varchar` the other becomes `bpchar`.
            let padded = |ty: &Type| *ty == Type::Bpchar;
            let both = (padded(a) && matches!(b, Type::Bpchar | Type::Varchar))
                || (padded(b) && *a == Type::Varchar);
            Some(Order::Text { trim_left: both || padded(a), trim_right: both || padded(b) })
        }
        (a, b) if (a.is_bits() && b.is_bits()) || (a.is_network() && b.is_network()) => Some(Order::Natural),
        (Type::Array(a), Type::Array(b)) if a == b && **a != Type::Json => {
            Some(Order::Array { padded: **a == Type::Bpchar })
        }
        (a, b) => (a == b && has_natural_order(a)).then_some(Order::Natural),
    }
}

/// True where [`natural`](crate::filter::eval::compare::natural) orders the values of a type as Postgres does.
fn has_natural_order(ty: &Type) -> bool {
    match ty {
        Type::Bool | Type::Int2 | Type::Int4 | Type::Int8 | Type::Numeric | Type::Float4 | Type::Float8 => {
            true
        }
        Type::Oid | Type::Text | Type::Varchar | Type::Bpchar | Type::Name | Type::Char | Type::Bytea => true,
        Type::Bit | Type::Varbit | Type::Uuid | Type::Inet | Type::Cidr | Type::Enum(_) => true,
        Type::Date | Type::Time | Type::Timetz | Type::Timestamp | Type::Timestamptz | Type::Interval => true,
        // Of documents only equality is asked, which the check sees to.
        Type::Jsonb => true,
        Type::Json | Type::Array(_) | Type::Opaque { .. } => false,
    }
}

/// Whether the types are such that core knows every operator between them.
pub(crate) fn is_complete(left: &Type, right: &Type) -> bool {
    let known = |ty: &Type| {
        ty.is_number()
            || ty.is_string()
            || ty.is_instant()
            || matches!(ty, Type::Bool | Type::Uuid | Type::Time | Type::Interval | Type::Enum(_))
    };
    let json = |ty: &Type| matches!(ty, Type::Json | Type::Jsonb);
    (known(left) && known(right))
        || (json(left) && (known(right) || json(right)))
        || (json(right) && known(left))
}

/// The type of `left op right`; `None` where there is no such operator.
pub(crate) fn arithmetic(op: Arithmetic, left: &Type, right: &Type) -> Option<Type> {
    use Arithmetic::{
        Add, BitAnd, BitOr, BitXor, Divide, Multiply, Remainder, ShiftLeft, ShiftRight, Subtract,
    };
    if matches!(op, ShiftLeft | ShiftRight) {
        let shiftable = left.is_integer() && matches!(right, Type::Int2 | Type::Int4);
        return shiftable.then(|| left.clone());
    }
    if left.is_integer() && right.is_integer() {
        return [Type::Int8, Type::Int4, Type::Int2].into_iter().find(|ty| ty == left || ty == right);
    }
    if left.is_number() && right.is_number() {
        let floats = left.is_float() || right.is_float();
        return match op {
            BitAnd | BitOr | BitXor => None,
            Remainder if floats => None,
            _ if *left == Type::Float4 && *right == Type::Float4 => Some(Type::Float4),
            _ if floats => Some(Type::Float8),
            _ => Some(Type::Numeric),
        };
    }
    let days = |ty: &Type| matches!(ty, Type::Int2 | Type::Int4);
    match (op, left, right) {
        (Add | Subtract, Type::Date, count) if days(count) => Some(Type::Date),
        (Add, count, Type::Date) if days(count) => Some(Type::Date),
        (Subtract, Type::Date, Type::Date) => Some(Type::Int4),
        (Add, Type::Date, Type::Time) | (Add, Type::Time, Type::Date) => Some(Type::Timestamp),
        (Add | Subtract, Type::Interval, Type::Interval) => Some(Type::Interval),
        (Multiply | Divide, Type::Interval, number) if number.is_number() => Some(Type::Interval),
        (Multiply, number, Type::Interval) if number.is_number() => Some(Type::Interval),
        (Add | Subtract, moment, Type::Interval) | (Add, Type::Interval, moment) => match moment {
            Type::Date => Some(Type::Timestamp),
            Type::Time | Type::Timestamp | Type::Timestamptz => Some(moment.clone()),
            _ => None,
        },
        (Subtract, a, b) if a.is_instant() && b.is_instant() => Some(Type::Interval),
        (Subtract, Type::Time, Type::Time) => Some(Type::Interval),
        _ => None,
    }
}

/// The type that all elements of an IN list take (`select_common_type`), unknown literals left out.
pub(crate) fn common<'a>(types: impl Iterator<Item = &'a Type> + Clone) -> Option<Type> {
    let mut chosen: Option<&Type> = None;
    for ty in types.clone() {
        chosen = match chosen {
            None => Some(ty),
            Some(current) if current == ty => Some(current),
            Some(current) if category(current) != category(ty) => return None,
            Some(current) if !is_preferred(current) && implicit(current, ty) && !implicit(ty, current) => {
                Some(ty)
            }
            current => current,
        };
    }
    let chosen = chosen?;
    types.into_iter().all(|ty| ty == chosen || implicit(ty, chosen)).then(|| chosen.clone())
}

/// `typcategory`
pub(crate) fn category(ty: &Type) -> char {
    match ty {
        Type::Bool => 'B',
        Type::Int2 | Type::Int4 | Type::Int8 | Type::Numeric | Type::Float4 | Type::Float8 | Type::Oid => 'N',
        Type::Text | Type::Varchar | Type::Bpchar | Type::Name => 'S',
        Type::Date | Type::Time | Type::Timetz | Type::Timestamp | Type::Timestamptz => 'D',
        Type::Interval => 'T',
        Type::Bit | Type::Varbit => 'V',
        Type::Inet | Type::Cidr => 'I',
        Type::Enum(_) => 'E',
        Type::Array(_) => 'A',
        Type::Char => 'Z',
        Type::Bytea | Type::Uuid | Type::Json | Type::Jsonb | Type::Opaque { .. } => 'U',
    }
}

/// `typispreferred`
pub(crate) fn is_preferred(ty: &Type) -> bool {
    use Type::{Bool, Float8, Inet, Interval, Oid, Text, Timestamptz, Varbit};
    matches!(ty, Bool | Text | Float8 | Timestamptz | Interval | Varbit | Inet | Oid)
}

/// Implicit casts (`castcontext = 'i'`).
pub(crate) fn implicit(from: &Type, to: &Type) -> bool {
    let rank = |ty: &Type| match ty {
        Type::Int2 => 1,
        Type::Int4 => 2,
        Type::Int8 => 3,
        Type::Numeric => 4,
        Type::Float4 => 5,
        _ => 6,
    };
    match (from, to) {
        (a, b) if a.is_number() && b.is_number() => rank(a) < rank(b),
        (Type::Name, to) => *to == Type::Text,
        (a, b) if a.is_string() && b.is_string() => true,
        (Type::Date, Type::Timestamp | Type::Timestamptz) | (Type::Timestamp, Type::Timestamptz) => true,
        (Type::Time, Type::Interval) | (Type::Bit, Type::Varbit) | (Type::Cidr, Type::Inet) => true,
        _ => false,
    }
}

/// Whether `from::to` exists and core can do it exactly. `float8::numeric` goes through 15 printed digits in
/// Postgres.
pub(crate) fn cast(from: &Type, to: &Type) -> bool {
    match (from, to) {
        (a, b) if a == b => !a.is_opaque(),
        (Type::Array(a), Type::Array(b)) => cast(a, b),
        (Type::Opaque { base: Some(of), .. }, to) => cast(&Type::Enum(of.clone()), to),
        (Type::Opaque { .. }, _) | (_, Type::Opaque { .. }) => false,
        (a, Type::Name) => a.is_string(),
        (Type::Char, to) => *to == Type::Text,
        (_, Type::Char) => false,
        // What has no cast of its own goes through its text, in both directions.
        (a, b) if a.is_string() || b.is_string() => true,
        (a, Type::Numeric) if a.is_float() => false,
        (a, b) if a.is_number() && b.is_number() => true,
        (Type::Bool, Type::Int4) | (Type::Int4, Type::Bool) => true,
        (Type::Int4, Type::Oid) | (Type::Oid, Type::Int8) => true,
        (Type::Json, Type::Jsonb) | (Type::Jsonb, Type::Json) => true,
        (Type::Bit, Type::Varbit) | (Type::Cidr, Type::Inet) | (Type::Time, Type::Interval) => true,
        (Type::Date, Type::Timestamp | Type::Timestamptz) => true,
        (Type::Timestamp | Type::Timestamptz, Type::Time) => true,
        (a, b) => a.is_instant() && b.is_instant(),
    }
}
