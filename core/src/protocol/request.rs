//! Requests to `/v1/shape`, read from the query string and checked in the order of protocol §2.3.

use super::cast::Cast;
use super::parameter::Parameter;
use super::query::Query;
use super::refusal::RequestError;
use super::route::Method;
use crate::Offset;
use crate::pg::QualifiedName;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A read of a shape log, or of a subset of the shape where [`SubsetRequest`](super::SubsetRequest) finds one in
/// the same query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShapeRequest {
    /// `GET`, `HEAD` or `POST`.
    pub method: Method,
    /// Which shape.
    pub definition: DefinitionRequest,
    /// From where.
    pub offset: RequestOffset,
    /// The incarnation the client knows; always absent at `-1` and `now`, where it has no meaning.
    pub handle: Option<String>,
    /// Whether to wait for changes.
    pub live: bool,
    /// Whether to stream changes as events; only ever with `live`.
    pub live_sse: bool,
    /// The cursor of the reply before this request, as spelled.
    pub cursor: Option<String>,
}

/// The part of a request on which the head of its reply depends, beside the shape and the cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadRequest {
    /// `GET`, `HEAD` or `POST`.
    pub method: Method,
    /// From where.
    pub offset: RequestOffset,
    /// Whether to wait for changes.
    pub live: bool,
    /// Whether to stream changes as events; only ever with `live`.
    pub live_sse: bool,
}

/// Where a read begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestOffset {
    /// At the end, whatever that is (`now`).
    Now,
    /// After this position.
    At(Offset),
}

/// A shape as it was asked for: syntax only, nothing looked up in the catalog.
///
/// Together with the [`Relation`](crate::pg::Relation) it says everything about a shape, and is what a
/// store keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DefinitionRequest {
    /// `table`
    pub table: QualifiedName,
    /// `columns`, unquoted, in the order given.
    pub columns: Option<Vec<String>>,
    /// `queryable_columns`, unquoted, in the order given.
    pub queryable_columns: Option<Vec<String>>,
    /// `where`
    pub where_clause: Option<String>,
    /// `params`, keys as spelled: they are only looked at where there is a `where`.
    pub params: BTreeMap<String, String>,
    /// `replica`
    pub replica: Replica,
    /// `log`
    pub log_mode: LogMode,
    /// `experimental_compaction`, which is checked and decides nothing. Part of no shape.
    #[serde(skip)]
    pub compaction: bool,
}

/// How much of a row an update or a delete shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Replica {
    /// The key and what changed.
    #[default]
    Default,
    /// Everything, and what it was before.
    Full,
}

/// Whether the log begins with the rows that exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogMode {
    /// It does.
    #[default]
    Full,
    /// It begins with the first change.
    ChangesOnly,
}

/// A `DELETE`: at least one of the two is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteRequest {
    /// The shape to delete.
    pub definition: Option<DefinitionRequest>,
    /// The incarnation to delete.
    pub handle: Option<String>,
}

/// Placeholders by number. Keys count from 1 without a gap; only their plain spelling (`1`, not `01`) names a
/// placeholder.
pub(crate) fn numbered(params: &BTreeMap<String, String>) -> Result<BTreeMap<u32, String>, &'static str> {
    let numbers: Option<Vec<u32>> = params.keys().map(|key| number(key)).collect();
    let mut numbers = numbers.ok_or("Parameters can only use numbers as keys")?;
    numbers.sort_unstable();
    if !numbers.iter().copied().eq((1..).take(numbers.len())) {
        return Err("Parameters must be numbered sequentially, starting from 1");
    }
    let plain = params.iter().filter(|(key, _)| !key.starts_with('0'));
    Ok(plain.filter_map(|(key, value)| Some((number(key)?, value.clone()))).collect())
}

/// Numbers too large to be anyone's are still numbers.
fn number(key: &str) -> Option<u32> {
    let digits = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| key.parse().unwrap_or(u32::MAX))
}

impl ShapeRequest {
    /// The part that the head of a log reply depends on.
    #[must_use]
    pub const fn read(&self) -> ReadRequest {
        let Self { method, offset, live, live_sse, .. } = *self;
        ReadRequest { method, offset, live, live_sse }
    }
}

impl DefinitionRequest {
    /// A text that is equal for requests that ask for a shape in the same words, so that one may be answered as the
    /// other was: every parameter of [`Part::Definition`](super::parameter::Part::Definition) is in it.
    ///
    /// # Panics
    /// Never: a definition is plain data.
    #[must_use]
    pub fn request_key(&self) -> String {
        serde_json::to_string(&(self, self.compaction)).expect("a definition is plain data")
    }

