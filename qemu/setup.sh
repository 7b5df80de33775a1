#!/bin/sh
# Installs what is missing and nothing else. Says what to do by hand where it cannot.
set -eu

fail() {
    echo "setup: $*" >&2
    exit 1
}

command -v cargo >/dev/null || fail "there is no cargo: install rustup from your distribution or rustup.rs"

# Rust's parts: two targets and four components.
if command -v rustup >/dev/null; then
    for target in x86_64-unknown-none x86_64-unknown-linux-musl; do
        rustup target list --installed | grep -qx "$target" ||
            rustup target add "$target" || fail "cannot add the target: run \`rustup target add $target\`"
    done
    for component in rust-src llvm-tools clippy rustfmt; do
        rustup component list --installed | grep -q "^$component" ||
            rustup component add "$component" || fail "cannot add it: run \`rustup component add $component\`"
    done
fi

[ -d "${CARGO_TARGET_DIR:-target}" ] || echo "setup: the first build takes a few minutes, and says nothing until it is done"

# Programs, by the Debian package that has each.
missing=
need() { command -v "$1" >/dev/null || missing="$missing $2"; }
need qemu-system-x86_64 qemu-system-x86
need wrk wrk
need ip iproute2
need musl-gcc musl-tools
need curl curl
need redis-cli redis-tools
need h2load nghttp2-client
need iperf3 iperf3
need tclsh tcl
need skopeo skopeo
need umoci umoci
need grub-mkimage grub-common
need qemu-img qemu-utils
need mcopy mtools
need genisoimage genisoimage
need openssl openssl
need swtpm swtpm
need tpm2_eventlog tpm2-tools
need cc gcc
need c++ g++
[ -x /usr/sbin/mke2fs ] || need mke2fs e2fsprogs
[ -x /usr/sbin/veritysetup ] || need veritysetup cryptsetup-bin
[ -e /usr/lib/x86_64-linux-gnu/libc.a ] || missing="$missing libc6-dev"
[ -e /usr/lib/grub/i386-pc/boot.img ] || missing="$missing grub-pc-bin"
[ -d /usr/lib/grub/x86_64-efi ] || missing="$missing grub-efi-amd64-bin"
[ -e /usr/share/ovmf/OVMF.fd ] || missing="$missing ovmf"
[ -e /bin/busybox ] || [ -e /usr/bin/busybox ] || missing="$missing busybox-static"
[ -z "$missing" ] && exit 0

echo "setup: installing$missing"
command -v apt-get >/dev/null || fail "please install:$missing (the names are Debian's)"
as_root=
[ "$(id -u)" = 0 ] || as_root=sudo
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086 # the list is meant to be split
$as_root apt-get install -y --no-install-recommends $missing >/dev/null 2>&1 ||
    { $as_root apt-get update >/dev/null && $as_root apt-get install -y --no-install-recommends $missing >/dev/null; } ||
    fail "apt-get could not install:$missing"
