//! Asks Postgres about a WHERE clause before a shape has it, and words its refusal.

use super::LookupError;
use crate::postgres::catalog::Description;
use limn_core::filter::{PostgresFilter, subquery_tables};
use limn_core::pg::relation::quote_identifier;
use limn_core::pg::{QualifiedName, Relation, TypeKind};
use limn_core::protocol::RequestError;
use limn_core::protocol::request::DefinitionRequest;
use limn_core::shape::Definition;

/// The tables that subqueries of the request's clause name. A clause that cannot be parsed names none: what is wrong
/// with it is said when it is its turn.
pub fn inner_names(request: &DefinitionRequest) -> Vec<QualifiedName> {
    subquery_tables(request.where_clause.as_deref().unwrap_or_default()).unwrap_or_default()
}

/// `FROM ONLY` would leave out rows that the stream shows as the table's.
pub fn check_only(definition: &Definition, inner: &[Description]) -> Result<(), LookupError> {
    for dependency in definition.dependencies().iter().filter(|dependency| dependency.only) {
        let described = inner.iter().find(|table| table.relation.oid == dependency.relation.oid);
        if described.is_some_and(|table| !table.partitions.is_empty()) {
            let name = &dependency.relation.name;
            let text = format!(
                "FROM ONLY {name} is not supported: other tables are its partitions or inherit from it"
            );
            return Err(LookupError::Request(RequestError::new("where", text)));
        }
    }
    Ok(())
}

/// The refusal of a parameter's clause that Postgres does not confirm.
pub fn refused(
    relation: &Relation,
    filter: &PostgresFilter,
    parameter: &'static str,
    mut reason: String,
) -> LookupError {
    reason.push_str(&cast_advice(relation, filter));
    LookupError::Request(RequestError::new(parameter, reason))
}

/// What to write where the clause reads a column whose type is a domain over an enum: Postgres has no operators for it.
fn cast_advice(relation: &Relation, filter: &PostgresFilter) -> String {
    let columns = filter.columns().iter().filter_map(|index| relation.columns.get(*index));
    let mut advice = columns.filter_map(|column| match &column.typing.kind {
        TypeKind::Domain(base) if base.is_enum() => {
            let (name, of) = (quote_identifier(&column.name), QualifiedName::new(&*base.schema, &*base.type_name));
            Some(format!(". `{name}` is a domain over an enum, for which Postgres has few operators: write `{name}::{of}`"))
        }
        _ => None,
    });
    advice.next().unwrap_or_default()
}
