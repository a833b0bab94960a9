//! The variables that Electric documents, and what each of them does here.

use clap::Command;

/// One of Electric's variables.
#[derive(Debug, Clone, Copy)]
pub struct Variable {
    /// Its name; one that ends with `*` stands for all that begin so.
    pub name: &'static str,
    /// Its effect here.
    pub meaning: Meaning,
}

/// The effect of one of Electric's variables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// The same as ours of this name, which wins where both are set.
    As(&'static str),
    /// Nothing, and why that is no loss or what to do instead.
    Nothing(&'static str),
}

const fn same(name: &'static str, ours: &'static str) -> Variable {
    Variable { name, meaning: Meaning::As(ours) }
}

const fn nothing(name: &'static str, why: &'static str) -> Variable {
    Variable { name, meaning: Meaning::Nothing(why) }
}

const MEMORY: &str = "a shape at rest costs no process and no memory";
const CATALOG: &str = "shapes are kept in the commit log, not in SQLite";
const TELEMETRY: &str = "there is no such export; metrics are at `--metrics-port`";
const BEAM: &str = "it tunes the Erlang machine";

/// All of them. Of several names for one option, the first that is set is taken.
pub const VARIABLES: &[Variable] = &[
    same("DATABASE_URL", "LIMN_DATABASE_URL"),
    same("ELECTRIC_DATABASE_URL", "LIMN_DATABASE_URL"),
    same("ELECTRIC_POOLED_DATABASE_URL", "LIMN_POOLED_DATABASE_URL"),
    same("ELECTRIC_QUERY_DATABASE_URL", "LIMN_POOLED_DATABASE_URL"),
    same("ELECTRIC_DATABASE_USE_IPV6", "LIMN_DATABASE_USE_IPV6"),
    same("ELECTRIC_DATABASE_CA_CERTIFICATE_FILE", "LIMN_DATABASE_CA_CERTIFICATE_FILE"),
    same("ELECTRIC_DB_POOL_SIZE", "LIMN_DB_POOL_SIZE"),
    same("ELECTRIC_DATABASE_TCP_KEEPALIVE_IDLE", "LIMN_DATABASE_TCP_KEEPALIVE_IDLE"),
    same("ELECTRIC_DATABASE_TCP_KEEPALIVE_INTERVAL", "LIMN_DATABASE_TCP_KEEPALIVE_INTERVAL"),
    same("ELECTRIC_DATABASE_TCP_KEEPALIVE_COUNT", "LIMN_DATABASE_TCP_KEEPALIVE_COUNT"),
    same("ELECTRIC_DATABASE_TCP_USER_TIMEOUT", "LIMN_DATABASE_TCP_USER_TIMEOUT"),
    same("ELECTRIC_REPLICATION_STREAM_ID", "LIMN_REPLICATION_STREAM_ID"),
    same("CLEANUP_REPLICATION_SLOTS_ON_SHUTDOWN", "LIMN_TEMPORARY_SLOT"),
    same("ELECTRIC_TEMPORARY_REPLICATION_SLOT_USE_RANDOM_NAME", "LIMN_TEMPORARY_SLOT_RANDOM_NAME"),
    nothing("ELECTRIC_REPLICATION_IDLE_TIMEOUT", "the connections stay: idle ones cost Postgres little"),
    same("ELECTRIC_MANUAL_TABLE_PUBLISHING", "LIMN_MANUAL_TABLE_PUBLISHING"),
    nothing("ELECTRIC_PUBLICATION_ALTER_DEBOUNCE_TIME", "tables are published one after the other, at once"),
    same("ELECTRIC_SECRET", "LIMN_SECRET"),
    same("ELECTRIC_INSECURE", "LIMN_INSECURE"),
    same("ELECTRIC_PORT", "LIMN_PORT"),
    same("ELECTRIC_LISTEN_ON_IPV6", "LIMN_LISTEN_ON_IPV6"),
    same("ELECTRIC_TCP_SEND_TIMEOUT", "LIMN_TCP_SEND_TIMEOUT"),
    same("ELECTRIC_TCP_READ_TIMEOUT", "LIMN_TCP_READ_TIMEOUT"),
    same("ELECTRIC_LONG_POLL_TIMEOUT", "LIMN_LONG_POLL_TIMEOUT"),
    same("ELECTRIC_CACHE_MAX_AGE", "LIMN_CACHE_MAX_AGE"),
    same("ELECTRIC_CACHE_STALE_AGE", "LIMN_CACHE_STALE_AGE"),
    same("ELECTRIC_SHAPE_CHUNK_BYTES_THRESHOLD", "LIMN_SHAPE_CHUNK_BYTES_THRESHOLD"),
    same("ELECTRIC_MAX_CONCURRENT_REQUESTS", "LIMN_MAX_CONCURRENT_REQUESTS"),
    same("ELECTRIC_MAX_SHAPES", "LIMN_MAX_SHAPES"),
    same("ELECTRIC_EXPERIMENTAL_MAX_SHAPES", "LIMN_MAX_SHAPES"),
    nothing("ELECTRIC_CLEANUP_INTERVAL_MS", "a removed shape's files go at once"),
    same("ELECTRIC_STORAGE_DIR", "LIMN_STORAGE_DIR"),
    same("ELECTRIC_STORAGE", "LIMN_STORAGE"),
    nothing("ELECTRIC_PERSISTENT_STATE", "it goes with the shapes: `--storage memory` keeps neither"),
    nothing("ELECTRIC_SHAPE_DB_STORAGE_DIR", CATALOG),
    nothing("ELECTRIC_SHAPE_DB_EXCLUSIVE_MODE", CATALOG),
    nothing("ELECTRIC_SHAPE_DB_SYNCHRONOUS", CATALOG),
    nothing("ELECTRIC_SHAPE_DB_CACHE_SIZE", CATALOG),
    nothing("ELECTRIC_SHAPE_SUSPEND_CONSUMER", MEMORY),
    nothing("ELECTRIC_SHAPE_HIBERNATE_AFTER", MEMORY),
    nothing("ELECTRIC_SHAPE_SUSPEND_AFTER", MEMORY),
    nothing(
        "ELECTRIC_FLUSH_STALL_GRACE_PERIOD",
        "all shapes are flushed together; a disk that fails ends the server",
    ),
    nothing("ELECTRIC_SUBQUERY_BUFFER_MAX_TRANSACTIONS", "the buffer has a limit of its own"),
    nothing("ELECTRIC_CONSUMER_PARTITIONS", BEAM),
    nothing("ELECTRIC_CONSUMER_GC_HEAP_THRESHOLD", BEAM),
    nothing("ELECTRIC_PROCESS_SPAWN_OPTS", BEAM),
    nothing("ELECTRIC_TWEAKS_*", BEAM),
    nothing("ELECTRIC_EXPERIMENTAL_MAX_TXN_SIZE", "a transaction of any size is taken"),
    nothing("ELECTRIC_EXPERIMENTAL_MAX_BATCH_SIZE", "changes are handed on by bytes, not by number"),
    same("ELECTRIC_ENABLE_INTEGRATION_TESTING", "LIMN_ALLOW_SHAPE_DELETION"),
    nothing("ELECTRIC_FEATURE_FLAGS", "there are none"),
    nothing(
        "ELECTRIC_DATABASE_ID",
        "one server has one database; the storage folder is named by `--storage-dir`",
    ),
    nothing("ELECTRIC_INSTANCE_ID", TELEMETRY),
    nothing("ELECTRIC_SERVICE_NAME", TELEMETRY),
    same("ELECTRIC_PROMETHEUS_PORT", "LIMN_METRICS_PORT"),
    nothing("ELECTRIC_STATSD_HOST", TELEMETRY),
    nothing("ELECTRIC_LIVE_DASHBOARD_PORT", TELEMETRY),
    same("ELECTRIC_OTLP_ENDPOINT", "LIMN_OTLP_ENDPOINT"),
    nothing("ELECTRIC_HNY_API_KEY", TELEMETRY),
    nothing("ELECTRIC_HNY_DATASET", TELEMETRY),
    nothing("ELECTRIC_OTEL_*", TELEMETRY),
    nothing("ELECTRIC_METRICS_SAMPLING_RATIO", TELEMETRY),
    nothing("ELECTRIC_EXCLUDE_SPANS", TELEMETRY),
    nothing("ELECTRIC_DROP_EMPTY_RESPONSE_SPANS", TELEMETRY),
    nothing("ELECTRIC_SYSTEM_METRICS_POLL_INTERVAL", TELEMETRY),
    nothing("ELECTRIC_STACK_TELEMETRY_INIT_DELAY", TELEMETRY),
    nothing("ELECTRIC_TELEMETRY_*", TELEMETRY),
    nothing("SENTRY_DSN", TELEMETRY),
    same("ELECTRIC_LOG_LEVEL", "LIMN_LOG_LEVEL"),
    same("ELECTRIC_LOG_COLORS", "LIMN_LOG_COLORS"),
    nothing("ELECTRIC_LOG_OTP_REPORTS", BEAM),
    nothing("ELECTRIC_PROFILE_WHERE_CLAUSES", "there is no such log"),
];

/// Lets every option that is not given take its value from Electric's name for it.
///
/// `variable` reads the environment; `LIMN_*` wins over `ELECTRIC_*`, options win over both.
#[must_use]
pub fn with_electric_names(command: Command, variable: impl Fn(&str) -> Option<String>) -> Command {
    let aliases: Vec<(clap::Id, String)> = command
        .get_arguments()
        .filter_map(|argument| {
            let ours = argument.get_env()?.to_str()?;
            Some((argument.get_id().clone(), value_of(ours, &variable)?))
        })
        .collect();
    aliases.into_iter().fold(command, |command, (id, value)| {
        let value: &'static str = Box::leak(value.into_boxed_str());
        command.mut_arg(id, |argument| argument.default_value(value))
    })
}

/// What Electric's names say for one of ours.
pub fn value_of(ours: &str, variable: impl Fn(&str) -> Option<String>) -> Option<String> {
    let is_it = |known: &&Variable| matches!(known.meaning, Meaning::As(name) if name == ours);
    let names = VARIABLES.iter().filter(is_it);
    names.filter_map(|known| variable(known.name)).find(|value| !value.is_empty())
}

/// Of the names of an environment, those of Electric's that do nothing here, with the reason.
pub fn without_effect(names: impl Iterator<Item = String>) -> Vec<(String, &'static str)> {
    let mut found: Vec<_> = names.filter_map(|name| reason(&name).map(|why| (name, why))).collect();
    found.sort();
    found
}

fn reason(name: &str) -> Option<&'static str> {
    match VARIABLES.iter().find(|known| known.covers(name)).map(|known| known.meaning) {
        Some(Meaning::As(_)) => None,
        Some(Meaning::Nothing(why)) => Some(why),
        None => name.starts_with("ELECTRIC_").then_some("it is not known"),
    }
}

