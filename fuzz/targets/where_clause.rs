//! libFuzzer's way into [`limn_fuzz::where_clause`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| limn_fuzz::where_clause::check(data));
