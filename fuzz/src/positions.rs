//! Positions in text: what can be read is written in one way, which reads the same.

use limn_core::{Handle, Lsn, Offset};
use std::fmt::Display;
use std::str::FromStr;

/// `data` is the text of an offset, a handle or an LSN.
pub fn check(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    reads_as_it_is_written::<Offset>(text);
    reads_as_it_is_written::<Handle>(text);
    reads_as_it_is_written::<Lsn>(text);
}

fn reads_as_it_is_written<T: FromStr + Display + PartialEq>(text: &str) {
    let Ok(value) = text.parse::<T>() else { return };
    let written = value.to_string();
    let again = written.parse::<T>().ok();
    assert!(again.is_some_and(|again| again == value), "`{text}` is written as `{written}`");
}
