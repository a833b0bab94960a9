//! What `limn check` says: one line for each thing, and what to run where it is not well.

use serde::Serialize;
use std::fmt;

/// How a thing stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works, and somebody should know.
    Warning,
    /// `limn serve` does not start, or cannot tell the truth.
    Error,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at, such as `wal_level`.
    pub check: &'static str,
    /// How it stands.
    pub level: Level,
    /// The facts, for people.
    pub text: String,
    /// The statement or command that mends it, to be run as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
}

/// All that was looked at, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The findings.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Notes what is as it should be.
    pub fn ok(&mut self, check: &'static str, text: impl Into<String>) {
        self.findings.push(Finding { check, level: Level::Ok, text: text.into(), run: None });
    }

    /// Notes what somebody should know, and what to run.
    pub fn warning(&mut self, check: &'static str, text: impl Into<String>, run: Option<String>) {
        self.findings.push(Finding { check, level: Level::Warning, text: text.into(), run });
    }

    /// Notes what has to be mended, and how.
    pub fn error(&mut self, check: &'static str, text: impl Into<String>, run: Option<String>) {
        self.findings.push(Finding { check, level: Level::Error, text: text.into(), run });
    }

    /// Whether nothing has to be mended.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.findings.iter().all(|finding| finding.level != Level::Error)
    }

    /// The report for programs.
    #[must_use]
    pub fn to_json(&self) -> String {
        let json = serde_json::json!({ "ok": self.is_ok(), "findings": self.findings });
        format!("{json:#}")
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Finding { check, level, text, run } in &self.findings {
            writeln!(f, "{level:<8} {check}: {text}")?;
            if let Some(run) = run {
                writeln!(f, "         run: {run}")?;
            }
        }
        let count = |level| self.findings.iter().filter(|finding| finding.level == level).count();
        writeln!(f, "{} errors, {} warnings", count(Level::Error), count(Level::Warning))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_lines_and_json() {
        let mut report = Report::default();
        report.ok("version", "15.4");
        assert!(report.is_ok());
        report.error("wal_level", "it is `replica`", Some("ALTER SYSTEM …;".to_owned()));
        assert!(!report.is_ok());
        let text = report.to_string();
        assert!(text.contains("ok       version: 15.4\n"), "{text}");
        assert!(
            text.contains("error    wal_level: it is `replica`\n         run: ALTER SYSTEM …;\n"),
            "{text}"
        );
        assert!(text.ends_with("1 errors, 0 warnings\n"), "{text}");
        let json: serde_json::Value = serde_json::from_str(&report.to_json()).unwrap();
        assert_eq!(json["ok"], false);
        assert_eq!(
            json["findings"][0],
            serde_json::json!({ "check": "version", "level": "ok", "text": "15.4" })
        );
    }
}
