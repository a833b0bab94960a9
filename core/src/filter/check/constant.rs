//! Constants: literals of a type, expressions of constants folded to what they give, and casts.

use super::super::error::{EvalError, FilterError, Reason};
use super::super::eval;
use super::{Checked, Checker, Literal, Operand, beyond_type};
use crate::filter::data_type::operator;
use crate::filter::data_type::operator::Order;
use crate::filter::data_type::ty::Type;
use crate::filter::data_type::value::Value;
use crate::filter::eval::expr::{Constants, Expr};
use crate::filter::eval::{cast, compare};
use crate::filter::syntax::ast::{Kind, Node, TypeName};
use crate::pg::Row;
use std::cmp::Ordering;

impl Checker<'_> {
    /// A literal as a constant of the type that its context gives it.
    pub(super) fn typed(&mut self, literal: Literal, ty: &Type) -> Checked<Expr> {
        let Literal { at, text, param } = literal;
        // Operators exist for the wider of these types only.
        let ty = match ty {
            Type::Bit => &Type::Varbit,
            Type::Cidr => &Type::Inet,
            ty => ty,
        };
        if ty.is_opaque() {
            let ty = ty.name().into_owned();
            return Err(FilterError::at(at, Reason::BeyondType { what: "a literal", ty }));
        }
        if let Some(number) = param {
            self.param_types.insert(number, ty.clone());
        }
        let value = match &text {
            None => Value::Null,
            Some(text) => Value::literal(ty, text).ok_or_else(|| FilterError::at(at, unread(ty, text)))?,
        };
        Ok(Expr::Const { ty: ty.clone(), value })
    }

    pub(super) fn cast(&mut self, node: &Node, operand: &Node, name: &TypeName) -> Checked<Expr> {
        let modifiers = name.modifiers.clone();
        let ty =
            self.named_type(name).filter(|ty| cast::accepts_modifiers(ty, &modifiers)).ok_or_else(|| {
                let brackets = if name.array { "[]" } else { "" };
                FilterError::at(name.at, Reason::UnsupportedType(format!("{}{brackets}", name.name)))
            })?;
        if let Kind::Param(number) = operand.kind
            && let Some(known) = self.param_types.get(&number).filter(|known| **known != ty)
        {
            let (known, wanted) = (known.name().into_owned(), ty.name().into_owned());
            return Err(FilterError::at(operand.at, Reason::ParameterType { number, known, wanted }));
        }
        // The cast says what the elements are.
        if let (Kind::Array(elements), Type::Array(element)) = (&operand.kind, &ty)
            && modifiers.is_empty()
        {
            return self.array(operand, elements, Some(element));
        }
        let expr = match self.operand(operand)? {
            Operand::Literal(literal) => self.typed(literal, &ty)?,
            Operand::Typed(expr) if operator::cast(expr.ty(), &ty) => expr,
            Operand::Typed(expr) => {
                let (from, to) = (expr.ty().name().into_owned(), ty.name().into_owned());
                return Err(FilterError::at(operand.start, Reason::UnknownCast { from, to }));
            }
        };
        if *expr.ty() == ty && modifiers.is_empty() { Ok(expr) } else { cast_to(node, expr, ty, modifiers) }
    }

    /// A type of Postgres's own, or one that a column has.
    fn named_type(&self, name: &TypeName) -> Option<Type> {
        let enums = || {
            let of = self.columns.iter().map(Type::of_column).map(|ty| match ty {
                Type::Array(element) => *element,
                Type::Opaque { base: Some(of), .. } => Type::Enum(of),
                ty => ty,
            });
            let mut found = of.filter(|ty| match ty {
                Type::Enum(_) => {
                    ty.name() == name.name || ty.sql().replace('"', "") == name.name.replace('"', "")
                }
                _ => false,
            });
            let first = found.next()?;
            // Of two schemas' types of one name only Postgres knows which is meant.
            found.all(|ty| ty == first).then_some(first)
        };
        // Without a length `bit` is `bit(1)`, which core does not cut to.
        let known = Type::from_name(&name.name).filter(|ty| *ty != Type::Bit);
        let ty = known.or_else(enums)?;
        Some(if name.array { ty.array() } else { ty })
    }
}

/// The mistake in a literal: it may be no value of the type, or one in a spelling that only Postgres reads,
/// unless that one reads the clock.
fn unread(ty: &Type, text: &str) -> Reason {
    let (name, text) = (ty.name().into_owned(), text.to_owned());
    if ty.has_other_spellings() && !may_read_clock(&text) {
        Reason::UnreadLiteral { ty: name, text }
    } else {
        Reason::InvalidSyntax { ty: name, text }
    }
}

/// Whether the text holds a word that the input functions of dates and times replace by the time of day or date.
pub(in super::super) fn may_read_clock(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    ["now", "today", "tomorrow", "yesterday"].iter().any(|word| lower.contains(word))
}

/// A row without columns, for constants.
struct NoRow;

impl Row for NoRow {
    fn text(&self, _: usize) -> Option<&[u8]> {
        None
    }
}

/// An expression of constants becomes the constant it gives.
pub(super) fn fold(node: &Node, expr: Expr) -> Checked<Expr> {
    if !expr.children().into_iter().all(Expr::is_const) {
        return Ok(expr);
    }
    let value = eval::value(&expr, &NoRow).map(Value::into_owned);
    let ty = expr.ty().clone();
    value.map(|value| Expr::Const { ty, value }).map_err(|error| {
        let reason = match error {
            EvalError::PatternEndsWithEscape => Reason::PatternEndsWithEscape,
            _ => Reason::ConstantFailed,
        };
        FilterError::at(node.start, reason)
    })
}

