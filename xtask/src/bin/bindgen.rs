//! Writes the JavaScript glue of a module that cargo built for wasm32: `bindgen (browser|worker) MODULE OUT_DIR NAME`.
//!
//! Built on demand, with the feature `bindgen`: the library that reads the module is of the version that wrote it,
//! since both stand in one Cargo.lock.

use anyhow::{Result, bail};
use wasm_bindgen_cli_support::Bindgen;

fn main() -> Result<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [host, module, out_dir, name] = arguments.as_slice() else {
        bail!("expected `bindgen (browser|worker) MODULE OUT_DIR NAME`");
    };
    let mut bindgen = Bindgen::new();
    bindgen.input_path(module).out_name(name);
    match host.as_str() {
        "browser" => bindgen.web(true)?,
        // After a panic the worker's entry puts a new instance in the place of the broken one.
        "worker" => bindgen
            .module(true)?
            .reset_state_function(true)
            .force_enable_abort_handler(true)
            .typescript(false),
        other => bail!("the host is `{other}`, expected `browser` or `worker`"),
    };
    bindgen.generate(out_dir)
}
