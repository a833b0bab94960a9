//! The canonical text of a checked clause: the snapshot query's condition and part of the shape's identity.
//! Constants are written so that Postgres gives them the very type and value that core evaluates with, and
//! operations stand in parentheses so that no precedence is left to the reader.

use crate::filter::data_type::operator::Comparison;
use crate::filter::data_type::ty::Type;
use crate::filter::data_type::value::Value;
use crate::filter::eval::expr::{Expr, Subscript, Test};
use crate::filter::eval::operation::Spelling;
use crate::filter::syntax::ast::Truth;
use crate::pg::relation::{quote_identifier, quote_literal};

pub(crate) fn text(expr: &Expr) -> String {
    let mut sql = String::new();
    write(&mut sql, expr);
    sql
}

fn write(sql: &mut String, expr: &Expr) {
    match expr {
        Expr::Const { ty, value } => sql.push_str(&constant(ty, value)),
        Expr::Column { name, .. } => sql.push_str(&quote_identifier(name)),
        Expr::And(terms) => separated(sql, terms.iter(), " AND "),
        Expr::Or(terms) => separated(sql, terms.iter(), " OR "),
        Expr::Not(operand) => prefixed(sql, "NOT ", operand),
        Expr::IsNull { operand, negated } => suffixed(sql, operand, &["IS", not(*negated), "NULL"]),
        Expr::IsTruth { operand, truth, negated } => {
            let truth = match truth {
                Truth::True => "TRUE",
                Truth::False => "FALSE",
                Truth::Unknown => "UNKNOWN",
            };
            suffixed(sql, operand, &["IS", not(*negated), truth]);
        }
        Expr::Compare { op, left, right, .. } => infix(sql, left, &[op.op()], right),
        Expr::CompareRows { op, left, right, .. } => {
            sql.push('(');
            listed(sql, left);
            sql.push_str(&format!(") {} (", op.op()));
            listed(sql, right);
            sql.push(')');
        }
        Expr::Distinct { order, left, right, negated } => {
            let words = ["IS", not(*negated), "DISTINCT FROM"];
            match (order, &**left) {
                (Some(_), _) => infix(sql, left, &words, right),
                // Without a type NULL can stand beside every other one.
                (None, Expr::Const { value: Value::Null, .. }) => {
                    sql.push_str("NULL");
                    infix_after(sql, &words, right);
                }
                (None, left) => {
                    suffixed(sql, left, &words);
                    sql.push_str(" NULL");
                }
            }
        }
        Expr::In { operand, list, negated, .. } => {
            suffixed(sql, operand, &[not(*negated), "IN ("]);
            separated(sql, list.iter().map(|(element, _)| element), ", ");
            sql.push(')');
        }
        Expr::Between { operand, low, high, symmetric, negated } => {
            let symmetric = if *symmetric { "SYMMETRIC" } else { "" };
            infix(sql, operand, &[not(*negated), "BETWEEN", symmetric], &low.0);
            sql.push_str(" AND ");
            nested(sql, &high.0);
        }
        Expr::Like { operand, pattern, escape, fold_case, negated, .. } => {
            infix(
                sql,
                operand,
                &[not(*negated), if fold_case.is_some() { "ILIKE" } else { "LIKE" }],
                pattern,
            );
            if *escape != Some('\\') {
                sql.push_str(" ESCAPE ");
                sql.push_str(&quote_literal(&escape.map(String::from).unwrap_or_default()));
            }
        }
        Expr::Arithmetic { op, left, right, .. } => infix(sql, left, &[op.op()], right),
        Expr::Unary { op, operand, .. } => {
            sql.push_str(op.op());
            sql.push(' ');
            nested(sql, operand);
        }
        Expr::Quantified { test, left, array, all, .. } => {
            nested(sql, left);
            let quantor = if *all { "ALL (" } else { "ANY (" };
            spaced(sql, &[test_operator(test), quantor]);
            write(sql, array);
            sql.push(')');
        }
        Expr::Operation { op, operands, .. } => match (op.spelling(), operands.as_slice()) {
            (Spelling::Infix(op), [left, right]) => infix(sql, left, &[op], right),
            (Spelling::Infix(name) | Spelling::Function(name), operands) => called(sql, name, operands),
        },
        Expr::Call { function, arguments, .. } => called(sql, call_name(function.name), arguments),
        Expr::Case { arms, otherwise, .. } => {
            sql.push_str("CASE");
            for (condition, result) in arms {
                sql.push_str(" WHEN ");
                nested(sql, condition);
                sql.push_str(" THEN ");
                nested(sql, result);
            }
            if let Some(otherwise) = otherwise {
                sql.push_str(" ELSE ");
                nested(sql, otherwise);
            }
            sql.push_str(" END");
        }
        Expr::Coalesce { terms, .. } => called(sql, "COALESCE", terms),
        Expr::Extreme { greatest, terms, .. } => {
            called(sql, if *greatest { "GREATEST" } else { "LEAST" }, terms);
        }
        Expr::NullIf { left, right, .. } => {
            sql.push_str("NULLIF(");
            write(sql, left);
            sql.push_str(", ");
            write(sql, right);
            sql.push(')');
        }
        Expr::Array { elements, .. } => {
            sql.push_str("ARRAY[");
            listed(sql, elements);
            sql.push(']');
        }
        Expr::Subscript { array, subscripts, .. } => {
            if matches!(**array, Expr::Column { .. }) {
                write(sql, array);
            } else {
                sql.push('(');
                write(sql, array);
                sql.push(')');
            }
            for subscript in subscripts {
                bracketed(sql, subscript);
            }
        }
        Expr::Concat { left, right } => infix(sql, left, &["||"], right),
        Expr::Cast { operand, ty, modifiers } => {
            nested(sql, operand);
            sql.push_str("::");
            sql.push_str(&ty.sql());
            if !modifiers.is_empty() {
                let modifiers: Vec<String> = modifiers.iter().map(i32::to_string).collect();
                sql.push_str(&format!("({})", modifiers.join(", ")));
            }
        }
    }
}

