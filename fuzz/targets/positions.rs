//! libFuzzer's way into [`limn_fuzz::positions`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| limn_fuzz::positions::check(data));
