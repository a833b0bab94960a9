//! Replays the recorded transcripts of `fixtures/golden` against `limn`, and compares what it answers with
//! what was recorded, as `fixtures/golden/README.md` describes.
//!
//! `GOLDEN_ITEM=62` replays that item only; a part of a title selects too.

mod answer;
mod everywhere;
mod exceptions;
mod likeness;
mod moves;
mod replay;
mod servers;
mod transcript;
mod variables;

use exceptions::Exceptions;
use futures::stream::{self, StreamExt};
use replay::{Outcome, replay};
use servers::Servers;
use std::collections::BTreeMap;
use transcript::Transcript;

/// Transcripts that run at the same time; most of them wait most of the time.
const PARALLEL_MAX: usize = 16;

macro_rules! replays {
    ($($test:ident: $file:literal,)*) => {$(
        #[tokio::test]
        async fn $test() {
            replay_file($file).await;
        }
    )*};
}

replays! {
    routing: "routing",
    validation: "validation",
    initial_sync: "initial-sync",
    log: "log",
    live: "live",
    sse: "sse",
    rotation: "rotation",
    caching: "caching",
    delete: "delete",
    subset: "subset",
    keys_and_types: "keys-and-types",
    rotation_ddl: "rotation-ddl",
    partitions: "partitions",
    subqueries: "subqueries",
    lifecycle: "lifecycle",
}

/// Replays a file; fails where an answer differs though nothing allows it, and where what is listed as
/// different is not.
async fn replay_file(file: &str) {
    let transcripts = transcript::load(file);
    let exceptions = Exceptions::load(file, &transcripts);
    let servers = Servers::start(&transcripts).await;
    let (alone, together): (Vec<_>, Vec<_>) =
        transcripts.iter().filter(|transcript| wanted(transcript)).partition(|it| it.needs_silence());
    let one_by_one = async |transcripts: Vec<&Transcript>| {
        let mut outcomes = Vec::new();
        for transcript in transcripts {
            outcomes.push((transcript.to_string(), replay(transcript, &servers, &exceptions).await));
        }
        outcomes
    };
    let chains = stream::iter(chains(together)).map(one_by_one).buffered(PARALLEL_MAX);
    let mut outcomes = chains.collect::<Vec<_>>().await.concat();
    outcomes.extend(one_by_one(alone).await);
    report(file, &outcomes);
}

/// Puts those that use the same tables into one list, in order.
fn chains(transcripts: Vec<&Transcript>) -> Vec<Vec<&Transcript>> {
    let mut chains: Vec<Vec<&Transcript>> = Vec::new();
    for transcript in transcripts {
        let tables = transcript.tables();
        let shares = |other: &&Transcript| !tables.is_disjoint(&other.tables());
        match chains.iter_mut().find(|chain| chain.iter().any(shares)) {
            Some(chain) => chain.push(transcript),
            None => chains.push(vec![transcript]),
        }
    }
    chains
}

fn wanted(transcript: &Transcript) -> bool {
    let told = std::env::var("GOLDEN_ITEM").unwrap_or_default();
    told.is_empty() || transcript.item == told || transcript.title.contains(&told)
}

fn report(file: &str, outcomes: &[(String, Outcome)]) {
    let mut counts = BTreeMap::from([("equal", 0), ("equal but for exceptions", 0), ("not yet", 0)]);
    let mut failures = Vec::new();
    for (transcript, outcome) in outcomes {
        match outcome {
            Outcome::Equal => *counts.entry("equal").or_default() += 1,
            Outcome::Excepted => *counts.entry("equal but for exceptions").or_default() += 1,
            Outcome::NotYet => *counts.entry("not yet").or_default() += 1,
            Outcome::Failed(lines) => {
                *counts.entry("FAILED").or_default() += 1;
                failures.push(format!("{transcript}\n  {}", lines.join("\n  ")));
            }
        }
    }
    let counts: Vec<String> = counts.iter().map(|(name, count)| format!("{count} {name}")).collect();
    eprintln!("golden {file}: {} transcripts: {}", outcomes.len(), counts.join(", "));
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
