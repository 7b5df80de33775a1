# The front door. Each target is a line or two; the work is done by cargo.

APP     ?= http
MACHINE ?= q35
PORT    ?= 8080
MEMORY  ?= 256
SMP     ?= 1
APPEND  ?=
ARGS    ?=
DISK    ?=
DIR     ?=
SIZE    ?=
PCAP    ?=
# The first build of the runner takes a minute, and says so; later ones are no news.
RUNNER   = $${CARGO_TARGET_DIR:-target}/x86_64-unknown-linux-musl/release/cargo-unikernel
QEMU_RUN = { [ -x "$(RUNNER)" ] || cargo build --release -p qemu; } && cargo run --quiet --release -p qemu --
MACHINE_OPTIONS = --machine $(MACHINE) --memory $(MEMORY) --smp $(SMP) --port $(PORT) --append "$(APPEND)" $(addprefix --disk ,$(DISK)) $(addprefix --pcap ,$(PCAP))
BENCH    = $(if $(QUICK),--rounds 1 --seconds 1 --apps http --skip memory$(comma)sequential$(comma)lasting)
comma   := ,

.DEFAULT_GOAL := help
POINTS  ?= 1000000
KILLS   ?= 100
FUZZ_SECONDS ?= 3600
FUZZ_SEED ?=
SECONDS ?= 60
.PHONY: help setup run disk test bench conformance simulate model powercut kill fuzz fuzz-host fuzz-keep coverage miri debug lint doc book clean host-test images

help: ## list the targets
	@echo 'targets (with APP=http MACHINE=q35|microvm|pc PORT=8080 MEMORY=256 SMP=1 APPEND="log=debug" DISK=data.img ARGS="..."):'
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-11s %s\n", $$1, $$2 }'

setup: ## install what is missing: QEMU, wrk, the Rust targets
	@sh qemu/setup.sh

run: setup ## build APP, boot it, forward PORT; Ctrl-C presses the power button, twice kills
	@$(QEMU_RUN) run $(APP) $(MACHINE_OPTIONS) -- $(ARGS)

disk: setup ## make a disk image with ext4 from DIR, called DISK (DISK=data.img DIR=folder SIZE=64M)
	@$(QEMU_RUN) disk $(or $(DISK),disk.img) $(addprefix --dir ,$(DIR)) $(addprefix --size ,$(SIZE))

test: setup lint host-test model images ## lints, host tests, guest tests on Linux and booted
	@$(QEMU_RUN) test $(TEST)

# A hundred programs that `test` runs as guests, each of which cargo would link once more to find no test in it.
NO_HOST_TESTS = guest-tests --exclude unikernel-fuzz-kernel

host-test: setup
	cargo test --workspace --exclude $(NO_HOST_TESTS) --no-run
	cargo test --workspace --exclude $(NO_HOST_TESTS) --quiet

# Of the kernel, images have a compilation of their own; these are for tests on the host.
NO_IMAGES = unikernel-hal --exclude unikernel-kernel --exclude unikernel-fuzz --exclude unikernel-fuzz-kernel

images: setup
	cargo build --release --workspace --exclude $(NO_IMAGES)
	@cargo run --quiet --release -p unikernel-build --bin check-image -- $(foreach app,hello http http-mio http-axum tls sqlite kv files,"$${CARGO_TARGET_DIR:-target}/x86_64-unknown-linux-musl/release/$(app)")

bench: setup ## measure against a Linux guest with the same ELF (QUICK=1 for a short run)
	@$(QEMU_RUN) bench --marks $(BENCH)

conformance: setup ## the test suites of published crates, on Linux and booted (SUITE=tokio,redb for some)
	@$(QEMU_RUN) conformance $(if $(SUITE),--suite $(SUITE))

simulate: setup ## the whole kernel on simulated machines, SEEDS=n from FIRST on; a seed that fails fails again
	SIMULATE_SEEDS=$(or $(SEEDS),10000) SIMULATE_FIRST=$(or $(FIRST),0) SIMULATE_ONLY="$(ONLY)" cargo test --quiet -p unikernel-kernel seeds_find_nothing -- --nocapture

