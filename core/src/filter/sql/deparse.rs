//! The text of a clause written anew for Postgres: no text of the request comes through but inside quotes, as a
//! number, or as an operator of the operators' alphabet.

use super::postgres::{PurityClaim, Signature, refused_function};
use crate::filter::check::{may_read_clock, refuse_not_immutable};
use crate::filter::data_type::ty::Type;
use crate::filter::error::{FilterError, Reason};
use crate::filter::limits::MAX_BYTES;
use crate::filter::syntax::ast::{Kind, Node, Subscript, Truth, TypeName};
use crate::filter::syntax::lexer::spelled;
use crate::pg::Column;
use crate::pg::relation::{quote_identifier, quote_literal};
use std::collections::{BTreeMap, BTreeSet};

/// A longer text is refused: parameters that stand in many places make it grow.
const MAX_TEXT_BYTES: usize = 16 * MAX_BYTES;

/// Types whose values say the same at any time, so that a text may be cast to them.
const TIMELESS: &[&str] = &[
    "bit", "bool", "box", "bpchar", "bytea", "char", "cidr", "circle", "float4", "float8", "inet", "int2",
    "int4", "int8", "interval", "json", "jsonb", "jsonpath", "line", "lseg", "macaddr", "macaddr8", "money",
    "name", "numeric", "oid", "path", "pg_lsn", "point", "polygon", "text", "tsquery", "tsvector", "uuid",
    "varbit", "varchar", "xml",
];
/// A call of one argument by such a name is a cast, and so it is by the name of an array, which begins with `_`.
const TIMES: &[&str] = &[
    "date",
    "datemultirange",
    "daterange",
    "time",
    "timestamp",
    "timestamptz",
    "timetz",
    "tsmultirange",
    "tsrange",
    "tstzmultirange",
    "tstzrange",
];
/// Types whose values are looked up in the catalog.
const LOOKED_UP: &[&str] = &[
    "regclass",
    "regcollation",
    "regconfig",
    "regdictionary",
    "regnamespace",
    "regoper",
    "regoperator",
    "regproc",
    "regprocedure",
    "regrole",
    "regtype",
];

type Written = Result<(), FilterError>;

/// Writes one clause.
pub(crate) struct Deparser<'a> {
    known: &'a [Column],
    params: &'a BTreeMap<u32, String>,
    /// Whether literals that may name the clock become parameters.
    parameters: bool,
    /// True where nothing but the text is wanted: what it claims is claimed where it stands.
    is_draft: bool,
    pub sql: String,
    pub columns: BTreeSet<usize>,
    pub clock_words: Vec<FilterError>,
    pub functions: Vec<PurityClaim<Signature>>,
    pub operators: Vec<PurityClaim<Signature>>,
    pub types: Vec<PurityClaim<Signature>>,
    pub not_texts: Vec<PurityClaim<String>>,
}

impl<'a> Deparser<'a> {
    pub(crate) fn new(known: &'a [Column], params: &'a BTreeMap<u32, String>) -> Self {
        Self {
            known,
            params,
            parameters: false,
            is_draft: false,
            sql: String::new(),
            columns: BTreeSet::new(),
            clock_words: Vec::new(),
            functions: Vec::new(),
            operators: Vec::new(),
            types: Vec::new(),
            not_texts: Vec::new(),
        }
    }

    pub(crate) fn with_parameters(mut self) -> Self {
        self.parameters = true;
        self
    }

    pub(crate) fn draft(mut self) -> Self {
        self.is_draft = true;
        self
    }

    pub(crate) fn clause(mut self, node: &Node) -> Result<Self, FilterError> {
        self.write(node)?;
        Ok(self)
    }

    fn push(&mut self, text: &str) {
        self.sql.push_str(text);
    }

