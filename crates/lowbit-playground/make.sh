#!/usr/bin/env bash
# Makes src/formats.wasm.gz.base64 again, which the page holds; the tests say when that is due.
# Needs: rustup target add wasm32-unknown-unknown
set -euo pipefail
cd "$(dirname "$0")"
root=$(cd ../.. && pwd)
# Names of folders are left out, so that the file does not depend on where it is made.
export RUSTFLAGS="--remap-path-prefix=$root=. --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=cargo"
# Tables of a format are made on the stack, which has one megabyte unless told.
cargo rustc --profile wasm --target wasm32-unknown-unknown -p lowbit-playground \
    --lib --crate-type cdylib -- -Clink-arg=-zstack-size=4194304
module="$root/target/wasm32-unknown-unknown/wasm/lowbit_playground.wasm"
gzip -9 --no-name < "$module" | base64 > src/formats.wasm.gz.base64
wc -c "$module" src/formats.wasm.gz.base64