impl Variable {
    fn covers(&self, name: &str) -> bool {
        match self.name.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => name == self.name,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ServeOptions;
    use clap::Args;
    use std::fmt::Write as _;

    const GUIDE: &str = include_str!("../../../docs/migrate-from-electric.md");
    /// Read where the log is set up, before there are options.
    const OF_THE_LOG: [&str; 2] = ["LIMN_LOG_LEVEL", "LIMN_LOG_COLORS"];

    fn option_of(ours: &str) -> Option<String> {
        let command = ServeOptions::augment_args(Command::new("serve"));
        let mut arguments = command.get_arguments();
        let argument = arguments.find(|argument| argument.get_env().is_some_and(|env| env == ours))?;
        argument.get_long().map(str::to_owned)
    }

    /// The rows of the guide's table, as they must be.
    fn table() -> String {
        let mut table = String::from("| Electric's variable | Here |\n|---|---|\n");
        for known in VARIABLES {
            let here = match known.meaning {
                Meaning::As(ours) => {
                    option_of(ours).map_or(format!("`{ours}`"), |long| format!("`--{long}`"))
                }
                Meaning::Nothing(why) => format!("no effect: {why}"),
            };
            let _ = writeln!(table, "| `{}` | {here} |", known.name);
        }
        table
    }

    #[test]
    fn every_name_leads_to_an_option_that_is_there() {
        for known in VARIABLES {
            if let Meaning::As(ours) = known.meaning {
                assert!(option_of(ours).is_some() || OF_THE_LOG.contains(&ours), "{ours}");
            }
        }
    }

    #[test]
    fn the_guide_has_the_same_list() {
        let table = table();
        assert!(GUIDE.contains(&table), "docs/migrate-from-electric.md must have this table:\n{table}");
    }

    #[test]
    fn what_has_no_effect_is_named_with_its_reason() {
        let names = ["PATH", "ELECTRIC_TWEAKS_X", "ELECTRIC_PORT", "ELECTRIC_NONSENSE", "SENTRY_DSN"];
        let found = without_effect(names.iter().map(|name| (*name).to_owned()));
        let names: Vec<_> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["ELECTRIC_NONSENSE", "ELECTRIC_TWEAKS_X", "SENTRY_DSN"]);
    }
}
