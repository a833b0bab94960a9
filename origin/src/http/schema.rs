//! `GET /v1/schema?table=…`: what a client may want to know of a table before it has a shape.

use super::{Server, refusal};
use axum::body::Body;
use axum::http::{HeaderValue, Response, header};
use limn_core::protocol::header::JSON;
use limn_core::protocol::reply::Reply;
use limn_core::protocol::request::parse_schema_request;
use limn_core::protocol::route::Method;
use limn_core::shape::{schema_header, typescript};
use serde_json::{Value, json};

/// The columns as the schema header describes them, and the row as a TypeScript type.
pub(super) async fn schema(server: &Server, query: &str) -> Result<Response<Body>, Box<Reply>> {
    let cache = &server.settings.cache;
    let table = parse_schema_request(query)
        .map_err(|error| Box::new(Reply::bad_request(cache, Method::Get, &error)))?;
    let relation = server.creator.catalog.describe_by_name(&table).await;
    let relation = relation.map_err(|error| Box::new(refusal::of_lookup(error, cache, Method::Get)))?;
    let columns: Value = serde_json::from_str(&schema_header(&relation.columns)).unwrap_or_default();
    let body = json!({
        "table": { "schema": relation.name.schema, "name": relation.name.name },
        "columns": columns,
        "typescript": typescript::row_type(&relation),
    });
    let mut response = Response::new(Body::from(body.to_string()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}
