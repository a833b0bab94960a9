//! The places of one comparison.

use super::key::{self, Form};
use super::lane::{Fold, Probe, Reading};
use super::{Access, BEFORE, BEHIND, Place};
use crate::filter::data_type::operator::{Comparison, Order};
use crate::filter::data_type::ty::Type;
use crate::filter::data_type::value::Value;
use crate::filter::eval::expr::{Expr, Test};
use crate::filter::eval::like::Pattern;
use crate::filter::eval::operation::Operator;
use crate::filter::syntax::ast::Truth;
use crate::pg::Collation;

/// Shorter beginnings of a text are looked for only where the pattern has no longer piece.
const PREFIX_BYTES_MIN: usize = 3;

/// The places of rows for which an expression has a truth value.
pub(super) fn access(expr: &Expr, wanted: bool) -> Option<Access<'_>> {
    match expr {
        Expr::Const { value: Value::Bool(value), .. } if *value == wanted => None,
        Expr::Const { .. } => Some(never()),
        Expr::Column { ty: Type::Bool, .. } => Some(Access::exact(vec![bool_is(expr, wanted)])),
        Expr::IsNull { operand, negated } => presence(operand, *negated != wanted),
        Expr::IsTruth { operand, truth, negated } => is_truth(operand, *truth, *negated != wanted),
        Expr::Compare { op, order, left, right } => {
            let op = if wanted { *op } else { op.negated() };
            match (&**left, &**right) {
                (operand, Expr::Const { value, .. }) => compared(operand, op, *order, value),
                (Expr::Const { value, .. }, operand) => compared(operand, op.turned(), turned(*order), value),
                _ => None,
            }
        }
        Expr::Distinct { order, left, right, negated } if *negated == wanted => {
            not_distinct(*order, left, right)
        }
        Expr::In { operand, list, negated, .. } if *negated != wanted => {
            let constants = list.iter().map(|(element, order)| Some((constant(element)?, *order)));
            one_of(operand, constants)
        }
        Expr::Between { operand, low, high, symmetric, negated } if *negated != wanted => {
            between(operand, low, high, *symmetric)
        }
        Expr::Like { operand, compiled: Some(pattern), negated, .. } if *negated != wanted => {
            Some(like(operand, pattern)?)
        }
        Expr::Quantified { test, left, array, all: false, .. } if wanted => any(*test, left, array),
        Expr::CompareRows { op, orders, left, right } if wanted => {
            first_fields(*op, orders.first()?, left.first()?, right.first()?)
        }
        Expr::Operation { op, operands, .. } if wanted => operation(*op, operands),
        _ => None,
    }
}

const fn never<'a>() -> Access<'a> {
    Access::exact(Vec::new())
}

fn constant(expr: &Expr) -> Option<&Value<'static>> {
    match expr {
        Expr::Const { value, .. } => Some(value),
        _ => None,
    }
}

/// The order with its operands exchanged.
const fn turned(order: Order) -> Order {
    match order {
        Order::Text { trim_left, trim_right } => Order::Text { trim_left: trim_right, trim_right: trim_left },
        order => order,
    }
}

fn bool_is(column: &Expr, value: bool) -> Place<'_> {
    let probe = Probe { expr: column, reading: Reading::Key(Form::Bool) };
    Place::Equal(vec![probe], vec![u8::from(value)])
}

/// `IS NULL`, or `IS NOT NULL`; of a column, whose value is not looked at.
fn presence(operand: &Expr, is_null: bool) -> Option<Access<'_>> {
    let Expr::Column { ty, .. } = operand else { return None };
    if matches!(ty, Type::Opaque { composite: true, .. }) {
        return None;
    }
    let probe = Probe { expr: operand, reading: Reading::Presence };
    Some(Access::exact(vec![if is_null { Place::Null(probe) } else { Place::Filled(probe) }]))
}

/// `IS TRUE` and its like, where they do not come down to the operand's own truth.
fn is_truth(operand: &Expr, truth: Truth, holds: bool) -> Option<Access<'_>> {
    if truth == Truth::Unknown {
        let Expr::Column { .. } = operand else { return None };
        return presence(operand, holds);
    }
    let Expr::Column { ty: Type::Bool, .. } = operand else { return None };
    let mut access = presence(operand, true)?;
    access.places.push(bool_is(operand, truth == Truth::False));
    Some(access)
}

/// A probe for the key of an operand, and the key of the value that stands on the other side.
fn keyed<'a>(operand: &'a Expr, order: Order, value: &Value<'_>) -> Option<(Probe<'a>, Vec<u8>)> {
    let (trim, trim_value) = trims(order);
    if operand.is_const() {
        return None;
    }
    let form = Form::new(operand.ty(), order, trim)?;
    let key = key_of(form, trim_value, value)?;
    Some((Probe { expr: operand, reading: Reading::Key(form) }, key))
}

/// True for each of the two sides whose blanks at the end do not count.
const fn trims(order: Order) -> (bool, bool) {
    match order {
        Order::Text { trim_left, trim_right } => (trim_left, trim_right),
        _ => (false, false),
    }
}

