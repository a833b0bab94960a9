//! Where Limn's answers differ from the recorded ones by a rule, whatever was asked.

use serde_json::{Map, Value, json};

/// Headers that Limn exposes besides the recorded ones.
const EXPOSED_TOO: &str = ",electric-snapshot,etag";

/// The methods of the shape route, as any answer of it grants them.
const METHODS: &str = "GET, POST, HEAD, DELETE, OPTIONS";

const EXPOSED: &str = "electric-cursor,electric-handle,electric-has-data,electric-offset,electric-schema,\
                       electric-up-to-date,electric-internal-known-error,retry-after";

/// Makes a recorded answer what Limn would answer. The program's name and the headers it exposes do not
/// count as a difference; says whether there is one.
pub fn apply(answer: &mut Value) -> bool {
    let status = answer["status"].as_u64();
    let was_empty = answer["body"] == "";
    let differs = match status {
        // Browsers may read why they were refused.
        Some(401) => {
            let headers = headers_of(answer);
            headers.insert("access-control-allow-methods".to_owned(), json!(METHODS));
            headers.insert("access-control-allow-origin".to_owned(), json!("*"));
            headers.insert("access-control-expose-headers".to_owned(), json!(EXPOSED));
            headers.insert("content-type".to_owned(), json!("application/json; charset=utf-8"));
            true
        }
        Some(404) if answer["body"] == "Not found" || was_empty => {
            headers_of(answer).insert("content-type".to_owned(), json!("application/json; charset=utf-8"));
            if !was_empty {
                answer["body"] = json!({ "message": "Not found" });
            }
            true
        }
        _ => false,
    };
    let headers = headers_of(answer);
    if let Some(server) = headers.get_mut("electric-server") {
        *server = json!(format!("Limn/{}", env!("CARGO_PKG_VERSION")));
    }
    if let Some(Value::String(exposed)) = headers.get_mut("access-control-expose-headers") {
        exposed.push_str(EXPOSED_TOO);
    }
    // The replay asks for an end of the connection after each answer.
    headers.remove("connection");
    differs
}

fn headers_of(answer: &mut Value) -> &mut Map<String, Value> {
    answer["headers"].as_object_mut().expect("headers are an object")
}
