//! A program that puts itself in its own place by execve(2), again and again, and looks what of its state is left and what is gone:
//! `exec_tests.rs` compiles it with rustc alone, runs it on Linux, and boots it by `init=`. What it makes is in its current directory.

use std::ffi::{CStr, CString, c_char, c_int, c_long, c_uint, c_ulong, c_void};
use std::fs;
use std::os::fd::{AsRawFd, IntoRawFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

const AT_EXECFN: c_ulong = 31;
const AT_EMPTY_PATH: c_int = 0x1000;
const SYS_EXECVEAT: c_long = 322;
const SYS_GETTID: c_long = 186;
const SYS_TIMER_CREATE: c_long = 222;
const SYS_TIMER_GETTIME: c_long = 224;
const SIGUSR1: c_int = 10;
const SIGUSR2: c_int = 12;
const SIGTERM: c_int = 15;
const SIG_DFL: usize = 0;
const SIG_IGN: usize = 1;
const SIG_BLOCK: c_int = 0;
const O_CLOEXEC: c_int = 0o2_000_000;
const F_GETFD: c_int = 1;
const F_SETFD: c_int = 2;
const PR_SET_NAME: c_int = 15;
const ENOENT: i32 = 2;
const E2BIG: i32 = 7;
const ENOEXEC: i32 = 8;
const ENOMEM: i32 = 12;
const EACCES: i32 = 13;
const EFAULT: i32 = 14;
const ENOTDIR: i32 = 20;
const ELOOP: i32 = 40;
const ELIBBAD: i32 = 80;
const PT_LOAD: u8 = 1;
const PT_INTERP: u8 = 3;
/// How often it replaces itself in the end.
const ROUNDS: u32 = 40;

/// The C library's `sigset_t`.
type Set = [u64; 16];

unsafe extern "C" {
    fn execve(path: *const c_char, arguments: *const *const c_char, environment: *const *const c_char) -> c_int;
    fn syscall(number: c_long, ...) -> c_long;
    fn signal(signal: c_int, handler: usize) -> usize;
    fn kill(process: c_int, signal: c_int) -> c_int;
    fn alarm(seconds: c_uint) -> c_uint;
    fn umask(mask: c_uint) -> c_uint;
    fn dup3(from: c_int, to: c_int, flags: c_int) -> c_int;
    fn fcntl(descriptor: c_int, command: c_int, ...) -> c_int;
    fn sigemptyset(set: *mut Set) -> c_int;
    fn sigaddset(set: *mut Set, signal: c_int) -> c_int;
    fn sigismember(set: *const Set, signal: c_int) -> c_int;
    fn sigpending(set: *mut Set) -> c_int;
    fn pthread_sigmask(how: c_int, set: *const Set, old: *mut Set) -> c_int;
    fn getauxval(name: c_ulong) -> c_ulong;
    fn getpid() -> c_int;
    fn prctl(option: c_int, ...) -> c_int;
}

extern "C" fn handler(_: c_int) {}

fn last_error() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap()
}

/// Comes back with an error, or never.
fn exec(path: &str, arguments: &[&str], environment: &[&str]) -> i32 {
    let list = |words: &[&str]| words.iter().map(|word| CString::new(*word).unwrap()).collect::<Vec<_>>();
    let (arguments, environment) = (list(arguments), list(environment));
    let pointers = |words: &[CString]| {
        words.iter().map(|word| word.as_ptr()).chain([std::ptr::null()]).collect::<Vec<_>>()
    };
    let path = CString::new(path).unwrap();
    // SAFETY: a path and two lists that end with null, all alive.
    unsafe { execve(path.as_ptr(), pointers(&arguments).as_ptr(), pointers(&environment).as_ptr()) };
    last_error()
}

