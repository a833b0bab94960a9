//! The first stage of reading a request (protocol §2.3): every parameter is brought to its type, and all that
//! fail are reported together.

use super::identifier::{IdentifierError, parse_columns, parse_table};
use super::parameter::Parameter;
use super::query::{Query, Value};
use super::refusal::RequestError;
use super::request::{DefinitionRequest, LogMode, Replica};
use std::collections::BTreeMap;

const CANNOT_BE_BLANK: &str = "can't be blank";
const IS_INVALID: &str = "is invalid";

/// Reads parameters and gathers what is wrong with them; [`Cast::finish`] tells.
pub(super) struct Cast<'a> {
    query: &'a Query,
    errors: RequestError,
}

/// A definition whose table is still text, since reading it is a later stage.
pub(super) struct CastDefinition<'a> {
    pub(super) table: Option<&'a str>,
    columns: Option<Vec<String>>,
    queryable_columns: Option<Vec<String>>,
    where_clause: Option<String>,
    params: BTreeMap<String, String>,
    replica: Replica,
    log_mode: LogMode,
    compaction: bool,
}

impl CastDefinition<'_> {
    pub(super) fn with_table(self) -> Result<DefinitionRequest, RequestError> {
        let text = self.table.ok_or_else(|| RequestError::new("table", CANNOT_BE_BLANK))?;
        let table = parse_table(text).map_err(|error| RequestError::new("table", error.to_string()))?;
        Ok(DefinitionRequest {
            table,
            columns: self.columns,
            queryable_columns: self.queryable_columns,
            where_clause: self.where_clause,
            params: self.params,
            replica: self.replica,
            log_mode: self.log_mode,
            compaction: self.compaction,
        })
    }
}

impl<'a> Cast<'a> {
    pub(super) fn new(query: &'a Query) -> Self {
        Self { query, errors: RequestError::default() }
    }

    pub(super) fn finish(self) -> Result<(), RequestError> {
        if self.errors.is_empty() { Ok(()) } else { Err(self.errors) }
    }

    pub(super) fn text(&mut self, parameter: Parameter) -> Option<&'a str> {
        self.query.text(parameter).unwrap_or_else(|error| {
            self.errors.add(parameter.as_str(), error.to_string());
            None
        })
    }

    pub(super) fn required_text(&mut self, parameter: Parameter) -> Option<&'a str> {
        if self.query.text(parameter) == Ok(None) {
            self.errors.add(parameter.as_str(), CANNOT_BE_BLANK);
        }
        self.text(parameter)
    }

    /// True unless absent or literally `false`: `?live` and `live=0` are true.
    pub(super) fn lenient_flag(&mut self, parameter: Parameter) -> bool {
        match self.query.value(parameter) {
            None => false,
            Some(Value::Text(text)) => text != "false",
            Some(Value::List(_) | Value::Map(_)) => {
                self.errors.add(parameter.as_str(), IS_INVALID);
                false
            }
        }
    }

    /// A boolean in one of its four spellings; errors are reported under `reported_as`.
    pub(super) fn strict_flag(&mut self, parameter: Parameter, reported_as: Parameter) -> bool {
        match self.query.text(parameter) {
            Ok(None | Some("false" | "0")) => false,
            Ok(Some("true" | "1")) => true,
            _ => {
                self.errors.add(reported_as.as_str(), IS_INVALID);
                false
            }
        }
    }

    pub(super) fn definition(&mut self) -> CastDefinition<'a> {
        CastDefinition {
            compaction: self
                .strict_flag(Parameter::ExperimentalCompaction, Parameter::ExperimentalCompaction),
            table: self.text(Parameter::Table),
            columns: self.columns(Parameter::Columns),
            queryable_columns: self.columns(Parameter::QueryableColumns),
            where_clause: self.text(Parameter::Where).map(str::to_owned),
            params: self.params(),
            replica: self
                .choice(Parameter::Replica, &[("default", Replica::Default), ("full", Replica::Full)])
                .unwrap_or_default(),
            log_mode: self
                .choice(Parameter::Log, &[("full", LogMode::Full), ("changes_only", LogMode::ChangesOnly)])
                .unwrap_or_default(),
        }
    }

    fn choice<T: Copy>(&mut self, parameter: Parameter, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text(parameter)?;
        let chosen = choices.iter().find(|(spelling, _)| *spelling == text).map(|(_, value)| *value);
        if chosen.is_none() {
            self.errors.add(parameter.as_str(), IS_INVALID);
        }
        chosen
    }

    /// A comma separated list of identifiers, or a list of literal names.
    fn columns(&mut self, parameter: Parameter) -> Option<Vec<String>> {
        let columns = match self.query.value(parameter) {
            Some(Value::List(items)) => literal_columns(items),
            _ => parse_columns(self.text(parameter)?),
        };
        columns.map_err(|error| self.errors.add(parameter.as_str(), error.to_string())).ok()
    }

    /// A map of texts; an empty text is a value like any other.
    fn params(&mut self) -> BTreeMap<String, String> {
        let entries = match self.query.value(Parameter::Params) {
            None => return BTreeMap::new(),
            Some(Value::Text(text)) if text.trim().is_empty() => return BTreeMap::new(),
            Some(Value::Map(entries)) => entries.iter().map(|(key, value)| match value {
                Value::Text(text) => Some((key.clone(), text.clone())),
                Value::List(_) | Value::Map(_) => None,
            }),
            Some(Value::Text(_) | Value::List(_)) => {
                self.errors.add(Parameter::Params.as_str(), IS_INVALID);
                return BTreeMap::new();
            }
        };
        entries.collect::<Option<_>>().unwrap_or_else(|| {
            self.errors.add(Parameter::Params.as_str(), IS_INVALID);
            BTreeMap::new()
        })
    }
}

fn literal_columns(items: &[Value]) -> Result<Vec<String>, IdentifierError> {
    let literal = items.iter().map(|item| match item {
        Value::Text(text) if !text.is_empty() => Ok(text.clone()),
        _ => Err(IdentifierError::Empty),
    });
    literal.collect()
}
