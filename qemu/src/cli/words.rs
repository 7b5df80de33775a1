//! The words of the command line, and what `help` says about them.

/// The commands and every option, for hints at what a mistyped word may have meant.
pub(super) const COMMANDS: [&str; 32] = [
    "debug",
    "metrics",
    "threads",
    "ss",
    "trace",
    "tail",
    "pcap",
    "learn",
    "logs",
    "stop",
    "new",
    "init",
    "sbom",
    "licenses",
    "check-host",
    "build",
    "run",
    "pack",
    "kernel",
    "sign",
    "module",
    "modinfo",
    "lsmod",
    "deploy",
    "oci",
    "image",
    "disk",
    "test",
    "bench",
    "conformance",
    "fuzz",
    "help",
];
pub(super) const OPTIONS: [&str; 77] = [
    "--filter",
    "--slowest",
    "--observe",
    "--at",
    "--policy",
    "--from",
    "--as",
    "--check",
    "--key",
    "--trust",
    "--ex",
    "--detach",
    "--tpm",
    "--follow",
    "--help",
    "--text",
    "--texts",
    "--dry-run",
    "--path",
    "--git",
    "--package",
    "--bin",
    "--example",
    "--release",
    "--profile",
    "--target",
    "--manifest-path",
    "--keep-debug",
    "--features",
    "--all-features",
    "--no-default-features",
    "--locked",
    "--offline",
    "--frozen",
    "--jobs",
    "--config",
    "--target-dir",
    "--quiet",
    "--output",
    "--name",
    "--root",
    "--replicas",
    "--format",
    "--data",
    "--env",
    "--qemu-arg",
    "--machine",
    "--memory",
    "--smp",
    "--port",
    "--net",
    "--initrd",
    "--dir",
    "--timezone",
    "--ca-certificates",
    "--disk",
    "--snapshot",
    "--share",
    "--size",
    "--append",
    "--pcap",
    "--accel",
    "--time-out",
    "--gdb",
    "--verbose",
    "--apps",
    "--duration",
    "--marks",
    "--connections",
    "--rounds",
    "--seconds",
    "--skip",
    "--suite",
    "--test",
    "--keep",
    "--checked",
    "--seed",
];

/// What `--help` prints.
pub(super) const HELP: &str = "\
usage: cargo unikernel <command> [options]

  new NAME     make a package with an HTTP server in it
  init         have plain `cargo build` make the image of the package in this folder, too: a build script, a build
               dependency, the target as default; shows what it changes (`build` and `run` need none of it)
  check-host   say what is missing on this host, and the command that installs it
  build        build the package in this folder as an appliance: one ELF that Linux runs and a hypervisor boots
  run          build it and boot it under QEMU; ends with the program's exit code
  run ELF      boot an image, or any static program
  pack ELF     make an image of a program that somebody else built: static, or dynamic with --root
  pack --from IMAGE
               the same of a container image: an OCI image layout, or from `docker save`, as a folder or a file
  kernel       write the kernel without a program: `init=/bin/server` starts one from an initrd or a disk
  sign FILE    sign an initrd, a configuration or a module for machines with `trust=`; `sign --root` the hash of a disk
  learn [ELF]  run it, and write down which system calls, files and addresses it uses, for `run --policy`
  module [FOLDER]
               build the package in a folder as a module of the kernel: NAME.ko, or what -o says
  modinfo FILE...
               what such modules say about themselves: versions, parameters, the symbols that they need
  lsmod FOLDER...
               list the modules in folders
  debug [ELF]  the same under gdb, stopped at the program's `main`, with names of program and kernel
  bench [ELF]  measure it against the same program on a Linux guest: requests per second, latency, start
  logs [NAME]  show the console of a guest that `run --detach` has started (which there are); -f goes on with it
  stop NAME    press the power button of such a guest, and kill it if it does not react
  threads      show what the threads of a guest do that `run --observe` has started, and who called whom in them
  ss           show its listeners and connections
  metrics      show its counters
  trace        record what happens in it, event by event, as a timeline for ui.perfetto.dev or as lines
  tail         record it, and say where the time of its requests goes: of the middle ones, and of the slowest
  pcap         write the frames that pass its cards, for Wireshark
  deploy FORM [ELF]
               write the files that start it elsewhere; FORM is systemd, libvirt, firecracker, cloud-hypervisor, nomad,
               kubevirt or proxmox
  oci [ELF]    make a container image of it (an OCI image layout), for KubeVirt and urunc
  image [ELF]  make a disk of it that BIOS and UEFI boot
  sbom         list the crates of the program and of the kernel, as CycloneDX (JSON)
  licenses     list their licences; --texts adds what these say
  disk FILE    make a disk image with ext4 on it