    /// The request that has this [`request_key`](Self::request_key); `None` where none has.
    #[must_use]
    pub fn from_request_key(key: &str) -> Option<Self> {
        let (request, compaction): (Self, bool) = serde_json::from_str(key).ok()?;
        Some(Self { compaction, ..request })
    }
}

impl RequestOffset {
    /// True for `-1`.
    #[must_use]
    pub fn is_start(self) -> bool {
        self == Self::At(Offset::Start)
    }
}

impl std::fmt::Display for RequestOffset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Now => f.write_str("now"),
            Self::At(offset) => offset.fmt(f),
        }
    }
}

impl Replica {
    /// The spelling on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Full => "full",
        }
    }
}

impl LogMode {
    /// The spelling on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::ChangesOnly => "changes_only",
        }
    }
}

/// Reads a request for a shape log from its query string.
///
/// # Errors
/// The first stage that fails: types and the presence of `offset`, the form of `offset`, `handle`, `live`,
/// `live_sse`, `table`. What needs the catalog is checked later, by
/// [`Definition::resolve`](crate::shape::Definition::resolve).
pub fn parse_shape_request(method: Method, query: &str) -> Result<ShapeRequest, RequestError> {
    read_shape_request(method, &Query::parse(query)?)
}

/// Reads a request whose parameters are gathered already: a query with a body merged over it
/// ([`Query::merge_body`]).
///
/// # Errors
/// As [`parse_shape_request`].
pub fn read_shape_request(method: Method, query: &Query) -> Result<ShapeRequest, RequestError> {
    let mut cast = Cast::new(query);
    let offset = cast.required_text(Parameter::Offset);
    let handle = cast.text(Parameter::Handle);
    let live = cast.lenient_flag(Parameter::Live);
    let live_sse = match query.value(Parameter::LiveSse) {
        Some(_) => cast.lenient_flag(Parameter::LiveSse),
        None => cast.strict_flag(Parameter::ExperimentalLiveSse, Parameter::LiveSse),
    };
    let definition = cast.definition();
    cast.finish()?;

    let offset = parse_offset(offset.unwrap_or_default())?;
    let handle = match offset {
        RequestOffset::Now | RequestOffset::At(Offset::Start) => None,
        RequestOffset::At(_) => Some(
            handle.ok_or_else(|| RequestError::new("handle", "can't be blank when offset != -1"))?.to_owned(),
        ),
    };
    check_live(offset, live, live_sse)?;
    let definition = definition.with_table()?;
    let cursor = query.text(Parameter::Cursor).ok().flatten().map(str::to_owned);
    Ok(ShapeRequest { method, definition, offset, handle, live, live_sse, cursor })
}

/// Reads a request to delete a shape from its query string. It has no offset, and its flags are strict.
///
/// # Errors
/// As [`parse_shape_request`]; and where neither a shape nor a handle is named.
pub fn parse_delete_request(query: &str) -> Result<DeleteRequest, RequestError> {
    let query = Query::parse(query)?;
    let mut cast = Cast::new(&query);
    let handle = cast.text(Parameter::Handle).map(str::to_owned);
    cast.strict_flag(Parameter::Live, Parameter::Live);
    cast.strict_flag(Parameter::LiveSse, Parameter::LiveSse);
    let definition = cast.definition();
    cast.finish()?;

    if definition.table.is_some() {
        return Ok(DeleteRequest { definition: Some(definition.with_table()?), handle });
    }
    if handle.is_none() {
        return Err(RequestError::new("handle", "can't be blank when shape definition is missing"));
    }
    Ok(DeleteRequest { definition: None, handle })
}

/// Reads a question for a table's schema: only `table` counts.
///
/// # Errors
/// Where the table is missing or no name.
pub fn parse_schema_request(query: &str) -> Result<QualifiedName, RequestError> {
    Ok(read_definition(&Query::parse(query)?)?.table)
}

/// Reads which shape is meant, whatever else is asked.
///
/// # Errors
/// A parameter of the definition has no such type, or the table is missing or no name.
pub fn read_definition(query: &Query) -> Result<DefinitionRequest, RequestError> {
    let mut cast = Cast::new(query);
    let definition = cast.definition();
    cast.finish()?;
    definition.with_table()
}

