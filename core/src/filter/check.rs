//! From the clause as written to typed expressions: names looked up, literals and parameters given their types
//! by context, operators chosen, constants folded. What core cannot evaluate exactly ends here with an error.

use super::ast::{Kind, Node, TypeName};
use super::error::{EvalError, FilterError, Reason};
use super::expr::{Arithmetic, Comparison, Constants, Expr, Order, Unary};
use super::lexer::spelled;
use super::like::Pattern;
use super::value::{Type, Value};
use super::{MAX_DEPTH, Row, cast, eval, operators};
use crate::pg::Column;
use std::collections::{BTreeMap, BTreeSet};

pub(super) struct Checker<'a> {
    columns: &'a [Column],
    params: &'a BTreeMap<u32, String>,
    /// The one type each parameter has, once something decided on it.
    param_types: BTreeMap<u32, Type>,
    /// Positions of the columns met.
    pub(super) used: BTreeSet<usize>,
}

/// A checked operand, or one that still waits for its type.
enum Operand {
    Typed(Expr),
    Literal(Literal),
}

impl Operand {
    fn ty(&self) -> Option<&Type> {
        match self {
            Self::Typed(expr) => Some(expr.ty()),
            Self::Literal(_) => None,
        }
    }
}

/// A string literal, NULL, or a parameter.
struct Literal {
    at: usize,
    text: Option<String>,
    param: Option<u32>,
}

type Checked<T> = Result<T, FilterError>;

impl<'a> Checker<'a> {
    pub(super) fn new(columns: &'a [Column], params: &'a BTreeMap<u32, String>) -> Self {
        Self { columns, params, param_types: BTreeMap::new(), used: BTreeSet::new() }
    }

    /// A whole clause, which must be of type bool.
    pub(super) fn clause(&mut self, node: &Node) -> Checked<Expr> {
        let expr = match self.operand(node)? {
            Operand::Typed(expr) => expr,
            Operand::Literal(literal) => {
                self.typed(literal, &Type::Bool).map_err(|_| FilterError::NotBoolean)?
            }
        };
        if *expr.ty() != Type::Bool {
            return Err(FilterError::NotBoolean);
        }
        // Written out, a constant is one level deeper: the canonical text must pass the same limit.
        if expr.depth() >= MAX_DEPTH {
            return Err(FilterError::at(node.start, Reason::TooDeep));
        }
        Ok(expr)
    }