    fn write(&mut self, node: &Node) -> Written {
        if self.sql.len() > MAX_TEXT_BYTES {
            return Err(FilterError::at(node.at, Reason::TooManyTerms));
        }
        match &node.kind {
            Kind::Column(parts) => self.column(node, parts),
            Kind::Null => self.constant("NULL"),
            Kind::Bool(value) => self.constant(if *value { "TRUE" } else { "FALSE" }),
            Kind::Number(text) | Kind::Bits(text) => self.constant(text),
            Kind::Text(text) => self.literal(node, text),
            Kind::Param(number) => match self.params.get(number) {
                Some(text) => self.literal(node, text),
                None => Err(FilterError::at(node.at, Reason::MissingParameter(*number))),
            },
            Kind::And(terms) => self.separated(terms, " AND "),
            Kind::Or(terms) => self.separated(terms, " OR "),
            Kind::Not(operand) => self.prefixed("NOT", operand),
            Kind::IsNull { operand, negated } => self.suffixed(operand, &["IS", not(*negated), "NULL"]),
            Kind::IsTruth { operand, truth, negated } => {
                let truth = match truth {
                    Truth::True => "TRUE",
                    Truth::False => "FALSE",
                    Truth::Unknown => "UNKNOWN",
                };
                self.suffixed(operand, &["IS", not(*negated), truth])
            }
            Kind::Normalized { operand, form, negated } => {
                self.suffixed(operand, &["IS", not(*negated), form.unwrap_or(""), "NORMALIZED"])
            }
            Kind::Collate { operand, collation } => self.suffixed(operand, &["COLLATE", &path(collation)]),
            Kind::Field { operand, name } => {
                self.nested(operand)?;
                self.constant(&format!(".{}", quote_identifier(name)))
            }
            Kind::Subscript { array, subscripts } => self.subscript(array, subscripts),
            Kind::Row(fields) => self.called("ROW", fields),
            Kind::Array(elements) => {
                self.push("ARRAY[");
                self.listed(elements)?;
                self.constant("]")
            }
            Kind::Coalesce(list) => self.called("COALESCE", list),
            Kind::Extreme { greatest, list } => {
                self.called(if *greatest { "GREATEST" } else { "LEAST" }, list)
            }
            Kind::Cast { operand, ty } => self.cast(node, operand, ty),
            Kind::Case { operand, arms, otherwise } => {
                self.case(node, operand.as_deref(), arms, otherwise.as_deref())
            }
            Kind::Member { .. } => Err(FilterError::at(node.at, Reason::Sublink)),
            _ => self.operation(node),
        }
    }

    /// What stands for an operator or a function.
    fn operation(&mut self, node: &Node) -> Written {
        match &node.kind {
            Kind::Unary { op, operand } => {
                self.claim_operator(node, op, 1);
                self.prefixed(op, operand)
            }
            Kind::Binary { op, left, right } => {
                self.claim_operator(node, op, 2);
                self.claim_configuration(node, op, left)?;
                self.infix(left, &[op], right)
            }
            Kind::Distinct { left, right, negated } => {
                self.claim_operator(node, "=", 2);
                self.infix(left, &["IS", not(*negated), "DISTINCT FROM"], right)
            }
            Kind::In { operand, list, negated } => {
                self.claim_operator(node, if *negated { "<>" } else { "=" }, 2);
                self.suffixed(operand, &[not(*negated), "IN ("])?;
                self.separated(list, ", ")?;
                self.constant(")")
            }
            Kind::Between { operand, low, high, symmetric, negated } => {
                for op in ["<", "<=", ">", ">="] {
                    self.claim_operator(node, op, 2);
                }
                let symmetric = if *symmetric { "SYMMETRIC" } else { "" };
                self.infix(operand, &[not(*negated), "BETWEEN", symmetric], low)?;
                self.push(" AND ");
                self.nested(high)
            }
            Kind::Like { operand, pattern, escape, fold_case, negated } => {
                let word = if *fold_case { "ILIKE" } else { "LIKE" };
                self.matched((operand, pattern, escape.as_deref()), &[not(*negated), word])
            }
            Kind::Similar { operand, pattern, escape, negated } => {
                self.matched((operand, pattern, escape.as_deref()), &[not(*negated), "SIMILAR TO"])
            }
            Kind::Quantified { op, operand, array, all } => {
                self.claim_operator(node, op, 2);
                self.suffixed(operand, &[op, if *all { "ALL (" } else { "ANY (" }])?;
                self.write(array)?;
                self.constant(")")
            }
            Kind::NullIf(left, right) => {
                self.claim_operator(node, "=", 2);
                self.called("NULLIF", [&**left, &**right])
            }
            Kind::AtTimeZone { operand, zone } => {
                self.called("\"pg_catalog\".\"timezone\"", [&**zone, &**operand])
            }
            Kind::Overlaps(parts) => self.called("\"pg_catalog\".\"overlaps\"", parts.iter()),
            Kind::Call { name, arguments, variadic } => self.call(node, name, arguments, *variadic),
            _ => Err(FilterError::at(node.at, Reason::Unsupported("expression"))),
        }
    }

    fn constant(&mut self, text: &str) -> Written {
        self.push(text);
        Ok(())
    }

    fn column(&mut self, node: &Node, parts: &[String]) -> Written {
        let index = match parts {
            [name] => self.known.iter().position(|column| column.name == *name),
            _ => None,
        };
        let Some(index) = index else {
            let name: Vec<String> = parts.iter().map(|part| spelled(part)).collect();
            return Err(FilterError::at(node.at, Reason::UnknownReference(name.join("."))));
        };
        self.columns.insert(index);
        self.constant(&path(parts))
    }

