//! What the edge decides about who asks: which tokens it takes, and what a token allows.
//!
//! [`token`] reads a token before anybody knows whether it is genuine, [`key_set`] finds the keys that may have signed
//! it, [`claims`] reads what a genuine one says, and [`grant`] judges a request by that: it is refused, passes as it
//! is, or passes with the token's clause and columns imposed. The signature itself is checked by the platform between
//! the second and the third.

pub mod claims;
pub mod grant;
pub mod key_set;
pub mod token;

pub use claims::{Claims, Expected};
pub use grant::{Denied, Grant};
pub use key_set::{Key, KeySet, KeySetError, Source};
pub use token::{Algorithm, SignedToken, TokenError};
