//! Arrays: ARRAY[…], subscripts, ANY and ALL, concatenation.

use super::super::error::{FilterError, Reason};
use super::constant::{at_home, cast_to, fold, meeting, sorted};
use super::{Checked, Checker, Operand, beyond_type};
use crate::filter::data_type::operator;
use crate::filter::data_type::operator::Comparison;
use crate::filter::data_type::ty::Type;
use crate::filter::data_type::value::Value;
use crate::filter::eval::expr::{Expr, Subscript, Test};
use crate::filter::eval::operation::Operator;
use crate::filter::syntax::ast::{Kind, Node, Subscript as Written};

impl Checker<'_> {
    /// `ARRAY[…]`; a cast around it says what the elements are.
    pub(super) fn array(&mut self, node: &Node, elements: &[Node], cast: Option<&Type>) -> Checked<Expr> {
        let is_nested = |element: &Node| matches!(element.kind, Kind::Array(_));
        let mut operands = Vec::with_capacity(elements.len());
        for element in elements {
            operands.push(match &element.kind {
                Kind::Array(inner) => Operand::Typed(self.array(element, inner, cast)?),
                _ => self.operand(element)?,
            });
        }
        let nested = elements.iter().any(is_nested)
            || operands.iter().any(|operand| matches!(operand.ty(), Some(Type::Array(_))));
        let (ty, elements) = match cast {
            Some(element) if !nested => {
                let elements = operands.into_iter().map(|operand| match operand {
                    Operand::Literal(literal) => self.typed(literal, element),
                    Operand::Typed(expr) if expr.ty() == element => Ok(expr),
                    Operand::Typed(expr) if operator::cast(expr.ty(), element) => {
                        cast_to(node, expr, element.clone(), Vec::new())
                    }
                    Operand::Typed(expr) => {
                        let (from, to) = (expr.ty().name().into_owned(), element.name().into_owned());
                        Err(FilterError::at(node.start, Reason::UnknownCast { from, to }))
                    }
                });
                (element.clone(), elements.collect::<Checked<Vec<_>>>()?)
            }
            None if operands.is_empty() => return Err(FilterError::at(node.at, Reason::EmptyArray)),
            _ => self.matched(node, "ARRAY", operands)?,
        };
        let ty = if nested { ty } else { ty.array() };
        fold(node, Expr::Array { elements, nested, ty })
    }

    pub(super) fn subscript(&mut self, node: &Node, array: &Node, written: &[Written]) -> Checked<Expr> {
        let array = self.any(array)?;
        let Type::Array(element) = array.ty() else {
            return Err(beyond_type(node, "a subscript", array.ty()));
        };
        let is_slice = written.iter().any(|subscript| matches!(subscript, Written::Slice(..)));
        let ty = if is_slice { array.ty().clone() } else { (**element).clone() };
        let mut subscripts = Vec::with_capacity(written.len());
        for subscript in written {
            subscripts.push(match subscript {
                Written::Index(index) => Subscript::Index(self.index(index)?),
                Written::Slice(lower, upper) => Subscript::Slice(
                    lower.as_ref().map(|lower| self.index(lower)).transpose()?,
                    upper.as_ref().map(|upper| self.index(upper)).transpose()?,
                ),
            });
        }
        fold(node, Expr::Subscript { array: Box::new(array), subscripts, ty })
    }

    fn index(&mut self, node: &Node) -> Checked<Expr> {
        match self.operand(node)? {
            Operand::Literal(literal) => self.typed(literal, &Type::Int4),
            Operand::Typed(expr) if matches!(expr.ty(), Type::Int2 | Type::Int4) => Ok(expr),
            Operand::Typed(expr) => Err(beyond_type(node, "a subscript", expr.ty())),
        }
    }

    pub(super) fn quantified(
        &mut self,
        node: &Node,
        op: &str,
        operand: &Node,
        array: &Node,
        all: bool,
    ) -> Checked<Expr> {
        let (operand, array) = (self.operand(operand)?, self.operand(array)?);
        let context = if all { "ALL" } else { "ANY" };
        let element = match array.ty() {
            None => None,
            Some(Type::Array(element)) => Some((**element).clone()),
            Some(ty) if ty.is_opaque() => return Err(beyond_type(node, context, ty)),
            Some(_) => return Err(FilterError::at(node.at, Reason::NotArray(context))),
        };
        let left = match operand {
            Operand::Typed(expr) => expr,
            Operand::Literal(literal) => self.typed(literal, element.as_ref().unwrap_or(&Type::Text))?,
        };
        let array = match array {
            Operand::Typed(expr) => expr,
            Operand::Literal(literal) => {
                let ty = match left.ty() {
                    Type::Bit => Type::Varbit,
                    Type::Cidr => Type::Inet,
                    ty if ty.is_opaque() => return Err(beyond_type(node, context, ty)),
                    ty => ty.clone(),
                };
                self.typed(literal, &ty.array())?
            }
        };
        let Some(element) = array.ty().element().cloned() else {
            return Err(FilterError::at(node.at, Reason::NotArray(context)));
        };
        let (test, left) = self.test(node, op, left, &element, &array)?;
        let search = match test {
            Test::Compare(Comparison::Equal, order) if !all && element != Type::Jsonb => Some(order),
            Test::Compare(Comparison::NotEqual, order) if all && element != Type::Jsonb => Some(order),
            _ => None,
        };
        let constants = match (&array, search) {
            (Expr::Const { value: Value::Array(array), .. }, Some(order)) => {
                sorted(array.elements.iter(), order)
            }
            _ => None,
        };
        let (left, array) = (Box::new(left), Box::new(array));
        fold(node, Expr::Quantified { test, left, array, all, constants })
    }

    /// What is asked of each element, and the left side as it is asked for.
    fn test(
        &mut self,
        node: &Node,
        op: &str,
        left: Expr,
        element: &Type,
        array: &Expr,
    ) -> Checked<(Test, Expr)> {
        let like = match op {
            "~~" => Some((false, false)),
            "~~*" => Some((true, false)),
            "!~~" => Some((false, true)),
            "!~~*" => Some((true, true)),
            _ => None,
        };
        if let Some((fold_case, negated)) = like {
            if !left.ty().is_string() || !element.is_string() || *element == Type::Bpchar {
                return Err(beyond_type(node, "LIKE", left.ty()));
            }
            let fold_case = self.case_rules(node, fold_case, &[&left, array])?;
            return Ok((Test::Like(fold_case, negated), left));
        }
        let Some(op) = Comparison::from_op(op) else {
            return Err(FilterError::at(node.at, Reason::UnknownBinary(op.to_owned())));
        };
        let sample = Expr::Const { ty: element.clone(), value: Value::Null };
        let (left, sample) = meeting(node, left, sample)?;
        let order = operator::comparison(left.ty(), element).filter(|_| sample.ty() == element);
        let Some(order) = order else {
            let known = operator::is_complete(left.ty(), element);
            return Err(if known {
                FilterError::at(node.at, Reason::NoOverload)
            } else {
                beyond_type(node, "ANY/ALL", left.ty())
            });
        };
        self.can_order(node, op, &[&left, array])?;
        Ok((Test::Compare(op, order), at_home(left, order)))
    }

    /// `||` where one side at least is an array; a literal is one too.
    pub(super) fn concat_arrays(&mut self, node: &Node, left: Operand, right: Operand) -> Checked<Expr> {
        let (left, right) = self.unified(left, right)?;
        let op = match (left.ty(), right.ty()) {
            (Type::Array(a), Type::Array(b)) if a == b => Operator::ArrayConcat,
            (Type::Array(element), other) if fits(other, element) => Operator::ArrayAppend,
            (other, Type::Array(element)) if fits(other, element) => Operator::ArrayPrepend,
            (a, _) => return Err(beyond_type(node, "||", a)),
        };
        let (left, right) = match op {
            Operator::ArrayAppend => {
                let element = left.ty().element().cloned().unwrap_or(Type::Text);
                (left, self.as_type(node, Operand::Typed(right), &element)?)
            }
            Operator::ArrayPrepend => {
                let element = right.ty().element().cloned().unwrap_or(Type::Text);
                (self.as_type(node, Operand::Typed(left), &element)?, right)
            }
            _ => (left, right),
        };
        self.array_operation(node, op, left, right)
    }

    fn array_operation(&mut self, node: &Node, op: Operator, left: Expr, right: Expr) -> Checked<Expr> {
        let ty = if op == Operator::ArrayPrepend { right.ty().clone() } else { left.ty().clone() };
        fold(node, Expr::Operation { op, ty, operands: vec![left, right] })
    }

    /// `array_append(a, e)` and the other functions whose types depend on each other; `None` for every other
    /// name.
    pub(super) fn array_call(
        &mut self,
        node: &Node,
        name: &str,
        arguments: &[Node],
    ) -> Checked<Option<Expr>> {
        let op = match (name, arguments.len()) {
            ("array_cat", 2) => Operator::ArrayConcat,
            ("array_append", 2) => Operator::ArrayAppend,
            ("array_prepend", 2) => Operator::ArrayPrepend,
            ("array_length", 2) => Operator::ArrayLength,
            ("array_lower", 2) => Operator::ArrayLower,
            ("array_upper", 2) => Operator::ArrayUpper,
            ("array_ndims", 1) => Operator::ArrayDimensions,
            ("cardinality", 1) => Operator::Cardinality,
            _ => return Ok(None),
        };
        let mut operands =
            arguments.iter().map(|argument| self.operand(argument)).collect::<Checked<Vec<_>>>()?;
        let no_overload = |operand: &Operand| match operand.ty() {
            Some(ty) if ty.is_opaque() => beyond_type(node, "an array function", ty),
            _ => FilterError::at(node.at, Reason::NoOverload),
        };
        let second = (operands.len() == 2).then(|| operands.pop()).flatten();
        let Some(first) = operands.pop() else { return Ok(None) };
        let array_of = |operand: &Operand| operand.ty().and_then(Type::element).cloned();
        let (left, right) = match op {
            Operator::ArrayConcat | Operator::ArrayAppend | Operator::ArrayPrepend => {
                let Some(second) = second else { return Ok(None) };
                let front = op == Operator::ArrayPrepend;
                let (array, other) = if front { (&second, &first) } else { (&first, &second) };
                let Some(element) = array_of(array).or_else(|| array_of(other)) else {
                    return Err(no_overload(array));
                };
                let (a, b) = match op {
                    Operator::ArrayConcat => (element.clone().array(), element.array()),
                    Operator::ArrayAppend => (element.clone().array(), element),
                    _ => (element.clone(), element.array()),
                };
                let takes = |operand: &Operand, ty: &Type| operand.ty().is_none_or(|given| fits(given, ty));
                if !takes(&first, &a) || !takes(&second, &b) {
                    return Err(beyond_type(node, "an array function", &a));
                }
                (self.as_type(node, first, &a)?, self.as_type(node, second, &b)?)
            }
            _ => {
                let (true, Operand::Typed(array)) = (array_of(&first).is_some(), first) else {
                    return Err(FilterError::at(node.at, Reason::BeyondCore("an array function")));
                };
                let Some(second) = second else {
                    return fold(node, Expr::Operation { op, ty: Type::Int4, operands: vec![array] })
                        .map(Some);
                };
                let index = match second {
                    Operand::Literal(literal) => self.typed(literal, &Type::Int4)?,
                    Operand::Typed(expr) if matches!(expr.ty(), Type::Int2 | Type::Int4) => expr,
                    other => return Err(no_overload(&other)),
                };
                let operands = vec![array, index];
                return fold(node, Expr::Operation { op, ty: Type::Int4, operands }).map(Some);
            }
        };
        self.array_operation(node, op, left, right).map(Some)
    }
}

/// Whether a value becomes an element without the array having to change its type.
fn fits(given: &Type, element: &Type) -> bool {
    given == element || operator::common([element, given].into_iter()).as_ref() == Some(element)
}
