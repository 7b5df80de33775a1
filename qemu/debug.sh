#!/bin/sh
# Boots an app stopped, and attaches gdb: usage debug.sh APP MACHINE PORT SMP APPEND [app arguments]
set -eu
app=$1 machine=$2 port=$3 cpus=$4 append=$5
shift 5
command -v gdb >/dev/null || { echo "debug: there is no gdb: apt-get install gdb" >&2; exit 1; }
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
cargo build --release -p qemu
runner=$target/x86_64-unknown-linux-musl/release/cargo-unikernel
# The app with its variables, in a folder of its own; the kernel stays as it ships.
export CARGO_TARGET_DIR="$target/debugger" CARGO_PROFILE_RELEASE_DEBUG=full CARGO_PROFILE_RELEASE_OPT_LEVEL=0
cargo build --release --manifest-path "apps/$app/Cargo.toml"
image=$CARGO_TARGET_DIR/x86_64-unknown-linux-musl/release/$app
log=$target/debug-console.log
"$runner" run "$app" --machine "$machine" --port "$port" --smp "$cpus" --append "$append" --accel tcg --gdb -- "$@" \
    >"$log" 2>&1 </dev/null &
guest=$!
trap 'kill $guest 2>/dev/null || true' EXIT INT TERM
echo "the guest's console goes to $log; its port 8080 is this host's ${port%%:*}"
main=$(nm "$image" | awk '$3 == "main" { print $1 }')
[ -n "$main" ] || { echo "debug: $image has no \`main\` to stop at" >&2; exit 1; }
# The toolchain's wrapper around gdb brings printers for Rust's types.
"$(command -v rust-gdb || command -v gdb)" -q -ex "set \$app_main = 0x$main" -x qemu/debug.gdb "$image"