    fn operand(&mut self, node: &Node) -> Checked<Operand> {
        let at = node.at;
        Ok(Operand::Typed(match &node.kind {
            Kind::Null => return Ok(Operand::Literal(Literal { at, text: None, param: None })),
            Kind::Text(text) => {
                return Ok(Operand::Literal(Literal { at, text: Some(text.clone()), param: None }));
            }
            Kind::Param(number) => return self.param(at, *number),
            Kind::Bool(value) => Expr::Const { ty: Type::Bool, value: Value::Bool(*value) },
            Kind::Number(digits) => number(at, digits)?,
            Kind::Column(parts) => self.column(at, parts)?,
            Kind::And(terms) => fold(node, Expr::And(self.booleans(terms)?))?,
            Kind::Or(terms) => fold(node, Expr::Or(self.booleans(terms)?))?,
            Kind::Not(operand) => fold(node, Expr::Not(Box::new(self.boolean(operand)?)))?,
            Kind::IsNull { operand, negated } => {
                let operand = Box::new(self.any(operand)?);
                fold(node, Expr::IsNull { operand, negated: *negated })?
            }
            Kind::IsTruth { operand, truth, negated } => {
                let context = match (truth, negated) {
                    (super::ast::Truth::True, false) => "IS TRUE",
                    (super::ast::Truth::True, true) => "IS NOT TRUE",
                    (super::ast::Truth::False, false) => "IS FALSE",
                    (super::ast::Truth::False, true) => "IS NOT FALSE",
                    (super::ast::Truth::Unknown, false) => "IS UNKNOWN",
                    (super::ast::Truth::Unknown, true) => "IS NOT UNKNOWN",
                };
                let wrong = |ty: &Type| Reason::ArgumentNotBool { context, ty: ty.name().to_owned() };
                let operand = Box::new(self.boolean_or(operand, at, wrong)?);
                fold(node, Expr::IsTruth { operand, truth: *truth, negated: *negated })?
            }
            Kind::Unary { op, operand } => self.unary(node, op, operand)?,
            Kind::Binary { op, left, right } => self.binary(node, op, left, right)?,
            Kind::Distinct { left, right, negated } => self.distinct(node, left, right, *negated)?,
            Kind::In { operand, list, negated } => self.in_list(node, operand, list, *negated)?,
            Kind::Between { operand, low, high, symmetric, negated } => {
                let (operand, mut bounds) = self.against(node, operand, &[low, high])?;
                let (high, low) = match (bounds.pop(), bounds.pop()) {
                    (Some(high), Some(low)) => (Box::new(high), Box::new(low)),
                    _ => return Err(FilterError::at(at, Reason::NoOverload)),
                };
                let (symmetric, negated) = (*symmetric, *negated);
                fold(node, Expr::Between { operand: Box::new(operand), low, high, symmetric, negated })?
            }
            Kind::Like { operand, pattern, escape, fold_case, negated } => {
                let escape = self.escape(escape.as_deref())?;
                self.like(node, operand, pattern, escape, (*fold_case, *negated))?
            }
            Kind::Cast { operand, ty } => self.cast(node, operand, ty)?,
            Kind::Call { name, arguments } => {
                let (name, arity) = (name.clone(), arguments.len());
                return Err(FilterError::at(at, Reason::UnknownFunction { name, arity }));
            }
        }))
    }

    fn param(&mut self, at: usize, number: u32) -> Checked<Operand> {
        let Some(text) = self.params.get(&number) else {
            return Err(FilterError::at(at, Reason::MissingParameter(number)));
        };
        let literal = Literal { at, text: Some(text.clone()), param: Some(number) };
        match self.param_types.get(&number).cloned() {
            Some(ty) => self.typed(literal, &ty).map(Operand::Typed),
            None => Ok(Operand::Literal(literal)),
        }
    }

    fn column(&mut self, at: usize, parts: &[String]) -> Checked<Expr> {
        let unknown = || {
            let name: Vec<String> = parts.iter().map(|part| spelled(part)).collect();
            FilterError::at(at, Reason::UnknownReference(name.join(".")))
        };
        let [name] = parts else { return Err(unknown()) };
        let (index, column) =
            self.columns.iter().enumerate().find(|(_, c)| c.name == *name).ok_or_else(unknown)?;
        self.used.insert(index);
        Ok(Expr::Column { index, name: name.clone(), ty: Type::of_column(column) })
    }

    /// A literal as a constant of the type that its context gives it.
    fn typed(&mut self, literal: Literal, ty: &Type) -> Checked<Expr> {
        let Literal { at, text, param } = literal;
        if matches!(ty, Type::Opaque { .. }) {
            return Err(FilterError::at(at, Reason::NoOverload));
        }
        if let Some(number) = param {
            self.param_types.insert(number, ty.clone());
        }
        let value = match &text {
            None => Value::Null,
            Some(text) => Value::literal(ty, text).ok_or_else(|| {
                let (ty, text) = (ty.name().to_owned(), text.clone());
                FilterError::at(at, Reason::InvalidSyntax { ty, text })
            })?,
        };
        Ok(Expr::Const { ty: ty.clone(), value })
    }

    /// Without a context a literal is a text.
    fn any(&mut self, node: &Node) -> Checked<Expr> {
        match self.operand(node)? {
            Operand::Typed(expr) => Ok(expr),
            Operand::Literal(literal) => self.typed(literal, &Type::Text),
        }
    }

