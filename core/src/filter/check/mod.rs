//! From the clause as written to typed expressions: names looked up, literals and parameters given their types
//! by context, operators chosen, constants folded. What core cannot evaluate exactly ends here with an error.

mod array;
mod call;
mod choice;
mod constant;
mod list;
mod operation;

use super::data_type::operator;
use super::data_type::operator::{Comparison, Order};
use super::data_type::ty::Type;
use super::data_type::value::Value;
use super::error::{FilterError, Reason};
use super::eval::expr::Expr;
use super::limits::{MAX_DEPTH, MAX_TERMS};
use super::syntax::ast::{Kind, Node, Truth};
use super::syntax::lexer::spelled;
use crate::pg::{Collation, Column};
use constant::{fold, number};
use std::collections::BTreeMap;

/// Rows of an IN list and arms of a CASE repeat their operand.
const MAX_EFFORT: usize = 8 * MAX_TERMS;

pub(super) struct Checker<'a> {
    pub(super) columns: &'a [Column],
    params: &'a BTreeMap<u32, String>,
    /// The one type each parameter has, once something decided on it.
    param_types: BTreeMap<u32, Type>,
    /// Nodes checked, some of them several times, and expressions copied.
    effort: usize,
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

    fn is_null_literal(&self) -> bool {
        matches!(self, Self::Literal(Literal { text: None, .. }))
    }
}

/// A string literal, NULL, or a parameter.
struct Literal {
    at: usize,
    text: Option<String>,
    param: Option<u32>,
}

pub(super) use call::refuse_not_immutable;
pub(super) use constant::may_read_clock;

pub(super) type Checked<T> = Result<T, FilterError>;

impl<'a> Checker<'a> {
    pub(super) fn new(columns: &'a [Column], params: &'a BTreeMap<u32, String>) -> Self {
        Self { columns, params, param_types: BTreeMap::new(), effort: 0 }
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
        within_limits(node, expr)
    }

    /// One term of a larger clause.
    pub(super) fn term(&mut self, node: &Node) -> Checked<Expr> {
        within_limits(node, self.boolean(node)?)
    }

    /// What one part of a clause multiplies must not grow beyond all measure where parts stand in parts.
    fn spend(&mut self, node: &Node, effort: usize) -> Checked<()> {
        self.effort += effort;
        if self.effort > MAX_EFFORT { Err(FilterError::at(node.at, Reason::TooManyTerms)) } else { Ok(()) }
    }

