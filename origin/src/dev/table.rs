//! The demo table, and somebody who changes it.

use crate::postgres::Session;
use anyhow::{Context, Result};
use std::sync::Arc;
use std::time::Duration;

/// Named so that it is nobody else's.
pub(super) const NAME: &str = "limn_demo";

const CREATE: &str = "CREATE TABLE IF NOT EXISTS limn_demo (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    title text NOT NULL,
    amount int NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
)";
const FILL: &str = "INSERT INTO limn_demo (title, amount)
    SELECT title, 10 * place FROM unnest(ARRAY['Heron', 'Otter', 'Kingfisher', 'Newt', 'Dragonfly'])
        WITH ORDINALITY AS given (title, place)
    WHERE NOT EXISTS (SELECT FROM limn_demo)";
const INSERT: &str = "INSERT INTO limn_demo (title, amount)
    SELECT (ARRAY['Heron', 'Otter', 'Kingfisher', 'Newt', 'Dragonfly', 'Grebe', 'Teal'])[1 + floor(random() * 7)],
        floor(random() * 1000)";
const UPDATE: &str = "UPDATE limn_demo SET amount = floor(random() * 1000), updated_at = now()
    WHERE id = (SELECT id FROM limn_demo ORDER BY random() LIMIT 1)";

/// How often the writer changes something.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) async fn create(session: &Session) -> Result<()> {
    for statement in [CREATE, FILL] {
        session
            .batch_execute(statement)
            .await
            .with_context(|| format!("cannot create the demo table `{NAME}`; may the role create tables?"))?;
    }
    Ok(())
}

pub(super) async fn insert(session: &Session) -> Result<()> {
    Ok(session.batch_execute(INSERT).await?)
}

/// Updates a row every second, so that something moves.
pub(super) async fn write_for_ever(session: Arc<Session>) {
    loop {
        tokio::time::sleep(PAUSE).await;
        if let Err(error) = session.batch_execute(UPDATE).await {
            tracing::warn!(%error, "the writer cannot write");
        }
    }
}