    fn boolean(&mut self, node: &Node) -> Checked<Expr> {
        self.boolean_or(node, node.at, |ty| Reason::NotCastableToBool(ty.name().to_owned()))
    }

    fn booleans(&mut self, terms: &[Node]) -> Checked<Vec<Expr>> {
        terms.iter().map(|term| self.boolean(term)).collect()
    }

    fn boolean_or(&mut self, node: &Node, at: usize, wrong: impl Fn(&Type) -> Reason) -> Checked<Expr> {
        match self.operand(node)? {
            Operand::Literal(literal) => self.typed(literal, &Type::Bool),
            Operand::Typed(expr) if *expr.ty() == Type::Bool => Ok(expr),
            Operand::Typed(expr) => Err(FilterError::at(at, wrong(expr.ty()))),
        }
    }

    /// Two operands, a literal taking the other's type.
    fn pair(&mut self, left: &Node, right: &Node) -> Checked<(Expr, Expr)> {
        let (left, right) = (self.operand(left)?, self.operand(right)?);
        self.unified(left, right)
    }

    fn unified(&mut self, left: Operand, right: Operand) -> Checked<(Expr, Expr)> {
        Ok(match (left, right) {
            (Operand::Typed(left), Operand::Typed(right)) => (left, right),
            (Operand::Typed(left), Operand::Literal(right)) => {
                let right = self.typed(right, left.ty())?;
                (left, right)
            }
            (Operand::Literal(left), Operand::Typed(right)) => (self.typed(left, right.ty())?, right),
            (Operand::Literal(left), Operand::Literal(right)) => {
                (self.typed(left, &Type::Text)?, self.typed(right, &Type::Text)?)
            }
        })
    }

    fn unary(&mut self, node: &Node, op: &str, operand: &Node) -> Checked<Expr> {
        let unary = match op {
            "-" => Some(Unary::Minus),
            "+" => None,
            "@" => Some(Unary::Absolute),
            "~" => Some(Unary::BitNot),
            "|/" => Some(Unary::SquareRoot),
            _ => return Err(FilterError::at(node.at, Reason::UnknownUnary(op.to_owned()))),
        };
        let no_overload = FilterError::at(node.at, Reason::NoOverload);
        let Operand::Typed(operand) = self.operand(operand)? else { return Err(no_overload) };
        let ty = operand.ty().clone();
        if !ty.is_number() || (unary == Some(Unary::BitNot) && !ty.is_integer()) {
            return Err(no_overload);
        }
        match unary {
            None => Ok(operand),
            Some(op) => {
                let ty = if op == Unary::SquareRoot { Type::Float8 } else { ty };
                fold(node, Expr::Unary { op, ty, operand: Box::new(operand) })
            }
        }
    }

    fn binary(&mut self, node: &Node, op: &str, left: &Node, right: &Node) -> Checked<Expr> {
        if let Some(op) = Comparison::from_op(op) {
            let (left, right) = self.pair(left, right)?;
            return compare(node, op, left, right);
        }
        match op {
            "||" => return self.concat(node, left, right),
            "~~" => return self.like(node, left, right, Some('\\'), (false, false)),
            "~~*" => return self.like(node, left, right, Some('\\'), (true, false)),
            "!~~" => return self.like(node, left, right, Some('\\'), (false, true)),
            "!~~*" => return self.like(node, left, right, Some('\\'), (true, true)),
            _ => {}
        }
        let Some(op) = Arithmetic::from_op(op) else {
            return Err(FilterError::at(node.at, Reason::UnknownBinary(op.to_owned())));
        };
        let (left, right) = self.pair(left, right)?;
        let ty = operators::arithmetic(op, left.ty(), right.ty())
            .ok_or_else(|| FilterError::at(node.at, Reason::NoOverload))?;
        fold(node, Expr::Arithmetic { op, ty, left: Box::new(left), right: Box::new(right) })
    }

