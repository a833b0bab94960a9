//! A build without the feature `otlp`: nothing is exported, and who asks for it is told.

use anyhow::{Result, bail};
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Identity;

/// Never there.
#[derive(Debug)]
pub enum Exporter {}

impl Exporter {
    /// Refuses.
    ///
    /// # Errors
    /// Always.
    pub fn start(endpoint: &str) -> Result<Self> {
        bail!(
            "cannot export to the OTLP endpoint `{endpoint}`: this program was built without the feature `otlp`"
        )
    }

    /// Takes nothing up.
    pub fn layer<S: Subscriber>(&self) -> impl Layer<S> + use<S> {
        Identity::new()
    }
}