model: setup ## the scheduler's protocol in every interleaving
	RUSTFLAGS="--cfg loom" cargo test --quiet --release -p unikernel-sched --target x86_64-unknown-linux-gnu --target-dir "$${CARGO_TARGET_DIR:-target}/model"

powercut: setup ## ext4 under power cuts, many more than in a test run (POINTS=1000000)
	POWERCUT_POINTS=$(POINTS) cargo test --quiet -p unikernel-ext4 nothing_durable -- --nocapture

kill: setup ## kv killed at random moments, more often than in a test run (KILLS=100)
	export KILLS=$(KILLS); $(QEMU_RUN) test kv_killed

debug: setup ## boot APP under gdb, with symbols of both halves, stopped at main
	@$(QEMU_RUN) debug $(APP) $(MACHINE_OPTIONS) -- $(ARGS)

fuzz: setup ## for long, FUZZ_SECONDS=3600 each: random calls, devices that lie, damaged frames and connections, damaged disks
	@for subject in calls disk card; do \
		$(QEMU_RUN) fuzz $$subject --seconds $(FUZZ_SECONDS) $(addprefix --seed ,$(FUZZ_SEED)) || exit 1; \
	done
	export FUZZ_SECONDS=$(FUZZ_SECONDS) FUZZ_SEED=$(FUZZ_SEED); \
	cargo test --quiet --release -p unikernel-net -- damaged_ streams_match peer_that_ nothing_that_was --test-threads=8 && \
	cargo test --quiet --release -p unikernel-ext4 resealed_lies
	PROPTEST_CASES=20000 cargo test --quiet --release -p unikernel-machine -p unikernel-cmdline
	@SECONDS_EACH=$$(($(FUZZ_SECONDS) / 25 + 1)) sh unikernel/fuzz/run.sh fuzz

fuzz-host: ## coverage-guided, on this host: what peers, disks and devices write (TARGET=tcp or all, SECONDS=60 each)
	@SECONDS_EACH=$(SECONDS) sh unikernel/fuzz/run.sh fuzz $(TARGET)

fuzz-keep: ## keep of what fuzz-host has found the fewest inputs that reach the same code (TARGET=tcp or all)
	@sh unikernel/fuzz/run.sh keep $(TARGET)

# Crates whose host tests are counted. Each takes minutes; add net and ext4 for a long run.
COVERED ?= cmdline config elf fat fs fuzz kernel machine mm ntp p9 partition report sched syslog vfs
coverage: setup ## line coverage of host tests, into docs/coverage.md (COVERED="ntp elf" for some)
	@sh unikernel/build/coverage.sh $(addprefix unikernel-,$(COVERED))

miri: ## the pure crates' tests under Miri, 15 minutes at most; needs a nightly toolchain with it (CRATES="mm elf" for some)
	@sh unikernel/build/miri.sh $(CRATES)

lint: setup ## format and lints
	cargo fmt --check
	cargo clippy --quiet --lib --bins --tests --examples -- -D warnings
	cargo clippy --quiet -p unikernel-hal -p unikernel-kernel --target x86_64-unknown-none -- -D warnings
	@# The driver of fuzzing, without libFuzzer itself, which is C++ and only linked.
	CUSTOM_LIBFUZZER_PATH=/none/libnone.a cargo clippy --quiet -p unikernel-fuzz --features libfuzzer --lib --bins -- -D warnings
	@cargo run --quiet --release -p unikernel-build --bin syscall-reference -- --check
	@cargo run --quiet --release -p unikernel-build --bin layers

doc: setup ## API documentation and the generated pages
	cargo run --quiet --release -p unikernel-build --bin syscall-reference
	@$(QEMU_RUN) help --markdown > docs/command-line.md
	cargo run --quiet --release -p unikernel-build --bin layers -- --draw
	cargo doc --no-deps
	cargo doc --no-deps -p unikernel-kernel --document-private-items

MDBOOK   = target/tools/bin/mdbook
$(MDBOOK):
	@echo 'book: compiling mdbook, which takes minutes and is done once'
	@cargo install --quiet --locked --version "^0.4" --root target/tools --target-dir target/tools/build mdbook && rm -rf target/tools/build

book: $(MDBOOK) ## the pages of docs/ as a book, in target/book
	@$(MDBOOK) build
	@echo 'book: target/book/index.html'

clean: ## remove everything that was built
	cargo clean
