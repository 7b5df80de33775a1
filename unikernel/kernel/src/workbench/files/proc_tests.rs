//! `/proc`, `/dev` and `/etc`.

use alloc::string::String;

use linux_raw_sys::errno::*;
use linux_raw_sys::general::*;

use super::super::app::calls::{Room, sys};
use super::super::app::run::{run, run_on};
use super::super::app::{Machine, join, spawn};
use super::{Stat, open, read_file, read_rest};

fn text_of(path: &str) -> String {
    String::from_utf8(read_file(path)).unwrap()
}

/// The number behind a name, as `/proc/meminfo` and `/proc/self/status` have it.
fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    let mut words = line[name.len()..].split_whitespace();
    words.find_map(|word| word.parse().ok()).unwrap()
}

#[test]
fn devices_give_and_take() {
    run(|| {
        let room = Room::of(&[9; 8]);
        let null = open("/dev/null", O_RDWR);
        assert_eq!((sys!(write, null, &room, 8), sys!(read, null, &room, 8)), (Ok(8), Ok(0)));
        let zero = open("/dev/zero", O_RDWR);
        assert_eq!((sys!(write, zero, &room, 8), sys!(read, zero, &room, 4)), (Ok(8), Ok(4)));
        assert_eq!(room.bytes(0, 5), [0, 0, 0, 0, 9]);
        let full = open("/dev/full", O_RDWR);
        assert_eq!((sys!(write, full, &room, 8), sys!(read, full, &room, 8)), (Err(ENOSPC), Ok(8)));
        assert_eq!(room.bytes(0, 8), [0; 8]);
        for (path, device) in [("/dev/null", 0x103), ("/dev/zero", 0x105), ("/dev/full", 0x107)] {
            assert_eq!((Stat::of(path).mode() & S_IFMT, Stat::of(path).device()), (S_IFCHR, device));
        }
    });
}

#[test]
fn random_devices_differ_at_each_read() {
    run(|| {
        let rooms = ["/dev/urandom", "/dev/random", "/dev/urandom"].map(|path| {
            let room = Room::new(64);
            assert_eq!(sys!(read, open(path, O_RDONLY), &room, 64), Ok(64));
            room.bytes(0, 64)
        });
        assert!(rooms[0] != rooms[1] && rooms[0] != rooms[2] && rooms[0] != [0; 64]);
    });
}

#[test]
fn getrandom_fills_and_checks() {
    run(|| {
        let room = Room::new(512);
        assert_eq!(sys!(getrandom, &room, 512, 0), Ok(512));
        assert_ne!(room.bytes(0, 256), room.bytes(256, 256));
        assert_eq!(sys!(getrandom, &room, 16, GRND_NONBLOCK | GRND_RANDOM), Ok(16));
        assert_eq!(sys!(getrandom, &room, 16, 8), Err(EINVAL));
        assert_eq!(sys!(getrandom, &room, 16, GRND_RANDOM | GRND_INSECURE), Err(EINVAL));
        assert_eq!(sys!(getrandom, 1, 16, 0), Err(EFAULT));
    });
}

#[test]
fn self_tells_of_the_process() {
    run(|| {
        assert_eq!(text_of("/proc/self/stat").trim().split(' ').count(), 52);
        assert!(text_of("/proc/self/stat").starts_with("1 ("));
        assert_eq!(text_of("/proc/self/statm").split(' ').count(), 7);
        let status = text_of("/proc/self/status");
        assert_eq!((field(&status, "Pid:"), field(&status, "Threads:")), (1, 1));
        assert!(text_of("/proc/self/cmdline").ends_with('\0'));
        assert!(text_of("/proc/self/limits").contains("Max open files"));
        let room = Room::new(64);
        assert_eq!(sys!(readlink, "/proc/self", &room, 64), Ok(1));
        assert_eq!(room.bytes(0, 1), b"1");
        assert_eq!(sys!(readlink, "/proc/self/cwd", &room, 64), Ok(1));
        assert_eq!(room.bytes(0, 1), b"/");
        assert!(sys!(readlink, "/proc/self/exe", &room, 64).is_ok());
    });
}

#[test]
fn threads_are_counted() {
    run(|| {
        let gate = Room::new(8);
        let thread = spawn(move || {
            while gate.word(0) == 0 {
                let _ = sys!(futex, &gate, FUTEX_WAIT, 0, 0);
            }
        });
        let thread = thread.unwrap();
        assert_eq!(field(&text_of("/proc/self/status"), "Threads:"), 2);
        let name = std::format!("/proc/self/task/{}/stat", thread.0);
        assert!(text_of(&name).starts_with(&std::format!("{} (", thread.0)));
        gate.put_word(0, 1);
        sys!(futex, &gate, FUTEX_WAKE, 1).unwrap();
        join(thread);
        assert_eq!(sys!(open, &*name, O_RDONLY, 0), Err(ENOENT));
    });
}

#[test]
fn maps_follow_the_memory() {
    run(|| {
        let room = Room::new(3 * 4096);
        sys!(mprotect, room.at(4096), 4096, PROT_READ).unwrap();
        let wanted = std::format!("{:08x}-{:08x} r--p 00000000 00:00 0", room.at(4096), room.at(8192));
        let maps = text_of("/proc/self/maps");
        assert!(maps.contains(&wanted), "{wanted} in {maps}");
        assert!(maps.contains("[stack]"));
        sys!(munmap, &room, 3 * 4096).unwrap();
        assert!(!text_of("/proc/self/maps").contains(&wanted));
    });
}

