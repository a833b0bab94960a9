//! Which operator Postgres would choose for two types, and which casts exist (`pg_operator`, `pg_cast` and the
//! rules of "Type Conversion", <https://www.postgresql.org/docs/current/typeconv.html>), as far as core can
//! evaluate them exactly.

use super::expr::{Arithmetic, Order};
use super::value::Type;

/// The order for `left < right` and its like; `None` where there is no such operator.
pub(super) fn comparison(left: &Type, right: &Type) -> Option<Order> {
    match (left, right) {
        (Type::Bool, Type::Bool) => Some(Order::Bool),
        (Type::Uuid, Type::Uuid) => Some(Order::Uuid),
        (Type::Time, Type::Time) => Some(Order::Time),
        (a, b) if a.is_integer() && b.is_integer() => Some(Order::Int),
        (a, b) if a.is_number() && b.is_number() && (a.is_float() || b.is_float()) => Some(Order::Float),
        (a, b) if a.is_number() && b.is_number() => Some(Order::Numeric),
        (a, b) if is_instant(a) && is_instant(b) => Some(Order::Instant),
        (a, b) if a.is_string() && b.is_string() => {
            // Beside `text` a `bpchar` becomes text, beside `varchar` the other becomes `bpchar`.
            let padded = |ty: &Type| *ty == Type::Bpchar;
            let both = (padded(a) && matches!(b, Type::Bpchar | Type::Varchar))
                || (padded(b) && *a == Type::Varchar);
            Some(Order::Text { trim_left: both || padded(a), trim_right: both || padded(b) })
        }
        _ => None,
    }
}

fn is_instant(ty: &Type) -> bool {
    matches!(ty, Type::Date | Type::Timestamp | Type::Timestamptz)
}

/// The type of `left op right`; `None` where there is no such operator.
pub(super) fn arithmetic(op: Arithmetic, left: &Type, right: &Type) -> Option<Type> {
    use Arithmetic::{Add, BitAnd, BitOr, BitXor, Remainder, Subtract};
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
        _ => None,
    }
}

/// The type that all elements of an IN list take (`select_common_type`), unknown literals left out.
pub(super) fn common<'a>(types: impl Iterator<Item = &'a Type> + Clone) -> Option<Type> {
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
fn category(ty: &Type) -> char {
    match ty {
        Type::Bool => 'B',
        ty if ty.is_number() => 'N',
        ty if ty.is_string() => 'S',
        Type::Date | Type::Time | Type::Timestamp | Type::Timestamptz => 'D',
        _ => 'U',
    }
}

/// `typispreferred`
fn is_preferred(ty: &Type) -> bool {
    matches!(ty, Type::Bool | Type::Text | Type::Float8 | Type::Timestamptz)
}

/// Implicit casts (`castcontext = 'i'`).
fn implicit(from: &Type, to: &Type) -> bool {
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
        _ => false,
    }
}

/// Whether `from::to` exists and core can do it exactly. `float8::numeric` goes through 15 printed digits in
/// Postgres; what needs a user's type needs that type's functions.
pub(super) fn cast(from: &Type, to: &Type) -> bool {
    match (from, to) {
        (a, b) if a == b => !matches!(a, Type::Opaque { .. }),
        (Type::Opaque { name, user_defined: false }, Type::Text) => name == "json" || name == "jsonb",
        (Type::Opaque { .. }, _) | (_, Type::Opaque { .. }) => false,
        (a, Type::Name) => a.is_string(),
        (a, b) if a.is_string() || b.is_string() => true,
        (a, Type::Numeric) if a.is_float() => false,
        (a, b) if a.is_number() && b.is_number() => true,
        (Type::Bool, Type::Int4) | (Type::Int4, Type::Bool) => true,
        (Type::Date, Type::Timestamp | Type::Timestamptz) => true,
        (Type::Timestamp | Type::Timestamptz, Type::Time) => true,
        (a, b) => is_instant(a) && is_instant(b),
    }
}