    fn literal(&mut self, node: &Node, text: &str) -> Written {
        let invalid = || {
            FilterError::at(node.at, Reason::InvalidSyntax { ty: "text".to_owned(), text: text.to_owned() })
        };
        if text.contains('\0') {
            return Err(invalid());
        }
        if !self.parameters || !may_read_clock(text) {
            return self.constant(&quote_literal(text));
        }
        self.clock_words.push(invalid());
        self.constant(&format!("${}", self.clock_words.len()))
    }

    fn cast(&mut self, node: &Node, operand: &Node, ty: &TypeName) -> Written {
        let name = ty.path.last().map_or("", String::as_str);
        let brackets = if ty.array { "[]" } else { "" };
        let is_literal = is_literal(operand);
        let configuration = is_literal && matches!(name, "regconfig" | "regdictionary");
        if LOOKED_UP.contains(&name) && !configuration {
            return Err(FilterError::at(ty.at, Reason::UnsupportedType(format!("{}{brackets}", ty.name))));
        }
        if !self.is_timeless(name) {
            let (from, to) = ("text".to_owned(), format!("{}{brackets}", ty.name));
            self.claim_not_texts(operand, &FilterError::at(node.at, Reason::UnknownCast { from, to }))?;
            let refusal = FilterError::at(ty.at, Reason::UnsupportedType(format!("{}{brackets}", ty.name)));
            let subject = Signature { schema: None, name: path(&ty.path), arity: 1 };
            claim(&mut self.types, subject, refusal);
        }
        let modifiers: Vec<String> = ty.modifiers.iter().map(i32::to_string).collect();
        let modifiers =
            if modifiers.is_empty() { String::new() } else { format!("({})", modifiers.join(", ")) };
        // Its modifiers mean something else where it is no keyword.
        let name = if name == "interval" { "interval".to_owned() } else { path(&ty.path) };
        self.suffixed(operand, &[])?;
        self.constant(&format!("::{name}{modifiers}{brackets}"))
    }

    fn is_timeless(&self, name: &str) -> bool {
        let is_enum = |column: &Column| {
            let ty = Type::of_column(column);
            matches!(ty.element().unwrap_or(&ty), Type::Enum(of) if of.name == name)
        };
        TIMELESS.contains(&name) || self.known.iter().any(is_enum)
    }

    fn call(&mut self, node: &Node, name: &[String], arguments: &[Node], variadic: bool) -> Written {
        let arity = arguments.len();
        refuse_not_immutable(node, name, arity)?;
        let refusal = refused_function(node.at, &name.join("."), arity);
        if let ([.., last], [only]) = (name, arguments)
            && TIMES.contains(&last.trim_start_matches('_'))
        {
            self.claim_not_texts(only, &refusal)?;
        }
        if let [before @ .., last] = name {
            let subject = Signature { schema: before.last().cloned(), name: last.clone(), arity };
            claim(&mut self.functions, subject, refusal);
        }
        self.push(&path(name));
        self.push("(");
        let (last, before) = match arguments.split_last() {
            Some((last, before)) if variadic => (Some(last), before),
            _ => (None, arguments),
        };
        self.listed(before)?;
        if let Some(last) = last {
            self.push(if before.is_empty() { "VARIADIC " } else { ", VARIADIC " });
            self.write(last)?;
        }
        self.constant(")")
    }

    fn case(
        &mut self,
        node: &Node,
        operand: Option<&Node>,
        arms: &[(Node, Node)],
        otherwise: Option<&Node>,
    ) -> Written {
        self.push("CASE");
        if let Some(operand) = operand {
            self.claim_operator(node, "=", 2);
            self.push(" ");
            self.nested(operand)?;
        }
        for (condition, result) in arms {
            self.push(" WHEN ");
            self.nested(condition)?;
            self.push(" THEN ");
            self.nested(result)?;
        }
        if let Some(otherwise) = otherwise {
            self.push(" ELSE ");
            self.nested(otherwise)?;
        }
        self.constant(" END")
    }

    fn subscript(&mut self, array: &Node, subscripts: &[Subscript]) -> Written {
        self.push("(");
        self.write(array)?;
        self.push(")");
        for subscript in subscripts {
            self.push("[");
            match subscript {
                Subscript::Index(index) => self.write(index)?,
                Subscript::Slice(lower, upper) => {
                    lower.iter().try_for_each(|lower| self.nested(lower))?;
                    self.push(":");
                    upper.iter().try_for_each(|upper| self.nested(upper))?;
                }
            }
            self.push("]");
        }
        Ok(())
    }

