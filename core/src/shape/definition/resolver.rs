//! The definitions of many shapes, one after the other, as a start resolves them.

use super::Definition;
use crate::filter::{Clause, Filter};
use crate::pg::Relation;
use crate::protocol::RequestError;
use crate::protocol::kept_request::KeptRequest;
use crate::shape::GeneratedColumns;
use std::collections::HashMap;
use std::sync::Arc;

/// Resolves requests that were resolved before. One that differs from another in the constant that it compares a column with
/// is resolved by that one.
#[derive(Debug, Default)]
pub struct StoredResolver {
    /// By the places in memory of what they are of, which are kept for that.
    known: HashMap<(usize, usize), Known>,
}

#[derive(Debug)]
struct Known {
    request: KeptRequest,
    definition: Definition,
}

/// So many families are known at a time.
const FAMILIES_MAX: usize = 256;

impl StoredResolver {
    /// The definition of a request for rows of `relation`, which was resolved before; `inner` are the tables of its
    /// subqueries.
    ///
    /// # Errors
    /// As [`Definition::resolve`].
    pub fn resolve(
        &mut self,
        request: &KeptRequest,
        relation: &Arc<Relation>,
        inner: &[Arc<Relation>],
    ) -> Result<Definition, RequestError> {
        let key = (Arc::as_ptr(request.family()).addr(), Arc::as_ptr(relation).addr());
        if let Some(known) = self.known.get(&key).filter(|_| inner.is_empty())
            && let Some(filter) = known.filter(request)
        {
            let filter = Some(Clause::Plain(Arc::new(filter)));
            return Ok(Definition { filter, ..known.definition.clone() });
        }
        let definition =
            Definition::resolve(&request.request(), relation, &GeneratedColumns::Checked, inner)?;
        if inner.is_empty() {
            if self.known.len() >= FAMILIES_MAX {
                self.known.clear();
            }
            let (request, definition) = (request.clone(), definition.clone());
            self.known.insert(key, Known { request, definition });
        }
        Ok(definition)
    }
}

impl Known {
    /// The filter of another request of the same family for the same table.
    fn filter(&self, request: &KeptRequest) -> Option<Filter> {
        let Some(Clause::Plain(filter)) = &self.definition.filter else { return None };
        let text = request.where_clause()?;
        match request.only_param() {
            Some(param) => filter.with_param(text, &param),
            None => filter.with_integer(self.request.where_clause()?, text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::{Column, QualifiedName, oid};
    use crate::protocol::kept_request::Families;
    use crate::protocol::request::parse_shape_request;
    use crate::protocol::route::Method;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn so_many_families_are_known_and_no_more() {
        let request = parse_shape_request(Method::Get, "table=t&offset=-1").unwrap().definition;
        let (request, mut resolver) = (Families::default().keep(&request), StoredResolver::default());
        // A table that is described anew makes another family.
        let described = |_| Arc::new(Relation::new(1, QualifiedName::new("public", "t"), Vec::new()));
        let relations: Vec<_> = (0..=FAMILIES_MAX).map(described).collect();
        let known = relations.iter().map(|relation| {
            resolver.resolve(&request, relation, &[]).unwrap();
            resolver.known.len()
        });
        assert_eq!(known.collect::<Vec<_>>(), (1..=FAMILIES_MAX).chain([1]).collect::<Vec<_>>());
    }

    #[test]
    fn requests_are_resolved_as_each_alone() {
        let relation = |oid| {
            let column = |name| Column::new(name, oid::INT4, "int4");
            let columns = vec![column("n"), column("m")];
            Arc::new(Relation::new(oid, QualifiedName::new("public", "t"), columns))
        };
        let relations = [relation(1), relation(2)];
        let queries = [
            "where=n%3D17",
            "where=n%3D18",
            "where=m%3D18",
            "where=n%3D18&replica=full",
            "where=n%3D19&params[1]=5",
            "where=n%3D$1&params[1]=5",
            "where=n%3D$1&params[1]=6",
            "where=n%3D$1&params[1]=x",
            "where=n%3D$1",
            "where=n%3D$1+OR+n%3D$2&params[1]=6&params[2]=7",
            "",
        ];
        let (mut families, mut resolver) = (Families::default(), StoredResolver::default());
        for (relation, query) in relations.iter().flat_map(|relation| queries.map(|query| (relation, query)))
        {
            let query = format!("table=t&offset=-1&{query}");
            let request = parse_shape_request(Method::Get, &query).unwrap().definition;
            let alone = Definition::resolve(&request, relation, &GeneratedColumns::Checked, &[]);
            let resolved = resolver.resolve(&families.keep(&request), relation, &[]);
            let told = |resolved: &Result<Definition, RequestError>| {
                resolved.as_ref().map(|definition| (definition.identity(), definition.snapshot_sql())).ok()
            };
            assert_eq!(told(&resolved), told(&alone), "{query}");
        }
    }
}