    /// `||`: one side at least is a text, and the other is written as one.
    fn concat(&mut self, node: &Node, left: &Node, right: &Node) -> Checked<Expr> {
        let (left, right) = (self.any(left)?, self.any(right)?);
        let castable = [&left, &right].iter().all(|side| operators::cast(side.ty(), &Type::Text));
        if !castable || !(left.ty().is_string() || right.ty().is_string()) {
            return Err(FilterError::at(node.at, Reason::NoOverload));
        }
        let (left, right) = (Box::new(as_text(node, left)?), Box::new(as_text(node, right)?));
        fold(node, Expr::Concat { left, right })
    }

    fn distinct(&mut self, node: &Node, left: &Node, right: &Node, negated: bool) -> Checked<Expr> {
        let no_overload = FilterError::at(node.at, Reason::NoOverload);
        let (left, right) = (self.operand(left)?, self.operand(right)?);
        let null = |operand: &Operand| matches!(operand, Operand::Literal(Literal { text: None, .. }));
        let (order, left, right) = match (left, right) {
            // Only nullness counts, so that the other side may be of any type.
            (Operand::Typed(left), right) if null(&right) => (None, left, self.null()),
            (left, Operand::Typed(right)) if null(&left) => (None, self.null(), right),
            (left, right) => {
                let (left, right) = self.unified(left, right)?;
                let order = operators::comparison(left.ty(), right.ty()).ok_or(no_overload)?;
                (Some(order), left, right)
            }
        };
        fold(node, Expr::Distinct { order, left: Box::new(left), right: Box::new(right), negated })
    }

    fn null(&self) -> Expr {
        Expr::Const { ty: Type::Text, value: Value::Null }
    }

    /// One operand compared with several others, each pair having its own operator.
    fn against(
        &mut self,
        node: &Node,
        operand: &Node,
        others: &[&Node],
    ) -> Checked<(Expr, Vec<(Expr, Order)>)> {
        let operand = self.operand(operand)?;
        let others: Vec<Operand> = others.iter().map(|other| self.operand(other)).collect::<Checked<_>>()?;
        let operand = match operand {
            Operand::Typed(expr) => expr,
            Operand::Literal(literal) => {
                let ty = only_type(node, others.iter().filter_map(Operand::ty))?;
                self.typed(literal, &ty)?
            }
        };
        let mut compared = Vec::with_capacity(others.len());
        for other in others {
            let other = match other {
                Operand::Typed(expr) => expr,
                Operand::Literal(literal) => self.typed(literal, operand.ty())?,
            };
            compared.push(ordered(node, &operand, other)?);
        }
        Ok((operand, compared))
    }

    /// Constants of one list take one common type first, as Postgres makes an array of them.
    fn in_list(&mut self, node: &Node, operand: &Node, list: &[Node], negated: bool) -> Checked<Expr> {
        let operand = self.operand(operand)?;
        let list: Vec<Operand> = list.iter().map(|element| self.operand(element)).collect::<Checked<_>>()?;
        let free = |element: &Operand| match element {
            Operand::Typed(expr) => !expr.reads_columns(),
            Operand::Literal(_) => true,
        };
        let mut common = None;
        if list.iter().filter(|element| free(element)).count() > 1 {
            let types = std::iter::once(&operand).chain(list.iter().filter(|e| free(e)));
            let types = types.filter_map(Operand::ty);
            common =
                operators::common(types.clone()).or(types.clone().next().is_none().then_some(Type::Text));
        }
        let operand = match operand {
            Operand::Typed(expr) => expr,
            Operand::Literal(literal) => {
                let others = list.iter().filter(|element| common.is_none() || !free(element));
                let ty = only_type(node, common.iter().chain(others.filter_map(Operand::ty)))?;
                self.typed(literal, &ty)?
            }
        };
        let mut elements = Vec::with_capacity(list.len());
        for element in list {
            let shared = common.as_ref().filter(|_| free(&element));
            let element = match element {
                Operand::Literal(literal) => self.typed(literal, shared.unwrap_or(operand.ty()))?,
                Operand::Typed(expr) => match shared {
                    Some(ty) if expr.ty() != ty => cast_to(node, expr, ty.clone(), Vec::new())?,
                    _ => expr,
                },
            };
            elements.push(ordered(node, &operand, element)?);
        }
        finish_in(node, operand, elements, negated)
    }

