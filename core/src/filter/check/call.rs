//! Calls of functions: which one is meant, and which never can be in a shape.

use super::super::error::{FilterError, Reason};
use super::constant::{cast_to, fold};
use super::{Checked, Checker, Operand, beyond_type};
use crate::filter::data_type::ty::Type;
use crate::filter::data_type::value::Value;
use crate::filter::data_type::{calendar, operator};
use crate::filter::eval::expr::Expr;
use crate::filter::eval::function::{self, Choice, Function};
use crate::filter::syntax::ast::Node;
use crate::pg::Collation;

/// Functions that read the clock, the session, other rows, or chance. Those whose names begin with `pg_` are
/// all taken for such.
const NOT_IMMUTABLE: &[&str] = &[
    "clock_timestamp",
    "current_database",
    "current_query",
    "current_schema",
    "current_schemas",
    "current_setting",
    "currval",
    "gen_random_uuid",
    "inet_client_addr",
    "inet_client_port",
    "inet_server_addr",
    "inet_server_port",
    "lastval",
    "nextval",
    "now",
    "random",
    "set_config",
    "setseed",
    "setval",
    "statement_timestamp",
    "timeofday",
    "transaction_timestamp",
    "txid_current",
    "txid_current_if_assigned",
    "txid_current_snapshot",
    "uuidv4",
    "uuidv7",
    "version",
];

/// The name of a function of Postgres's own, or one that may be.
fn catalog_name(path: &[String]) -> Option<&str> {
    match path {
        [name] => Some(name),
        [schema, name] if schema == "pg_catalog" => Some(name),
        _ => None,
    }
}

/// Functions by whose very name no shape can have them.
pub(in super::super) fn refuse_not_immutable(node: &Node, path: &[String], arity: usize) -> Checked<()> {
    let Some(name) = catalog_name(path) else { return Ok(()) };
    let reads_clock = name == "age" && arity == 1;
    if reads_clock || name.starts_with("pg_") || NOT_IMMUTABLE.binary_search(&name).is_ok() {
        let name = name.to_owned();
        return Err(FilterError::at(node.at, Reason::NotImmutable { name, arity }));
    }
    Ok(())
}

impl Checker<'_> {
    pub(super) fn call(&mut self, node: &Node, path: &[String], arguments: &[Node]) -> Checked<Expr> {
        refuse_not_immutable(node, path, arguments.len())?;
        let joined = path.join(".");
        let name = catalog_name(path).unwrap_or(&joined);
        match (name, arguments) {
            ("like", [text, pattern]) => {
                return self.like(node, text, pattern, Some('\\'), (false, false));
            }
            ("notlike", [text, pattern]) => {
                return self.like(node, text, pattern, Some('\\'), (false, true));
            }
            ("timezone", [zone, operand]) => {
                let (zone, operand) = (self.operand(zone)?, self.operand(operand)?);
                return self.at_time_zone(node, operand, zone);
            }
            _ => {}
        }
        if let Some(expr) = self.array_call(node, name, arguments)? {
            return Ok(expr);
        }
        let operands =
            arguments.iter().map(|argument| self.operand(argument)).collect::<Checked<Vec<_>>>()?;
        if !function::is_known(name) {
            return self.cast_call(node, name, operands);
        }
        let given: Vec<Option<&Type>> = operands.iter().map(Operand::ty).collect();
        let function = match function::choose(name, &given) {
            Choice::Found(function) => function,
            Choice::Other => return Err(FilterError::at(node.at, Reason::BeyondCore("this function"))),
            Choice::None => {
                let names =
                    given.iter().map(|ty| ty.map_or("unknown".into(), Type::name)).collect::<Vec<_>>();
                let (name, arguments) = (name.to_owned(), names.join(", "));
                return Err(FilterError::at(node.at, Reason::NoFunctionOverload { name, arguments }));
            }
        };
        self.apply(node, function, operands)
    }

    fn apply(&mut self, node: &Node, function: &'static Function, operands: Vec<Operand>) -> Checked<Expr> {
        let mut arguments = Vec::with_capacity(operands.len());
        for (i, operand) in operands.into_iter().enumerate() {
            arguments.push(match (function.arguments.get(i), operand) {
                (Some(ty), operand) => self.as_type(node, operand, ty)?,
                (None, operand) => self.as_type_or_text(operand)?,
            });
        }
        for argument in arguments.iter().skip(function.arguments.len()) {
            if argument.ty().is_opaque() {
                return Err(beyond_type(node, "an argument", argument.ty()));
            }
        }
        self.check_field(node, function, &arguments)?;
        let collation = match self.collation(&arguments.iter().collect::<Vec<_>>()) {
            Some(known @ (Collation::C | Collation::CodePoint)) => known,
            _ if function.collated => {
                return Err(FilterError::at(
                    node.at,
                    Reason::BeyondCore("case under a language's collation"),
                ));
            }
            Some(Collation::Nondeterministic) if function.arguments.contains(&Type::Text) => {
                return Err(FilterError::at(node.at, Reason::BeyondCore("a function of such a collation")));
            }
            _ => Collation::C,
        };
        fold(node, Expr::Call { function, arguments, collation })
    }

    /// `extract`, `date_part` and `date_trunc` are told by a constant what they are to do.
    fn check_field(&self, node: &Node, function: &Function, arguments: &[Expr]) -> Checked<()> {
        let known: fn(&str, bool) -> bool = match function.name {
            "extract" | "date_part" => calendar::is_field,
            "date_trunc" => |name, _| calendar::is_precision(name),
            _ => return Ok(()),
        };
        let of_date = arguments.get(1).is_some_and(|argument| *argument.ty() == Type::Date);
        let field = match arguments.first() {
            Some(Expr::Const { value: Value::Text(field), .. }) => String::from_utf8_lossy(field),
            _ => "".into(),
        };
        let of_date = of_date && function.name == "extract";
        if known(&field, of_date) {
            Ok(())
        } else {
            Err(FilterError::at(node.at, Reason::BeyondCore("a field of that name")))
        }
    }

    /// `int4(x)`: a cast in the spelling of a function.
    fn cast_call(&mut self, node: &Node, name: &str, mut operands: Vec<Operand>) -> Checked<Expr> {
        let arity = operands.len();
        let unknown = || FilterError::at(node.at, Reason::UnknownFunction { name: name.to_owned(), arity });
        let ty = function::cast_function(name).ok_or_else(unknown)?;
        let (1, Some(operand)) = (arity, operands.pop()) else { return Err(unknown()) };
        match operand {
            Operand::Literal(literal) => self.typed(literal, &ty),
            Operand::Typed(expr) if *expr.ty() == ty => Ok(expr),
            Operand::Typed(expr) if operator::cast(expr.ty(), &ty) => cast_to(node, expr, ty, Vec::new()),
            Operand::Typed(_) => Err(unknown()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn list_is_sorted() {
        assert!(NOT_IMMUTABLE.is_sorted());
    }
}
