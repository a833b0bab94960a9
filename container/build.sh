#!/bin/sh
# Builds the release binary as the container and the releases have it: target/release/limn, from the locked sources.
set -eu
cd "$(dirname "$0")/.."
cargo build --release --locked --package limn-origin