for the kernel's own developers, in its repository:
  run APP      build an app of apps/ and boot it
  test [NAME]  run the guest tests (all, or those whose name contains NAME)
  bench --marks
               measure all that has marks against a Linux guest that runs the same ELF
  conformance  run the test suites of published crates, on Linux and booted
  fuzz         attack the kernel at random: system calls, a disk or a network card that lies

options of build, and of run for a package, are cargo's:
  -p --package, --bin, --example, -r --release, --profile, --manifest-path, -F --features, --all-features,
  --no-default-features, --locked, --offline, --frozen, -j --jobs, --config, --target-dir, -q --quiet, and
  --target TRIPLE            x86_64-unknown-linux-musl, or -gnu for the GNU C library (musl)
  --keep-debug               leave debug information in the image (it goes to a file beside it)

options of init, beside -p and --manifest-path:
  --dry-run                  only show what would be changed
  --path FOLDER              take our crates from a clone of the repository (from where this tool came)
  --git URL                  take our crates from a repository

options of sbom and licenses, beside those of build:
  -o --output FILE           where the list goes (the standard output)
  --texts                    the texts of the licences, too

options of learn, beside those of run:
  -o --output FILE           where it is written (policy.txt)

options of run, and of debug:
  --machine q35|microvm|pc   what to boot on (q35)
  --memory MIB               memory of the guest (256)
  --smp N                    processors of the guest (1)
  --port HOST[:GUEST]        forward a TCP port (8080:8080)
  --net user|none|tap=NAME   what the network device is connected to (user); once more for each further device
  --initrd PATH              a cpio archive, or a folder to pack into one (the folder `initrd` of the package)
  --timezone NAME            its local time, such as Europe/Berlin: /etc/localtime and the zone's file, from this host
  --ca-certificates[=FILE]   the certificates of authorities that this host trusts, or those in a file (PEM)
  --disk FILE[:ro]           a disk, raw or .qcow2; the first is blk0 (may be given several times)
  --snapshot                 leave the disks as they are: what is written is forgotten
  --share FOLDER[:/PLACE][:ro]
                             a folder of this host, in the guest at PLACE (/host; may be given several times)
  --env NAME[=VALUE]         a variable for the program
  --append WORDS             words for the kernel's command line
  --policy FILE              what the program may do, as `learn` has written it
  --qemu-arg WORD            a word for QEMU's command line (may be given several times)
  --pcap FILE                write every frame of the guest's to a file for Wireshark
  --observe[=PORT]           have the kernel tell this host what goes on in the guest, at http://127.0.0.1:PORT (9100)
  --accel auto|tcg|kvm       how the guest is executed (auto)
  --time-out SECONDS         end the guest after this time
  --ex COMMAND               (debug) what gdb does when it has stopped at `main` (may be given several times)
  -d --detach                start it, and leave it running
  --tpm                      give it a TPM 2.0, a new one (needs `swtpm`)
  --name NAME                what `logs` and `stop` shall call it (as the program)
  --gdb                      wait for a debugger on port 1234
  -v --verbose               show QEMU's command line
  -- ARGS                    arguments for the program

options of logs:
  -f --follow                go on with what it writes

options of threads, ss and metrics:
  --at [ADDRESS:]PORT        which guest (127.0.0.1:9100)

