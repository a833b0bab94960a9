//! The requests by which shapes were first asked for, as they are kept: most of them differ in constants only, and share
//! all else.

use super::request::DefinitionRequest;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// The families of the requests that are kept.
#[derive(Debug, Default)]
pub struct Families(HashMap<(String, Constants), Arc<Family>>);

/// A request without its constants.
#[derive(Debug, PartialEq, Eq)]
pub struct Family {
    rest: DefinitionRequest,
    constants: Constants,
}

/// The part of a request in which its constants are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Constants {
    /// It has none.
    None,
    /// In its clause, which is taken as a whole.
    Where,
    /// In its parameters.
    Params,
}

/// A request as it is kept of a shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptRequest {
    family: Arc<Family>,
    constants: Box<str>,
}

/// Families beyond which those without shapes are forgotten.
const FEW: usize = 64;

impl Families {
    /// A request, to be kept.
    pub fn keep(&mut self, request: &DefinitionRequest) -> KeptRequest {
        let mut rest = request.clone();
        let (constants, text) = if !rest.params.is_empty() {
            let params = std::mem::take(&mut rest.params);
            (Constants::Params, serde_json::to_string(&params).expect("texts by names are plain data"))
        } else if let Some(clause) = rest.where_clause.take() {
            (Constants::Where, clause)
        } else {
            (Constants::None, String::new())
        };
        KeptRequest { family: self.share(rest, constants), constants: text.into() }
    }

    fn share(&mut self, rest: DefinitionRequest, constants: Constants) -> Arc<Family> {
        let known = &mut self.0;
        if known.len() >= FEW && known.len() == known.capacity() {
            known.retain(|_, family| Arc::strong_count(family) > 1);
        }
        let family = known.entry((rest.request_key(), constants));
        family.or_insert_with(|| Arc::new(Family { rest, constants })).clone()
    }
}

impl Family {
    /// The family as text.
    ///
    /// # Panics
    /// Never: a definition is plain data.
    #[must_use]
    pub fn stored(&self) -> String {
        serde_json::to_string(&(&self.rest, self.constants)).expect("a definition is plain data")
    }

    /// The family of a text.
    ///
    /// # Errors
    /// Where there is none.
    pub fn from_stored(stored: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(stored).map(|(rest, constants)| Self { rest, constants })
    }
}

impl KeptRequest {
    /// The request of a family with these constants; `None` where they cannot be read.
    #[must_use]
    pub fn new(family: Arc<Family>, constants: &str) -> Option<Self> {
        let is_readable = match family.constants {
            Constants::None => constants.is_empty(),
            Constants::Where => true,
            Constants::Params => serde_json::from_str::<BTreeMap<String, String>>(constants).is_ok(),
        };
        is_readable.then(|| Self { family, constants: constants.into() })
    }

    /// `where`
    #[must_use]
    pub fn where_clause(&self) -> Option<&str> {
        match self.family.constants {
            Constants::Where => Some(&self.constants),
            Constants::None | Constants::Params => self.family.rest.where_clause.as_deref(),
        }
    }

    /// The value of `$1`, where that is its only parameter.
    #[must_use]
    pub fn only_param(&self) -> Option<String> {
        if self.family.constants != Constants::Params {
            return None;
        }
        let mut params: BTreeMap<String, String> = serde_json::from_str(&self.constants).ok()?;
        if params.len() == 1 { params.remove("1") } else { None }
    }

    /// The part that it has in common with others.
    #[must_use]
    pub const fn family(&self) -> &Arc<Family> {
        &self.family
    }

    /// The part that is its own, as text.
    #[must_use]
    pub fn constants(&self) -> &str {
        &self.constants
    }

    /// The request.
    ///
    /// # Panics
    /// Never: its constants are those of a request.
    #[must_use]
    pub fn request(&self) -> DefinitionRequest {
        let rest = self.family.rest.clone();
        match self.family.constants {
            Constants::None => rest,
            Constants::Where => DefinitionRequest { where_clause: Some(self.constants.to_string()), ..rest },
            Constants::Params => {
                let params: BTreeMap<String, String> =
                    serde_json::from_str(&self.constants).expect("texts by names");
                DefinitionRequest { params, ..rest }
            }
        }
    }

    /// True where another request has the same [key](DefinitionRequest::request_key).
    #[must_use]
    pub fn is(&self, other: &DefinitionRequest) -> bool {
        let Family { rest, constants } = &*self.family;
        let DefinitionRequest {
            table,
            columns,
            queryable_columns,
            where_clause,
            params,
            replica,
            log_mode,
            compaction,
        } = other;
        let are_constants_equal = match constants {
            Constants::None => params.is_empty() && *where_clause == rest.where_clause,
            Constants::Where => params.is_empty() && where_clause.as_deref() == Some(&self.constants),
            Constants::Params => {
                *where_clause == rest.where_clause
                    && serde_json::to_string(params).is_ok_and(|params| *params == *self.constants)
            }
        };
        are_constants_equal
            && *table == rest.table
            && *columns == rest.columns
            && *queryable_columns == rest.queryable_columns
            && (*replica, *log_mode, *compaction) == (rest.replica, rest.log_mode, rest.compaction)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::request::parse_shape_request;
    use crate::protocol::route::Method;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn request(query: &str) -> DefinitionRequest {
        parse_shape_request(Method::Get, &format!("table=t&offset=-1{query}")).expect("valid").definition
    }

    #[test]
    fn a_request_is_kept_as_it_was_and_shares_all_but_its_constants() {
        let mut families = Families::default();
        let params = "&where=a%3D%241&params%5B1%5D=";
        let queries = [
            "",
            "&replica=full",
            "&where=a%3D1",
            "&where=a%3D2&columns=a,b",
            "&where=a%3D2",
            &format!("{params}17"),
            &format!("{params}%00%22"),
            "&params%5B1%5D=7",
        ];
        for query in queries {
            let kept = families.keep(&request(query));
            assert_eq!(kept.request(), request(query), "{query}");
            for other in queries {
                assert_eq!(kept.is(&request(other)), query == other, "{query} and {other}");
            }
        }
        let [one, other] = ["1", "2"].map(|n| families.keep(&request(&format!("{params}{n}"))));
        assert!(Arc::ptr_eq(&one.family, &other.family));
        let [one, other] = ["1", "2"].map(|n| families.keep(&request(&format!("&where=a%3D{n}"))));
        assert!(Arc::ptr_eq(&one.family, &other.family));
        let stored = Family::from_stored(one.family().stored().as_bytes()).expect("a family");
        assert_eq!(KeptRequest::new(Arc::new(stored), one.constants()), Some(one));
    }

    #[test]
    fn families_without_shapes_are_forgotten() {
        let mut families = Families::default();
        let kept = families.keep(&request("&columns=kept"));
        for n in 0..10 * FEW {
            families.keep(&request(&format!("&columns=c{n}")));
        }
        assert!(families.0.len() < 4 * FEW);
        assert!(Arc::ptr_eq(&families.keep(&request("&columns=kept")).family, &kept.family));
    }
}