    /// LIKE and its relatives: operand, pattern, escape.
    fn matched(
        &mut self,
        (operand, pattern, escape): (&Node, &Node, Option<&Node>),
        words: &[&str],
    ) -> Written {
        self.infix(operand, words, pattern)?;
        let Some(escape) = escape else { return Ok(()) };
        self.push(" ESCAPE ");
        self.nested(escape)
    }

    fn called<'n>(&mut self, name: &str, arguments: impl IntoIterator<Item = &'n Node>) -> Written {
        self.push(name);
        self.push("(");
        self.listed(arguments)?;
        self.constant(")")
    }

    fn listed<'n>(&mut self, nodes: impl IntoIterator<Item = &'n Node>) -> Written {
        for (i, node) in nodes.into_iter().enumerate() {
            self.push(if i > 0 { ", " } else { "" });
            self.write(node)?;
        }
        Ok(())
    }

    fn separated(&mut self, nodes: &[Node], separator: &str) -> Written {
        for (i, node) in nodes.iter().enumerate() {
            self.push(if i > 0 { separator } else { "" });
            self.nested(node)?;
        }
        Ok(())
    }

    fn prefixed(&mut self, word: &str, operand: &Node) -> Written {
        self.push(word);
        self.push(" ");
        self.nested(operand)
    }

    fn suffixed(&mut self, operand: &Node, words: &[&str]) -> Written {
        self.nested(operand)?;
        for word in words.iter().filter(|word| !word.is_empty()) {
            self.push(" ");
            self.push(word);
        }
        Ok(())
    }

    fn infix(&mut self, left: &Node, words: &[&str], right: &Node) -> Written {
        self.suffixed(left, words)?;
        self.push(" ");
        self.nested(right)
    }

    /// As an operand: in parentheses, so that no precedence is left to the reader.
    fn nested(&mut self, node: &Node) -> Written {
        self.push("(");
        self.write(node)?;
        self.constant(")")
    }

    fn claim_operator(&mut self, node: &Node, op: &str, arity: usize) {
        // Operators of another schema than the catalog's come as they are written.
        let qualified =
            op.strip_prefix("OPERATOR(").and_then(|rest| rest.strip_suffix(')')?.rsplit_once('.'));
        let (schema, name) = match qualified {
            Some((schema, name)) => (Some(schema.trim_matches('"').replace("\"\"", "\"")), name),
            None => (None, op),
        };
        let unknown = if arity == 1 { Reason::UnknownUnary } else { Reason::UnknownBinary };
        let subject = Signature { schema, name: name.to_owned(), arity };
        claim(&mut self.operators, subject, FilterError::at(node.at, unknown(op.to_owned())));
    }

    /// What a text matches depends on a setting unless it is brought to a `tsvector` first.
    fn claim_configuration(&mut self, node: &Node, op: &str, left: &Node) -> Written {
        if !matches!(op, "@@" | "@@@") {
            return Ok(());
        }
        self.claim_not_text(left, FilterError::at(node.at, Reason::UnknownBinary(op.to_owned())))
    }

    /// What is cast; a row is cast field by field. Literals are read as what they are cast to.
    fn claim_not_texts(&mut self, operand: &Node, refusal: &FilterError) -> Written {
        match &operand.kind {
            Kind::Row(fields) => fields.iter().try_for_each(|field| self.claim_not_texts(field, refusal)),
            _ if is_literal(operand) => Ok(()),
            _ => self.claim_not_text(operand, refusal.clone()),
        }
    }

    fn claim_not_text(&mut self, operand: &Node, refusal: FilterError) -> Written {
        if self.is_draft {
            return Ok(());
        }
        let draft = Deparser::new(self.known, self.params).draft().clause(operand)?;
        claim(&mut self.not_texts, draft.sql, refusal);
        Ok(())
    }
}

fn claim<T: PartialEq>(claims: &mut Vec<PurityClaim<T>>, subject: T, refusal: FilterError) {
    if claims.iter().all(|claim| claim.subject != subject) {
        claims.push(PurityClaim { subject, refusal });
    }
}

/// Whether the type of an expression is what its context makes of it.
fn is_literal(node: &Node) -> bool {
    match &node.kind {
        Kind::Text(_) | Kind::Param(_) | Kind::Null => true,
        Kind::Array(elements) => elements.iter().all(is_literal),
        _ => false,
    }
}

fn path(parts: &[String]) -> String {
    parts.iter().map(|part| quote_identifier(part)).collect::<Vec<_>>().join(".")
}

fn not(negated: bool) -> &'static str {
    if negated { "NOT" } else { "" }
}