fn script(path: &str, text: impl AsRef<[u8]>) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// What cannot be executed, and leaves everything as it was.
fn check_failures(own: &str) {
    let fails = |path: &str| exec(path, &["x"], &[]);
    assert_eq!(fails("nothing"), ENOENT);
    assert_eq!(fails(""), ENOENT);
    assert_eq!(fails(&format!("{own}/x")), ENOTDIR);
    assert_eq!(fails("."), EACCES);
    fs::write("plain", "text").unwrap();
    assert_eq!(fails("plain"), EACCES);
    let image = fs::read(own).unwrap();
    let with = |at: usize, bytes: &[u8]| [&image[..at], bytes, &image[at + bytes.len()..]].concat();
    // What Linux answers in some of its versions comes last.
    let bad: [(&[u8], i32, i32); 12] = [
        (b"text", ENOEXEC, 0),
        (b"", ENOEXEC, 0),
        (&image[..60], ENOEXEC, 0),
        (&image[..100], ENOEXEC, 5),
        (&with(18, &[183, 0]), ENOEXEC, 0),
        (&with(56, &[255, 255]), ENOEXEC, 0),
        (&with(32, &[255; 8]), ENOEXEC, 22),
        (b"#!", ENOEXEC, EACCES),
        (b"#!  \n", ENOEXEC, 0),
        (b"#!./nothing\n", ENOENT, 0),
        (b"#!./plain\n", EACCES, 0),
        (b"#!./bad\n", ELOOP, 0),
    ];
    for (number, (content, expected, of_linux)) in bad.into_iter().enumerate() {
        script("bad", content);
        let error = fails("./bad");
        assert!(error == expected || error == of_linux, "file {number}: {error}");
    }
    let long = "x".repeat(140_000);
    assert_eq!(exec(own, &[&long], &[]), E2BIG);
    assert_eq!(exec(own, &["x"], &vec![&long[..100_000]; 100]), E2BIG);
    let file = CString::new(own).unwrap();
    let nowhere = 8 as *const c_char;
    // SAFETY: bad addresses, which the kernel checks.
    unsafe {
        assert_eq!((execve(nowhere, std::ptr::null(), std::ptr::null()), last_error()), (-1, EFAULT));
        assert_eq!((execve(file.as_ptr(), nowhere.cast(), std::ptr::null()), last_error()), (-1, EFAULT));
        let list = [nowhere, std::ptr::null()];
        assert_eq!((execve(file.as_ptr(), list.as_ptr(), std::ptr::null()), last_error()), (-1, EFAULT));
    }
}

/// Programs that no machine has the memory for, and interpreters that are none: as our kernel answers.
fn check_attacks(own: &str) {
    let mut image = fs::read(own).unwrap();
    let word = |image: &[u8], at: usize| u64::from_le_bytes(image[at..at + 8].try_into().unwrap());
    let table = word(&image, 32) as usize;
    let headers = (0..usize::from(image[56])).map(|index| table + index * 56);
    let find = |kind: u8| headers.clone().filter(|&at| image[at] == kind).collect::<Vec<_>>();
    let (first, last) = (find(PT_LOAD)[0], *find(PT_LOAD).last().unwrap());
    let put = |at: usize, value: u64| vec![(at, value.to_le_bytes().to_vec())];
    let mut attacks = vec![
        (put(last + 40, 64 << 30), ENOMEM),
        (put(last + 40, 1 << 46), ENOMEM),
        (put(last + 40, u64::MAX), ENOEXEC),
        (put(last + 16, u64::MAX - 0xfff), ENOEXEC),
        (put(first + 16, 0xffff_ffff_8000_0000), ENOEXEC),
        (put(first + 8, u64::MAX), ENOEXEC),
        (put(first + 32, u64::MAX), ENOEXEC),
    ];
    if let Some(&interpreter) = find(PT_INTERP).first() {
        attacks.push((put(interpreter + 8, u64::MAX - 7), ENOEXEC));
        attacks.push((put(interpreter + 32, 1), ENOEXEC));
        let name = word(&image, interpreter + 8) as usize;
        let changes = [(name, b"./bad\0".to_vec()), (interpreter + 32, vec![6, 0, 0, 0, 0, 0, 0, 0])];
        attacks.push((changes.to_vec(), ELIBBAD));
    }
    script("bad", "no program");
    for (number, (changes, expected)) in attacks.into_iter().enumerate() {
        let mut swap = |changes: &[(usize, Vec<u8>)]| {
            let change = |(at, bytes): &(usize, Vec<u8>)| {
                let before = image[*at..at + bytes.len()].to_vec();
                image[*at..at + bytes.len()].copy_from_slice(bytes);
                (*at, before)
            };
            changes.iter().map(change).collect::<Vec<_>>()
        };
        let before = swap(&changes);
        script("attack", &image);
        assert_eq!(exec("./attack", &["x"], &[]), expected, "attack {number}");
        let mut swap = |(at, bytes): &(usize, Vec<u8>)| image[*at..at + bytes.len()].copy_from_slice(bytes);
        before.iter().for_each(&mut swap);
    }
}