    fn escape(&self, escape: Option<&Node>) -> Checked<Option<char>> {
        let Some(node) = escape else { return Ok(Some('\\')) };
        let Kind::Text(text) = &node.kind else {
            return Err(FilterError::at(node.at, Reason::Unsupported("ESCAPE of an expression")));
        };
        let mut symbols = text.chars();
        match (symbols.next(), symbols.next()) {
            (first, None) => Ok(first),
            _ => Err(FilterError::at(node.at, Reason::InvalidEscape)),
        }
    }

    /// The flags: ILIKE, NOT.
    fn like(
        &mut self,
        node: &Node,
        operand: &Node,
        pattern: &Node,
        escape: Option<char>,
        (fold_case, negated): (bool, bool),
    ) -> Checked<Expr> {
        let (operand, pattern) = (self.any(operand)?, self.any(pattern)?);
        if !operand.ty().is_string() || !pattern.ty().is_string() {
            return Err(FilterError::at(node.at, Reason::NoOverload));
        }
        let pattern = as_text(node, pattern)?;
        let mut compiled = None;
        if let Expr::Const { value: Value::Text(text), .. } = &pattern {
            let ends_early = || FilterError::at(node.at, Reason::PatternEndsWithEscape);
            let text = String::from_utf8_lossy(text);
            compiled = Some(Pattern::new(&text, escape, fold_case).ok_or_else(ends_early)?);
        }
        let (operand, pattern) = (Box::new(operand), Box::new(pattern));
        fold(node, Expr::Like { operand, pattern, escape, compiled, fold_case, negated })
    }

    fn cast(&mut self, node: &Node, operand: &Node, name: &TypeName) -> Checked<Expr> {
        let modifiers = name.modifiers.clone();
        let ty = Type::from_name(&name.name)
            .filter(|ty| !name.array && cast::accepts_modifiers(ty, &modifiers))
            .ok_or_else(|| {
                let brackets = if name.array { "[]" } else { "" };
                FilterError::at(name.at, Reason::UnsupportedType(format!("{}{brackets}", name.name)))
            })?;
        if let Kind::Param(number) = operand.kind
            && let Some(known) = self.param_types.get(&number).filter(|known| **known != ty)
        {
            let (known, wanted) = (known.name().to_owned(), ty.name().to_owned());
            return Err(FilterError::at(operand.at, Reason::ParameterType { number, known, wanted }));
        }
        let expr = match self.operand(operand)? {
            Operand::Literal(literal) => self.typed(literal, &ty)?,
            Operand::Typed(expr) if operators::cast(expr.ty(), &ty) => expr,
            Operand::Typed(expr) => {
                let (from, to) = (expr.ty().name().to_owned(), ty.name().to_owned());
                return Err(FilterError::at(operand.start, Reason::UnknownCast { from, to }));
            }
        };
        if *expr.ty() == ty && modifiers.is_empty() { Ok(expr) } else { cast_to(node, expr, ty, modifiers) }
    }
}

/// The type of a literal that is compared with several operands. Postgres would give it another type for each;
/// where that could make a difference the clause is refused.
fn only_type<'t>(node: &Node, mut types: impl Iterator<Item = &'t Type>) -> Checked<Type> {
    let first = types.next().unwrap_or(&Type::Text);
    let plain = |ty: &Type| matches!(ty, Type::Text | Type::Varchar);
    let alike =
        |ty: &Type| ty == first || (ty.is_integer() && first.is_integer()) || (plain(ty) && plain(first));
    if types.all(alike) { Ok(first.clone()) } else { Err(FilterError::at(node.at, Reason::NoOverload)) }
}

