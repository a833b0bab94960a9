//! The table of all that was measured, on the terminal and as a page with plots.

use crate::figures::{Figures, Unit};
use crate::goal::{Goal, Verdict};
use crate::plot;
use std::fmt::Write as _;
use std::path::Path;
use std::{fs, io};

/// All that was measured.
#[derive(Debug, Default)]
pub struct Report {
    rows: Vec<Row>,
}

/// A scenario's figures.
#[derive(Debug)]
pub struct Row {
    /// The scenario's name on the command line.
    pub name: String,
    /// The work.
    pub title: &'static str,
    /// The unit of the figures.
    pub unit: Unit,
    /// The time that Postgres's own tools, or another server, take for the same.
    pub floor: Figures,
    /// The builds.
    pub subjects: Vec<(String, Figures)>,
    /// The figures that the first build is to reach.
    pub goals: Vec<Goal>,
}

impl Row {
    fn verdicts(&self) -> Vec<Verdict> {
        let first = self.subjects.first().map(|(_, figures)| figures);
        let judge = |goal: &Goal| Some(goal.judge(first?, &self.floor));
        self.goals.iter().filter_map(judge).collect()
    }

    /// Prints the figures, and which goals they meet.
    pub fn print(&self) {
        self.floor.print("floor", self.unit, None);
        let base = self.subjects.first().map(|(_, figures)| figures.median());
        self.subjects.iter().for_each(|(name, figures)| figures.print(name, self.unit, base));
        for Verdict { goal, measured, is_met } in self.verdicts() {
            let measured = measured.unwrap_or_else(|| "not measured".to_owned());
            println!("  goal: {goal}: {} ({measured})", if is_met { "met" } else { "MISSED" });
            if !is_met {
                println!("  where the time goes: cargo x bench profile {}", self.name);
            }
        }
    }

    fn svg(&self) -> String {
        let floor = (!self.floor.values().is_empty()).then(|| ("floor".to_owned(), &self.floor));
        let subjects = self.subjects.iter().map(|(name, figures)| (name.clone(), figures));
        let series: Vec<_> = floor.into_iter().chain(subjects).collect();
        let goal = self.goals.iter().find_map(|goal| goal.line(self.floor.median()));
        plot::svg(self.title, self.unit.name(), &series, goal)
    }

    /// A line of the table for each goal; one where there is none.
    fn lines(&self) -> String {
        let median = |figures: &Figures| match figures.values() {
            [] => "–".to_owned(),
            _ => format!("{:.1}", figures.median()),
        };
        let floor = median(&self.floor);
        let first = self.subjects.first().map(|(_, figures)| median(figures)).unwrap_or_default();
        let work = format!("[{}](results/{}.svg), {}", self.title, self.name, self.unit.name());
        let mut out = String::new();
        let verdicts = self.verdicts();
        if verdicts.is_empty() {
            let _ = writeln!(out, "| {work} | {floor} | {first} | – | – | – |");
        }
        for Verdict { goal, measured, is_met } in verdicts {
            let measured = measured.unwrap_or_else(|| "not measured".to_owned());
            let met = if is_met { "yes" } else { "**no**" };
            let _ = writeln!(out, "| {work} | {floor} | {first} | {goal} | {measured} | {met} |");
        }
        out
    }
}

impl Report {
    /// Adds a scenario that was measured.
    pub fn add(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// True where nothing was measured.
    pub const fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Writes `RESULTS.md` and the plots into a folder. `conditions` says where and on what it was measured.
    ///
    /// # Errors
    /// Where a file cannot be written.
    pub fn write(&self, folder: &Path, conditions: &str) -> io::Result<()> {
        let plots = folder.join("results");
        fs::create_dir_all(&plots)?;
        for row in &self.rows {
            fs::write(plots.join(format!("{}.svg", row.name)), row.svg())?;
        }
        let path = folder.join("RESULTS.md");
        let sections = Sections::of(&fs::read_to_string(&path).unwrap_or_default());
        fs::write(path, self.page(conditions) + &sections.0)
    }

    fn page(&self, conditions: &str) -> String {
        let rows: String = self.rows.iter().map(Row::lines).collect();
        format!(
            "# Results\n\n`cargo x bench --write` has measured this and written this page. {conditions}\n\n\
             The floor is the same work done by Postgres's own tools, by nginx, or on a server without other \
             shapes; floor and server take turns. Figures are medians; each plot shows every run.\n\n\
             | work | floor | Limn | goal | measured for it | met |\n|---|---|---|---|---|---|\n{rows}"
        )
    }
}

/// What stands below the table, each part under a heading of its own. Other commands than the table's write it.
#[derive(Debug, Default)]
pub struct Sections(String);

impl Sections {
    fn of(page: &str) -> Self {
        Self(page.find("\n## ").and_then(|at| page.get(at..)).unwrap_or_default().to_owned())
    }

    /// Puts a section into `RESULTS.md` in that folder, in the place of the one with this heading.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn write(folder: &Path, heading: &str, text: &str) -> io::Result<()> {
        let path = folder.join("RESULTS.md");
        let page = fs::read_to_string(&path).unwrap_or_else(|_| "# Results\n".to_owned());
        fs::write(path, replace_section(&page, heading, text))
    }
}

fn replace_section(page: &str, heading: &str, text: &str) -> String {
    let begin = format!("\n## {heading}\n");
    let (before, after) = page.split_once(&begin).unwrap_or((page, ""));
    let rest = after.find("\n## ").and_then(|at| after.get(at..)).unwrap_or_default();
    format!("{before}{begin}\n{text}{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Memory;

    #[test]
    fn a_section_takes_the_place_of_its_predecessor_alone() {
        let page = "# Results\n\n| table |\n";
        let first = replace_section(page, "A", "old\n");
        assert_eq!(first, "# Results\n\n| table |\n\n## A\n\nold\n");
        let both = replace_section(&first, "B", "other\n");
        let replaced = replace_section(&both, "A", "new\n");
        assert_eq!(replaced, "# Results\n\n| table |\n\n## A\n\nnew\n\n## B\n\nother\n");
        assert_eq!(Sections::of(&replaced).0, "\n## A\n\nnew\n\n## B\n\nother\n");
    }

    fn figures(figure: f64) -> Figures {
        let mut figures = Figures::default();
        figures.add(figure, Memory { peak_kb: Some(5 << 10), above_idle_kb: None });
        figures
    }

    #[test]
    fn the_page_has_a_line_for_each_goal_and_says_what_is_missed() {
        let mut report = Report::default();
        report.add(Row {
            name: "work".to_owned(),
            title: "Some work",
            unit: Unit::Milliseconds,
            floor: figures(10.0),
            subjects: vec![("limn".to_owned(), figures(30.0))],
            goals: vec![Goal::TimesFloorAtMost(2.0), Goal::PeakMb(6.0)],
        });
        let page = report.page("On paper.");
        assert!(page.contains("On paper."));
        let work = "| [Some work](results/work.svg), in milliseconds | 10.0 | 30.0 |";
        assert!(page.contains(&format!("{work} at most 2 × the floor | 3.00 × the floor | **no** |\n")));
        assert!(page.contains(&format!("{work} at most 6 MB | 5.0 MB | yes |\n")));
    }
}
