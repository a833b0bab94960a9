//! How figures grow with what a server has: shapes, clients, rows. Each is measured at points that are ten times apart.

mod measure;

use crate::curve::{self, Axes, Curve};
use crate::report::Sections;
use limn_tests::Cluster;
use std::fmt::Write as _;
use std::path::Path;
use std::{fs, io};

/// Points that a run of some minutes can measure, and those that are left to a longer one.
struct Points {
    usual: &'static [u32],
    large: &'static [u32],
}

const SHAPES: Points = Points { usual: &[10, 100, 1_000, 10_000, 100_000], large: &[1_000_000] };
const CLIENTS: Points = Points { usual: &[1, 10, 100, 1_000], large: &[10_000] };
const ROWS: Points = Points { usual: &[1_000, 10_000, 100_000, 1_000_000], large: &[10_000_000] };

const HEADING: &str = "How figures grow";

/// What was measured, by what grew.
#[derive(Debug, Default)]
pub struct Growth {
    parts: Vec<Part>,
}

/// The figures over one thing that grows.
#[derive(Debug)]
struct Part {
    along: &'static str,
    title: &'static str,
    curves: Vec<Curve>,
}

impl Growth {
    /// Measures a build of Limn at all points.
    pub async fn run(cluster: &Cluster, program: &Path, with_large: bool) -> Self {
        let mut growth = Self::default();
        let mut shapes = Part::new("shapes", "Beside so many shapes of three rows", &measure::OF_SHAPES);
        for count in SHAPES.chosen(with_large) {
            shapes.add(count, measure::beside_shapes(cluster, program, count).await);
        }
        growth.parts.push(shapes);
        let mut clients =
            Part::new("clients", "So many clients wait for a row of one shape", &measure::OF_CLIENTS);
        for count in CLIENTS.chosen(with_large) {
            clients.add(count, measure::for_clients(cluster, program, count).await);
        }
        growth.parts.push(clients);
        let mut rows = Part::new("rows", "The initial sync of so many rows", &measure::OF_ROWS);
        for count in ROWS.chosen(with_large) {
            rows.add(count, measure::of_rows(cluster, program, count).await);
        }
        growth.parts.push(rows);
        growth
    }

    /// Writes a plot of each part into `results` in the folder, and their section into `RESULTS.md`.
    ///
    /// # Errors
    /// Where a file cannot be written.
    pub fn write(&self, folder: &Path, conditions: &str) -> io::Result<()> {
        let plots = folder.join("results");
        fs::create_dir_all(&plots)?;
        let mut text = format!("`cargo x bench --write growth` has measured this: {conditions}\n");
        for part in &self.parts {
            let image = curve::svg(part.title, part.along, &part.curves, Axes::Logarithmic);
            fs::write(plots.join(format!("growth-{}.svg", part.along)), image)?;
            text += &part.table();
        }
        Sections::write(folder, HEADING, &text)
    }
}

impl Points {
    fn chosen(&self, with_large: bool) -> impl Iterator<Item = u32> {
        self.usual.iter().chain(self.large.iter().filter(move |_| with_large)).copied()
    }
}

impl Part {
    fn new(along: &'static str, title: &'static str, figures: &[&str]) -> Self {
        println!("\n{title}");
        let curve = |name: &&str| Curve { name: (*name).to_owned(), points: Vec::new() };
        Self { along, title, curves: figures.iter().map(curve).collect() }
    }

    fn add<const N: usize>(&mut self, count: u32, figures: [f64; N]) {
        let mut line = String::new();
        for (curve, figure) in self.curves.iter_mut().zip(figures) {
            curve.points.push((f64::from(count), figure));
            let _ = write!(line, "  {} {figure:.1}", curve.name);
        }
        println!("  {count:>9} {}:{line}", self.along);
    }

    fn table(&self) -> String {
        let names: String = self.curves.iter().map(|curve| format!(" {} |", curve.name)).collect();
        let mut out =
            format!("\n[{}](results/growth-{}.svg):\n\n| {} |{names}\n", self.title, self.along, self.along);
        let _ = writeln!(out, "|{}", "---|".repeat(self.curves.len() + 1));
        let counts = self.curves.first().into_iter().flat_map(|curve| &curve.points);
        for (row, (count, _)) in counts.enumerate() {
            let figures = self.curves.iter().filter_map(|curve| curve.points.get(row));
            let cells: String = figures.map(|(_, figure)| format!(" {figure:.1} |")).collect();
            let _ = writeln!(out, "| {count} |{cells}");
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_section_has_a_line_for_each_point() {
        let mut part = Part::new("shapes", "Beside so many shapes", &["latency, µs", "memory, bytes"]);
        part.add(10, [1.0, 2.0]);
        part.add(100, [3.0, 4.5]);
        let table = part.table();
        assert!(table.ends_with("| shapes | latency, µs | memory, bytes |\n|---|---|---|\n| 10 | 1.0 | 2.0 |\n| 100 | 3.0 | 4.5 |\n"));
        let folder = limn_tests::new_folder("growth");
        Growth { parts: vec![part] }.write(&folder, "On paper.").expect("the folder is ours");
        let page = fs::read_to_string(folder.join("RESULTS.md")).expect("it was written");
        assert!(page.contains("\n## How figures grow\n") && page.contains("On paper."));
        assert!(folder.join("results/growth-shapes.svg").is_file());
    }
}