/// A row without columns, for constants.
struct NoRow;

impl Row for NoRow {
    fn text(&self, _: usize) -> Option<&[u8]> {
        None
    }
}

/// An expression of constants becomes the constant it gives.
fn fold(node: &Node, expr: Expr) -> Checked<Expr> {
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

/// `int4` or `int8` by size, `numeric` beyond and where a dot or an exponent is written.
fn number(at: usize, digits: &str) -> Checked<Expr> {
    let ty = match digits.parse::<i64>() {
        Ok(value) if i32::try_from(value).is_ok() => Type::Int4,
        Ok(_) => Type::Int8,
        Err(_) => Type::Numeric,
    };
    let value = Value::literal(&ty, digits).ok_or_else(|| {
        let (ty, text) = (ty.name().to_owned(), digits.to_owned());
        FilterError::at(at, Reason::InvalidSyntax { ty, text })
    })?;
    Ok(Expr::Const { ty, value })
}

fn compare(node: &Node, op: Comparison, left: Expr, right: Expr) -> Checked<Expr> {
    let (right, order) = ordered(node, &left, right)?;
    let left = at_home(left, order);
    fold(node, Expr::Compare { op, order, left: Box::new(left), right: Box::new(right) })
}

/// The order for two operands, the right one brought to it where it is a constant.
fn ordered(node: &Node, left: &Expr, right: Expr) -> Checked<(Expr, Order)> {
    let order = operators::comparison(left.ty(), right.ty())
        .ok_or_else(|| FilterError::at(node.at, Reason::NoOverload))?;
    Ok((at_home(right, order), order))
}

/// A numeric constant in the type it is compared in, so that no row converts it again.
fn at_home(expr: Expr, order: Order) -> Expr {
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

fn as_text(node: &Node, expr: Expr) -> Checked<Expr> {
    if expr.ty().is_string() && *expr.ty() != Type::Bpchar {
        return Ok(expr);
    }
    cast_to(node, expr, Type::Text, Vec::new())
}

fn cast_to(node: &Node, expr: Expr, ty: Type, modifiers: Vec<i32>) -> Checked<Expr> {
    fold(node, Expr::Cast { operand: Box::new(expr), ty, modifiers })
}

/// One element is a plain comparison; constants are sorted for the search.
fn finish_in(node: &Node, operand: Expr, mut list: Vec<(Expr, Order)>, negated: bool) -> Checked<Expr> {
    if list.len() == 1
        && let Some((element, _)) = list.pop()
    {
        let op = if negated { Comparison::NotEqual } else { Comparison::Equal };
        return compare(node, op, operand, element);
    }
    let order = list.first().map(|(_, order)| *order);
    let uniform = list.iter().all(|(element, o)| element.is_const() && Some(*o) == order);
    let mut constants = None;
    if let Some(order) = order.filter(|_| uniform) {
        constants = sorted(&list, order);
    }
    fold(node, Expr::In { operand: Box::new(operand), list, constants, negated })
}

fn sorted(list: &[(Expr, Order)], order: Order) -> Option<Constants> {
    let among = match order {
        Order::Text { trim_right, .. } => Order::Text { trim_left: trim_right, trim_right },
        order => order,
    };
    let mut failed = false;
    let mut sorted: Vec<Value<'static>> = list
        .iter()
        .filter_map(|(element, _)| match element {
            Expr::Const { value, .. } if *value != Value::Null => Some(value.clone()),
            _ => None,
        })
        .collect();
    let has_null = sorted.len() < list.len();
    sorted.sort_by(|a, b| {
        eval::compare(among, a, b).unwrap_or_else(|_| {
            failed = true;
            std::cmp::Ordering::Equal
        })
    });
    (!failed).then_some(Constants { order, sorted, has_null })
}
