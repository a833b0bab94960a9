//! `cargo x …`: the only place that knows how to run things.

fn main() {}
