//! The simulation itself: it repeats, it finds nothing where nothing is wrong, and it finds what is planted.

use limn_sim::{Fault, run};

/// Seeds of the ordinary test run; `cargo x sim` runs many more, and `cargo x mutants --simulation` sets its own.
const SEEDS: u64 = 150;
/// Within so many seeds the planted bugs of the ordinary test run show.
const PLANTED_SEEDS_MAX: u64 = 400;

#[test]
fn one_seed_gives_one_history() {
    for seed in 0..20 {
        let (first, second) = (run(seed, None, true).trace, run(seed, None, true).trace);
        assert_eq!(first.text(), second.text(), "seed {seed}");
        assert_eq!(first.hash(), second.hash());
        assert_eq!(first.hash(), run(seed, None, false).trace.hash(), "reading along changes nothing");
    }
    assert_ne!(run(1, None, false).trace.hash(), run(2, None, false).trace.hash());
}

#[test]
fn nothing_is_found_where_nothing_is_planted() {
    let seeds =
        std::env::var("LIMN_SIM_SEEDS").map_or(SEEDS, |seeds| seeds.parse().expect("a number of seeds"));
    for seed in 0..seeds {
        assert_eq!(run(seed, None, false).violation, None, "again: cargo x sim --seed {seed}");
    }
}

/// Those that show soon; `cargo x sim --planted` looks for all of them.
#[test]
fn planted_bugs_are_found() {
    let soon = [
        Fault::ReportsBeforeSync,
        Fault::PublishesFragments,
        Fault::SnapshotNotSynced,
        Fault::ForgetsSmallSnapshots,
        Fault::CommitFileNameNotSynced,
        Fault::IndexNamesBeginnings,
        Fault::ForgetsHandles,
    ];
    for fault in soon {
        let found = (0..PLANTED_SEEDS_MAX).any(|seed| run(seed, Some(fault), false).violation.is_some());
        assert!(found, "not found within {PLANTED_SEEDS_MAX} seeds: {fault}");
    }
}
