//! The client in a headless browser, set up by `webdriver.json`.

#![cfg(target_arch = "wasm32")]
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod scenarios;

use wasm_bindgen_test::wasm_bindgen_test;

wasm_bindgen_test::wasm_bindgen_test_configure!(run_in_browser);

#[wasm_bindgen_test]
async fn a_shape_shows_initial_rows_and_live_changes() {
    scenarios::a_shape_shows_initial_rows_and_live_changes().await;
}

#[wasm_bindgen_test]
async fn a_rotation_keeps_the_old_rows_until_the_new_ones_are_complete() {
    scenarios::a_rotation_keeps_the_old_rows_until_the_new_ones_are_complete().await;
}

#[wasm_bindgen_test]
async fn outages_are_retried_and_refusals_reported() {
    scenarios::outages_are_retried_and_refusals_reported().await;
}

#[wasm_bindgen_test]
async fn a_refused_stream_goes_on_with_other_parameters() {
    scenarios::a_refused_stream_goes_on_with_other_parameters().await;
}

#[wasm_bindgen_test]
async fn a_pause_aborts_and_a_resume_catches_up() {
    scenarios::a_pause_aborts_and_a_resume_catches_up().await;
}

#[wasm_bindgen_test]
async fn a_throwing_subscriber_does_not_stop_the_stream() {
    scenarios::a_throwing_subscriber_does_not_stop_the_stream().await;
}
