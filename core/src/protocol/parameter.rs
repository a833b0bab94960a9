//! Every parameter that a request for a shape may have, and what it decides.
//!
//! [`Query`](super::query::Query) gives values by [`Parameter`] alone, so nothing is read from a request that is not in
//! this table; and [`Parameter::part`] has no default arm. So a new parameter compiles only once it is decided what it
//! decides, and from that follow the edge's cache key, its query to the origin, and what the documents have to say.

use crate::named_enum::named_enum;

/// How the names of a subset's parameters begin; any such name makes a request one for a subset.
pub const SUBSET_PREFIX: &str = "subset__";

named_enum! {
    /// A parameter of the query string, or a member of a POST's body. Others are ignored, and are not passed on by the
    /// edge, but for those that begin with [`SUBSET_PREFIX`].
    pub enum Parameter {
        /// The table, with its schema unless that is `public`.
        Table = "table",
        /// Which rows.
        Where = "where",
        /// The values of `$1`, `$2`, … in `where`.
        Params = "params",
        /// Which columns.
        Columns = "columns",
        /// Which columns the request may name, outside of `where`.
        QueryableColumns = "queryable_columns",
        /// How much of a row updates and deletes show.
        Replica = "replica",
        /// Whether the log begins with the rows that exist.
        Log = "log",
        /// Accepted where Electric accepts it. Whether a log is compacted does not depend on it.
        ExperimentalCompaction = "experimental_compaction",
        /// After which position of the log.
        Offset = "offset",
        /// The incarnation of the shape that the client knows.
        Handle = "handle",
        /// Whether to wait for changes.
        Live = "live",
        /// Whether to answer by a stream of events.
        LiveSse = "live_sse",
        /// An older name of `live_sse`.
        ExperimentalLiveSse = "experimental_live_sse",
        /// What makes the address of each live request new.
        Cursor = "cursor",
        /// Which of the shape's rows.
        SubsetWhere = "subset__where",
        /// The values of `$1`, `$2`, … in `subset__where`.
        SubsetParams = "subset__params",
        /// In which order.
        SubsetOrderBy = "subset__order_by",
        /// How many rows at most.
        SubsetLimit = "subset__limit",
        /// How many rows to pass over.
        SubsetOffset = "subset__offset",
        /// A handle that the client knows to be dead: a copy that names it is of no use.
        ExpiredHandle = "expired_handle",
        /// No copy is of use.
        CacheBuster = "cache-buster",
        /// The server's secret.
        Secret = "secret",
        /// An older name of `secret`.
        ApiSecret = "api_secret",
    }
}

/// The part of an answer that a parameter decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Which shape is meant, and whether it may be asked for: part of
    /// [`DefinitionRequest::request_key`](super::DefinitionRequest::request_key).
    Definition,
    /// Which part of the shape's log, and in which form.
    Position,
    /// Which of the shape's rows are read beside the log. Such replies are never cached.
    Subset,
    /// Whether a copy of the reply is of use. Means nothing to the origin.
    Cache,
    /// Who asks.
    Secret,
}

