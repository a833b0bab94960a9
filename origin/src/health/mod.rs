//! Whether what is served can be believed.
//!
//! * `status`: the server's phase and faults, which everything that would say up-to-date asks; `degraded`: the faults
//!   of single tables
//! * `reconcile`: every few seconds, what the stream does not tell; from the `vitals` of publication and slot
//!   `soundness` judges the stream
//! * `preflight`: what is asked of a server before it is followed
//! * `doctor`: `limn check`; `client`: `limn health`

pub mod client;
mod degraded;
pub mod doctor;
pub mod preflight;
mod reconcile;
mod soundness;
mod status;
mod vitals;

pub(crate) use degraded::Degraded;
pub(crate) use reconcile::Reconciler;
pub(crate) use status::{Epoch, FaultSource, Phase, Status};