fn called(sql: &mut String, name: &str, arguments: &[Expr]) {
    sql.push_str(name);
    sql.push('(');
    listed(sql, arguments);
    sql.push(')');
}

fn listed(sql: &mut String, elements: &[Expr]) {
    for (i, element) in elements.iter().enumerate() {
        if i > 0 {
            sql.push_str(", ");
        }
        write(sql, element);
    }
}

fn bracketed(sql: &mut String, subscript: &Subscript) {
    sql.push('[');
    match subscript {
        Subscript::Index(index) => write(sql, index),
        Subscript::Slice(lower, upper) => {
            if let Some(lower) = lower {
                nested(sql, lower);
            }
            sql.push(':');
            if let Some(upper) = upper {
                nested(sql, upper);
            }
        }
    }
    sql.push(']');
}

fn test_operator(test: &Test) -> &'static str {
    match test {
        Test::Compare(op, _) => Comparison::op(*op),
        Test::Like(None, false) => "LIKE",
        Test::Like(None, true) => "NOT LIKE",
        Test::Like(Some(_), false) => "ILIKE",
        Test::Like(Some(_), true) => "NOT ILIKE",
    }
}

/// Names that the grammar takes for something else than a function of those arguments.
fn call_name(name: &'static str) -> &'static str {
    match name {
        "extract" => "pg_catalog.extract",
        "position" => "pg_catalog.position",
        name => name,
    }
}

fn not(negated: bool) -> &'static str {
    if negated { "NOT" } else { "" }
}

/// As an operand: in parentheses unless nothing could take it apart.
fn nested(sql: &mut String, expr: &Expr) {
    let whole = match expr {
        Expr::Column { .. }
        | Expr::Cast { .. }
        | Expr::Call { .. }
        | Expr::Coalesce { .. }
        | Expr::Extreme { .. }
        | Expr::NullIf { .. }
        | Expr::Array { .. } => true,
        Expr::Operation { op, .. } => matches!(op.spelling(), Spelling::Function(_)),
        Expr::Const { ty, value } => !constant(ty, value).starts_with('-'),
        _ => false,
    };
    if whole {
        write(sql, expr);
    } else {
        sql.push('(');
        write(sql, expr);
        sql.push(')');
    }
}

fn separated<'a>(sql: &mut String, terms: impl Iterator<Item = &'a Expr>, separator: &str) {
    for (i, term) in terms.enumerate() {
        if i > 0 {
            sql.push_str(separator);
        }
        nested(sql, term);
    }
}

fn prefixed(sql: &mut String, word: &str, operand: &Expr) {
    sql.push_str(word);
    nested(sql, operand);
}

fn suffixed(sql: &mut String, operand: &Expr, words: &[&str]) {
    nested(sql, operand);
    spaced(sql, words);
}

fn infix(sql: &mut String, left: &Expr, words: &[&str], right: &Expr) {
    nested(sql, left);
    infix_after(sql, words, right);
}

fn infix_after(sql: &mut String, words: &[&str], right: &Expr) {
    spaced(sql, words);
    sql.push(' ');
    nested(sql, right);
}

fn spaced(sql: &mut String, words: &[&str]) {
    for word in words.iter().filter(|word| !word.is_empty()) {
        sql.push(' ');
        sql.push_str(word);
    }
}

/// Bare digits where they have the right type by themselves, else a string with its type.
fn constant(ty: &Type, value: &Value<'static>) -> String {
    let text = match value {
        Value::Null => return format!("NULL::{}", ty.sql()),
        Value::Bool(value) if *ty == Type::Bool => return value.to_string(),
        other => String::from_utf8_lossy(&other.borrowed().output(ty)).into_owned(),
    };
    let bare = match (ty, value) {
        (Type::Int4, _) => true,
        (Type::Int8, Value::Int(value)) => i32::try_from(*value).is_err(),
        (Type::Numeric, _) => {
            text.ends_with(|c: char| c.is_ascii_digit())
                && (text.contains('.') || text.parse::<i64>().is_err())
        }
        _ => false,
    };
    if bare { text } else { format!("{}::{}", quote_literal(&text), ty.sql()) }
}
