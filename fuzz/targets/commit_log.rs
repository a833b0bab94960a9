//! libFuzzer's way into [`limn_fuzz::commit_log`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| limn_fuzz::commit_log::check(data));
