//! The Limn browser client: `limn_core`'s client machine driven by the browser's `fetch` and timers.
//!
//! Everything that decides lies in `limn_core::client` and is tested there; this crate sends what the
//! machine asks for, hands on what it says, and is what JavaScript sees. On other targets it is empty.

#[cfg(target_arch = "wasm32")]
mod driver;
#[cfg(target_arch = "wasm32")]
mod host;
#[cfg(target_arch = "wasm32")]
mod shape;
#[cfg(target_arch = "wasm32")]
mod stream;

#[cfg(target_arch = "wasm32")]
pub use shape::Shape;
#[cfg(target_arch = "wasm32")]
pub use stream::ShapeStream;
