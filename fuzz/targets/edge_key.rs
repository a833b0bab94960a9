//! libFuzzer's way into [`limn_fuzz::edge_key`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| limn_fuzz::edge_key::check(data));
