#!/bin/sh
# The pure crates' tests under Miri, which finds undefined behaviour, leaks and races: `miri.sh [CRATE ...]`.
#
# Miri comes with a nightly toolchain: `rustup toolchain install nightly --component miri`. A crate has SECONDS_EACH; tests that take longer there
# are cut off, and told. Random tests are few (PROPTEST_CASES): they are run in full by `cargo test`.
set -u
cd "$(dirname "$0")/../.."
cargo +nightly miri --version >/dev/null 2>&1 || {
    echo "miri: there is none; rustup toolchain install nightly --component miri" >&2
    exit 1
}
[ $# -gt 0 ] || set -- sched mm elf machine report partition cmdline ntp
export MIRIFLAGS="-Zmiri-disable-isolation ${MIRIFLAGS:-}" PROPTEST_CASES=${PROPTEST_CASES:-1}
failed=
for name; do
    # Miri interprets what rustc compiles, and is no rustc that a wrapper could call.
    timeout "${SECONDS_EACH:-120}" cargo +nightly miri test --quiet -p "unikernel-$name" --lib --target x86_64-unknown-linux-gnu \
        --target-dir "${CARGO_TARGET_DIR:-target}/miri" --config 'build.rustc-wrapper=""' --config 'build.rustc-workspace-wrapper=""' -- --test-threads=1
    case $? in
        0) echo "miri: $name: nothing found" ;;
        124) echo "miri: $name: nothing found in ${SECONDS_EACH:-120} s, when it was cut off" ;;
        *) failed="$failed $name" ;;
    esac
done
[ -z "$failed" ] || { echo "miri: something was found in$failed" >&2; exit 1; }
