//! Unary and binary operators.

use super::super::error::{FilterError, Reason};
use super::constant::{as_text, cast_to, fold};
use super::{Checked, Checker, Operand, beyond_type};
use crate::filter::data_type::operator::{Arithmetic, Comparison, Unary};
use crate::filter::data_type::ty::Type;
use crate::filter::data_type::value::Value;
use crate::filter::data_type::{calendar, operator};
use crate::filter::eval::expr::Expr;
use crate::filter::eval::like::Pattern;
use crate::filter::eval::operation::Operator;
use crate::filter::syntax::ast::{Kind, Node};
use crate::pg::Collation;

impl Checker<'_> {
    pub(super) fn unary(&mut self, node: &Node, op: &str, operand: &Node) -> Checked<Expr> {
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
        let fits = match unary {
            Some(Unary::Minus) => ty.is_number() || ty == Type::Interval,
            Some(Unary::BitNot) => ty.is_integer(),
            _ => ty.is_number(),
        };
        if !fits {
            let known = operator::is_complete(&ty, &ty);
            return Err(if known { no_overload } else { beyond_type(node, "a unary operator", &ty) });
        }
        match unary {
            None => Ok(operand),
            Some(op) => {
                let ty = if op == Unary::SquareRoot { Type::Float8 } else { ty };
                fold(node, Expr::Unary { op, ty, operand: Box::new(operand) })
            }
        }
    }

    pub(super) fn binary(&mut self, node: &Node, op: &str, left: &Node, right: &Node) -> Checked<Expr> {
        if let Some(op) = Comparison::from_op(op) {
            if let (Kind::Row(left), Kind::Row(right)) = (&left.kind, &right.kind) {
                return self.compare_rows(node, op, left, right);
            }
            let (left, right) = self.pair(left, right)?;
            return self.compare(node, op, left, right);
        }
        match op {
            "~~" => return self.like(node, left, right, Some('\\'), (false, false)),
            "~~*" => return self.like(node, left, right, Some('\\'), (true, false)),
            "!~~" => return self.like(node, left, right, Some('\\'), (false, true)),
            "!~~*" => return self.like(node, left, right, Some('\\'), (true, true)),
            _ => {}
        }
        let (left, right) = (self.operand(left)?, self.operand(right)?);
        match op {
            "||" => self.concat(node, left, right),
            "@>" | "<@" | "&&" => self.containment(node, op, left, right),
            "->" | "->>" | "#>" | "#>>" | "?" | "?|" | "?&" => self.json(node, op, left, right),
            "^@" => {
                let operands = vec![self.as_string(node, left)?, self.as_string(node, right)?];
                fold(node, Expr::Operation { op: Operator::StartsWith, ty: Type::Bool, operands })
            }
            _ => match Arithmetic::from_op(op) {
                Some(arithmetic) => self.arithmetic(node, arithmetic, left, right),
                None => Err(FilterError::at(node.at, Reason::UnknownBinary(op.to_owned()))),
            },
        }
    }

    pub(super) fn compare(&mut self, node: &Node, op: Comparison, left: Expr, right: Expr) -> Checked<Expr> {
        let (left, right, order) = self.comparable(node, op, left, right)?;
        fold(node, Expr::Compare { op, order, left: Box::new(left), right: Box::new(right) })
    }

    fn arithmetic(&mut self, node: &Node, op: Arithmetic, left: Operand, right: Operand) -> Checked<Expr> {
        let literal = left.ty().is_none() || right.ty().is_none();
        // Beside a timestamp a literal that is added can only be an interval.
        let (left, right) = match (op, left, right) {
            (Arithmetic::Add, Operand::Typed(moment), Operand::Literal(literal)) if is_timestamp(&moment) => {
                let interval = self.typed(literal, &Type::Interval)?;
                (moment, interval)
            }
            (Arithmetic::Add, Operand::Literal(literal), Operand::Typed(moment)) if is_timestamp(&moment) => {
                (self.typed(literal, &Type::Interval)?, moment)
            }
            (_, left, right) => self.unified(left, right)?,
        };
        let Some(ty) = operator::arithmetic(op, left.ty(), right.ty()) else {
            let known = !literal && operator::is_complete(left.ty(), right.ty());
            return Err(if known {
                FilterError::at(node.at, Reason::NoOverload)
            } else {
                beyond_type(node, "an operator", left.ty())
            });
        };
        fold(node, Expr::Arithmetic { op, ty, left: Box::new(left), right: Box::new(right) })
    }

    /// `||`: of arrays, or of texts with anything that is written as one.
    fn concat(&mut self, node: &Node, left: Operand, right: Operand) -> Checked<Expr> {
        let is_array = |operand: &Operand| matches!(operand.ty(), Some(Type::Array(_)));
        if is_array(&left) || is_array(&right) {
            return self.concat_arrays(node, left, right);
        }
        let is_string = |operand: &Operand| operand.ty().is_none_or(Type::is_string);
        for side in [&left, &right] {
            let other = matches!(side.ty(), Some(Type::Jsonb | Type::Bytea | Type::Bit | Type::Varbit));
            if other || side.ty().is_some_and(Type::is_opaque) {
                return Err(beyond_type(node, "||", side.ty().unwrap_or(&Type::Text)));
            }
        }
        if !is_string(&left) && !is_string(&right) {
            return Err(FilterError::at(node.at, Reason::NoOverload));
        }
        let left = self.as_type_or_text(left)?;
        let right = self.as_type_or_text(right)?;
        let (left, right) = (Box::new(as_text(node, left)?), Box::new(as_text(node, right)?));
        fold(node, Expr::Concat { left, right })
    }

    pub(super) fn as_type_or_text(&mut self, operand: Operand) -> Checked<Expr> {
        match operand {
            Operand::Typed(expr) => Ok(expr),
            Operand::Literal(literal) => self.typed(literal, &Type::Text),
        }
    }

    /// An operand of a function or an operator of texts.
    pub(super) fn as_string(&mut self, node: &Node, operand: Operand) -> Checked<Expr> {
        let expr = self.as_type_or_text(operand)?;
        if !expr.ty().is_string() {
            return Err(FilterError::at(node.at, Reason::NoOverload));
        }
        as_text(node, expr)
    }

    fn containment(&mut self, node: &Node, op: &str, left: Operand, right: Operand) -> Checked<Expr> {
        let (left, right) = self.unified(left, right)?;
        let op = match (left.ty(), right.ty()) {
            (Type::Array(a), Type::Array(b)) if a == b && !matches!(**a, Type::Json) => {
                let padded = **a == Type::Bpchar;
                self.can_order(node, Comparison::Equal, &[&left, &right])?;
                match op {
                    "@>" => Operator::ArrayContains { padded },
                    "<@" => Operator::ArrayContained { padded },
                    _ => Operator::ArrayOverlaps { padded },
                }
            }
            (Type::Jsonb, Type::Jsonb) if op == "@>" => Operator::JsonContains,
            (Type::Jsonb, Type::Jsonb) if op == "<@" => Operator::JsonContained,
            (a, b) if operator::is_complete(a, b) => {
                return Err(FilterError::at(node.at, Reason::NoOverload));
            }
            (a, _) => return Err(beyond_type(node, "an operator", a)),
        };
        fold(node, Expr::Operation { op, ty: Type::Bool, operands: vec![left, right] })
    }

    fn json(&mut self, node: &Node, op: &str, left: Operand, right: Operand) -> Checked<Expr> {
        let document = match left {
            Operand::Typed(document) => document,
            // Only `jsonb` has the operators that ask for keys.
            Operand::Literal(literal) if op.starts_with('?') && (op != "?|" || right.ty().is_some()) => {
                self.typed(literal, &Type::Jsonb)?
            }
            Operand::Literal(_) => return Err(FilterError::at(node.at, Reason::NoOverload)),
        };
        let document_type = document.ty().clone();
        let (op, wanted, ty) = match op {
            "->" => (Operator::JsonGet, Type::Text, document_type.clone()),
            "->>" => (Operator::JsonGetText, Type::Text, Type::Text),
            "#>" => (Operator::JsonPath, Type::Text.array(), document_type.clone()),
            "#>>" => (Operator::JsonPathText, Type::Text.array(), Type::Text),
            "?" => (Operator::JsonHas, Type::Text, Type::Bool),
            "?|" => (Operator::JsonHasAny, Type::Text.array(), Type::Bool),
            _ => (Operator::JsonHasAll, Type::Text.array(), Type::Bool),
        };
        let of_json = document_type == Type::Json && ty != Type::Bool;
        if document_type != Type::Jsonb && !of_json {
            let known = operator::is_complete(&document_type, &document_type);
            return Err(if known || document_type == Type::Json {
                FilterError::at(node.at, Reason::NoOverload)
            } else {
                beyond_type(node, "an operator", &document_type)
            });
        }
        let by_index = matches!(op, Operator::JsonGet | Operator::JsonGetText);
        let key = match right {
            Operand::Literal(literal) => self.typed(literal, &wanted)?,
            Operand::Typed(key) if *key.ty() == wanted => key,
            Operand::Typed(key) if by_index && matches!(key.ty(), Type::Int2 | Type::Int4) => key,
            Operand::Typed(key) if wanted == Type::Text && key.ty().is_string() => as_text(node, key)?,
            Operand::Typed(key)
                if wanted != Type::Text && key.ty().element().is_some_and(Type::is_string) =>
            {
                cast_to(node, key, wanted, Vec::new())?
            }
            Operand::Typed(_) => return Err(FilterError::at(node.at, Reason::NoOverload)),
        };
        fold(node, Expr::Operation { op, ty, operands: vec![document, key] })
    }

    pub(super) fn escape(&self, escape: Option<&Node>) -> Checked<Option<char>> {
        let Some(node) = escape else { return Ok(Some('\\')) };
        let Kind::Text(text) = &node.kind else {
            return Err(FilterError::at(node.at, Reason::BeyondCore("ESCAPE of an expression")));
        };
        let mut symbols = text.chars();
        match (symbols.next(), symbols.next()) {
            (first, None) => Ok(first),
            _ => Err(FilterError::at(node.at, Reason::InvalidEscape)),
        }
    }

    /// The flags: ILIKE, NOT.
    pub(super) fn like(
        &mut self,
        node: &Node,
        operand: &Node,
        pattern: &Node,
        escape: Option<char>,
        (fold_case, negated): (bool, bool),
    ) -> Checked<Expr> {
        let (operand, pattern) = (self.any(operand)?, self.any(pattern)?);
        if *operand.ty() == Type::Bytea || operand.ty().is_opaque() {
            return Err(beyond_type(node, "LIKE", operand.ty()));
        }
        if !operand.ty().is_string() || !pattern.ty().is_string() {
            return Err(FilterError::at(node.at, Reason::NoOverload));
        }
        let pattern = as_text(node, pattern)?;
        let fold_case = self.case_rules(node, fold_case, &[&operand, &pattern])?;
        let mut compiled = None;
        if let Expr::Const { value: Value::Text(text), .. } = &pattern {
            let ends_early = || FilterError::at(node.at, Reason::PatternEndsWithEscape);
            let text = String::from_utf8_lossy(text);
            compiled = Some(Pattern::new(&text, escape, fold_case).ok_or_else(ends_early)?);
        }
        let (operand, pattern) = (Box::new(operand), Box::new(pattern));
        fold(node, Expr::Like { operand, pattern, escape, compiled, fold_case, negated })
    }

    /// The collation by which ILIKE folds case; LIKE only needs that equal texts have equal bytes.
    pub(super) fn case_rules(
        &self,
        node: &Node,
        fold_case: bool,
        operands: &[&Expr],
    ) -> Checked<Option<Collation>> {
        match self.collation(operands) {
            Some(known @ (Collation::C | Collation::CodePoint)) => Ok(fold_case.then_some(known)),
            Some(Collation::Linguistic) | None if !fold_case => Ok(None),
            _ => Err(FilterError::at(node.at, Reason::BeyondCore("ILIKE under a language's collation"))),
        }
    }

    /// `operand AT TIME ZONE zone`, where the zone is always at the same distance from UTC.
    pub(super) fn at_time_zone(&mut self, node: &Node, operand: Operand, zone: Operand) -> Checked<Expr> {
        let zone = self.as_type_or_text(zone)?;
        let east = match &zone {
            Expr::Const { value: Value::Text(name), .. } => {
                calendar::fixed_zone(&String::from_utf8_lossy(name))
            }
            Expr::Const { value: Value::Interval(by), .. } if by.months == 0 && by.days == 0 => {
                Some(by.micros)
            }
            _ => None,
        };
        let east =
            east.ok_or_else(|| FilterError::at(node.at, Reason::BeyondCore("AT TIME ZONE of that zone")))?;
        // A literal is taken for the preferred one of the two.
        let operand = match operand {
            Operand::Literal(literal) => self.typed(literal, &Type::Timestamptz)?,
            Operand::Typed(expr) => expr,
        };
        let (operand, ty) = match operand.ty() {
            Type::Timestamp => (operand, Type::Timestamptz),
            Type::Timestamptz => (operand, Type::Timestamp),
            Type::Date => (cast_to(node, operand, Type::Timestamptz, Vec::new())?, Type::Timestamp),
            other => return Err(beyond_type(node, "AT TIME ZONE", other)),
        };
        let op = Operator::AtZone { east, to_local: ty == Type::Timestamp };
        fold(node, Expr::Operation { op, ty, operands: vec![operand, zone] })
    }
}

fn is_timestamp(expr: &Expr) -> bool {
    matches!(expr.ty(), Type::Timestamp | Type::Timestamptz)
}
