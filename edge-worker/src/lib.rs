//! The Limn edge worker: a cache in front of an origin. It decides nothing about shapes; it checks the
//! secret or a token, keeps the replies that never change and the one that changes rarely, and passes on the rest.
//!
//! `plan` and `answer` are what it decides, `entry` and the modules beside it bind that to the platform.

pub mod answer;
pub mod config;
pub mod plan;

#[cfg(target_arch = "wasm32")]
mod cache;
#[cfg(target_arch = "wasm32")]
mod entry;
#[cfg(target_arch = "wasm32")]
mod origin;
#[cfg(target_arch = "wasm32")]
mod tokens;
