//! The Limn edge worker.
