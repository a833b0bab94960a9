//! One exchange with the server: the request to send, the reply that came, and when.

/// A request for a part of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The URL's parameters, sorted by name.
    pub query: Vec<(String, String)>,
    /// The server holds the request until something changes.
    pub is_live: bool,
    /// Without an answer by then, the request is lost: abort it and report a network error.
    pub timeout_ms: Option<u64>,
}

/// A reply as the network delivered it.
pub struct Response<'a> {
    /// The HTTP status.
    pub status: u16,
    /// Looks a header up by its lower-case name.
    pub header: &'a dyn Fn(&str) -> Option<String>,
    /// The decompressed body.
    pub body: &'a [u8],
}

/// When something happened, and a fresh random number for whatever it sets off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Milliseconds since 1970.
    pub now_ms: u64,
    /// Uniformly distributed.
    pub random: u64,
}

impl Request {
    /// The URL's query in the form that browsers give it (`application/x-www-form-urlencoded`).
    #[must_use]
    pub fn query_string(&self) -> String {
        let mut text = String::new();
        for (name, value) in &self.query {
            if !text.is_empty() {
                text.push('&');
            }
            encode_into(&mut text, name);
            text.push('=');
            encode_into(&mut text, value);
        }
        text
    }
}

fn encode_into(text: &mut String, raw: &str) {
    const HEX: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
    for byte in raw.bytes() {
        match byte {
            b' ' => text.push('+'),
            b'*' | b'-' | b'.' | b'_' => text.push(char::from(byte)),
            byte if byte.is_ascii_alphanumeric() => text.push(char::from(byte)),
            byte => text.extend(['%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn queries_are_encoded_as_browsers_do() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let query =
            vec![pair("params[1]", "a b&c=ü"), pair("where", "n > $1 AND t LIKE 'x%'"), pair("x-y_z.*", "~")];
        let request = Request { query, is_live: false, timeout_ms: None };
        assert_eq!(
            request.query_string(),
            "params%5B1%5D=a+b%26c%3D%C3%BC&where=n+%3E+%241+AND+t+LIKE+%27x%25%27&x-y_z.*=%7E"
        );
    }
}
