//! Programs that take the place of the running one: what they find. Their code is closures; what is in their files is mapped, and read.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use linux_raw_sys::auxvec::*;
use linux_raw_sys::errno::*;
use linux_raw_sys::general::*;
use unikernel_hal::sim::app;
use unikernel_hal::sim::disk::{Disk, Faults};

use super::super::app::calls::{Room, sys};
use super::super::app::run::{run, run_on, run_on_each_filesystem};
use super::super::app::{Machine, get, spawn};
use super::super::files::read_file;
use super::elf::Elf;

const FIXED: u64 = 0x4000_0000;

/// A list of pointers to strings.
fn list(strings: &[&str]) -> Room {
    let pointers: Vec<u64> =
        strings.iter().map(|string| super::super::app::text(string)).chain([0]).collect();
    Room::of_longs(&pointers)
}

fn write_program(path: &str, bytes: &[u8]) {
    let file = sys!(open, path, O_WRONLY | O_CREAT | O_TRUNC, 0o755).unwrap();
    assert_eq!(sys!(write, file, &Room::of(bytes), bytes.len()), Ok(bytes.len() as u64));
    sys!(close, file).unwrap();
}

/// Executes a file; it does not come back unless that fails.
fn execute(path: &str, arguments: &[&str], environment: &[&str]) -> u32 {
    sys!(execve, path, &list(arguments), &list(environment)).unwrap_err()
}

/// Executes a file, in which `program` runs.
#[track_caller]
fn enter(path: &str, arguments: &[&str], environment: &[&str], program: impl FnOnce() + 'static) -> ! {
    app::set_program(|| {
        program();
        0
    });
    panic!("not executed: error {}", execute(path, arguments, environment));
}

fn long(address: u64) -> u64 {
    u64::from_le_bytes(get(address, 8).try_into().unwrap())
}

fn string(address: u64) -> String {
    let bytes = (0..).map(|at| get(address + at, 1)[0]).take_while(|byte| *byte != 0);
    String::from_utf8(bytes.collect()).unwrap()
}

/// What the first stack holds.
struct Start {
    arguments: Vec<String>,
    environment: Vec<String>,
    vector: BTreeMap<u32, u64>,
}

fn start() -> Start {
    let mut at = app::stack_pointer();
    assert!(at.is_multiple_of(16), "the ABI's alignment");
    let mut next = || {
        at += 8;
        long(at - 8)
    };
    let count = next();
    let arguments = (0..count).map(|_| string(next())).collect();
    assert_eq!(next(), 0);
    let mut environment = Vec::new();
    loop {
        match next() {
            0 => break,
            pointer => environment.push(string(pointer)),
        }
    }
    let mut vector = BTreeMap::new();
    loop {
        match (next() as u32, next()) {
            (0, _) => break,
            (key, value) => assert_eq!(vector.insert(key, value), None),
        }
    }
    Start { arguments, environment, vector }
}

#[test]
fn program_finds_words_and_vector_on_its_stack() {
    run_on_each_filesystem(|| {
        let elf = Elf::fixed(FIXED);
        write_program("/tmp/program", &elf.bytes());
        enter("/tmp/program", &["name", "", "two words"], &["A=1", "B="], move || {
            let Start { arguments, environment, vector } = start();
            assert_eq!(arguments, ["name", "", "two words"]);
            assert_eq!(environment, ["A=1", "B="]);
            assert_eq!(app::entered_at(), elf.entry());
            assert_eq!((vector[&AT_ENTRY], vector[&AT_BASE], vector[&AT_PAGESZ]), (elf.entry(), 0, 4096));
            assert_eq!((vector[&AT_PHDR], vector[&AT_PHENT]), (FIXED + 64, 56));
            assert_eq!(
                u64::from(u16::from_le_bytes(get(FIXED + 56, 2).try_into().unwrap())),
                vector[&AT_PHNUM]
            );
            assert_eq!(string(vector[&AT_EXECFN]), "/tmp/program");
            assert_eq!(string(vector[&AT_PLATFORM]), "x86_64");
            assert_ne!(get(vector[&AT_RANDOM], 16), [0; 16]);
            assert_eq!((vector[&AT_UID], vector[&AT_SECURE]), (0, 0));
            assert_eq!(read_file("/proc/self/cmdline"), b"name\0\0two words\0");
            assert_eq!(read_file("/proc/self/environ"), b"A=1\0B=\0");
            assert_eq!(read_file("/proc/self/comm"), b"program\n");
            let room = Room::new(64);
            let len = sys!(readlink, "/proc/self/exe", &room, 64).unwrap() as usize;
            assert_eq!(room.bytes(0, len), b"/tmp/program");
        });
    });
}

