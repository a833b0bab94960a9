//! Support for the black-box tests: temporary Postgres servers, the `limn` binary, an HTTP client.