/// AND of AND is one AND, as the parser has it; of one term it is the term.
pub(super) fn and(node: &Node, terms: Vec<Expr>) -> Checked<Expr> {
    let mut flat = Vec::with_capacity(terms.len());
    for term in terms {
        match term {
            Expr::And(inner) => flat.extend(inner),
            term => flat.push(term),
        }
    }
    match <[Expr; 1]>::try_from(flat) {
        Ok([only]) => Ok(only),
        Err(terms) => fold(node, Expr::And(terms)),
    }
}

/// The same of OR.
pub(super) fn or(node: &Node, terms: Vec<Expr>) -> Checked<Expr> {
    let mut flat = Vec::with_capacity(terms.len());
    for term in terms {
        match term {
            Expr::Or(inner) => flat.extend(inner),
            term => flat.push(term),
        }
    }
    match <[Expr; 1]>::try_from(flat) {
        Ok([only]) => Ok(only),
        Err(terms) => fold(node, Expr::Or(terms)),
    }
}

/// `int4` or `int8` by size, `numeric` beyond and where a dot or an exponent is written.
pub(super) fn number(at: usize, digits: &str) -> Checked<Expr> {
    let ty = match digits.parse::<i64>() {
        Ok(value) if i32::try_from(value).is_ok() => Type::Int4,
        Ok(_) => Type::Int8,
        Err(_) => Type::Numeric,
    };
    let value = Value::literal(&ty, digits).ok_or_else(|| {
        let (ty, text) = (ty.name().into_owned(), digits.to_owned());
        FilterError::at(at, Reason::InvalidSyntax { ty, text })
    })?;
    Ok(Expr::Const { ty, value })
}

/// Two operands of which one takes the other's type before they can be compared.
pub(super) fn meeting(node: &Node, left: Expr, right: Expr) -> Checked<(Expr, Expr)> {
    let to = |expr: Expr, ty: &Type| cast_to(node, expr, ty.clone(), Vec::new());
    Ok(match (left.ty(), right.ty()) {
        (Type::Time, Type::Interval) => (to(left, &Type::Interval)?, right),
        (Type::Interval, Type::Time) => (left, to(right, &Type::Interval)?),
        (Type::Oid, Type::Int4) => (left, to(right, &Type::Oid)?),
        (Type::Int4, Type::Oid) => (to(left, &Type::Oid)?, right),
        (Type::Char, ty) if ty.is_string() && *ty != Type::Name => (to(left, &Type::Text)?, right),
        (ty, Type::Char) if ty.is_string() && *ty != Type::Name => (left, to(right, &Type::Text)?),
        _ => (left, right),
    })
}

/// A numeric constant in the type it is compared in, so that no row converts it again.
pub(super) fn at_home(expr: Expr, order: Order) -> Expr {
    let ty = match (order, expr.ty()) {
        (Order::Numeric, ty) if ty.is_integer() => Type::Numeric,
        (Order::Float, ty) if !ty.is_float() => Type::Float8,
        _ => return expr,
    };
    let Expr::Const { ty: from, value } = &expr else { return expr };
    if *value == Value::Null {
        return expr;
    }
    match cast::apply(value.borrowed(), from, &ty, &[]) {
        Ok(value) => Expr::Const { ty, value: value.into_owned() },
        Err(_) => expr,
    }
}

pub(super) fn as_text(node: &Node, expr: Expr) -> Checked<Expr> {
    if expr.ty().is_string() && *expr.ty() != Type::Bpchar {
        return Ok(expr);
    }
    if !operator::cast(expr.ty(), &Type::Text) {
        return Err(beyond_type(node, "the text", expr.ty()));
    }
    cast_to(node, expr, Type::Text, Vec::new())
}

pub(super) fn cast_to(node: &Node, expr: Expr, ty: Type, modifiers: Vec<i32>) -> Checked<Expr> {
    // Around ARRAY[…] the cast is one of each element.
    if let (Expr::Array { elements, nested: false, .. }, Type::Array(element)) = (&expr, &ty) {
        let cast = |part: &Expr| match part.ty() == &**element && modifiers.is_empty() {
            true => Ok(part.clone()),
            false => cast_to(node, part.clone(), (**element).clone(), modifiers.clone()),
        };
        let elements = elements.iter().map(cast).collect::<Checked<_>>()?;
        return fold(node, Expr::Array { elements, nested: false, ty });
    }
    fold(node, Expr::Cast { operand: Box::new(expr), ty, modifiers })
}

/// Elements for the search by halves, which are constants of one order.
pub(super) fn sorted<'v>(
    elements: impl ExactSizeIterator<Item = &'v Value<'static>>,
    order: Order,
) -> Option<Constants> {
    let among = match order {
        Order::Text { trim_right, .. } => Order::Text { trim_left: trim_right, trim_right },
        order => order,
    };
    let (mut failed, length) = (false, elements.len());
    let mut sorted: Vec<Value<'static>> = elements.filter(|value| **value != Value::Null).cloned().collect();
    let has_null = sorted.len() < length;
    sorted.sort_by(|a, b| {
        compare::ordered(among, a, b).unwrap_or_else(|_| {
            failed = true;
            Ordering::Equal
        })
    });
    (!failed).then_some(Constants { order, sorted, has_null })
}
