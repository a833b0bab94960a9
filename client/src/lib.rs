//! The Limn browser client.
