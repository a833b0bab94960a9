//! Subsets: a part of a shape's rows, read from the database for one request (protocol §2.1, §2.2, §8.9).

use super::body::parameter;
use super::parameter::Parameter;
use super::query::{Query, Value};
use super::refusal::RequestError;
use crate::Lsn;
use crate::pg::SnapshotBounds;
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt;

/// The bytes behind the rows of a body.
pub const BODY_END: &[u8] = b"]}";

const IS_INVALID: &str = "is invalid";

/// Which part of a shape is asked for: syntax only, nothing looked up in the catalog.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SubsetRequest {
    /// `where`
    pub where_clause: Option<String>,
    /// `params`, keys as spelled: they are only looked at where there is a `where`.
    pub params: BTreeMap<String, String>,
    /// `order_by`; present where one of the next two is.
    pub order_by: Option<String>,
    /// `limit`, more than 0.
    pub limit: Option<u64>,
    /// `offset`
    pub offset: Option<u64>,
}

/// A number that tells the rows of one subset from those of others: below 2³¹.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotMark(u32);

impl SubsetRequest {
    /// The subset that the parameters ask for, if they do.
    ///
    /// # Errors
    /// All mistakes in its parameters. The definition of the shape is judged before that
    /// (protocol §2.3).
    pub fn read(query: &Query) -> Result<Option<Self>, RequestError> {
        if !query.asks_for_subset() {
            return Ok(None);
        }
        let mut errors = RequestError::default();
        let mut text = |parameter: Parameter, reported_as: &'static str| {
            query.text(parameter).unwrap_or_else(|error| {
                errors.add(reported_as, error.to_string());
                None
            })
        };
        let where_clause = text(Parameter::SubsetWhere, "subset.where").map(str::to_owned);
        let order_by = text(Parameter::SubsetOrderBy, "subset.order_by").map(str::to_owned);
        let limit = text(Parameter::SubsetLimit, "subset.limit");
        let offset = text(Parameter::SubsetOffset, "subset.offset");
        let mut refuse = |parameter, text: &str| errors.add(parameter, text);
        let limit = bounded(limit, 1).map_err(|text| refuse("subset.limit", text)).unwrap_or_default();
        let offset = bounded(offset, 0).map_err(|text| refuse("subset.offset", text)).unwrap_or_default();
        let params = params(query).map_err(|text| refuse("subset.params", text)).unwrap_or_default();
        // Only where every value is one: a value that cannot be read is told alone.
        if errors.is_empty() && order_by.is_none() && (limit.is_some() || offset.is_some()) {
            errors.add("subset.order_by", "order_by is required when limit or offset is present");
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Some(Self { where_clause, params, order_by, limit, offset }))
    }
}

impl SnapshotMark {
    /// A mark from any random number.
    #[must_use]
    pub const fn from_random(random: u64) -> Self {
        Self((random >> 33) as u32)
    }

    /// Its value.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0 as u64
    }
}

impl fmt::Display for SnapshotMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The bytes before the rows of a body. `database_lsn` is a position in the WAL beyond which nothing that commits
/// is in the subset.
#[must_use]
pub fn body_start(bounds: &SnapshotBounds, database_lsn: Lsn, mark: SnapshotMark) -> Vec<u8> {
    let xip_list: Vec<String> = bounds.xip.iter().map(u64::to_string).collect();
    let metadata = json!({
        "xmin": bounds.xmin.to_string(),
        "xmax": bounds.xmax.to_string(),
        "xip_list": xip_list,
        "database_lsn": database_lsn.as_u64().to_string(),
        "snapshot_mark": mark.as_u64(),
    });
    format!("{{\"metadata\":{metadata},\"data\":[").into_bytes()
}

/// A number that SQL can take for `LIMIT` or `OFFSET`, not below `least`.
fn bounded(text: Option<&str>, least: i64) -> Result<Option<u64>, &'static str> {
    let Some(text) = text else { return Ok(None) };
    let number: i64 = text.parse().map_err(|_| IS_INVALID)?;
    match u64::try_from(number) {
        Ok(value) if number >= least => Ok(Some(value)),
        _ if least > 0 => Err("must be greater than 0"),
        _ => Err("must be greater than or equal to 0"),
    }
}