fn parse_offset(text: &str) -> Result<RequestOffset, RequestError> {
    if text == "now" {
        return Ok(RequestOffset::Now);
    }
    text.parse().map(RequestOffset::At).map_err(|_| RequestError::new("offset", "has invalid format"))
}

fn check_live(offset: RequestOffset, live: bool, live_sse: bool) -> Result<(), RequestError> {
    match offset {
        RequestOffset::At(Offset::Start) if live => {
            Err(RequestError::new("live", "can't be true when offset == -1"))
        }
        RequestOffset::Now if live => Err(RequestError::new("live", "can't be true when offset is 'now'")),
        _ if live_sse && !live => {
            Err(RequestError::new("live_sse", "can't be true unless live is also true"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn parse(query: &str) -> Result<ShapeRequest, RequestError> {
        parse_shape_request(Method::Get, query)
    }

    fn refused(query: &str, parameter: &str, text: &str) {
        let error = parse(query).unwrap_err();
        assert_eq!(error.texts(parameter), [text], "{query}: {error}");
    }

    #[test]
    fn everything_is_read() {
        let request = parse(
            "table=Items&offset=12_4&handle=1-1&live=true&live_sse=true&cursor=9&columns=id,%22A%22\
             &where=n%3D%241&params%5B1%5D=&replica=full&log=changes_only&cache-buster=1&x[y]=1",
        );
        let expected = ShapeRequest {
            method: Method::Get,
            definition: DefinitionRequest {
                table: QualifiedName::new("public", "items"),
                columns: Some(vec!["id".to_owned(), "A".to_owned()]),
                queryable_columns: None,
                where_clause: Some("n=$1".to_owned()),
                params: [("1".to_owned(), String::new())].into(),
                replica: Replica::Full,
                log_mode: LogMode::ChangesOnly,
                compaction: false,
            },
            offset: RequestOffset::At(Offset::new(12, 4)),
            handle: Some("1-1".to_owned()),
            live: true,
            live_sse: true,
            cursor: Some("9".to_owned()),
        };
        assert_eq!(request, Ok(expected));
    }

    #[test]
    fn offset_must_be_there_and_well_formed() {
        for query in ["table=t", "table=t&offset=", "", "table=t&offset=%20"] {
            refused(query, "offset", "can't be blank");
        }
        let malformed = [
            "abc", "10", "1_2_3", "1_2%20", "0_-1", "1_1.5", "_1", "1_", "-1_1", "-2_0", "-2", "0_INF",
            "1_infx", "%20-1", "-1%20", "NOW",
        ];
        for offset in malformed {
            refused(&format!("table=t&offset={offset}&handle=1-1"), "offset", "has invalid format");
        }
        refused("offset[]=-1&table=t", "offset", "is invalid");
        assert_eq!(
            parse("table=t&offset=0_02&handle=x").unwrap().offset,
            RequestOffset::At(Offset::new(0, 2))
        );
    }

    #[test]
    fn a_handle_is_due_after_the_start_and_dropped_before() {
        for query in ["table=t&offset=0_0", "table=t&offset=0_0&handle="] {
            refused(query, "handle", "can't be blank when offset != -1");
        }
        for offset in ["-1", "-1_0", "now"] {
            assert_eq!(parse(&format!("table=t&offset={offset}&handle=1-1")).unwrap().handle, None);
        }
    }

    #[test]
    fn live_is_true_unless_it_says_false() {
        for flag in
            ["live", "live=", "live=0", "live=1", "live=banana", "live=False", "live=true&live_sse=true"]
        {
            refused(&format!("table=t&offset=-1&{flag}"), "live", "can't be true when offset == -1");
        }
        refused("table=t&offset=now&live=true", "live", "can't be true when offset is 'now'");
        assert!(!parse("table=t&offset=-1&live=false").unwrap().live);
        refused("table=t&offset=-1&live[x]=1", "live", "is invalid");
    }

    #[test]
    fn events_need_live() {
        for flag in ["live_sse=true", "live_sse=0", "experimental_live_sse=true"] {
            let query = format!("table=t&offset=-1&{flag}");
            refused(&query, "live_sse", "can't be true unless live is also true");
        }
        refused("table=t&offset=-1&experimental_live_sse=banana", "live_sse", "is invalid");
        for flag in ["experimental_live_sse=0", "live_sse=false&experimental_live_sse=true"] {
            assert!(!parse(&format!("table=t&offset=-1&{flag}")).unwrap().live_sse);
        }
        assert!(parse("table=t&offset=1_0&handle=h&live=true&experimental_live_sse=1").unwrap().live_sse);
    }

    #[test]
    fn the_table_is_read_last() {
        refused("offset=-1", "table", "can't be blank");
        refused("offset=-1&table=", "table", "can't be blank");
        refused("offset=-1&table=a.b.c", "table", "Invalid relation identifier, too many delimiters: a.b.c");
        refused("table=a.b.c&offset=0_0", "handle", "can't be blank when offset != -1");
        refused("offset=-1&live_sse=true", "live_sse", "can't be true unless live is also true");
        refused("table[x]=t&offset=-1", "table", "is invalid");
    }

    #[test]
    fn casting_errors_come_together_and_first() {
        let error = parse("replica=foo&log=bar&columns=b-d&params=2").unwrap_err();
        assert_eq!(error.texts("offset"), ["can't be blank"]);
        assert_eq!(error.texts("replica"), ["is invalid"]);
        assert_eq!(error.texts("log"), ["is invalid"]);
        assert_eq!(error.texts("params"), ["is invalid"]);
        assert_eq!(error.texts("columns"), ["Invalid unquoted identifier contains special characters: b-d"]);
        let error = parse("table=nope&offset=abc&live_sse=true&replica=FULL").unwrap_err();
        assert_eq!(error, RequestError::new("replica", "is invalid"));
    }

    #[test]
    fn params_are_a_map_of_texts() {
        for params in
            ["params=%7B%221%22%3A%22a%22%7D", "params[]=1", "params[1]=1&params=2", "params[1][x]=1"]
        {
            refused(&format!("table=t&offset=-1&{params}"), "params", "is invalid");
        }
        assert!(parse("table=t&offset=-1&params=").unwrap().definition.params.is_empty());
    }

    #[test]
    fn listed_columns_are_literal() {
        let columns = |query: &str| parse(&format!("table=t&offset=-1&{query}")).unwrap().definition.columns;
        assert_eq!(
            columns("columns[]=ID&columns[]=we,ird"),
            Some(vec!["ID".to_owned(), "we,ird".to_owned()])
        );
        assert_eq!(columns("columns="), None);
        refused("table=t&offset=-1&columns[]=", "columns", "Invalid zero-length delimited identifier");
    }

    #[test]
    fn undecodable_text_is_refused() {
        refused("table=%ff&offset=-1", "query", "is not valid UTF-8 once decoded");
    }

    #[test]
    fn deletes_name_a_shape_or_a_handle() {
        let error = parse_delete_request("").unwrap_err();
        assert_eq!(error.texts("handle"), ["can't be blank when shape definition is missing"]);
        let error = parse_delete_request("table=t&live=banana").unwrap_err();
        assert_eq!(error.texts("live"), ["is invalid"]);
        let request = parse_delete_request("table=t&offset=abc&live=true&where=a").unwrap();
        assert_eq!(request.definition.unwrap().where_clause.as_deref(), Some("a"));
        let request = parse_delete_request("handle=1-1").unwrap();
        assert_eq!((request.definition, request.handle), (None, Some("1-1".to_owned())));
    }

    #[test]
    fn definitions_survive_storage() {
        let definition =
            parse("table=t&offset=-1&columns=id&params[1]=x&where=a&log=changes_only").unwrap().definition;
        let stored = serde_json::to_string(&definition).unwrap();
        assert_eq!(serde_json::from_str::<DefinitionRequest>(&stored).unwrap(), definition);
    }

    /// Pieces that meet often enough to get past the first checks.
    #[cfg(not(target_arch = "wasm32"))]
    const QUERIES: &str = "((table|offset|handle|live|columns|params\\[1\\]|[a-z]{0,2}\\[?)\
                           =?(t|-1|now|0_0|true|a,b|%ff|%|\"|.{0,3})&){0,6}";

    #[cfg(not(target_arch = "wasm32"))]
    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(query in QUERIES) {
            if let Ok(request) = parse(&query) {
                let needs_none = matches!(request.offset, RequestOffset::Now | RequestOffset::At(Offset::Start));
                proptest::prop_assert_eq!(request.handle.is_none(), needs_none);
                proptest::prop_assert!(!request.live_sse || request.live);
            }
            if let Ok(request) = parse_delete_request(&query) {
                proptest::prop_assert!(request.handle.is_some() || request.definition.is_some());
            }
        }
    }
}
