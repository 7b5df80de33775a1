//! What the command line asks for and cannot be had: the machine says so, and ends with a code of its own.

use unikernel_hal::sim::disk::{Disk, Faults};

use super::app::calls::{Room, sys};
use super::app::run::run_on;
use super::app::{Machine, Outcome};

/// The code of a machine that does not get as far as the app.
const CANNOT_BOOT: Option<i32> = Some(125);

fn with(command_line: &str) -> Machine {
    Machine { command_line: command_line.into(), ..Machine::default() }
}

/// What is written where.
type Bytes = &'static [(usize, &'static [u8])];

/// Boots with two disks: of zeros, and with these first bytes.
fn boot_with_disks(command_line: &str, first_bytes: Bytes) -> Outcome {
    let (zeros, other) = (Disk::new(8 << 20), Disk::new(8 << 20));
    first_bytes.iter().for_each(|(at, bytes)| other.write(*at, bytes));
    let plug_in = || [&zeros, &other].into_iter().for_each(|disk| disk.plug_in(Faults::default()));
    with(command_line).run_with(plug_in, || 0)
}

#[track_caller]
fn is_refused(outcome: &Outcome, reason: &str) {
    assert_eq!(outcome.code, CANNOT_BOOT, "{}", outcome.console);
    assert!(outcome.console.contains(reason), "`{reason}` in {}", outcome.console);
}

#[test]
fn mount_that_cannot_be_is_refused() {
    let refused = |line: &str, reason: &str| is_refused(&boot_with_disks(line, &[]), reason);
    refused("mount=/data:blk0", "`blk0` has no ext4 filesystem; make one with `mke2fs -t ext4`");
    refused("mount=/data:blk7", "there is no disk `blk7`: the machine has 2, `blk0` to `blk1`");
    refused("mount=/data:blk0:minix", "knows no filesystem `minix`, but ext4 vfat 9p");
    refused("mount=/data:blk0:vfat", "`blk0` has no vfat filesystem");
    refused("mount=/data:share:9p", "the machine has no 9p share");
    refused("mount=/data:LABEL=none", "there is no disk `LABEL=none`");
    refused("mount=/tmp:blk0 mount=/run/../tmp:blk1 format=blk0 format=blk1", "one directory twice");
    refused("mount=/dev/null:blk0 format=blk0", "nothing can be mounted at `/dev/null`");
}

#[test]
fn disk_with_something_on_it_is_not_formatted() {
    const TABLE: Bytes = &[(446 + 4, b"\x83\0\0\0\0\x08\0\0\0\x08\0\0"), (510, b"\x55\xaa")];
    let outcome = boot_with_disks("mount=/data:blk1 format=blk1", TABLE);
    is_refused(&outcome, "`blk1` has a partition table and no filesystem of its own");
}

#[test]
fn words_that_are_wrong_are_told() {
    for (line, reason) in [
        ("nonsense=1", "bad command line"),
        ("log=loudest", "log=loudest"),
        ("cwd=/nowhere", "`cwd=/nowhere`: expected a directory; there is none"),
        ("cwd=/dev/null", "`cwd=/dev/null`: expected a directory; this is none"),
        ("init=/bin/none", "cannot start the app"),
        ("pcap=on", "there is no virtio console for the capture"),
    ] {
        is_refused(&with(line).run(|| 0), reason);
    }
}

#[test]
fn what_linux_would_be_told_is_passed_over() {
    let outcome = with("quiet root=PARTUUID=1234-02 console=ttyS0 log=debug").run(|| 3);
    assert_eq!(outcome.code, Some(3), "{}", outcome.console);
    assert!(outcome.console.contains("a word for Linux, not used"), "{}", outcome.console);
}

#[test]
fn filesystem_is_found_by_its_label_and_mounted_for_reading() {
    use linux_raw_sys::errno::{EROFS, EXDEV};
    use linux_raw_sys::general::{O_CREAT, O_RDONLY, O_WRONLY};
    /// Where ext4 has its label.
    const LABEL_AT: usize = 1024 + 120;
    let disk = Disk::new(8 << 20);
    let made = with("mount=/data:blk0 format=blk0").run_with(
        || disk.plug_in(Faults::default()),
        || {
            let file = sys!(creat, "/data/file", 0o600).unwrap();
            sys!(write, file, &Room::of(b"kept"), 4).unwrap();
            0
        },
    );
    assert_eq!(made.code, Some(0), "{}", made.console);
    assert_eq!(disk.content()[LABEL_AT], 0);
    let unlabelled = with("mount=/data:blk0:ro").run_with(
        || disk.plug_in(Faults::default()),
        || {
            let room = Room::new(16);
            let file = sys!(open, "/data/file", O_RDONLY, 0).unwrap();
            assert_eq!(sys!(read, file, &room, 16), Ok(4));
            assert_eq!(sys!(open, "/data/file", O_WRONLY, 0), Err(EROFS));
            assert_eq!(sys!(open, "/data/new", O_WRONLY | O_CREAT, 0o600), Err(EROFS));
            assert_eq!(sys!(mkdir, "/data/new", 0o600), Err(EROFS));
            assert_eq!(sys!(unlink, "/data/file"), Err(EROFS));
            assert_eq!(sys!(rename, "/data/file", "/data/new"), Err(EROFS));
            assert_eq!(sys!(rename, "/data/file", "/tmp/new"), Err(EXDEV));
            assert_eq!(sys!(link, "/data/file", "/data/new"), Err(EROFS));
            assert_eq!(sys!(chmod, "/data/file", 0o600), Err(EROFS));
            assert_eq!(sys!(chown, "/data/file", 1, 1), Err(EROFS));
            assert_eq!(sys!(utimensat, -100, "/data/file", 0, 0), Err(EROFS));
            assert_eq!(sys!(truncate, "/data/file", 0), Err(EROFS));
            assert_eq!(sys!(setxattr, "/data/file", "user.a", &room, 1, 0), Err(EROFS));
            assert_eq!(sys!(removexattr, "/data/file", "user.a"), Err(EROFS));
            assert_eq!(sys!(fsync, file), Ok(0));
            0
        },
    );
    assert_eq!(unlabelled.code, Some(0), "{}", unlabelled.console);
}

#[test]
fn settings_reach_the_app() {
    run_on(with("cwd=/var/log env.NAME=value -- one two"), || {
        let room = Room::new(64);
        assert_eq!(sys!(getcwd, &room, 64), Ok(9));
        assert_eq!(room.bytes(0, 9), b"/var/log\0");
        let file = sys!(open, "/proc/self/environ", 0, 0).unwrap();
        let environment = Room::new(512);
        let len = sys!(read, file, &environment, 512).unwrap() as usize;
        let text = environment.bytes(0, len);
        assert!(text.windows(11).any(|part| part == b"NAME=value\0"), "{text:?}");
        let file = sys!(open, "/proc/self/cmdline", 0, 0).unwrap();
        let len = sys!(read, file, &environment, 512).unwrap() as usize;
        assert!(environment.bytes(0, len).ends_with(b"\0one\0two\0"));
    });
}