options of trace:
  --at [ADDRESS:]PORT        which guest (127.0.0.1:9100)
  --seconds N                for how long, 60 at most (1); 0: take what a guest with `trace=events` has kept
  --text                     lines instead of a timeline
  -o --output FILE           where it goes (trace.pftrace; lines: standard output)

options of tail:
  --at [ADDRESS:]PORT        which guest (127.0.0.1:9100)
  --seconds N                for how long, 60 at most (5); 0: take what a guest with `trace=events` has kept
  --slowest N                how many of the slowest requests are told one by one (5)

options of pcap:
  --at [ADDRESS:]PORT        which guest (127.0.0.1:9100)
  --seconds N                for how long, 60 at most (5)
  --filter TERMS             which frames (all): tcp, udp, icmp, arp, ip, ip6, port N, host ADDRESS, not before one, and between
  -o --output FILE           where they go (frames.pcapng)

options of kernel:
  -o --output FILE           where it goes (unikernel.elf)
  --trust KEY                use only what this key has signed: a file of OpenSSL's with it (may be given several times)

options of sign:
  --key KEY                  the secret key, a file of `openssl genpkey -algorithm ed25519`; alone: show the machine's word
  --as KIND                  as what: initrd, configuration or module
  -o --output FILE           where it goes (over the file itself; a folder becomes an archive)
  --check                    only see whether the key has signed it
  --root HASH                sign the root hash of a disk whose blocks are checked

options of module:
  -o --output FILE           where it goes (the folder's name, with .ko)

options of pack:
  -o --output FILE           where the image goes (NAME.unikernel)
  --root FOLDER              what the program finds at /: its libraries, configuration, data
  --from IMAGE               files, program, arguments, variables, folder and user from a container image
  --name NAME                what it is called (as its file)
  --timezone NAME, --ca-certificates[=FILE]
                             files of this host, as in run

options of deploy and oci, beside those of build (--release is usual) and run:
  -o --output FOLDER         where the files go (deploy/FORM, deploy/oci)
  --name NAME                what it is called there (as the program)
  --replicas N               how many, where an engine starts them (1)

options of image, beside those of build (--release is usual) and --initrd, --timezone, --ca-certificates, --env, --append, -- ARGS:
  -o --output FILE           the disk's file, which must not be there yet (PROGRAM.img or .qcow2)
  --format raw|qcow2         its form (by the file's name)
  --data SIZE                a partition with ext4 as /data, such as 512M or 2G (none)

options of disk:
  --dir FOLDER               what the disk holds at first (nothing)
  --size SIZE                its size, such as 64M or 2G (what the folder needs, and half as much again)

options of fuzz [calls|disk|card] (calls):
  --seconds N                how long (60)
  --seed N                   the first seed (by the clock)

options of bench, beside those of build (it is --release if nothing is said) and --machine, --memory, --smp, --initrd, --env, --append, -- ARGS:
  --port PORT                where the server listens (8080)
  --path PATH                what is asked for; the answer must be 200 (/)
  --connections 1,64         how many connections (1,16,64)
  --rounds N                 rounds, of which the median counts (3)
  --seconds N                length of one measurement, also as --duration (3)
  -o --output FOLDER         where table, picture and JSON go (bench)

options of bench --marks, beside --connections, --rounds and --seconds:
  --marks                    measure the apps of the repository
  --apps http,axum-rest@2:64 which appliances, on how many processors, with how many connections
                             (all that have marks; `none` for no load)
  --skip NAME,...            leave out: boot, machines, memory, burst, sequential, storm, lasting, crowd, hostile, loss, bulk, offloads,
                             instructions, idle, micro, disk-sync, disk-random, disk-sequential, disk-cached,
                             disk-files, redis

options of conformance:
  --suite NAME,...           which suites of qemu/conformance/suites.toml (all)
  --test TEXT                only tests whose `program::name` contains the text; docs/ stays as it is
  --keep                     keep earlier results: run only what has not passed yet
  --checked                  boot the kernel that checks itself
  --smp N                    processors of the guest (2)
  --machine q35|microvm|pc   what to boot on (microvm)
";
