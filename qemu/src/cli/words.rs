//! The words of the command line, and what `help` says about them.

/// The commands and every option, for hints at what a mistyped word may have meant.
pub(super) const COMMANDS: [&str; 7] = ["run", "test", "bench", "conformance", "disk", "fuzz", "help"];
pub(super) const OPTIONS: [&str; 26] = [
    "--help",
    "--machine",
    "--memory",
    "--smp",
    "--port",
    "--net",
    "--initrd",
    "--disk",
    "--snapshot",
    "--size",
    "--append",
    "--pcap",
    "--accel",
    "--time-out",
    "--gdb",
    "--verbose",
    "--apps",
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
pub(crate) const HELP: &str = "\
usage: qemu <command> [options]

  run APP      build an appliance and boot it; ends with the app's exit code
  test [NAME]  run the guest tests (all, or those whose name contains NAME)
  bench        measure against a Linux guest that runs the same ELF
  conformance  run the test suites of published crates, on Linux and booted
  disk FILE    make a disk image with ext4 on it
  fuzz         make random system calls on a kernel that checks itself

options of run:
  --machine q35|microvm|pc   what to boot on (q35)
  --memory MIB               memory of the guest (256)
  --smp N                    processors of the guest (1)
  --port HOST[:GUEST]        forward a TCP port (8080:8080)
  --net user|none|tap=NAME   what the network device is connected to (user); once more for each further device
  --initrd PATH              a cpio archive, or a folder to pack into one
  --disk FILE[:ro]           a disk, raw or .qcow2; the first is blk0 (may be given several times)
  --snapshot                 leave the disks as they are: what is written is forgotten
  --append WORDS             words for the kernel's command line
  --pcap FILE                write every frame of the guest's to a file for Wireshark
  --accel auto|tcg|kvm       how the guest is executed (auto)
  --time-out SECONDS         end the guest after this time
  --gdb                      wait for a debugger on port 1234
  --verbose                  show QEMU's command line
  -- ARGS                    arguments for the app

options of disk:
  --dir FOLDER               what the disk holds at first (nothing)
  --size SIZE                its size, such as 64M or 2G (what the folder needs, and half as much again)

options of fuzz:
  --seconds N                how long (60)
  --seed N                   the first seed (by the clock)

options of bench:
  --apps http,axum-rest@2:64 which appliances, on how many processors, with how many connections
                             (all that have marks; `none` for no load)
  --connections 1,64         how many connections (1,16,64,256)
  --rounds N                 rounds, of which the median counts (3)
  --seconds N                length of one measurement (3)
  --skip NAME,...            leave out: boot, memory, burst, sequential, storm, lasting, crowd, hostile, loss, bulk, offloads,
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
