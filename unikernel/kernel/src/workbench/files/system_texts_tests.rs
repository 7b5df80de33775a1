//! Every text of `/proc` and `/sys`: each can be read whatever it is, and those that programs count on say what is so.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use linux_raw_sys::errno::*;
use linux_raw_sys::general::*;

use super::super::app::Machine;
use super::super::app::calls::{Room, sys};
use super::super::app::run::{run, run_on};
use super::{list, open, read_file, read_rest};

/// Names and kinds of what is in a directory.
fn entries(path: &str) -> Vec<(String, u8)> {
    let mut found = list(path);
    found.retain(|(name, _)| name != "." && name != "..");
    found
}

/// All regular files below a directory.
fn files_below(path: &str) -> Vec<String> {
    let mut files = Vec::new();
    for (name, kind) in entries(path) {
        let path = std::format!("{path}/{name}");
        match u32::from(kind) {
            DT_DIR => files.extend(files_below(&path)),
            DT_REG => files.push(path),
            _ => {}
        }
    }
    files
}

#[test]
fn every_text_can_be_read() {
    run_on(Machine { cores: 2, ..Machine::default() }, || {
        for root in ["/proc", "/sys"] {
            let files = files_below(root);
            assert!(files.len() > 20, "{files:?}");
            for path in files {
                let file = sys!(open, &*path, O_RDONLY, 0).unwrap_or_else(|error| panic!("{path}: {error}"));
                let text = read_rest(file);
                let ends = text.is_empty() || text.ends_with(b"\n") || text.ends_with(b"\0");
                assert!(ends || path.ends_with("auxv"), "{path}: {:?}", text.escape_ascii().to_string());
                // Again, in pieces: the same, unless it counts.
                let first = Room::new(8);
                let count = sys!(pread64, file, &first, 3, 0).unwrap() as usize;
                assert!(count == text.len().min(3), "{path}");
                sys!(close, file).unwrap();
            }
        }
    });
}

#[test]
fn texts_are_written_by_the_kernel_alone() {
    run(|| {
        for path in ["/proc/meminfo", "/proc/self/status", "/proc/sys/kernel/ostype"] {
            assert_eq!(sys!(open, path, O_WRONLY, 0), Err(EACCES), "{path}");
        }
        assert_eq!(sys!(open, "/sys/fs/cgroup/cpu.max", O_WRONLY, 0), Err(EROFS));
        assert_eq!(sys!(creat, "/sys/new", 0o600), Err(EROFS));
        assert_eq!(sys!(unlink, "/sys/fs/cgroup/cpu.max"), Err(EROFS));
    });
}

fn text(path: &str) -> String {
    String::from_utf8(read_file(path)).unwrap()
}

#[test]
fn processors_are_counted() {
    run_on(Machine { cores: 3, ..Machine::default() }, || {
        for path in ["online", "possible", "present"] {
            assert_eq!(text(&std::format!("/sys/devices/system/cpu/{path}")), "0-2\n");
        }
        assert_eq!(text("/sys/devices/system/node/node0/cpulist"), "0-2\n");
        assert_eq!(text("/sys/devices/system/node/node0/cpumap"), "00000007\n");
        for core in 0..3 {
            let file = |name: &str| text(&std::format!("/sys/devices/system/cpu/cpu{core}/topology/{name}"));
            assert_eq!(file("core_id"), std::format!("{core}\n"));
            assert_eq!(file("thread_siblings"), std::format!("{:08x}\n", 1 << core));
            assert_eq!(
                (file("package_cpus_list"), file("physical_package_id")),
                ("0-2\n".into(), "0\n".into())
            );
        }
        assert_eq!(sys!(open, "/sys/devices/system/cpu/cpu3", O_RDONLY, 0), Err(ENOENT));
        assert_eq!(text("/sys/fs/cgroup/cpuset.cpus.effective"), "0-2\n");
        assert_eq!(text("/proc/cpuinfo").matches("processor\t").count(), 3);
        assert_eq!(text("/proc/stat").lines().filter(|line| line.starts_with("cpu")).count(), 4);
    });
}

#[test]
fn control_group_tells_of_the_app() {
    run(|| {
        let number = |path: &str| -> u64 { text(path).trim().parse().unwrap() };
        assert_eq!(text("/proc/self/cgroup"), "0::/\n");
        assert_eq!((number("/sys/fs/cgroup/cgroup.procs"), number("/sys/fs/cgroup/pids.current")), (1, 1));
        assert_eq!(text("/sys/fs/cgroup/cgroup.threads"), "1\n");
        assert_eq!(text("/sys/fs/cgroup/cpu.max"), "max 100000\n");
        let before = number("/sys/fs/cgroup/memory.current");
        let room = Room::new(4 << 20);
        (0..4 << 20).step_by(4096).for_each(|at| room.put(at, &[1]));
        let after = number("/sys/fs/cgroup/memory.current");
        assert!(after >= before + (4 << 20), "{before} {after}");
        let field = |text: &str, name: &str| -> u64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().parse().unwrap()
        };
        let stat = text("/sys/fs/cgroup/memory.stat");
        assert!(field(&stat, "anon ") >= 4 << 20 && field(&stat, "active_anon ") == field(&stat, "anon "));
        let used = field(&text("/sys/fs/cgroup/cpu.stat"), "usage_usec ");
        unikernel_hal::sim::app::compute_ns(5_000_000);
        assert!(field(&text("/sys/fs/cgroup/cpu.stat"), "usage_usec ") >= used + 4_000);
    });
}

#[test]
fn texts_that_can_be_written_take_what_fits() {
    run(|| {
        let write = |path: &str, bytes: &[u8]| {
            let file = open(path, O_WRONLY);
            let outcome = sys!(write, file, &Room::of(bytes), bytes.len());
            sys!(close, file).unwrap();
            outcome
        };
        assert_eq!(write("/proc/self/oom_score_adj", b"-500\n"), Ok(5));
        assert_eq!(text("/proc/self/oom_score_adj"), "-500\n");
        for bad in ["1001", "-1001", "x", "", "\u{e9}"] {
            assert_eq!(write("/proc/self/oom_score_adj", bad.as_bytes()), Err(EINVAL), "{bad}");
        }
        assert_eq!(text("/proc/self/oom_score_adj"), "-500\n");
        assert_eq!(write("/proc/self/comm", b"another name\n").map(|_| ()), Ok(()));
        assert!(text("/proc/self/comm").starts_with("another name"));
        let name = Room::new(16);
        sys!(prctl, linux_raw_sys::prctl::PR_GET_NAME, &name).unwrap();
        assert!(name.bytes(0, 12) == b"another name");
        assert_eq!(write("/proc/self/comm", b"a name of more than fifteen bytes").map(|_| ()), Ok(()));
        assert_eq!(text("/proc/self/comm"), "a name of more \n");
    });
}

#[test]
fn identifiers_are_random_and_boots_differ() {
    run(|| {
        let uuid = || text("/proc/sys/kernel/random/uuid");
        let (one, two) = (uuid(), uuid());
        assert!(one != two && one.len() == 37 && one.as_bytes()[14] == b'4', "{one} {two}");
        assert_eq!(text("/proc/sys/kernel/random/boot_id"), text("/proc/sys/kernel/random/boot_id"));
    });
}