/// The key of a constant that is compared with keys of a form: a text keeps its blanks where they count on its side.
fn key_of(form: Form, trim: bool, value: &Value<'_>) -> Option<Vec<u8>> {
    let form = match form {
        Form::Text | Form::Trimmed if trim => Form::Trimmed,
        Form::Trimmed => Form::Text,
        form => form,
    };
    let mut key = Vec::new();
    form.push(value, &mut key).ok()?;
    Some(key)
}

/// A place for one value of an operand.
fn equal<'a>(operand: &'a Expr, order: Order, value: &Value<'_>) -> Option<Place<'a>> {
    if let (Expr::Column { ty: Type::Enum(of), .. }, Value::Int(ordinal)) = (operand, value) {
        let mut key = Vec::new();
        key::push_text(of.label(*ordinal).as_bytes(), &mut key);
        let probe = Probe { expr: operand, reading: Reading::Key(Form::Label) };
        return Some(Place::Equal(vec![probe], key));
    }
    let (probe, key) = keyed(operand, order, value)?;
    Some(Place::Equal(vec![probe], key))
}

fn compared<'a>(operand: &'a Expr, op: Comparison, order: Order, value: &Value<'_>) -> Option<Access<'a>> {
    if *value == Value::Null {
        return Some(never());
    }
    let place = match op {
        Comparison::Equal => equal(operand, order, value)?,
        Comparison::NotEqual => return None,
        Comparison::Less | Comparison::LessOrEqual | Comparison::Greater | Comparison::GreaterOrEqual => {
            let (probe, key) = keyed(operand, order, value)?;
            let (low, high) = bounds(op, key);
            Place::Between(probe, low, high)
        }
    };
    Some(Access::exact(vec![place]))
}

/// The bounds of keys that compare like this with one.
fn bounds(op: Comparison, mut key: Vec<u8>) -> (Vec<u8>, Option<Vec<u8>>) {
    let is_behind = matches!(op, Comparison::LessOrEqual | Comparison::Greater);
    key.push(if is_behind { BEHIND } else { BEFORE });
    match op {
        Comparison::Less | Comparison::LessOrEqual => (Vec::new(), Some(key)),
        _ => (key, None),
    }
}

/// `IS NOT DISTINCT FROM`
fn not_distinct<'a>(order: Option<Order>, left: &'a Expr, right: &'a Expr) -> Option<Access<'a>> {
    let (operand, value, order) = match (constant(left), constant(right)) {
        (_, Some(value)) => (left, value, order),
        (Some(value), _) => (right, value, order.map(turned)),
        _ => return None,
    };
    match order {
        Some(order) if *value != Value::Null => Some(Access::exact(vec![equal(operand, order, value)?])),
        _ if *value == Value::Null => presence(operand, true),
        _ => None,
    }
}

fn one_of<'a, 'v>(
    operand: &'a Expr,
    values: impl Iterator<Item = Option<(&'v Value<'static>, Order)>>,
) -> Option<Access<'a>> {
    let mut places = Vec::new();
    for value in values {
        let (value, order) = value?;
        // It is equal to nothing.
        if *value != Value::Null {
            places.push(equal(operand, order, value)?);
        }
    }
    Some(Access::exact(places))
}

fn between<'a>(
    operand: &'a Expr,
    low: &'a (Expr, Order),
    high: &'a (Expr, Order),
    symmetric: bool,
) -> Option<Access<'a>> {
    let (Some(least), Some(most)) = (constant(&low.0), constant(&high.0)) else {
        let bound = |op, (bound, order): &'a (Expr, Order)| compared(operand, op, *order, constant(bound)?);
        let known =
            bound(Comparison::GreaterOrEqual, low).or_else(|| bound(Comparison::LessOrEqual, high))?;
        return (!symmetric).then_some(Access { exact: false, ..known });
    };
    if *least == Value::Null || *most == Value::Null {
        // What does not lie between two bounds may still do so where one of them is not known.
        return (!symmetric).then(never);
    }
    let (probe, mut least) = keyed(operand, low.1, least)?;
    let (other, mut most) = keyed(operand, high.1, most)?;
    if probe.reading != other.reading {
        return None;
    }
    if symmetric && least > most {
        std::mem::swap(&mut least, &mut most);
    }
    least.push(BEFORE);
    most.push(BEHIND);
    Some(Access::exact(vec![Place::Between(probe, least, Some(most))]))
}

fn first_fields<'a>(op: Comparison, order: &Order, left: &'a Expr, right: &'a Expr) -> Option<Access<'a>> {
    let op = match op {
        Comparison::Less => Comparison::LessOrEqual,
        Comparison::Greater => Comparison::GreaterOrEqual,
        op => op,
    };
    let access = match (constant(left), constant(right)) {
        (_, Some(value)) => compared(left, op, *order, value),
        (Some(value), _) => compared(right, op.turned(), turned(*order), value),
        _ => None,
    }?;
    Some(Access { exact: false, ..access })
}

