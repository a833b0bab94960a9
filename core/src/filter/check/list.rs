//! IN and BETWEEN, which compare one operand with several, and rows.

use super::super::error::{FilterError, Reason};
use super::constant::{and, cast_to, fold, or, sorted};
use super::{Checked, Checker, Operand};
use crate::filter::data_type::operator;
use crate::filter::data_type::operator::{Comparison, Order};
use crate::filter::data_type::ty::Type;
use crate::filter::data_type::value::Value;
use crate::filter::eval::expr::Expr;
use crate::filter::syntax::ast::{Kind, Node};

impl Checker<'_> {
    /// The flags: SYMMETRIC, NOT.
    pub(super) fn between(
        &mut self,
        node: &Node,
        [operand, low, high]: [&Node; 3],
        (symmetric, negated): (bool, bool),
    ) -> Checked<Expr> {
        let operand = self.operand(operand)?;
        let bounds = [self.operand(low)?, self.operand(high)?];
        let operand = match operand {
            Operand::Typed(expr) => expr,
            Operand::Literal(literal) => {
                let ty = only_type(node, bounds.iter().filter_map(Operand::ty))?;
                two_literals(node, &ty, bounds.iter().any(|bound| bound.ty().is_none()))?;
                self.typed(literal, &ty)?
            }
        };
        self.can_order(node, Comparison::Less, &[&operand])?;
        let mut bound = |bound: Operand| {
            let bound = match bound {
                Operand::Typed(expr) => expr,
                Operand::Literal(literal) => self.typed(literal, operand.ty())?,
            };
            self.beside(node, Comparison::Less, operand.ty(), bound).map(Box::new)
        };
        let [low, high] = bounds;
        let (low, high) = (bound(low)?, bound(high)?);
        fold(node, Expr::Between { operand: Box::new(operand), low, high, symmetric, negated })
    }

    /// An element beside an operand of a type, which it keeps.
    fn beside(&self, node: &Node, op: Comparison, operand: &Type, element: Expr) -> Checked<(Expr, Order)> {
        let sample = Expr::Const { ty: operand.clone(), value: Value::Null };
        let (left, element, order) = self.comparable(node, op, sample, element)?;
        if left.ty() == operand {
            Ok((element, order))
        } else {
            Err(FilterError::at(node.at, Reason::BeyondCore("operands of several types")))
        }
    }

    /// `IN (…)`. Postgres brings the elements that read no column to one type, where there are at least two of
    /// them and they have one; every other element is compared for itself.
    pub(super) fn in_list(
        &mut self,
        node: &Node,
        operand: &Node,
        list: &[Node],
        negated: bool,
    ) -> Checked<Expr> {
        if let Kind::Row(fields) = &operand.kind {
            return self.in_rows(node, fields, list, negated);
        }
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
            common = operator::common(types.clone()).or(types.clone().next().is_none().then_some(Type::Text));
        }
        let operand = match operand {
            Operand::Typed(expr) => expr,
            Operand::Literal(literal) => {
                let others = list.iter().filter(|element| common.is_none() || !free(element));
                let ty = only_type(node, common.iter().chain(others.filter_map(Operand::ty)))?;
                let apart = common.is_none() && list.iter().any(|element| element.ty().is_none());
                two_literals(node, &ty, apart)?;
                self.typed(literal, &ty)?
            }
        };
        self.can_order(node, Comparison::Equal, &[&operand])?;
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
            elements.push(self.beside(node, Comparison::Equal, operand.ty(), element)?);
        }
        self.finish_in(node, operand, elements, negated)
    }

    /// One element is a plain comparison; constants are sorted for the search.
    fn finish_in(
        &mut self,
        node: &Node,
        operand: Expr,
        mut list: Vec<(Expr, Order)>,
        negated: bool,
    ) -> Checked<Expr> {
        if list.len() == 1
            && let Some((element, _)) = list.pop()
        {
            let op = if negated { Comparison::NotEqual } else { Comparison::Equal };
            return self.compare(node, op, operand, element);
        }
        let values: Vec<&Value<'static>> = list
            .iter()
            .filter_map(|(element, _)| match element {
                Expr::Const { value, .. } => Some(value),
                _ => None,
            })
            .collect();
        let order = list.first().map(|(_, order)| *order);
        let uniform = values.len() == list.len() && list.iter().all(|(_, o)| Some(*o) == order);
        let documents = *operand.ty() == Type::Jsonb || operand.ty().element() == Some(&Type::Jsonb);
        let constants = order.filter(|_| uniform && !documents).and_then(|o| sorted(values.into_iter(), o));
        fold(node, Expr::In { operand: Box::new(operand), list, constants, negated })
    }

    /// `(a, b) IN ((1, 2), …)`
    fn in_rows(&mut self, node: &Node, fields: &[Node], list: &[Node], negated: bool) -> Checked<Expr> {
        let op = if negated { Comparison::NotEqual } else { Comparison::Equal };
        let mut terms = Vec::with_capacity(list.len());
        for element in list {
            let Kind::Row(values) = &element.kind else {
                return Err(FilterError::at(element.at, Reason::BeyondCore("RowExpr")));
            };
            terms.push(self.compare_rows(node, op, fields, values)?);
        }
        if negated { and(node, terms) } else { or(node, terms) }
    }

    /// `(a, b) < (c, d)`: the first fields that differ decide.
    pub(super) fn compare_rows(
        &mut self,
        node: &Node,
        op: Comparison,
        left: &[Node],
        right: &[Node],
    ) -> Checked<Expr> {
        if left.len() != right.len() || left.is_empty() {
            return Err(FilterError::at(node.at, Reason::RowLength));
        }
        match op {
            Comparison::Equal | Comparison::NotEqual => {
                let terms = left.iter().zip(right).map(|(left, right)| {
                    let (left, right) = self.pair(left, right)?;
                    self.compare(node, op, left, right)
                });
                let terms = terms.collect::<Checked<Vec<_>>>()?;
                if op == Comparison::Equal { and(node, terms) } else { or(node, terms) }
            }
            _ => self.order_rows(node, op, left, right),
        }
    }

    fn order_rows(&mut self, node: &Node, op: Comparison, left: &[Node], right: &[Node]) -> Checked<Expr> {
        let (mut orders, mut lefts, mut rights) = (Vec::new(), Vec::new(), Vec::new());
        for (left, right) in left.iter().zip(right) {
            let (left, right) = self.pair(left, right)?;
            let (left, right, order) = self.comparable(node, op, left, right)?;
            orders.push(order);
            lefts.push(left);
            rights.push(right);
        }
        if let ([left], [right], [order]) = (lefts.as_slice(), rights.as_slice(), orders.as_slice()) {
            let (left, right) = (Box::new(left.clone()), Box::new(right.clone()));
            return fold(node, Expr::Compare { op, order: *order, left, right });
        }
        fold(node, Expr::CompareRows { op, orders, left: lefts, right: rights })
    }
}

/// Two literals are compared as texts, whatever the first one is compared with besides.
fn two_literals(node: &Node, ty: &Type, met: bool) -> Checked<()> {
    if met && !matches!(ty, Type::Text | Type::Varchar) {
        return Err(FilterError::at(
            node.at,
            Reason::BeyondCore("a literal beside operands of several types"),
        ));
    }
    Ok(())
}

/// The type of a literal that is compared with several operands. Postgres would give it another type for each;
/// where that could make a difference the clause is refused.
fn only_type<'t>(node: &Node, mut types: impl Iterator<Item = &'t Type>) -> Checked<Type> {
    let first = types.next().unwrap_or(&Type::Text);
    let plain = |ty: &Type| matches!(ty, Type::Text | Type::Varchar);
    let alike =
        |ty: &Type| ty == first || (ty.is_integer() && first.is_integer()) || (plain(ty) && plain(first));
    if types.all(alike) {
        Ok(first.clone())
    } else {
        Err(FilterError::at(node.at, Reason::BeyondCore("a literal beside operands of several types")))
    }
}
