//! libFuzzer's way into [`limn_fuzz::segment`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| limn_fuzz::segment::check(data));
