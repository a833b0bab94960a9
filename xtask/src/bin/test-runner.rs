//! What `cargo test` runs a wasm32 test module with: the runner of wasm-bindgen, as a library of the same version.
//! Built on demand, with the feature `test-runner`.

fn main() -> anyhow::Result<()> {
    wasm_bindgen_cli::wasm_bindgen_test_runner::run_cli_with_args(std::env::args_os())
}
