//! Tasks that run as long as the server. One that ends earlier has failed, and so has what it was there for: the server
//! must not go on without it.

use std::any::Any;
use std::collections::HashMap;
use std::future::{Future, pending};
use tokio::task::{Id, JoinError, JoinSet};

/// The tasks, by name. Dropping the supervisor ends them.
#[derive(Debug, Default)]
pub struct Supervisor {
    tasks: JoinSet<()>,
    names: HashMap<Id, &'static str>,
}

/// A task has ended before the server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the server's task `{name}` {how}")]
pub struct TaskEnded {
    name: &'static str,
    how: String,
}

impl Supervisor {
    /// Starts a task that is to run as long as the server.
    pub fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let id = self.tasks.spawn(task).id();
        self.names.insert(id, name);
    }

    /// Resolves once a task has ended, by a panic too. Cancel-safe.
    pub async fn ended(&mut self) -> TaskEnded {
        let (id, how) = match self.tasks.join_next_with_id().await {
            Some(Ok((id, ()))) => (id, "ended".to_owned()),
            Some(Err(error)) => (error.id(), describe(error)),
            None => pending().await,
        };
        TaskEnded { name: self.names.remove(&id).unwrap_or("unknown"), how }
    }
}

fn describe(error: JoinError) -> String {
    match error.try_into_panic() {
        Ok(payload) => format!("panicked: {}", message(payload.as_ref())),
        Err(error) => error.to_string(),
    }
}

/// The message of a panic; a fixed text where it has none.
fn message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("without a message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_told_with_the_tasks_name() {
        let mut supervisor = Supervisor::default();
        supervisor.spawn("reconciler", pending());
        supervisor.spawn("expiry", async { panic!("no shape {}", 7) });
        let ended = supervisor.ended().await;
        assert_eq!(ended.to_string(), "the server's task `expiry` panicked: no shape 7");
    }

    #[tokio::test]
    async fn a_task_that_returns_has_failed_too() {
        let mut supervisor = Supervisor::default();
        supervisor.spawn("expiry", async {});
        assert_eq!(supervisor.ended().await.to_string(), "the server's task `expiry` ended");
    }

    #[tokio::test]
    async fn without_tasks_nothing_ends() {
        let mut supervisor = Supervisor::default();
        tokio::select! {
            biased;
            _ = supervisor.ended() => panic!("there is none"),
            () = std::future::ready(()) => {}
        }
    }
}
