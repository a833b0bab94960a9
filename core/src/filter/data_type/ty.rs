//! The types that core reads, and which type a column has. A domain is its base type, as it is to Postgres's operators;
//! a domain over an enum is [`Type::Opaque`], which Postgres judges.

use crate::filter::error::EvalError;
use crate::filter::syntax::lexer::spelled;
use crate::pg::relation::quote_identifier;
use crate::pg::{Column, TypeKind, oid};
use std::borrow::Cow;
use std::sync::Arc;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Type {
    Bool,
    Int2,
    Int4,
    Int8,
    Numeric,
    Float4,
    Float8,
    Oid,
    Text,
    Varchar,
    Bpchar,
    Name,
    /// `"char"`
    Char,
    Bytea,
    Bit,
    Varbit,
    Uuid,
    Inet,
    Cidr,
    Date,
    Time,
    Timetz,
    Timestamp,
    Timestamptz,
    Interval,
    Json,
    Jsonb,
    Enum(Arc<EnumType>),
    Array(Box<Type>),
    /// A type of which core knows only whether a value is null.
    Opaque {
        name: String,
        /// A row, so that `IS NULL` asks for its fields.
        composite: bool,
        /// The enum under a domain: it casts as that one does.
        base: Option<Arc<EnumType>>,
    },
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct EnumType {
    pub schema: String,
    pub name: String,
    /// In the order of the type.
    pub labels: Vec<String>,
}

/// The types that the catalog's oid identifies. One that is missing here is never constructed, which the compiler warns of.
pub(crate) const SCALARS: [Type; 27] = [
    Type::Bool,
    Type::Int2,
    Type::Int4,
    Type::Int8,
    Type::Numeric,
    Type::Float4,
    Type::Float8,
    Type::Oid,
    Type::Text,
    Type::Varchar,
    Type::Bpchar,
    Type::Name,
    Type::Char,
    Type::Bytea,
    Type::Bit,
    Type::Varbit,
    Type::Uuid,
    Type::Inet,
    Type::Cidr,
    Type::Date,
    Type::Time,
    Type::Timetz,
    Type::Timestamp,
    Type::Timestamptz,
    Type::Interval,
    Type::Json,
    Type::Jsonb,
];

impl Type {
    pub(crate) fn of_column(column: &Column) -> Self {
        let (type_oid, element_oid) = (column.type_oid, column.element_oid);
        match &column.typing.kind {
            TypeKind::Domain(base) if type_oid == element_oid => {
                let oids = (base.type_oid, base.element_oid);
                match Self::of_parts(oids, (&base.schema, &base.type_name), &base.kind) {
                    // Postgres's functions and operators for enums take no domain over one: what there is it knows itself.
                    Self::Enum(of) => {
                        let name = column.type_name.clone();
                        Self::Opaque { name, composite: false, base: Some(of) }
                    }
                    ty => ty,
                }
            }
            kind => Self::of_parts((type_oid, element_oid), (&column.typing.schema, &column.type_name), kind),
        }
    }

    /// The oids of type and element, the element's name, the element's kind.
    fn of_parts((type_oid, element_oid): (u32, u32), (schema, name): (&str, &str), kind: &TypeKind) -> Self {
        let known = SCALARS.iter().find(|ty| ty.catalog().0 == Some(element_oid)).cloned();
        let scalar = match (known, kind) {
            (Some(known), _) => known,
            (None, TypeKind::Enum { labels }) => Self::Enum(Arc::new(EnumType {
                schema: schema.to_owned(),
                name: name.to_owned(),
                labels: labels.clone(),
            })),
            (None, kind) => {
                let composite = *kind == TypeKind::Composite;
                Self::Opaque { name: name.to_owned(), composite, base: None }
            }
        };
        match scalar {
            scalar if type_oid == element_oid => scalar,
            Self::Opaque { name, .. } => {
                Self::Opaque { name: format!("{name}[]"), composite: false, base: None }
            }
            scalar => Self::Array(Box::new(scalar)),
        }
    }

    /// By the catalog's name; types that users made are not found here.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        SCALARS.iter().find(|ty| ty.static_name() == name).cloned()
    }

    /// As messages and casts spell it.
    pub(crate) fn name(&self) -> Cow<'_, str> {
        match self {
            Self::Opaque { name, .. } => Cow::Borrowed(name),
            Self::Enum(of) => Cow::Owned(spelled(&of.name)),
            Self::Array(element) => Cow::Owned(format!("{}[]", element.name())),
            known => Cow::Borrowed(known.static_name()),
        }
    }

    /// As the canonical text spells it.
    pub(crate) fn sql(&self) -> Cow<'_, str> {
        match self {
            Self::Enum(of) => {
                Cow::Owned(format!("{}.{}", quote_identifier(&of.schema), quote_identifier(&of.name)))
            }
            Self::Array(element) => Cow::Owned(format!("{}[]", element.sql())),
            _ => self.name(),
        }
    }

    pub(crate) const fn static_name(&self) -> &'static str {
        self.catalog().1
    }

    /// `pg_type.typname`
    pub(crate) fn catalog_name(&self) -> &'static str {
        self.static_name().trim_matches('"')
    }

    /// `pg_type.oid`, where it is fixed.
    pub(crate) const fn oid(&self) -> Option<u32> {
        self.catalog().0
    }

    /// `pg_type.oid`, where it is fixed, and the name as casts spell it.
    const fn catalog(&self) -> (Option<u32>, &'static str) {
        match self {
            Self::Bool => (Some(oid::BOOL), "bool"),
            Self::Int2 => (Some(oid::INT2), "int2"),
            Self::Int4 => (Some(oid::INT4), "int4"),
            Self::Int8 => (Some(oid::INT8), "int8"),
            Self::Numeric => (Some(oid::NUMERIC), "numeric"),
            Self::Float4 => (Some(oid::FLOAT4), "float4"),
            Self::Float8 => (Some(oid::FLOAT8), "float8"),
            Self::Oid => (Some(oid::OID), "oid"),
            Self::Text => (Some(oid::TEXT), "text"),
            Self::Varchar => (Some(oid::VARCHAR), "varchar"),
            Self::Bpchar => (Some(oid::BPCHAR), "bpchar"),
            Self::Name => (Some(oid::NAME), "name"),
            Self::Char => (Some(oid::CHAR), "\"char\""),
            Self::Bytea => (Some(oid::BYTEA), "bytea"),
            Self::Bit => (Some(oid::BIT), "bit"),
            Self::Varbit => (Some(oid::VARBIT), "varbit"),
            Self::Uuid => (Some(oid::UUID), "uuid"),
            Self::Inet => (Some(oid::INET), "inet"),
            Self::Cidr => (Some(oid::CIDR), "cidr"),
            Self::Date => (Some(oid::DATE), "date"),
            Self::Time => (Some(oid::TIME), "time"),
            Self::Timetz => (Some(oid::TIMETZ), "timetz"),
            Self::Timestamp => (Some(oid::TIMESTAMP), "timestamp"),
            Self::Timestamptz => (Some(oid::TIMESTAMPTZ), "timestamptz"),
            Self::Interval => (Some(oid::INTERVAL), "interval"),
            Self::Json => (Some(oid::JSON), "json"),
            Self::Jsonb => (Some(oid::JSONB), "jsonb"),
            Self::Enum(_) => (None, "enum"),
            Self::Array(_) => (None, "array"),
            Self::Opaque { .. } => (None, "a type core does not read"),
        }
    }

    pub(crate) fn array(self) -> Self {
        Self::Array(Box::new(self))
    }

    pub(crate) fn element(&self) -> Option<&Self> {
        match self {
            Self::Array(element) => Some(element),
            _ => None,
        }
    }

    pub(crate) fn is_opaque(&self) -> bool {
        matches!(self, Self::Opaque { .. })
    }

    pub(crate) fn is_integer(&self) -> bool {
        matches!(self, Self::Int2 | Self::Int4 | Self::Int8)
    }

    pub(crate) fn is_float(&self) -> bool {
        matches!(self, Self::Float4 | Self::Float8)
    }

    pub(crate) fn is_number(&self) -> bool {
        self.is_integer() || self.is_float() || *self == Self::Numeric
    }

    /// The types of Postgres's string category that are texts.
    pub(crate) fn is_string(&self) -> bool {
        matches!(self, Self::Text | Self::Varchar | Self::Bpchar | Self::Name)
    }

    pub(crate) fn is_bits(&self) -> bool {
        matches!(self, Self::Bit | Self::Varbit)
    }

    pub(crate) fn is_network(&self) -> bool {
        matches!(self, Self::Inet | Self::Cidr)
    }

    /// A point in time, compared with the others in UTC.
    pub(crate) fn is_instant(&self) -> bool {
        matches!(self, Self::Date | Self::Timestamp | Self::Timestamptz)
    }

    /// Postgres reads more spellings of the type's values than core does, and some that read the clock.
    pub(crate) fn has_other_spellings(&self) -> bool {
        match self {
            Self::Array(element) => element.has_other_spellings(),
            ty => {
                ty.is_instant()
                    || ty.is_network()
                    || matches!(ty, Self::Time | Self::Timetz | Self::Interval | Self::Numeric)
            }
        }
    }

    pub(crate) fn invalid(&self) -> EvalError {
        EvalError::InvalidValue { ty: self.static_name() }
    }

    pub(crate) fn out_of_range(&self) -> EvalError {
        EvalError::OutOfRange { ty: self.static_name() }
    }
}

impl EnumType {
    pub(crate) fn ordinal(&self, label: &[u8]) -> Option<i64> {
        let at = self.labels.iter().position(|known| known.as_bytes() == label)?;
        i64::try_from(at).ok()
    }

    pub(crate) fn label(&self, ordinal: i64) -> &str {
        let at = usize::try_from(ordinal).ok();
        at.and_then(|at| self.labels.get(at)).map_or("", String::as_str)
    }
}
