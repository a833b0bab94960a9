//! A soak: many shapes, many clients and steady writes for a long time. What it looks for is what grows: memory, files,
//! WAL that Postgres keeps, the time until a client has a row.

mod trend;
mod workload;

pub use workload::Sizes;

use crate::curve::{self, Axes, Curve};
use crate::subject::Subject;
use limn_tests::{Cluster, Sql};
use serde_json::{Map, Value, json};
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::sleep;
use trend::growth_of_second_half;
use workload::Latencies;

/// How many samples a soak has, where that leaves a window as long as [`WINDOW_MIN`].
const SAMPLES: u32 = 120;
/// So that the slowest hundredth of a window is some writes.
const WINDOW_MIN: Duration = Duration::from_secs(5);

/// A figure that is sampled. `growth` is how much of its mean it may grow over the second half; what clients wrote stays in
/// the logs, so the bytes of the storage folder have no bound.
struct Figure {
    name: &'static str,
    unit: &'static str,
    growth: Option<f64>,
}

const FIGURES: [Figure; 7] = [
    Figure { name: "memory", unit: "MB", growth: Some(0.05) },
    Figure { name: "open files", unit: "files and sockets", growth: Some(0.05) },
    Figure { name: "stored files", unit: "files", growth: Some(0.05) },
    Figure { name: "stored bytes", unit: "MB", growth: None },
    // Postgres moves the slot's restart point by steps of some seconds.
    Figure { name: "WAL retained", unit: "MB", growth: Some(0.5) },
    Figure { name: "latency p50", unit: "µs", growth: Some(0.5) },
    Figure { name: "latency p99", unit: "µs", growth: Some(0.5) },
];

/// What was sampled: seconds since the beginning, and the figures in the order of [`FIGURES`].
#[derive(Debug, Default)]
pub struct Soak {
    samples: Vec<(f64, [f64; FIGURES.len()])>,
}

impl Soak {
    /// Has a build of Limn work for so long.
    pub async fn run(cluster: &Cluster, program: &Path, sizes: Sizes, time: Duration) -> Self {
        let window = (time / SAMPLES).max(WINDOW_MIN);
        println!("\nsoak: {} shapes, {} clients, {} s", sizes.shapes, sizes.clients, time.as_secs());
        let database = cluster.database().await;
        let sql = database.connect().await;
        sizes.fill(&sql).await;
        let most = sizes.shapes.to_string();
        let mut subject = Subject::with_options(program, database, &["--max-shapes", &most]);
        subject.start().await;
        let latencies = Arc::new(Latencies::default());
        let mut tasks = sizes.begin(&subject, &latencies).await;
        let (begun, mut soak) = (Instant::now(), Self::default());
        latencies.take();
        while begun.elapsed() < time {
            sleep(window).await;
            if let Some(ended) = tasks.try_join_next() {
                ended.expect("clients and writers go on");
            }
            let figures = sample(&subject, &sql, &latencies.take()).await;
            soak.samples.push((begun.elapsed().as_secs_f64(), figures));
        }
        tasks.shutdown().await;
        subject.stop().await;
        cluster.discard(subject.database()).await;
        soak
    }

    /// Prints for each figure whether its second half is flat.
    pub fn print(&self) {
        for (figure, curve) in FIGURES.iter().zip(self.curves()) {
            let half = curve.points.get(curve.points.len() / 2..).unwrap_or_default();
            let mean = half.iter().map(|point| point.1).sum::<f64>() / half.len().max(1) as f64;
            let Some(growth) = growth_of_second_half(&curve.points) else {
                println!("  {:<32} too few samples", curve.name);
                continue;
            };
            let verdict = match figure.growth {
                None => "grows with what is written".to_owned(),
                Some(bound) if growth <= bound => format!("flat (at most +{:.0} %)", bound * 100.0),
                Some(bound) => format!("NOT FLAT (at most +{:.0} %)", bound * 100.0),
            };
            println!(
                "  {:<32} {mean:>10.1}  {:>+6.1} % over the second half: {verdict}",
                curve.name,
                growth * 100.0
            );
        }
    }

    /// Writes `soak.svg` and `soak.json` into a folder.
    ///
    /// # Errors
    /// Where a file cannot be written.
    pub fn write(&self, folder: &Path, sizes: Sizes) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        let title = format!("{} shapes, {} clients, steady writes", sizes.shapes, sizes.clients);
        fs::write(folder.join("soak.svg"), curve::svg(&title, "seconds", &self.curves(), Axes::Linear))?;
        let sample = |(seconds, figures): &(f64, [f64; FIGURES.len()])| {
            let mut fields = Map::from_iter([("seconds".to_owned(), json!(seconds))]);
            for (figure, value) in FIGURES.iter().zip(figures) {
                fields.insert(format!("{} ({})", figure.name, figure.unit), json!(value));
            }
            Value::Object(fields)
        };
        let samples: Vec<Value> = self.samples.iter().map(sample).collect();
        let all = json!({ "shapes": sizes.shapes, "clients": sizes.clients, "samples": samples });
        fs::write(folder.join("soak.json"), format!("{all:#}\n"))
    }

    fn curves(&self) -> Vec<Curve> {
        let curve = |(index, figure): (usize, &Figure)| Curve {
            name: format!("{}, {}", figure.name, figure.unit),
            points: self.samples.iter().map(|(seconds, figures)| (*seconds, figures[index])).collect(),
        };
        FIGURES.iter().enumerate().map(curve).collect()
    }
}

async fn sample(subject: &Subject, sql: &Sql, times: &[f64]) -> [f64; FIGURES.len()] {
    const MB: f64 = 1024.0 * 1024.0;
    let retained = "SELECT coalesce(max(pg_current_wal_lsn() - restart_lsn), 0) FROM pg_replication_slots \
                    WHERE database = current_database()";
    let wal = sql.value(retained).await.parse::<f64>().expect("a number of bytes");
    let (stored, memory) = (subject.stored(), subject.memory_bytes());
    let percentile =
        |percent: usize| times.get(times.len() * percent / 100).or(times.last()).copied().unwrap_or_default();
    [
        memory as f64 / MB,
        subject.open_files() as f64,
        stored.files as f64,
        stored.bytes as f64 / MB,
        wal / MB,
        percentile(50),
        percentile(99),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_samples_are_written_as_json_and_as_a_panel_each() {
        let soak = Soak { samples: vec![(5.0, [1.0; FIGURES.len()]), (10.0, [2.0; FIGURES.len()])] };
        let folder = limn_tests::new_folder("soak");
        soak.write(&folder, Sizes { shapes: 10, clients: 2 }).expect("the folder is ours");
        let text = fs::read_to_string(folder.join("soak.json")).expect("it was written");
        let all: Value = serde_json::from_str(&text).expect("it is JSON");
        assert_eq!(all["samples"][1]["memory (MB)"], 2.0);
        let image = fs::read_to_string(folder.join("soak.svg")).expect("it was written");
        assert_eq!(image.matches("<polyline").count(), FIGURES.len());
    }
}
