#!/bin/sh
# Boots an app stopped, and attaches gdb: usage debug.sh APP MACHINE APPEND [app arguments]
set -eu
app=$1 machine=$2 append=$3
shift 3
command -v gdb >/dev/null || { echo "debug: there is no gdb: apt-get install gdb" >&2; exit 1; }
cargo build --quiet --release --manifest-path "apps/$app/Cargo.toml"
image=${CARGO_TARGET_DIR:-target}/x86_64-unknown-linux-musl/release/$app
log=${CARGO_TARGET_DIR:-target}/debug-console.log
cargo run --quiet --release -p qemu -- run "$app" --machine "$machine" --append "$append" --net none --accel tcg --gdb -- "$@" \
    >"$log" 2>&1 </dev/null &
guest=$!
trap 'kill $guest 2>/dev/null || true' EXIT INT TERM
echo "the guest's console goes to $log"
# The toolchain's wrapper around gdb brings printers for Rust's types.
"$(command -v rust-gdb || command -v gdb)" -q -x qemu/debug.gdb "$image"
