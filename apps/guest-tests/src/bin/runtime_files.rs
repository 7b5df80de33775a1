//! Files of `/proc` and `/sys` that runtimes and libraries read, in the form in which they read them. What only some Linux
//! machines have is asked of the unikernel alone.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::mpsc;
use std::thread;

use guest_tests::{check, check_eq};
use rustix::thread::{gettid, sched_getaffinity};

fn text(path: impl AsRef<Path>) -> String {
    let text = fs::read_to_string(&path);
    text.unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()))
}

/// A file with one line, without its end.
fn line(path: impl AsRef<Path>) -> String {
    let text = text(path);
    check_eq!(text.matches('\n').count(), 1);
    text.trim_end_matches('\n').to_owned()
}

fn number(path: impl AsRef<Path>) -> u64 {
    line(path).parse().unwrap()
}

/// The members of a list such as `0-3,5`.
fn list(text: &str) -> HashSet<usize> {
    let ranges = text.split(',').filter(|range| !range.is_empty()).map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        first.parse::<usize>().unwrap()..=last.parse().unwrap()
    });
    ranges.flatten().collect()
}

fn is_unikernel() -> bool {
    Path::new("/proc/unikernel").exists()
}

fn processors() {
    let cpu = Path::new("/sys/devices/system/cpu");
    let online = list(&line(cpu.join("online")));
    check!(online.is_subset(&list(&line(cpu.join("present")))));
    check!(online.is_subset(&list(&line(cpu.join("possible")))));
    let affinity = sched_getaffinity(None).unwrap();
    check!((0..1024).filter(|&core| affinity.is_set(core)).all(|core| online.contains(&core)));
    check!(online.iter().all(|core| cpu.join(format!("cpu{core}")).is_dir()));
    for core in
        online.iter().filter(|core| is_unikernel() || cpu.join(format!("cpu{core}/topology")).exists())
    {
        let topology = cpu.join(format!("cpu{core}/topology"));
        check!(list(&line(topology.join("thread_siblings_list"))).contains(core));
        check!(list(&line(topology.join("core_siblings_list"))).contains(core));
        let mask = line(topology.join("thread_siblings")).replace(',', "");
        check!(u128::from_str_radix(&mask, 16).unwrap() >> core & 1 == 1);
        number(topology.join("core_id"));
        number(topology.join("physical_package_id"));
    }
    let info = text("/proc/cpuinfo");
    let field = |name: &str| {
        let of_line = |line: &str| {
            line.split_once(':').map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
        };
        info.lines()
            .filter_map(of_line)
            .filter(|(key, _)| key == name)
            .map(|(_, value)| value)
            .collect::<Vec<_>>()
    };
    check_eq!(field("processor").len(), online.len());
    check_eq!(field("flags").len(), online.len());
    for flag in ["fpu", "tsc", "sse2", "lm", "syscall"] {
        check!(field("flags")[0].split(' ').any(|other| other == flag));
    }
    for name in ["cpu family", "model", "physical id", "core id", "cpu cores", "siblings"] {
        check!(field(name)[0].parse::<u32>().is_ok());
    }
    check!(field("cpu MHz")[0].parse::<f64>().unwrap() > 0.0);
    if is_unikernel() || Path::new("/sys/devices/system/node").exists() {
        check!(list(&line("/sys/devices/system/node/online")).contains(&0));
        check!(!list(&line("/sys/devices/system/node/node0/cpulist")).is_empty());
    }
}