#[test]
fn texts_of_the_system_are_there() {
    run_on(Machine { cores: 2, ..Machine::default() }, || {
        let memory = text_of("/proc/meminfo");
        assert!(memory.starts_with("MemTotal:"));
        let (total, free) = (field(&memory, "MemTotal:"), field(&memory, "MemFree:"));
        assert!(free < total && total <= 64 << 10, "{memory}");
        assert_eq!(text_of("/proc/cpuinfo").matches("processor\t").count(), 2);
        let stat = text_of("/proc/stat");
        assert!(stat.starts_with("cpu ") && stat.contains("\ncpu1 ") && !stat.contains("\ncpu2 "));
        assert_eq!(text_of("/proc/uptime").split(' ').count(), 2);
        assert_eq!(text_of("/proc/loadavg").split(' ').count(), 5);
        assert_eq!(text_of("/proc/sys/kernel/ostype"), "Linux\n");
        assert!(text_of("/proc/version").starts_with("Linux version"));
        assert!(text_of("/proc/filesystems").contains("tmpfs"));
        assert!(text_of("/proc/mounts").lines().any(|line| line.split(' ').nth(1) == Some("/proc")));
        assert!(text_of("/proc/self/mountinfo").lines().count() > 1);
    });
}

#[test]
fn metrics_are_names_and_numbers() {
    run(|| {
        let metrics = text_of("/proc/unikernel/metrics");
        for line in metrics.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = line.split_once(' ').unwrap();
            assert!(name.starts_with("unikernel_") && value.parse::<u64>().is_ok(), "{line}");
        }
        let name = "unikernel_system_calls_total ";
        let before = field(&metrics, name);
        sys!(getpid).unwrap();
        assert!(field(&text_of("/proc/unikernel/metrics"), name) > before);
    });
}

#[test]
fn texts_are_read_from_any_offset() {
    run(|| {
        let file = open("/proc/self/status", O_RDONLY);
        let room = Room::new(8);
        assert_eq!(sys!(lseek, file, 4, SEEK_SET), Ok(4));
        assert_eq!(sys!(read, file, &room, 2), Ok(2));
        assert_eq!((room.bytes(0, 2), sys!(lseek, file, 0, SEEK_CUR)), (b":\t".to_vec(), Ok(6)));
        assert_eq!(sys!(lseek, file, -7, SEEK_CUR), Err(EINVAL));
        assert_eq!(sys!(pread64, file, &room, 4, 0), Ok(4));
        assert_eq!(room.bytes(0, 4), b"Name");
        assert_eq!(sys!(pread64, file, &room, 4, 1 << 20), Ok(0));
    });
}

#[test]
fn descriptors_are_listed_and_opened_anew() {
    run(|| {
        super::write_file("/tmp/file", b"12345");
        let file = open("/tmp/file", O_RDONLY);
        let name = std::format!("/proc/self/fd/{file}");
        let room = Room::new(64);
        let len = sys!(readlink, &*name, &room, 64).unwrap();
        assert_eq!(room.bytes(0, len as usize), b"/tmp/file");
        sys!(lseek, file, 3, SEEK_SET).unwrap();
        // A file of its own, from its first byte on, and for writing.
        let again = open(&name, O_RDWR);
        assert_eq!(read_rest(again), b"12345");
        let info = text_of(&std::format!("/proc/self/fdinfo/{file}"));
        assert_eq!(field(&info, "pos:"), 3);
        sys!(close, file).unwrap();
        assert_eq!(sys!(readlink, &*name, &room, 64), Err(ENOENT));
        assert_eq!(sys!(open, "/proc/self/fd/99", O_RDONLY, 0), Err(ENOENT));
    });
}

#[test]
fn descriptor_tells_of_itself_while_it_is_read() {
    run(|| {
        let file = open("/proc/self/fdinfo", O_RDONLY | O_DIRECTORY);
        sys!(close, file).unwrap();
        // The next descriptor has the number that it is asked about.
        sys!(dup2, 0, file).unwrap();
        let name = std::format!("/proc/self/fdinfo/{file}");
        let reader = open(&name, O_RDONLY);
        assert_eq!(sys!(dup2, reader, file), Ok(file));
        assert_eq!(field(&String::from_utf8(read_rest(file)).unwrap(), "pos:"), 0);
    });
}

#[test]
fn proc_is_not_changed() {
    run(|| {
        assert!(sys!(creat, "/proc/new", 0o600).is_err());
        assert!(sys!(unlink, "/proc/stat").is_err());
        assert!(sys!(rename, "/proc/stat", "/proc/other").is_err());
        assert_eq!(sys!(mkdir, "/proc", 0o700), Err(EEXIST));
        assert_eq!(sys!(open, "/proc", O_WRONLY, 0), Err(EISDIR));
        assert!(text_of("/proc/stat").starts_with("cpu "));
    });
}

#[test]
fn usual_files_and_directories_are_there() {
    run(|| {
        for path in ["/var/log", "/var/lib", "/run", "/home", "/root", "/tmp", "/var/tmp", "/dev/shm"] {
            let name = std::format!("{path}/made-by-a-test");
            super::write_file(&name, b"x");
            assert_eq!(sys!(unlink, &*name), Ok(0));
        }
        for path in ["/tmp", "/var/tmp", "/dev/shm"] {
            assert_eq!(Stat::of(path).mode() & 0o7777, 0o1777);
        }
        assert!(text_of("/etc/passwd").lines().any(|line| line.starts_with("root:x:0:0:")));
        assert!(text_of("/etc/hosts").contains("localhost"));
        assert!(!text_of("/etc/hostname").is_empty());
    });
}