    fn operand(&mut self, node: &Node) -> Checked<Operand> {
        self.spend(node, 1)?;
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
            Kind::And(terms) => constant::and(node, self.booleans(terms)?)?,
            Kind::Or(terms) => constant::or(node, self.booleans(terms)?)?,
            Kind::Not(operand) => fold(node, Expr::Not(Box::new(self.boolean(operand)?)))?,
            Kind::IsNull { operand, negated } => self.is_null(node, operand, *negated)?,
            Kind::IsTruth { operand, truth, negated } => self.is_truth(node, operand, *truth, *negated)?,
            Kind::Unary { op, operand } => self.unary(node, op, operand)?,
            Kind::Binary { op, left, right } => self.binary(node, op, left, right)?,
            Kind::Distinct { left, right, negated } => self.distinct(node, left, right, *negated)?,
            Kind::In { operand, list, negated } => self.in_list(node, operand, list, *negated)?,
            Kind::Between { operand, low, high, symmetric, negated } => {
                self.between(node, [operand, low, high], (*symmetric, *negated))?
            }
            Kind::Like { operand, pattern, escape, fold_case, negated } => {
                let escape = self.escape(escape.as_deref())?;
                self.like(node, operand, pattern, escape, (*fold_case, *negated))?
            }
            Kind::Cast { operand, ty } => self.cast(node, operand, ty)?,
            Kind::Call { variadic: true, .. } => return Err(FilterError::at(at, Reason::Variadic)),
            Kind::Call { name, arguments, .. } => self.call(node, name, arguments)?,
            Kind::Bits(_) => return Err(FilterError::at(at, Reason::BitString)),
            Kind::Collate { .. } => return Err(beyond(at, "CollateClause")),
            Kind::Similar { .. } => return Err(beyond(at, "SIMILAR TO")),
            Kind::Normalized { .. } => return Err(beyond(at, "IS NORMALIZED")),
            Kind::Field { .. } => return Err(beyond(at, "A_Indirection")),
            Kind::Overlaps(_) => return Err(beyond(at, "OVERLAPS")),
            Kind::Member { .. } => return Err(FilterError::at(at, Reason::Sublink)),
            Kind::Row(_) => return Err(FilterError::at(at, Reason::BeyondCore("RowExpr"))),
            Kind::Array(elements) => self.array(node, elements, None)?,
            Kind::Subscript { array, subscripts } => self.subscript(node, array, subscripts)?,
            Kind::Quantified { op, operand, array, all } => {
                self.quantified(node, op, operand, array, *all)?
            }
            Kind::Case { operand, arms, otherwise } => {
                self.case(node, operand.as_deref(), arms, otherwise.as_deref())?
            }
            Kind::Coalesce(list) => self.coalesce(node, list)?,
            Kind::Extreme { greatest, list } => self.extreme(node, *greatest, list)?,
            Kind::NullIf(left, right) => self.null_if(node, left, right)?,
            Kind::AtTimeZone { operand, zone } => {
                let (operand, zone) = (self.operand(operand)?, self.operand(zone)?);
                self.at_time_zone(node, operand, zone)?
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

    pub(super) fn column(&mut self, at: usize, parts: &[String]) -> Checked<Expr> {
        let unknown = || {
            let name: Vec<String> = parts.iter().map(|part| spelled(part)).collect();
            FilterError::at(at, Reason::UnknownReference(name.join(".")))
        };
        let [name] = parts else { return Err(unknown()) };
        let (index, column) =
            self.columns.iter().enumerate().find(|(_, c)| c.name == *name).ok_or_else(unknown)?;
        let collation = column.typing.collation;
        Ok(Expr::Column { index, name: name.clone(), ty: Type::of_column(column), collation })
    }

    /// Without a context a literal is a text.
    fn any(&mut self, node: &Node) -> Checked<Expr> {
        match self.operand(node)? {
            Operand::Typed(expr) => Ok(expr),
            Operand::Literal(literal) => self.typed(literal, &Type::Text),
        }
    }

    fn boolean(&mut self, node: &Node) -> Checked<Expr> {
        self.boolean_or(node, node.at, |ty| Reason::NotCastableToBool(ty.name().into_owned()))
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

    /// A row is null when all its fields are, and not null when none is.
    fn is_null(&mut self, node: &Node, operand: &Node, negated: bool) -> Checked<Expr> {
        let null = |operand: Expr| fold(node, Expr::IsNull { operand: Box::new(operand), negated });
        let Kind::Row(fields) = &operand.kind else { return null(self.any(operand)?) };
        let fields: Vec<Expr> = fields.iter().map(|field| null(self.any(field)?)).collect::<Checked<_>>()?;
        constant::and(node, fields)
    }

    fn is_truth(&mut self, node: &Node, operand: &Node, truth: Truth, negated: bool) -> Checked<Expr> {
        let context = match (truth, negated) {
            (Truth::True, false) => "IS TRUE",
            (Truth::True, true) => "IS NOT TRUE",
            (Truth::False, false) => "IS FALSE",
            (Truth::False, true) => "IS NOT FALSE",
            (Truth::Unknown, false) => "IS UNKNOWN",
            (Truth::Unknown, true) => "IS NOT UNKNOWN",
        };
        let wrong = |ty: &Type| Reason::ArgumentNotBool { context, ty: ty.name().into_owned() };
        let operand = Box::new(self.boolean_or(operand, node.at, wrong)?);
        fold(node, Expr::IsTruth { operand, truth, negated })
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

    /// An operand as a type that literals take and other types are cast to implicitly.
    fn as_type(&mut self, node: &Node, operand: Operand, ty: &Type) -> Checked<Expr> {
        match operand {
            Operand::Literal(literal) => self.typed(literal, ty),
            Operand::Typed(expr) if expr.ty() == ty => Ok(expr),
            Operand::Typed(expr) => constant::cast_to(node, expr, ty.clone(), Vec::new()),
        }
    }

    fn distinct(&mut self, node: &Node, left: &Node, right: &Node, negated: bool) -> Checked<Expr> {
        let (left, right) = (self.operand(left)?, self.operand(right)?);
        let null = || Expr::Const { ty: Type::Text, value: Value::Null };
        let (order, left, right) = match (left, right) {
            // Only nullness counts, so that the other side may be of any type but a row.
            (Operand::Typed(left), right) if right.is_null_literal() => (None, left, null()),
            (left, Operand::Typed(right)) if left.is_null_literal() => (None, null(), right),
            (left, right) => {
                let (left, right) = self.unified(left, right)?;
                let (left, right, order) = self.comparable(node, Comparison::Equal, left, right)?;
                (Some(order), left, right)
            }
        };
        let is_row = |expr: &Expr| matches!(expr.ty(), Type::Opaque { composite: true, .. });
        if is_row(&left) || is_row(&right) {
            return Err(beyond_type(node, "IS DISTINCT FROM", left.ty()));
        }
        fold(node, Expr::Distinct { order, left: Box::new(left), right: Box::new(right), negated })
    }

    /// Two operands, brought to one type where only a cast makes them comparable, and their order.
    fn comparable(
        &self,
        node: &Node,
        op: Comparison,
        left: Expr,
        right: Expr,
    ) -> Checked<(Expr, Expr, Order)> {
        let (left, right) = constant::meeting(node, left, right)?;
        let Some(order) = operator::comparison(left.ty(), right.ty()) else {
            return Err(if operator::is_complete(left.ty(), right.ty()) {
                FilterError::at(node.at, Reason::NoOverload)
            } else {
                let odd = if left.ty().is_opaque() { right.ty() } else { left.ty() };
                let odd = if operator::is_complete(odd, odd) { right.ty() } else { odd };
                beyond_type(node, "a comparison", if left.ty().is_opaque() { left.ty() } else { odd })
            });
        };
        self.can_order(node, op, &[&left, &right])?;
        let (left, right) = (constant::at_home(left, order), constant::at_home(right, order));
        Ok((left, right, order))
    }

    /// Whether the order of the operands is one that core knows. For equality the bytes decide.
    fn can_order(&self, node: &Node, op: Comparison, operands: &[&Expr]) -> Checked<()> {
        let innermost = operands.iter().map(|expr| expr.ty().element().unwrap_or(expr.ty()));
        let equality = matches!(op, Comparison::Equal | Comparison::NotEqual);
        for ty in innermost {
            if *ty == Type::Jsonb && !equality {
                return Err(beyond_type(node, "the order", ty));
            }
            if !ty.is_string() {
                continue;
            }
            let met = self.collations(operands);
            let known = if equality {
                !met.contains(&Collation::Nondeterministic)
            } else {
                met.iter().all(|met| matches!(met, Collation::C | Collation::CodePoint))
            };
            if !known {
                return Err(beyond_type(node, "the order of a language", ty));
            }
        }
        Ok(())
    }

    /// The one collation of an operation, where there is one.
    fn collation(&self, operands: &[&Expr]) -> Option<Collation> {
        match self.collations(operands).as_slice() {
            [only] => Some(*only),
            _ => None,
        }
    }

    /// The collations that meet in an operation.
    fn collations(&self, operands: &[&Expr]) -> Vec<Collation> {
        let mut met = Vec::new();
        for operand in operands {
            collect_collations(operand, &mut met);
        }
        if met.is_empty() { vec![self.database_collation()] } else { met }
    }

    /// Columns without a collation of their own tell that of the database.
    fn database_collation(&self) -> Collation {
        let collated = |column: &Column| Type::of_column(column).is_string();
        let column = self.columns.iter().find(|column| !collated(column)).or(self.columns.first());
        column.map_or_else(Collation::default, |column| column.typing.collation)
    }
}

fn within_limits(node: &Node, expr: Expr) -> Checked<Expr> {
    if expr.terms() > MAX_TERMS {
        return Err(FilterError::at(node.start, Reason::TooManyTerms));
    }
    // Written out, a constant is one level deeper: the canonical text must pass the same limit.
    if expr.depth() >= MAX_DEPTH {
        return Err(FilterError::at(node.start, Reason::TooDeep));
    }
    Ok(expr)
}

fn collect_collations(expr: &Expr, met: &mut Vec<Collation>) {
    if let Expr::Column { collation, .. } = expr
        && !met.contains(collation)
    {
        met.push(*collation);
    }
    for child in expr.children() {
        collect_collations(child, met);
    }
}

fn beyond(at: usize, what: &'static str) -> FilterError {
    FilterError::at(at, Reason::BeyondCore(what))
}

fn beyond_type(node: &Node, what: &'static str, ty: &Type) -> FilterError {
    FilterError::at(node.at, Reason::BeyondType { what, ty: ty.name().into_owned() })
}