/// As std and the JVM look for the limits of their group.
fn control_group() {
    let groups = text("/proc/self/cgroup");
    let Some(path) = groups.lines().find_map(|line| line.strip_prefix("0::")) else { return };
    let mountinfo = text("/proc/self/mountinfo");
    let mounts = mountinfo.lines().filter_map(|line| line.split_once(" - "));
    let mut mounts = mounts.filter(|(_, kind)| kind.starts_with("cgroup2 "));
    let Some((mount, _)) = mounts.next() else { return check!(!is_unikernel()) };
    let folder = Path::new(mount.split(' ').nth(4).unwrap()).join(path.trim_start_matches('/'));
    let controllers = line(folder.join("cgroup.controllers"));
    let wanted = |name: &str| is_unikernel() || folder.join(name).exists();
    let limit = |name: &str| {
        let value = line(folder.join(name));
        check!(value == "max" || value.parse::<u64>().is_ok());
    };
    for name in ["memory.max", "memory.high", "memory.swap.max", "pids.max"] {
        if wanted(name) {
            limit(name);
        }
    }
    for name in ["memory.current", "memory.low", "memory.swap.current", "pids.current", "cpu.weight"] {
        if wanted(name) {
            number(folder.join(name));
        }
    }
    if wanted("cpu.max") {
        let value = line(folder.join("cpu.max"));
        let (quota, period) = value.split_once(' ').unwrap();
        check!(quota == "max" || quota.parse::<u64>().is_ok());
        check!(period.parse::<u64>().unwrap() > 0);
    }
    for name in ["cpu.stat", "memory.stat", "memory.events"].into_iter().filter(|name| wanted(name)) {
        for pair in text(folder.join(name)).lines() {
            check!(pair.split_once(' ').unwrap().1.parse::<u64>().is_ok());
        }
    }
    if is_unikernel() {
        check_eq!(controllers, "cpuset cpu memory pids");
        check_eq!(
            list(&line(folder.join("cpuset.cpus.effective"))),
            list(&line("/sys/devices/system/cpu/online"))
        );
        let (before, page) = (number(folder.join("memory.current")), 4096);
        let memory = std::hint::black_box(vec![1_u8; 64 * page]);
        check!(number(folder.join("memory.current")) >= before + 60 * page as u64);
        drop(memory);
        check_eq!(
            number(folder.join("pids.current")),
            fs::read_dir("/proc/self/task").unwrap().count() as u64
        );
        check_eq!(text(folder.join("cgroup.procs")), format!("{}\n", std::process::id()));
        check!(fs::write(folder.join("memory.max"), "1").is_err());
        check_eq!(text("/proc/cgroups").lines().count(), 6);
    }
}

fn settings() {
    for name in [
        "kernel/pid_max",
        "kernel/threads-max",
        "kernel/ngroups_max",
        "kernel/cap_last_cap",
        "vm/overcommit_memory",
        "vm/max_map_count",
        "net/core/somaxconn",
        "fs/nr_open",
        "fs/file-max",
        "fs/pipe-max-size",
    ] {
        number(Path::new("/proc/sys").join(name));
    }
    let uname = rustix::system::uname();
    check_eq!(line("/proc/sys/kernel/osrelease"), uname.release().to_str().unwrap());
    check_eq!(line("/proc/sys/kernel/hostname"), uname.nodename().to_str().unwrap());
    check_eq!(line("/proc/sys/kernel/version"), uname.version().to_str().unwrap());
    check!(
        line("/proc/version").starts_with(&format!("Linux version {} ", uname.release().to_str().unwrap()))
    );
    let is_uuid = |text: &str| text.len() == 36 && text.split('-').map(str::len).eq([8, 4, 4, 4, 12]);
    let boot_id = line("/proc/sys/kernel/random/boot_id");
    check!(is_uuid(&boot_id) && boot_id == line("/proc/sys/kernel/random/boot_id"));
    let uuid = line("/proc/sys/kernel/random/uuid");
    check!(is_uuid(&uuid) && uuid != line("/proc/sys/kernel/random/uuid"));
    if is_unikernel() || Path::new("/sys/kernel/mm/transparent_hugepage").exists() {
        check_eq!(number("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size"), 2 << 20);
        let enabled = line("/sys/kernel/mm/transparent_hugepage/enabled");
        check_eq!(enabled.replace(['[', ']'], ""), "always madvise never");
        check!(
            ["[always]", "[madvise]", "[never]"].iter().filter(|choice| enabled.contains(**choice)).count()
                == 1
        );
    }
    let load = line("/proc/loadavg");
    let fields: Vec<&str> = load.split(' ').collect();
    check!(fields.len() == 5 && fields[..3].iter().all(|load| load.parse::<f32>().is_ok()));
    check!(text("/proc/meminfo").lines().all(|line| line.contains(':')));
    check!(text("/proc/swaps").starts_with("Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"));
    check!(text("/proc/filesystems").lines().any(|line| line == "nodev\tproc"));
    for kind in ["proc", "sysfs", "tmpfs"] {
        check!(text("/proc/mounts").lines().any(|line| line.split(' ').nth(2) == Some(kind)));
    }
    for line in ["Max open files", "Max stack size", "Max processes"] {
        check!(text("/proc/self/limits").contains(line));
    }
}

