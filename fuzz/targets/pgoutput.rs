//! libFuzzer's way into [`limn_fuzz::pgoutput`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| limn_fuzz::pgoutput::check(data));
