//! libFuzzer's way into [`limn_fuzz::request`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| limn_fuzz::request::check(data));