#[test]
fn segments_are_mapped_as_the_file_says() {
    run_on_each_filesystem(|| {
        let elf = Elf::fixed(FIXED);
        write_program("/tmp/program", &elf.bytes());
        enter("/tmp/program", &["p"], &[], move || {
            assert_eq!(get(elf.text(), 16), elf.text_bytes(16));
            let data = elf.data();
            assert_eq!(get(data, 300), elf.data_bytes(300));
            // What the file does not have is zeros, in its page and behind.
            assert_eq!(get(data + elf.data_len(), 5000), alloc::vec![0; 5000]);
            app::write(data, b"changed");
            assert_eq!(get(data, 7), b"changed");
            let file = read_file("/tmp/program");
            assert!(file == elf.bytes(), "the file is as it was");
            let maps = String::from_utf8(read_file("/proc/self/maps")).unwrap();
            let is_shown = |wanted: &str| {
                maps.lines().any(|line| line.starts_with(wanted) && line.ends_with("/tmp/program"))
            };
            assert!(is_shown(&std::format!("{FIXED:08x}-")), "{maps}");
            assert!(maps.contains("r-xp") && maps.contains("rw-p") && !maps.contains("rwxp"), "{maps}");
            // The break begins behind.
            let brk = sys!(brk, 0).unwrap();
            assert!(brk >= data + elf.data_len() + 5000, "{brk:#x}");
            assert_eq!(sys!(brk, brk + 4096), Ok(brk + 4096));
        });
    });
}

#[test]
fn relocatable_program_goes_anywhere() {
    run(|| {
        let elf = Elf::relocatable();
        write_program("/tmp/program", &elf.bytes());
        enter("/tmp/program", &["p"], &[], move || {
            let bias = app::entered_at() - elf.entry();
            assert!(bias > 0 && bias.is_multiple_of(4096));
            assert_eq!(get(elf.data() + bias, 300), elf.data_bytes(300));
            assert_eq!(start().vector[&AT_PHDR], bias + 64);
        });
    });
}

#[test]
fn interpreter_is_entered_in_place_of_the_program() {
    run(|| {
        let linker = Elf::relocatable();
        let elf = Elf { interpreter: Some("/tmp/linker"), ..Elf::fixed(FIXED) };
        write_program("/tmp/linker", &linker.bytes());
        write_program("/tmp/program", &elf.bytes());
        enter("/tmp/program", &["p"], &[], move || {
            let vector = start().vector;
            let base = vector[&AT_BASE];
            assert!(base != 0 && base.is_multiple_of(4096));
            assert_eq!(app::entered_at(), base + linker.entry());
            assert_eq!((vector[&AT_ENTRY], vector[&AT_PHDR]), (elf.entry(), FIXED + 64));
            assert_eq!(get(elf.data(), 100), elf.data_bytes(100));
            assert_eq!(get(base + linker.data(), 100), linker.data_bytes(100));
        });
    });
}

#[test]
fn interpreter_must_be_one() {
    run(|| {
        let elf = Elf { interpreter: Some("/tmp/linker"), ..Elf::fixed(FIXED) };
        write_program("/tmp/program", &elf.bytes());
        assert_eq!(execute("/tmp/program", &["p"], &[]), ENOENT);
        write_program("/tmp/linker", b"no program");
        assert_eq!(execute("/tmp/program", &["p"], &[]), ELIBBAD);
        sys!(chmod, "/tmp/linker", 0o644).unwrap();
        assert_eq!(execute("/tmp/program", &["p"], &[]), EACCES);
        // Both at one place.
        write_program("/tmp/linker", &Elf::fixed(FIXED).bytes());
        sys!(chmod, "/tmp/linker", 0o755).unwrap();
        assert_eq!(execute("/tmp/program", &["p"], &[]), ENOMEM);
        // Where the kernel's half is nearly reached, and more than there is memory.
        write_program("/tmp/high", &Elf::fixed(0x7fff_0000_0000).bytes());
        assert_eq!(execute("/tmp/high", &["p"], &[]), ENOMEM);
        write_program("/tmp/large", &Elf { zero_bytes: 1 << 32, ..Elf::fixed(FIXED) }.bytes());
        assert_eq!(execute("/tmp/large", &["p"], &[]), ENOMEM);
        // The running program itself.
        assert_eq!(execute("/proc/self/exe", &["p"], &[]), ETXTBSY);
    });
}