/// A map, or the same as a JSON object in one text. Values are texts; what else JSON has that is no list and no
/// object is taken as it is written.
fn params(query: &Query) -> Result<BTreeMap<String, String>, &'static str> {
    let value = match query.value(Parameter::SubsetParams) {
        None => return Ok(BTreeMap::new()),
        Some(Value::Text(text)) if text.trim().is_empty() => return Ok(BTreeMap::new()),
        Some(Value::Text(text)) => {
            let value = serde_json::from_str(text).map_err(|_| "params must be valid JSON")?;
            match parameter(value) {
                Some(map @ Value::Map(_)) => map,
                _ => return Err("params must be a JSON object"),
            }
        }
        Some(other) => other.clone(),
    };
    let Value::Map(entries) = value else { return Err(IS_INVALID) };
    let texts = entries.into_iter().map(|(key, value)| match value {
        Value::Text(text) => Ok((key, text)),
        Value::List(_) | Value::Map(_) => Err(IS_INVALID),
    });
    texts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn read(query: &str) -> Result<Option<SubsetRequest>, RequestError> {
        SubsetRequest::read(&Query::parse(query).unwrap())
    }

    fn posted(body: &str) -> Result<Option<SubsetRequest>, RequestError> {
        let mut query = Query::parse("table=t&offset=-1").unwrap();
        query.merge_body(body.as_bytes()).unwrap();
        SubsetRequest::read(&query)
    }

    fn refused(query: &str, parameter: &str, text: &str) {
        let error = read(query).unwrap_err();
        assert_eq!(error.texts(parameter), [text], "{query}: {error}");
    }

    fn one_param(value: &str) -> BTreeMap<String, String> {
        [("1".to_owned(), value.to_owned())].into()
    }

    #[test]
    fn any_such_name_asks_for_a_subset() {
        assert_eq!(read("table=t&offset=-1&where=a"), Ok(None));
        for query in ["subset__foo=", "subset__where=", "subset__where_expr=x", "subset__limit"] {
            assert_eq!(read(query), Ok(Some(SubsetRequest::default())), "{query}");
        }
        assert_eq!(posted("{}"), Ok(None));
        assert_eq!(posted(r#"{"subset":{}}"#), Ok(Some(SubsetRequest::default())));
        assert_eq!(posted(r#"{"where_expr":{"x":1}}"#), Ok(Some(SubsetRequest::default())));
    }

    #[test]
    fn query_and_body_say_the_same() {
        let expected = SubsetRequest {
            where_clause: Some("n > $1".to_owned()),
            params: one_param("15"),
            order_by: Some("id desc".to_owned()),
            limit: Some(2),
            offset: Some(0),
        };
        let rest = "subset__where=n+%3E+$1&subset__order_by=id+desc&subset__limit=2&subset__offset=0";
        for params in ["[1]=15", "=%7B%221%22%3A%2215%22%7D", "=%7B%221%22%3A15%7D"] {
            assert_eq!(
                read(&format!("{rest}&subset__params{params}")),
                Ok(Some(expected.clone())),
                "{params}"
            );
        }
        for params in [r#"{"1":"15"}"#, r#"{"1":15}"#] {
            let subset =
                format!(r#""where":"n > $1","order_by":"id desc","limit":2,"offset":0,"params":{params}"#);
            assert_eq!(posted(&format!("{{{subset}}}")), Ok(Some(expected.clone())), "{subset}");
            assert_eq!(posted(&format!(r#"{{"subset":{{{subset}}}}}"#)), Ok(Some(expected.clone())));
        }
    }

    #[test]
    fn limit_and_offset_are_bounded_and_need_an_order() {
        for query in ["subset__limit=1", "subset__offset=0"] {
            refused(query, "subset.order_by", "order_by is required when limit or offset is present");
        }
        for (value, text) in [
            ("limit=0", "must be greater than 0"),
            ("limit=-3", "must be greater than 0"),
            ("limit=abc", "is invalid"),
            ("limit=1.5", "is invalid"),
            ("limit=9223372036854775808", "is invalid"),
            ("limit[]=1", "is invalid"),
            ("offset=-1", "must be greater than or equal to 0"),
        ] {
            let parameter = if value.starts_with("limit") { "subset.limit" } else { "subset.offset" };
            refused(&format!("subset__order_by=id&subset__{value}"), parameter, text);
        }
    }

    #[test]
    fn params_are_a_map_or_a_json_object() {
        refused("subset__params=%7B1", "subset.params", "params must be valid JSON");
        for json in ["%5B1%5D", "5", "null", "%22a%22"] {
            refused(&format!("subset__params={json}"), "subset.params", "params must be a JSON object");
        }
        for query in
            ["subset__params[]=1", "subset__params=%7B%221%22%3A%5B1%5D%7D", "subset__params[1][x]=1"]
        {
            refused(query, "subset.params", "is invalid");
        }
        let error = posted(r#"{"where":"n > $1","params":["15"]}"#).unwrap_err();
        assert_eq!(error.texts("subset.params"), ["is invalid"]);
        assert_eq!(read("subset__params[1]=").unwrap().unwrap().params, one_param(""));
    }

    #[test]
    fn every_wrong_value_is_said_at_once_and_before_what_is_missing() {
        let error = read("subset__limit=0&subset__offset=x&subset__params[]=1").unwrap_err();
        for parameter in ["subset.limit", "subset.offset", "subset.params"] {
            assert_eq!(error.texts(parameter).len(), 1, "{parameter}");
        }
        assert!(error.texts("subset.order_by").is_empty());
    }

    #[test]
    fn metadata_are_strings_but_the_mark() {
        let bounds = SnapshotBounds { xmin: 901, xmax: 906, xip: vec![903] };
        let mark = SnapshotMark::from_random(1_733_021 << 33 | 5);
        let body = [body_start(&bounds, Lsn::new(29_361_000), mark).as_slice(), BODY_END].concat();
        let expected = json!({
            "metadata": {"xmin": "901", "xmax": "906", "xip_list": ["903"], "database_lsn": "29361000",
                "snapshot_mark": 1_733_021},
            "data": [],
        });
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&body).unwrap(), expected);
        assert_eq!(mark.to_string(), "1733021");
    }
}