/// What is kept open shows what is true now, as often as it is read from its start.
fn fresh() {
    let uptime = File::open("/proc/uptime").unwrap();
    let read = |file: &File| {
        let mut bytes = [0; 64];
        let count = file.read_at(&mut bytes, 0).unwrap();
        let text = String::from_utf8(bytes[..count].to_vec()).unwrap();
        text.split(' ').next().unwrap().parse::<f64>().unwrap()
    };
    let before = read(&uptime);
    thread::sleep(std::time::Duration::from_millis(50));
    check!(read(&uptime) > before);
}

/// The name in `comm` is that of prctl(2), and can be written.
fn names() {
    let mut comm = File::options().read(true).write(true).open("/proc/self/comm").unwrap();
    comm.write_all(b"a name of more than fifteen bytes").unwrap();
    check_eq!(text("/proc/self/comm"), "a name of more \n");
    check_eq!(rustix::thread::name().unwrap().to_str().unwrap(), "a name of more ");
    check!(text("/proc/self/status").starts_with("Name:\ta name of more \n"));
    check!(text("/proc/self/stat").contains(" (a name of more ) "));
    fs::write("/proc/self/comm", "short").unwrap();
    check_eq!(text("/proc/self/comm"), "short\n");
    let (ready, is_ready) = mpsc::channel();
    let (sender, receiver) = mpsc::channel::<()>();
    let other = thread::Builder::new().name("worker".into()).spawn(move || {
        check_eq!(fs::read_to_string("/proc/thread-self/comm").unwrap(), "worker\n");
        let own = fs::read_link("/proc/thread-self").unwrap();
        check!(own.ends_with(format!("task/{}", gettid())));
        ready.send(gettid()).unwrap();
        let _ = receiver.recv();
        rustix::thread::name().unwrap().into_string().unwrap()
    });
    let (other, id) = (other.unwrap(), is_ready.recv().unwrap());
    let folder = format!("/proc/self/task/{id}");
    check!(Path::new(&folder).is_dir());
    check_eq!(text(format!("{folder}/comm")), "worker\n");
    let status = text(format!("{folder}/status"));
    check!(status.starts_with("Name:\tworker\n"));
    check!(status.contains(&format!("\nPid:\t{id}\n")) && status.contains("\nTgid:\t"));
    let stat = line(format!("{folder}/stat"));
    check!(stat.starts_with(&format!("{id} (worker) ")));
    check_eq!(stat.rsplit_once(") ").unwrap().1.split(' ').count(), 50);
    fs::write(format!("{folder}/comm"), "renamed").unwrap();
    let kept = File::open(format!("{folder}/comm")).unwrap();
    let directory =
        rustix::fs::open("/proc/self/task", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty()).unwrap();
    let through = rustix::fs::openat(
        &directory,
        format!("{id}/comm"),
        rustix::fs::OFlags::RDONLY,
        rustix::fs::Mode::empty(),
    );
    drop(through.unwrap());
    drop(sender);
    check_eq!(other.join().unwrap(), "renamed");
    // The thread may be there for a moment still.
    for _ in 0..200 {
        if !Path::new(&folder).exists() {
            break;
        }
        thread::sleep(std::time::Duration::from_millis(10));
    }
    check!(!Path::new(&folder).exists());
    let gone = kept.read_at(&mut [0; 8], 0).unwrap_err();
    check_eq!(gone.raw_os_error(), Some(libc::ESRCH));
    check!(fs::metadata("/proc/self/task/1234567").is_err());
    check!(!text("/proc/thread-self/status").is_empty());
    let score = "/proc/self/oom_score_adj";
    fs::write(score, "500\n").unwrap();
    check_eq!(text(score), "500\n");
    for wrong in ["1001", "-1001", "many", "12x"] {
        check_eq!(fs::write(score, wrong).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    }
    check_eq!(text(score), "500\n");
}

fn main() {
    processors();
    control_group();
    settings();
    fresh();
    names();
}