#[test]
fn script_is_read_by_its_interpreter() {
    run(|| {
        write_program("/tmp/reader", &Elf::fixed(FIXED).bytes());
        write_program("/tmp/script", b"#! /tmp/reader  -x and more \nthe rest is the reader's");
        write_program("/tmp/outer", b"#!/tmp/script\n");
        enter("/tmp/outer", &["gone", "one"], &[], || {
            let Start { arguments, vector, .. } = start();
            assert_eq!(arguments, ["/tmp/reader", "-x and more", "/tmp/script", "/tmp/outer", "one"]);
            assert_eq!(string(vector[&AT_EXECFN]), "/tmp/outer");
            assert_eq!(read_file("/proc/self/comm"), b"outer\n");
        });
    });
}

#[test]
fn descriptors_and_signals_go_on_as_posix_has_it() {
    run(|| {
        write_program("/tmp/program", &Elf::fixed(FIXED).bytes());
        let kept = sys!(open, "/dev/null", O_RDONLY, 0).unwrap();
        let closed = sys!(open, "/dev/null", O_RDONLY | O_CLOEXEC, 0).unwrap();
        let old_memory = Room::of(b"old").0;
        let action = |handler: u64| Room::of_longs(&[handler, 0x0400_0000, app::RESTORER, 0]);
        sys!(rt_sigaction, SIGUSR1, &action(app::handler(|_| {})), 0, 8).unwrap();
        sys!(rt_sigaction, SIGUSR2, &action(1), 0, 8).unwrap();
        let mask = Room::of_longs(&[1 << (SIGHUP - 1)]);
        sys!(rt_sigprocmask, SIG_BLOCK, &mask, 0, 8).unwrap();
        sys!(kill, 1, SIGHUP).unwrap();
        sys!(umask, 0o27).unwrap();
        sys!(chdir, "/var").unwrap();
        enter("/tmp/program", &["p"], &[], move || {
            let room = Room::new(64);
            assert_eq!(sys!(fcntl, kept, F_GETFD, 0), Ok(0));
            assert_eq!(sys!(fcntl, closed, F_GETFD, 0), Err(EBADF));
            assert_eq!(sys!(write, kept, old_memory, 3).and(sys!(write, 1, old_memory, 3)), Err(EBADF));
            assert_eq!(sys!(write, 1, old_memory, 3), Err(EFAULT));
            sys!(rt_sigaction, SIGUSR1, 0, &room, 8).unwrap();
            assert_eq!(room.long(0), 0, "a handler is the default again");
            sys!(rt_sigaction, SIGUSR2, 0, &room, 8).unwrap();
            assert_eq!(room.long(0), 1, "what was ignored still is");
            sys!(rt_sigprocmask, SIG_BLOCK, 0, &room, 8).unwrap();
            assert_eq!(room.long(0), 1 << (SIGHUP - 1));
            sys!(rt_sigpending, &room, 8).unwrap();
            assert_eq!(room.long(0), 1 << (SIGHUP - 1));
            assert_eq!((sys!(umask, 0), sys!(getcwd, &room, 64)), (Ok(0o27), Ok(5)));
            assert_eq!((sys!(getpid), sys!(gettid)), (Ok(1), Ok(1)));
        });
    });
}

#[test]
fn other_threads_end() {
    for seed in 0..6 {
        run_on(Machine { seed, cores: 2, ..Machine::default() }, || {
            write_program("/tmp/program", &Elf::fixed(FIXED).bytes());
            let sleeper = || {
                let _ = sys!(pause);
                panic!("it goes on");
            };
            let worker = || loop {
                app::compute_ns(1000);
            };
            spawn(sleeper).unwrap();
            spawn(worker).unwrap();
            // It is another one that calls, and becomes the first.
            app::set_program(|| {
                assert_eq!((sys!(gettid), sys!(getpid)), (Ok(1), Ok(1)));
                let status = String::from_utf8(read_file("/proc/self/status")).unwrap();
                assert!(status.contains("Threads:\t1\n"), "{status}");
                0
            });
            spawn(|| panic!("error {}", execute("/tmp/program", &["p"], &[]))).unwrap();
            let _ = sys!(pause);
        });
    }
}

