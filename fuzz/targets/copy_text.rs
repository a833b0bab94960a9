//! libFuzzer's way into [`limn_fuzz::copy_text`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| limn_fuzz::copy_text::check(data));