/// Leaves traces of all kinds, and goes on from another thread than the first, while others are busy.
fn first(own: &str) -> ! {
    check_failures(own);
    let mut set: Set = [0; 16];
    // SAFETY: sets and numbers of this function's.
    unsafe {
        signal(SIGUSR1, handler as *const () as usize);
        signal(SIGUSR2, SIG_IGN);
        sigemptyset(&raw mut set);
        sigaddset(&raw mut set, SIGTERM);
        pthread_sigmask(SIG_BLOCK, &raw const set, std::ptr::null_mut());
        kill(getpid(), SIGTERM);
        alarm(1000);
        umask(0o027);
        let mut timer: c_int = -1;
        assert_eq!(syscall(SYS_TIMER_CREATE, 1, std::ptr::null::<c_void>(), &raw mut timer), 0);
        assert_eq!(timer, 0);
        prctl(PR_SET_NAME, c"another".as_ptr());
    }
    fs::write("kept", "kept").unwrap();
    let file = fs::File::open("kept").unwrap();
    // SAFETY: descriptors of this function's.
    unsafe {
        assert_eq!(dup3(file.as_raw_fd(), 20, 0), 20);
        assert_eq!(dup3(file.as_raw_fd(), 21, O_CLOEXEC), 21);
    }
    let (reader, writer) = std::io::pipe().unwrap();
    let barrier: &Barrier = Box::leak(Box::new(Barrier::new(4)));
    thread::spawn(move || {
        barrier.wait();
        let _ = std::io::Read::read(&mut { reader }, &mut [0]);
    });
    thread::spawn(move || {
        barrier.wait();
        loop {
            std::hint::spin_loop();
        }
    });
    thread::spawn(move || {
        barrier.wait();
        thread::sleep(Duration::from_secs(1000));
    });
    let own = own.to_owned();
    let successor = thread::spawn(move || {
        barrier.wait();
        thread::sleep(Duration::from_millis(20));
        let error = exec(&own, &["by another name", "second", "two words", ""], &["A=1", "B=two words"]);
        panic!("execve: {error}");
    });
    let _ = successor.join();
    drop(writer);
    panic!("the thread that replaces the program is gone");
}

fn task_count() -> usize {
    fs::read_dir("/proc/self/task").unwrap().count()
}

fn comm() -> String {
    fs::read_to_string("/proc/self/comm").unwrap().trim().to_owned()
}

/// `AT_EXECFN`.
fn file_told() -> String {
    // SAFETY: a string that the kernel has put on the stack.
    unsafe { CStr::from_ptr(getauxval(AT_EXECFN) as *const c_char) }.to_str().unwrap().to_owned()
}

