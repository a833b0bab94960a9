//! The Limn edge worker: a cache in front of an origin. It decides nothing about shapes; it checks the
//! secret or a token, keeps the replies that never change and the one that changes rarely, asks once for all who wait
//! for a shape's next change, and passes on the rest.
//!
//! `plan` and `answer` are what it decides, beside [`limn_core::edge`]; `entry` and the modules beside it bind that to the
//! platform, `hub` to its Durable Objects.

pub mod answer;
pub mod config;
pub mod plan;

#[cfg(target_arch = "wasm32")]
mod cache;
#[cfg(target_arch = "wasm32")]
mod derived;
#[cfg(target_arch = "wasm32")]
mod entry;
#[cfg(target_arch = "wasm32")]
mod hub;
#[cfg(target_arch = "wasm32")]
mod isolate;
#[cfg(target_arch = "wasm32")]
mod origin;
#[cfg(target_arch = "wasm32")]
mod replies;
#[cfg(target_arch = "wasm32")]
mod serve;
#[cfg(target_arch = "wasm32")]
mod timing;
#[cfg(target_arch = "wasm32")]
mod tokens;
