//! CASE, COALESCE, GREATEST, LEAST and NULLIF: several expressions of which one is the result, all brought to
//! one type.

use super::super::error::{FilterError, Reason};
use super::constant::{cast_to, fold};
use super::{Checked, Checker, Operand, beyond_type};
use crate::filter::data_type::operator;
use crate::filter::data_type::operator::{Comparison, Order};
use crate::filter::data_type::ty::Type;
use crate::filter::eval::expr::Expr;
use crate::filter::syntax::ast::Node;

impl Checker<'_> {
    /// `CASE x WHEN v` asks whether `x = v`.
    pub(super) fn case(
        &mut self,
        node: &Node,
        operand: Option<&Node>,
        arms: &[(Node, Node)],
        otherwise: Option<&Node>,
    ) -> Checked<Expr> {
        let operand = operand.map(|operand| self.any(operand)).transpose()?;
        let mut conditions = Vec::with_capacity(arms.len());
        for (condition, _) in arms {
            conditions.push(match &operand {
                None => self.boolean(condition)?,
                Some(operand) => {
                    self.spend(condition, operand.terms())?;
                    let value = self.operand(condition)?;
                    let (left, right) = self.unified(Operand::Typed(operand.clone()), value)?;
                    self.compare(condition, Comparison::Equal, left, right)?
                }
            });
        }
        let mut results = Vec::with_capacity(arms.len() + 1);
        // Postgres looks at ELSE first for the common type.
        for result in otherwise.into_iter().chain(arms.iter().map(|(_, result)| result)) {
            results.push(self.operand(result)?);
        }
        let (ty, results) = self.matched(node, "CASE", results)?;
        let mut results = results.into_iter();
        let otherwise = otherwise.and_then(|_| results.next()).map(Box::new);
        let arms = conditions.into_iter().zip(results).collect();
        fold(node, Expr::Case { arms, otherwise, ty })
    }

    pub(super) fn coalesce(&mut self, node: &Node, list: &[Node]) -> Checked<Expr> {
        let list = list.iter().map(|term| self.operand(term)).collect::<Checked<_>>()?;
        let (ty, terms) = self.matched(node, "COALESCE", list)?;
        fold(node, Expr::Coalesce { terms, ty })
    }

    pub(super) fn extreme(&mut self, node: &Node, greatest: bool, list: &[Node]) -> Checked<Expr> {
        let list = list.iter().map(|term| self.operand(term)).collect::<Checked<_>>()?;
        let name = if greatest { "GREATEST" } else { "LEAST" };
        let (ty, terms) = self.matched(node, name, list)?;
        let order = operator::comparison(&ty, &ty).ok_or_else(|| beyond_type(node, name, &ty))?;
        self.can_order(node, Comparison::Less, &terms.iter().collect::<Vec<_>>())?;
        fold(node, Expr::Extreme { greatest, order, terms, ty })
    }

    /// The result has the type that the comparison gives the first argument.
    pub(super) fn null_if(&mut self, node: &Node, left: &Node, right: &Node) -> Checked<Expr> {
        let (left, right) = self.pair(left, right)?;
        let (left, right, order) = self.comparable(node, Comparison::Equal, left, right)?;
        let left = match order {
            Order::Numeric if *left.ty() != Type::Numeric => cast_to(node, left, Type::Numeric, Vec::new())?,
            Order::Float if !left.ty().is_float() => cast_to(node, left, Type::Float8, Vec::new())?,
            Order::Text { trim_left: false, .. } if *left.ty() != Type::Text => {
                cast_to(node, left, Type::Text, Vec::new())?
            }
            Order::Text { trim_left: true, .. }
                if *left.ty() != Type::Bpchar || *right.ty() == Type::Text =>
            {
                return Err(beyond_type(node, "NULLIF", left.ty()));
            }
            Order::Natural if left.ty() != right.ty() && !left.ty().is_integer() => {
                return Err(beyond_type(node, "NULLIF", left.ty()));
            }
            _ => left,
        };
        fold(node, Expr::NullIf { order, left: Box::new(left), right: Box::new(right) })
    }

    /// The common type, and the operands brought to it. Literals alone are texts.
    pub(super) fn matched(
        &mut self,
        node: &Node,
        context: &'static str,
        operands: Vec<Operand>,
    ) -> Checked<(Type, Vec<Expr>)> {
        let types: Vec<&Type> = operands.iter().filter_map(Operand::ty).collect();
        let ty = match types.as_slice() {
            [] => Type::Text,
            [first, ..] => match operator::common(types.iter().copied()) {
                Some(common) => common,
                None => {
                    let other = types.iter().find(|ty| *ty != first).unwrap_or(first);
                    let (left, right) = (first.name().into_owned(), other.name().into_owned());
                    return Err(FilterError::at(node.at, Reason::NotMatched { context, left, right }));
                }
            },
        };
        if ty.is_opaque() {
            return Err(beyond_type(node, context, &ty));
        }
        let exprs = operands.into_iter().map(|operand| self.as_type(node, operand, &ty));
        let exprs = exprs.collect::<Checked<_>>()?;
        Ok((ty, exprs))
    }
}