fn second(own: &str) -> ! {
    let arguments: Vec<String> = std::env::args().collect();
    assert_eq!(arguments, ["by another name", "second", "two words", ""]);
    let variables: Vec<String> = std::env::vars().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(variables, ["A=1", "B=two words"]);
    assert_eq!(fs::read("/proc/self/cmdline").unwrap(), b"by another name\0second\0two words\0\0");
    assert_eq!(fs::read("/proc/self/environ").unwrap(), b"A=1\0B=two words\0");
    assert_eq!(task_count(), 1);
    assert_eq!(comm(), Path::new(own).file_name().unwrap().to_str().unwrap());
    assert_eq!(file_told(), own);
    let (mut set, mut pending, mut setting): (Set, Set, Set) = ([0; 16], [0; 16], [0; 16]);
    // SAFETY: sets and numbers of this function's.
    unsafe {
        assert_eq!(syscall(SYS_GETTID), c_long::from(getpid()));
        assert_eq!(signal(SIGUSR1, SIG_DFL), SIG_DFL, "handlers are gone");
        assert_eq!(signal(SIGUSR2, SIG_DFL), SIG_IGN, "what was ignored still is");
        pthread_sigmask(SIG_BLOCK, std::ptr::null(), &raw mut set);
        sigpending(&raw mut pending);
        assert_eq!((sigismember(&raw const set, SIGTERM), sigismember(&raw const pending, SIGTERM)), (1, 1));
        let left = alarm(0);
        assert!((900..=1000).contains(&left), "{left} s of the alarm are left");
        assert_eq!(umask(0o022), 0o027);
        assert_eq!(syscall(SYS_TIMER_GETTIME, 0, &raw mut setting), -1, "timers are gone");
        assert!(fcntl(20, F_GETFD) == 0 && fcntl(21, F_GETFD) == -1, "descriptors");
    }
    assert_eq!(fs::read_to_string("kept").unwrap(), "kept", "the current directory");
    thread::spawn(|| assert_eq!(task_count(), 2)).join().unwrap();
    // By a descriptor.
    let descriptor = fs::File::open(own).unwrap().into_raw_fd();
    let arguments = [c"x".as_ptr(), c"third".as_ptr(), std::ptr::null()];
    // SAFETY: lists that end with null.
    unsafe {
        fcntl(descriptor, F_SETFD, 0);
        syscall(SYS_EXECVEAT, descriptor, c"".as_ptr(), arguments.as_ptr(), &arguments[2], AT_EMPTY_PATH);
    }
    panic!("execveat: {}", last_error());
}

fn third(own: &str) -> ! {
    assert!(file_told().starts_with("/dev/fd/"));
    assert_eq!(std::env::vars().count(), 0);
    script("outer.sh", "#! ./inner.sh  an argument \n");
    script("inner.sh", format!("#!{own} fourth"));
    panic!("execve: {}", exec("./outer.sh", &["dropped", "kept"], &["C=3"]));
}

fn fourth(own: &str) -> ! {
    let arguments: Vec<String> = std::env::args().collect();
    assert_eq!(arguments, [own, "fourth", "./inner.sh", "an argument", "./outer.sh", "kept"]);
    assert_eq!((comm().as_str(), file_told().as_str()), ("outer.sh", "./outer.sh"));
    // Of two at once, one is the next program.
    let barrier: &Barrier = Box::leak(Box::new(Barrier::new(3)));
    for _ in 0..2 {
        let own = own.to_owned();
        thread::spawn(move || {
            barrier.wait();
            let error = exec(&own, &["x", "rounds", "0"], &[]);
            panic!("execve: {error}");
        });
    }
    barrier.wait();
    thread::sleep(Duration::from_secs(1000));
    panic!("nobody has replaced the program");
}

/// Nothing is left behind that would fill the memory: each has much of its own, and threads.
fn rounds(own: &str, round: u32) {
    let filled = vec![round as u8 | 1; 2 << 20];
    assert!(filled.iter().all(|&byte| byte == round as u8 | 1));
    if round == ROUNDS {
        println!("replaced {ROUNDS} times");
        return;
    }
    for _ in 0..3 {
        thread::spawn(|| thread::sleep(Duration::from_secs(1000)));
    }
    let round = (round + 1).to_string();
    panic!("execve: {}", exec(own, &["x", "rounds", &round], &[]));
}

fn main() {
    let own = std::env::current_exe().unwrap().to_str().unwrap().to_owned();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments[0].as_str() {
        "first" => first(&own),
        "second" => second(&own),
        "third" => third(&own),
        "fourth" => fourth(&own),
        "rounds" => rounds(&own, arguments[1].parse().unwrap()),
        "attacks" => check_attacks(&own),
        other => panic!("{other}"),
    }
}
