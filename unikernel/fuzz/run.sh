#!/bin/sh
# Coverage-guided fuzzing on this host: `run.sh fuzz|keep [TARGET ...]`, all targets if none is named.
#
# fuzz  looks for inputs that reach new code, SECONDS_EACH for each target; they are added to target/fuzz/corpus/NAME
# keep  makes corpus/NAME of all inputs that are known: the fewest that reach the same code, and those called fixed-...
#
# Code is instrumented by LLVM's own pass (SanitizerCoverage), so the stable compiler does. It is an own build in an own folder, since
# the flags are for this program alone; images and tests never see them.
set -eu
cd "$(dirname "$0")/../.."
what=${1:?fuzz or keep}
shift
# A variable of the environment is made absolute, as the programs are run in other folders.
case ${CARGO_TARGET_DIR:=$PWD/target} in /*) ;; *) CARGO_TARGET_DIR=$PWD/$CARGO_TARGET_DIR ;; esac
triple=x86_64-unknown-linux-gnu
work=$CARGO_TARGET_DIR/fuzz
program=$work/$triple/fuzz/fuzz-host

command -v c++ >/dev/null || { echo "fuzz: libFuzzer is C++: install g++" >&2; exit 1; }
sancov="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4"
for kind in inline-8bit-counters pc-table trace-compares; do
    sancov="$sancov -Cllvm-args=-sanitizer-coverage-$kind"
done
# Without the wrappers of images, which link statically: libFuzzer looks for parts of itself while it runs.
RUSTC_WRAPPER= RUSTC_WORKSPACE_WRAPPER= CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER=cc RUSTFLAGS=$sancov \
    cargo build --quiet --profile fuzz -p unikernel-fuzz --features libfuzzer --target $triple --target-dir "$work"

# Functions that only the address sanitizer brings are looked for in vain.
quiet() { grep -v '^WARNING: Failed to find function' || true; }

targets=$(FUZZ_TARGET=list "$program" 2>/dev/null)
[ $# -gt 0 ] || set -- $(echo "$targets" | cut -d' ' -f1)
for name; do
    longest=$(echo "$targets" | sed -n "s/^$name //p")
    [ -n "$longest" ] || { echo "fuzz: there is no target $name; there are" $(echo "$targets" | cut -d' ' -f1) >&2; exit 1; }
    found=$work/corpus/$name kept=unikernel/fuzz/corpus/$name
    mkdir -p "$found" "$kept"
    export FUZZ_TARGET="$name"
    case $what in
        fuzz)
            echo "fuzz: $name"
            log=$work/$name.log
            # A crash leaves its input here, and its place in the report.
            if ! "$program" "$found" "$kept" -max_len="$longest" -max_total_time="${SECONDS_EACH:-60}" -timeout=10 -rss_limit_mb=2048 \
                -print_final_stats=1 -artifact_prefix="$work/$name-" >"$log" 2>&1; then
                quiet <"$log" | grep -v '^#' | tail -60
                echo "fuzz: $name has failed; the report is $log. Copy the input to $kept/fixed-..., mend the kind, and add a test" >&2
                exit 1
            fi
            grep -E '^(#.*DONE|stat::number_of_executed_units)' "$log"
            ;;
        keep)
            rm -rf "$work/minimal" && mkdir "$work/minimal"
            # By code that is reached, not by how often. What once failed stays.
            "$program" -set_cover_merge=1 -use_counters=0 -max_len="$longest" "$work/minimal" "$kept" "$found" >"$work/$name.log" 2>&1
            find "$kept" -name 'fixed-*' -exec cp {} "$work/minimal" \;
            rm -rf "$kept" && mv "$work/minimal" "$kept"
            echo "fuzz: $name: $(ls "$kept" | wc -l) inputs, $(cat "$kept"/* | wc -c) bytes"
            ;;
        *) echo "fuzz: fuzz or keep, not $what" >&2; exit 1 ;;
    esac
done
