//! The work that every change and every read costs, a piece at a time: `cargo x instructions` runs each under callgrind
//! and counts the instructions inside `measured`. Nothing here depends on a clock, on threads or on files.
//!
//! Without a name it prints those of the pieces; with one it does that piece, and prints how many operations it was.
#![allow(clippy::print_stdout, reason = "a command line program talks to its caller")]

mod changes;
mod input;
mod reading;
mod rows;

use dlmalloc::GlobalDlmalloc;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: GlobalDlmalloc = GlobalDlmalloc;

/// A piece of work that can be repeated.
struct Work {
    /// So many operations are one repetition.
    operations: usize,
    repeat: Box<dyn FnMut()>,
}

impl Work {
    fn new(operations: usize, repeat: impl FnMut() + 'static) -> Self {
        Self { operations, repeat: Box::new(repeat) }
    }
}

type Prepare = fn() -> Work;

const PIECES: [(&str, Prepare); 6] = [
    ("decode", changes::decode),
    ("route", changes::route),
    ("encode", rows::encode),
    ("evaluate", rows::evaluate),
    ("read-tail", reading::from_tail),
    ("read-segment", reading::from_segment),
];

fn main() -> ExitCode {
    let Some(name) = std::env::args().nth(1) else {
        PIECES.iter().for_each(|(name, _)| println!("{name}"));
        return ExitCode::SUCCESS;
    };
    let Some((_, prepare)) = PIECES.iter().find(|(piece, _)| *piece == name) else {
        eprintln!("there is no piece `{name}`");
        return ExitCode::FAILURE;
    };
    let mut work = prepare();
    // What grows on first use has grown then.
    (work.repeat)();
    measured(&mut *work.repeat);
    println!("{}", work.operations);
    ExitCode::SUCCESS
}

/// Callgrind counts from its entry to its end, by its name; no other function's name may contain it.
#[inline(never)]
fn measured(repeat: &mut dyn FnMut()) {
    repeat();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_piece_can_be_repeated() {
        for (name, prepare) in PIECES {
            let mut work = prepare();
            assert!(work.operations > 0, "{name}");
            (work.repeat)();
            (work.repeat)();
        }
    }
}