#[test]
fn words_have_a_limit() {
    run(|| {
        write_program("/tmp/program", &Elf::fixed(FIXED).bytes());
        let longest = "x".repeat(32 * 4096 - 1);
        assert_eq!(execute("/tmp/program", &[&*longest, &*(longest.clone() + "y")], &[]), E2BIG);
        let many: Vec<&str> = core::iter::repeat_n(&*longest, 17).collect();
        assert_eq!(execute("/tmp/program", &["p"], &many), E2BIG);
        enter("/tmp/program", &[&*longest], &many[..8], || {
            let Start { arguments, environment, .. } = start();
            assert_eq!((arguments[0].len(), environment.len()), (32 * 4096 - 1, 8));
        });
    });
}

#[test]
fn descriptor_is_executed() {
    run(|| {
        write_program("/tmp/program", &Elf::fixed(FIXED).bytes());
        write_program("/tmp/script", b"#!/tmp/program\n");
        let nothing = list(&[]);
        let hidden = sys!(open, "/tmp/script", O_RDONLY | O_CLOEXEC, 0).unwrap();
        // What reads the script would find the descriptor closed.
        assert_eq!(sys!(execveat, hidden, "", &nothing, &nothing, AT_EMPTY_PATH), Err(ENOENT));
        assert_eq!(sys!(execveat, AT_FDCWD, "", &nothing, &nothing, AT_EMPTY_PATH), Err(EACCES));
        let path_only = sys!(open, "/tmp/program", O_PATH, 0).unwrap();
        app::set_program(move || {
            let Start { arguments, vector, .. } = start();
            // Programs count on a first argument.
            assert_eq!(arguments, [""]);
            assert_eq!(string(vector[&AT_EXECFN]), std::format!("/dev/fd/{path_only}"));
            let folder = sys!(open, "/tmp", O_RDONLY | O_DIRECTORY, 0).unwrap();
            app::set_program(move || {
                assert_eq!(string(start().vector[&AT_EXECFN]), std::format!("/dev/fd/{folder}/program"));
                0
            });
            panic!("{:?}", sys!(execveat, folder, "program", &list(&["p"]), &list(&[]), 0));
        });
        panic!("{:?}", sys!(execveat, path_only, "", &nothing, &nothing, AT_EMPTY_PATH));
    });
}

#[test]
fn program_of_the_disk_is_the_first() {
    let disk = Disk::new(16 << 20);
    let machine =
        |rest: &str| Machine { command_line: std::format!("mount=/data:blk0 {rest}"), ..Machine::default() };
    let made = machine("format=blk0").run_with(
        || disk.plug_in(Faults::default()),
        || {
            write_program("/data/server", &Elf::fixed(FIXED).bytes());
            write_program("/data/script", b"#!/data/server -s\n");
            write_program("/data/broken", b"\x7fELF");
            0
        },
    );
    assert_eq!(made.code, Some(0), "{}", made.console);
    let boot = |rest: &str, wanted: &'static [&'static str]| {
        let app = move || {
            let words: Vec<String> = wanted.iter().map(ToString::to_string).collect();
            assert_eq!(start().arguments, words);
            assert!(start().environment.iter().any(|variable| variable == "HOME=/root"));
            5
        };
        machine(rest).run_with(|| disk.plug_in(Faults::default()), app)
    };
    let server = boot("init=/data/server -- one", &["/data/server", "one"]);
    assert_eq!(server.code, Some(5), "{}", server.console);
    let script = boot("init=/data/script -- one", &["/data/server", "-s", "/data/script", "one"]);
    assert_eq!(script.code, Some(5), "{}", script.console);
    let broken = boot("init=/data/broken", &[]);
    assert_eq!(broken.code, Some(125), "{}", broken.console);
    assert!(broken.console.contains("cannot start the app: `/data/broken`: "), "{}", broken.console);
}
