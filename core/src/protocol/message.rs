//! Control messages and the framing of streams of events (protocol §4.7, §6.3).

use crate::Lsn;
use crate::pg::SnapshotBounds;
use serde_json::json;

/// The body of every 409.
pub const MUST_REFETCH_BODY: &str = r#"[{"headers":{"control":"must-refetch"}}]"#;
/// A comment that keeps a stream of events open.
pub const KEEP_ALIVE: &[u8] = b": keep-alive\n\n";

/// The message that ends a reply that reaches the end of the log. `lsn` is the greatest position whose changes
/// the client has now seen.
#[must_use]
pub fn up_to_date(lsn: Lsn) -> Vec<u8> {
    json!({ "headers": { "control": "up-to-date", "global_last_seen_lsn": lsn.as_u64().to_string() } })
        .to_string()
        .into_bytes()
}

/// The message after the last row of a snapshot: transaction ids are 64-bit numbers in strings.
#[must_use]
pub fn snapshot_end(bounds: &SnapshotBounds) -> Vec<u8> {
    let xip_list: Vec<String> = bounds.xip.iter().map(u64::to_string).collect();
    json!({
        "headers": {
            "control": "snapshot-end",
            "xmin": bounds.xmin.to_string(),
            "xmax": bounds.xmax.to_string(),
            "xip_list": xip_list,
        }
    })
    .to_string()
    .into_bytes()
}

/// Appends one message as one event. Messages are JSON on one line, so they need no escaping.
pub fn push_event(out: &mut Vec<u8>, message: &[u8]) {
    out.extend_from_slice(b"data: ");
    out.extend_from_slice(message);
    out.extend_from_slice(b"\n\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn parsed(message: &[u8]) -> serde_json::Value {
        serde_json::from_slice(message).unwrap()
    }

    #[test]
    fn positions_and_ids_are_decimal_strings() {
        let expected = json!({"headers": {"control": "up-to-date", "global_last_seen_lsn": "29360200"}});
        assert_eq!(parsed(&up_to_date(Lsn::new(29_360_200))), expected);
        let bounds = SnapshotBounds { xmin: 801, xmax: 806, xip: vec![803, u64::MAX] };
        let expected = json!({"headers": {
            "control": "snapshot-end", "xmin": "801", "xmax": "806",
            "xip_list": ["803", "18446744073709551615"],
        }});
        assert_eq!(parsed(&snapshot_end(&bounds)), expected);
    }

    #[test]
    fn must_refetch_is_an_array() {
        let expected = json!([{"headers": {"control": "must-refetch"}}]);
        assert_eq!(parsed(MUST_REFETCH_BODY.as_bytes()), expected);
    }

    #[test]
    fn an_event_is_one_line_and_a_blank_one() {
        let mut out = Vec::new();
        push_event(&mut out, b"{}");
        push_event(&mut out, &up_to_date(Lsn::new(1)));
        assert!(out.starts_with(b"data: {}\n\ndata: {\"headers\""));
        assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 4);
    }
}