fn like<'a>(operand: &'a Expr, pattern: &Pattern) -> Option<Access<'a>> {
    if operand.is_const() {
        return None;
    }
    let (prefix, piece) = (pattern.prefix(), pattern.longest_piece());
    let folds_case = pattern.folds_case_by().is_some();
    if !folds_case && pattern.is_plain() {
        let text = Value::from_text(prefix);
        let order = Order::Text { trim_left: false, trim_right: false };
        return Some(Access::exact(vec![equal(operand, order, &text)?]));
    }
    let is_prefix = prefix.len() >= PREFIX_BYTES_MIN || prefix.len() >= piece.len();
    if !folds_case && !prefix.is_empty() && is_prefix {
        let place = starts_with(operand, prefix.as_bytes());
        return Some(Access { places: vec![place], exact: pattern.is_prefix() });
    }
    if piece.is_empty() {
        return presence(operand, false).map(|access| Access { exact: false, ..access });
    }
    let probe = Probe { expr: operand, reading: Reading::Text(Fold::new(pattern.folds_case_by())) };
    Some(Access { places: vec![Place::Piece(probe, piece.into_bytes())], exact: pattern.is_piece() })
}

fn starts_with<'a>(operand: &'a Expr, prefix: &[u8]) -> Place<'a> {
    let mut low = Vec::new();
    key::push_prefix(prefix, &mut low);
    let high = key::behind(&low);
    Place::Between(Probe { expr: operand, reading: Reading::Key(Form::Text) }, low, high)
}

/// `ANY`
fn any<'a>(test: Test, left: &'a Expr, array: &'a Expr) -> Option<Access<'a>> {
    match (constant(left), constant(array)) {
        (_, Some(Value::Null)) => Some(never()),
        (None, Some(Value::Array(array))) => match test {
            Test::Compare(Comparison::Equal, order) => {
                one_of(left, array.elements.iter().map(|element| Some((element, order))))
            }
            Test::Compare(..) | Test::Like(_, true) => None,
            Test::Like(fold_case, false) => like_any(left, &array.elements, fold_case),
        },
        (Some(value), None) => {
            let Test::Compare(Comparison::Equal, order) = test else { return None };
            if *value == Value::Null {
                return Some(never());
            }
            let element = array.ty().element()?;
            element_is(array, element, turned(order), value).map(|place| Access::exact(vec![place]))
        }
        _ => None,
    }
}

fn like_any<'a>(
    operand: &'a Expr,
    patterns: &[Value<'static>],
    fold_case: Option<Collation>,
) -> Option<Access<'a>> {
    let known = patterns.iter().filter(|pattern| **pattern != Value::Null);
    Access::any(known.map(|pattern| {
        let Value::Text(pattern) = pattern else { return None };
        like(operand, &Pattern::new(str::from_utf8(pattern).ok()?, Some('\\'), fold_case)?)
    }))
}

/// A place for an element that is equal to a value; `order` compares the element with it.
fn element_is<'a>(array: &'a Expr, element: &Type, order: Order, value: &Value<'_>) -> Option<Place<'a>> {
    let (trim, trim_value) = trims(order);
    let form = Form::new(element, order, trim)?;
    let key = key_of(form, trim_value, value)?;
    Some(Place::Element(Probe { expr: array, reading: Reading::Elements(form) }, key))
}

fn operation(op: Operator, operands: &[Expr]) -> Option<Access<'_>> {
    let [left, right] = operands else { return None };
    match op {
        Operator::StartsWith => match constant(right)? {
            Value::Text(prefix) if !left.is_const() => Some(Access::exact(vec![starts_with(left, prefix)])),
            _ => None,
        },
        Operator::ArrayContains { padded } => contains(left, constant(right)?, padded),
        Operator::ArrayContained { padded } => contains(right, constant(left)?, padded),
        Operator::ArrayOverlaps { padded } => match (constant(left), constant(right)) {
            (None, Some(Value::Array(array))) => overlaps(left, &array.elements, padded),
            (Some(Value::Array(array)), None) => overlaps(right, &array.elements, padded),
            _ => None,
        },
        _ => None,
    }
}

/// The order in which elements compare with elements.
const fn among_elements(element: &Type, padded: bool) -> Order {
    match element {
        Type::Text | Type::Varchar | Type::Bpchar | Type::Name => {
            Order::Text { trim_left: padded, trim_right: padded }
        }
        _ => Order::Natural,
    }
}

/// An array has all these elements; NULL is in none.
fn contains<'a>(array: &'a Expr, wanted: &Value<'_>, padded: bool) -> Option<Access<'a>> {
    let Value::Array(wanted) = wanted else { return Some(never()) };
    if wanted.elements.contains(&Value::Null) {
        return Some(never());
    }
    let element = array.ty().element()?;
    let place = element_is(array, element, among_elements(element, padded), wanted.elements.first()?)?;
    Some(Access { places: vec![place], exact: wanted.elements.len() == 1 })
}

fn overlaps<'a>(array: &'a Expr, wanted: &[Value<'static>], padded: bool) -> Option<Access<'a>> {
    let element = array.ty().element()?;
    let order = among_elements(element, padded);
    let known = wanted.iter().filter(|wanted| **wanted != Value::Null);
    let places = known.map(|wanted| element_is(array, element, order, wanted));
    places.collect::<Option<_>>().map(Access::exact)
}
