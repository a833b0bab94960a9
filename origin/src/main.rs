//! The program `limn`: all of it is in the library, so that nothing of that is compiled for both.

use std::process::ExitCode;

fn main() -> ExitCode {
    limn_origin::command::run()
}
