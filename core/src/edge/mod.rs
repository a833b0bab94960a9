//! What the edge decides: which tokens it takes, what a token allows, when the origin is asked, and how one request there
//! serves all who wait for a shape's next change.
//!
//! [`token`] reads a token before anybody knows whether it is genuine, [`key_set`] finds the keys that may have signed
//! it, [`claims`] reads what a genuine one says, and [`grant`] judges a request by that: it is refused, passes as it
//! is, or passes with the token's clause and columns imposed. The signature itself is checked by the platform between
//! the second and the third. [`flights`] makes one request of many, [`breaker`] spares an origin that is not reached,
//! [`hub`] answers live requests, [`messages`] splits a reply's body, and [`derived`] makes narrower shapes of one.

pub mod breaker;
pub mod claims;
pub mod derived;
pub mod flights;
pub mod grant;
pub mod hub;
pub mod key_set;
pub mod messages;
pub mod token;

pub use breaker::Breaker;
pub use claims::{Claims, Expected};
pub use derived::{Bases, BasesError, Derivation, Passed, Underived, Wanted};
pub use flights::Flights;
pub use grant::{Denied, Grant};
pub use key_set::{Key, KeySet, KeySetError, Source};
pub use messages::{Malformed, Messages};
pub use token::{Algorithm, SignedToken, TokenError};
