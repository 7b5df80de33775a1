#!/bin/sh
# Line coverage of host tests: `coverage.sh CRATE ...` runs their tests with counters and renews docs/coverage.md.
#
# The compiler counts (`-Cinstrument-coverage`), its own LLVM tools read the counters (component `llvm-tools`), and `coverage-table`
# makes the table of those crates. All others are compiled with counters as well, and left out of it.
set -eu
cd "$(dirname "$0")/../.."
[ $# -gt 0 ] || { echo "coverage: name crates" >&2; exit 1; }
tools=$(rustc --print sysroot)/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/bin
[ -x "$tools/llvm-cov" ] || { echo "coverage: run \`rustup component add llvm-tools\`" >&2; exit 1; }
case ${CARGO_TARGET_DIR:=$PWD/target} in /*) ;; *) CARGO_TARGET_DIR=$PWD/$CARGO_TARGET_DIR ;; esac
work=$CARGO_TARGET_DIR/coverage
counters=$work/counters
rm -rf "$counters"
mkdir -p "$counters"

packages=
for crate; do packages="$packages -p $crate"; done
export RUSTFLAGS="-Cinstrument-coverage" LLVM_PROFILE_FILE="$counters/%p-%m.profraw" CARGO_TARGET_DIR="$work"
# shellcheck disable=SC2086 # the list is meant to be split
programs=$(cargo test --quiet --lib --bins --tests $packages --no-run --message-format=json |
    sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | sort -u)
# shellcheck disable=SC2086
cargo test --quiet --lib --bins --tests $packages

"$tools/llvm-profdata" merge -sparse "$counters"/*.profraw -o "$work/all.profdata"
objects=
for program in $programs; do objects="$objects -object $program"; done
# shellcheck disable=SC2086
"$tools/llvm-cov" export -format=lcov -instr-profile="$work/all.profdata" $objects \
    -ignore-filename-regex='/\.cargo/|/rustc/|/\.rustup/' >"$work/all.lcov"
rm -rf "$counters"
unset RUSTFLAGS LLVM_PROFILE_FILE CARGO_TARGET_DIR
cargo run --quiet --release -p unikernel-build --bin coverage-table "$work/all.lcov" "$@"