impl Parameter {
    /// The parameter of that exact name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|parameter| parameter.as_str() == name)
    }

    /// The part of an answer that it decides.
    #[must_use]
    pub const fn part(self) -> Part {
        match self {
            Self::Table
            | Self::Where
            | Self::Params
            | Self::Columns
            | Self::QueryableColumns
            | Self::Replica
            | Self::Log
            | Self::ExperimentalCompaction => Part::Definition,
            Self::Offset
            | Self::Handle
            | Self::Live
            | Self::LiveSse
            | Self::ExperimentalLiveSse
            | Self::Cursor => Part::Position,
            Self::SubsetWhere
            | Self::SubsetParams
            | Self::SubsetOrderBy
            | Self::SubsetLimit
            | Self::SubsetOffset => Part::Subset,
            Self::ExpiredHandle | Self::CacheBuster => Part::Cache,
            Self::Secret | Self::ApiSecret => Part::Secret,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::cache_key::{EdgeRequest, KeyScope, Secrets};
    use crate::protocol::request::{DefinitionRequest, parse_shape_request};
    use crate::protocol::subset::SubsetRequest;
    use crate::protocol::{Method, query::Query};
    use std::collections::BTreeSet;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const OPENAPI: &str = include_str!("../../../docs/openapi.yaml");
    const HTTP_API: &str = include_str!("../../../docs/http-api.md");

    /// The name with a value that the parser takes, and that differs from the one in [`request`].
    fn other_value(parameter: Parameter) -> &'static str {
        match parameter {
            Parameter::Table => "table=u",
            Parameter::Where => "where=id%3D2",
            Parameter::Params => "params[1]=y",
            Parameter::Columns => "columns=id,b",
            Parameter::QueryableColumns => "queryable_columns=id,b",
            Parameter::Replica => "replica=full",
            Parameter::Log => "log=changes_only",
            Parameter::ExperimentalCompaction => "experimental_compaction=true",
            Parameter::Offset => "offset=0_1",
            Parameter::Handle => "handle=1-3",
            Parameter::Live => "live=true",
            Parameter::LiveSse => "live=true&live_sse=true",
            Parameter::ExperimentalLiveSse => "live=true&experimental_live_sse=true",
            Parameter::Cursor => "cursor=2",
            Parameter::SubsetWhere => "subset__where=a",
            Parameter::SubsetParams => "subset__params[1]=x",
            Parameter::SubsetOrderBy => "subset__order_by=id",
            Parameter::SubsetLimit => "subset__order_by=id&subset__limit=1",
            Parameter::SubsetOffset => "subset__order_by=id&subset__offset=1",
            Parameter::ExpiredHandle => "expired_handle=9-9",
            Parameter::CacheBuster => "cache-buster=1",
            Parameter::Secret => "secret=s",
            Parameter::ApiSecret => "api_secret=s",
        }
    }

    /// A request for a chunk with most parameters, and one of them with another value: the last one counts.
    fn request(changed: Option<Parameter>) -> String {
        let plain = "table=t&where=id%3D1&params[1]=x&columns=id,a&queryable_columns=id,a&offset=0_0&handle=1-2&cursor=1";
        changed.map_or(plain.to_owned(), |parameter| format!("{plain}&{}", other_value(parameter)))
    }

    fn edge(changed: Option<Parameter>) -> EdgeRequest {
        EdgeRequest::parse(Method::Get, "/v1/shape", &request(changed)).unwrap()
    }

    #[test]
    fn every_parameter_that_the_origin_reads_keeps_cached_replies_apart() {
        let scope = KeyScope { origin_url: "http://origin", secret: None, tenant: None };
        let plain = edge(None).key(scope);
        assert!(plain.is_some());
        for parameter in Parameter::ALL {
            let key = edge(Some(*parameter)).key(scope);
            match parameter.part() {
                Part::Definition | Part::Position => assert_ne!(key, plain, "{parameter}"),
                Part::Subset => assert_eq!(key, None, "{parameter}"),
                Part::Cache | Part::Secret => assert_eq!(key, plain, "{parameter}"),
            }
        }
    }

    #[test]
    fn every_parameter_is_passed_on_to_the_origin_but_secrets_that_the_edge_checked() {
        for parameter in Parameter::ALL {
            let request = edge(Some(*parameter));
            let pair = other_value(*parameter).split('&').next_back().unwrap();
            assert!(request.origin_query(Secrets::Keep).contains(pair), "{parameter}");
            let is_secret = parameter.part() == Part::Secret;
            assert_ne!(request.origin_query(Secrets::Strip).contains(pair), is_secret, "{parameter}");
        }
        let unknown = EdgeRequest::parse(Method::Get, "/v1/shape", "table=t&offset=-1&utm=1").unwrap();
        assert_eq!(unknown.origin_query(Secrets::Keep), "offset=-1&table=t");
    }

    #[test]
    fn every_parameter_changes_what_it_is_said_to_decide_and_nothing_else() {
        let read = |query: &str| {
            let request = parse_shape_request(Method::Get, query).unwrap();
            let subset = SubsetRequest::read(&Query::parse(query).unwrap()).unwrap();
            let position = (request.offset, request.handle, request.live, request.live_sse, request.cursor);
            let key = request.definition.request_key();
            assert_eq!(DefinitionRequest::from_request_key(&key), Some(request.definition));
            (key, position, subset)
        };
        let plain = read(&request(None));
        for parameter in Parameter::ALL {
            let other = read(&request(Some(*parameter)));
            let changed = (other.0 != plain.0, other.1 != plain.1, other.2 != plain.2);
            let part = parameter.part();
            let said = (part == Part::Definition, part == Part::Position, part == Part::Subset);
            assert_eq!(changed, said, "{parameter}");
        }
    }

    /// The parameters in the query, `securitySchemes` included, as the document declares them.
    #[test]
    fn openapi_declares_every_parameter_and_no_other() {
        let lines: Vec<&str> = OPENAPI.lines().map(str::trim).collect();
        let names = |window: &[&str]| {
            let [one, other] = window else { return None };
            let (name, place) = if one.starts_with("name: ") { (one, other) } else { (other, one) };
            (*place == "in: query").then_some(())?;
            name.strip_prefix("name: ").map(str::to_owned)
        };
        let declared: BTreeSet<String> = lines.windows(2).filter_map(names).collect();
        // What makes a URL new, and the older name of the secret, are told in descriptions.
        let told = [Parameter::ExpiredHandle, Parameter::CacheBuster, Parameter::ApiSecret];
        let expected = Parameter::ALL.iter().filter(|parameter| !told.contains(parameter));
        assert_eq!(declared, expected.map(|parameter| parameter.as_str().to_owned()).collect());
        for parameter in told {
            assert!(OPENAPI.contains(&format!("`{parameter}`")), "{parameter}");
        }
    }

    #[test]
    fn the_text_lists_every_parameter_under_what_it_decides() {
        let (_, section) = HTTP_API.split_once("\n## All parameters\n").unwrap();
        let section = section.split("\n## ").next().unwrap();
        let mut listed = Vec::new();
        for row in section.lines().filter(|line| line.starts_with("| `")) {
            let cell = row.trim_start_matches("| `").split("` |").next().unwrap();
            let parts: Vec<Option<Part>> =
                cell.split("`, `").map(|name| Parameter::from_name(name).map(Parameter::part)).collect();
            assert!(parts.iter().all(|part| part.is_some() && *part == parts[0]), "{row}");
            listed.extend(cell.split("`, `"));
        }
        let all: Vec<&str> = Parameter::ALL.iter().map(|parameter| parameter.as_str()).collect();
        assert_eq!(listed, all);
    }
}
