//! What happened, in order: a hash of it always, the text only when somebody wants to read it.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

/// The history of one run.
#[derive(Debug, Default)]
pub struct Trace {
    hash: DefaultHasher,
    events: u64,
    text: Option<String>,
}

impl Trace {
    /// A trace that keeps its text where `readable`.
    #[must_use]
    pub fn new(readable: bool) -> Self {
        Self { text: readable.then(String::new), ..Self::default() }
    }

    /// Notes an event.
    pub fn note(&mut self, event: &fmt::Arguments<'_>) {
        self.events += 1;
        let mut hashing = Hashing(&mut self.hash);
        fmt::Write::write_fmt(&mut hashing, *event).expect("hashing does not fail");
        if let Some(text) = &mut self.text {
            fmt::Write::write_fmt(text, *event).expect("a string grows");
            text.push('\n');
        }
    }

    /// Adds details for a reader, which the hash leaves out; they are made only where somebody reads.
    pub fn explain(&mut self, details: impl FnOnce() -> String) {
        if let Some(text) = &mut self.text {
            text.push_str("    ");
            text.push_str(&details());
            text.push('\n');
        }
    }

    /// How many events there were.
    #[must_use]
    pub const fn events(&self) -> u64 {
        self.events
    }

    /// The hash of everything noted.
    #[must_use]
    pub fn hash(&self) -> u64 {
        let mut hash = self.hash.clone();
        self.events.hash(&mut hash);
        hash.finish()
    }

    /// The text, where it was kept.
    #[must_use]
    pub fn text(&self) -> &str {
        self.text.as_deref().unwrap_or_default()
    }
}

struct Hashing<'a>(&'a mut DefaultHasher);

impl fmt::Write for Hashing<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}
