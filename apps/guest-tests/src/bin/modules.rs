//! Modules, as the runner has built them and put them into the initrd (`qemu/src/module_tests.rs`); the first argument says what is tested.
//!
//! - `hello`: a module from its file to its end: device, parameters, listings, refusals;
//! - `listed`: what `/etc/modules` and the command line have loaded, and that nothing else can be;
//! - `serve N`: an HTTP server on port 8080, which loads and unloads a module N times meanwhile;
//! - `count`: the same server, until somebody asks for `/end`, with the module that counts frames;
//! - `panics`: a module that does;
//! - `signed`: modules that are signed, or not as they should be, in a machine that uses only signed ones;
//! - `watchdog keep`, `watchdog let`: with the watchdog, which is kept alive, or not.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{env, process, thread};

use guest_tests::{check, check_eq, raw_syscall};

const HELLO: &str = "/lib/modules/hello.ko";

fn main() {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["hello"] => hello(),
        ["listed"] => listed(),
        ["serve", times] => serve(times.parse().unwrap()),
        ["count"] => count(),
        ["panics"] => panics(),
        ["signed"] => signed(),
        ["watchdog", how] => watchdog(how == "keep"),
        _ => process::exit(2),
    }
}

/// finit_module(2): 0, or a negative error number.
fn load(path: &str, parameters: &str) -> i64 {
    let file = File::open(path).unwrap();
    let parameters = format!("{parameters}\0");
    let arguments = [file.as_raw_fd() as u64, parameters.as_ptr() as u64, 0, 0, 0, 0];
    raw_syscall(libc::SYS_finit_module, arguments)
}

/// delete_module(2).
fn unload(name: &str) -> i64 {
    let name = format!("{name}\0");
    raw_syscall(libc::SYS_delete_module, [name.as_ptr() as u64, libc::O_NONBLOCK as u64, 0, 0, 0, 0])
}

fn text(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn refused(error: i32) -> i64 {
    -i64::from(error)
}

fn hello() {
    check_eq!(text("/proc/modules"), "");
    check_eq!(load(HELLO, "times=2 who=\"you all\" strange=1"), 0);
    check_eq!(text("/dev/hello"), "hello, you all\nhello, you all\n");
    check!(text("/proc/modules").starts_with("hello "));
    check!(text("/proc/modules").ends_with(" 0 - Live 0x0000000000000000\n"));
    let parameter = |name: &str| format!("/sys/module/hello/parameters/{name}");
    check_eq!(["who", "times", "ticks"].map(|name| text(&parameter(name))), ["you all\n", "2\n", "N\n"]);
    fs::write(parameter("times"), "1\n").unwrap();
    check_eq!(text("/dev/hello"), "hello, you all\n");
    let outcome = fs::write(parameter("times"), "101").map_err(|error| error.raw_os_error());
    check_eq!(outcome, Err(Some(libc::ERANGE)));
    let outcome = fs::write(parameter("ticks"), "1").map_err(|error| error.raw_os_error());
    check_eq!(outcome, Err(Some(libc::EACCES)));
    check_eq!(text("/sys/module/hello/version"), "0.1.0\n");

    // While it is open, it stays.
    let mut device = OpenOptions::new().read(true).write(true).open("/dev/hello").unwrap();
    check_eq!(unload("hello"), refused(libc::EBUSY));
    check_eq!(text("/sys/module/hello/refcnt"), "1\n");
    device.write_all(b"me").unwrap();
    let mut said = String::new();
    device.read_to_string(&mut said).unwrap();
    check_eq!(said, "hello, me\n");
    // SAFETY: no pointers.
    check_eq!(unsafe { libc::isatty(device.as_raw_fd()) }, 0);
    drop(device);
    check_eq!(load(HELLO, ""), refused(libc::EEXIST));
    check_eq!(unload("hello"), 0);
    check!(fs::metadata("/dev/hello").is_err() && fs::metadata("/sys/module/hello").is_err());
    check_eq!(unload("hello"), refused(libc::ENOENT));
    damaged();

    // Statics are new with each loading; work is done a second later, or taken back.
    check_eq!(load(HELLO, "ticks"), 0);
    check_eq!(text("/dev/hello"), "hello, world\n");
    thread::sleep(Duration::from_millis(1200));
    check_eq!(unload("hello"), 0);
    check_eq!((load(HELLO, "ticks=1"), unload("hello")), (0, 0));
    fs::write("/proc/sys/kernel/modules_disabled", "1").unwrap();
    check_eq!(load(HELLO, ""), refused(libc::EPERM));
}

/// Each file that is damaged has its error, and the machine goes on.
fn damaged() {
    let good = fs::read(HELLO).unwrap();
    let with = |bytes: &[u8]| {
        fs::write("/tmp/bad.ko", bytes).unwrap();
        load("/tmp/bad.ko", "")
    };
    let replaced = |from: &str, to: &str| {
        check_eq!(from.len(), to.len());
        let mut bytes = good.clone();
        let mut found = 0;
        for at in 0..bytes.len() - from.len() {
            if bytes[at..].starts_with(from.as_bytes()) {
                bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
                found += 1;
            }
        }
        check!(found > 0);
        bytes
    };
    check_eq!(with(b"#!/bin/sh"), refused(libc::ENOEXEC));
    check_eq!(with(&good[..good.len() / 2]), refused(libc::ENOEXEC));
    check_eq!(with(&replaced("abi=1", "abi=9")), refused(libc::ENOEXEC));
    check_eq!(with(&replaced("uk_device_add", "uk_device_adx")), refused(libc::ENOENT));
    check_eq!(with(&replaced("symver=uk_log:1", "symver=uk_log:2")), refused(libc::EINVAL));
    check_eq!(load(HELLO, "times=x"), refused(libc::EINVAL));
    check_eq!(load(HELLO, "times=1000"), refused(libc::ERANGE));
    check_eq!(text("/proc/modules"), "");
    // Any byte may be another: what then loads is unloaded. What runs must not be changed, so only the tables behind the code are.
    let tables = good.len() - good.len() / 4;
    for step in 0..200 {
        let mut bytes = good.clone();
        let at = tables + step * 7919 % (good.len() - tables);
        bytes.truncate(at);
        check!(with(&bytes) < 0);
    }
    check_eq!(text("/proc/modules"), "");
}

/// What `/etc/modules` names was loaded if it is signed; so it is by finit_module(2), from any file.
fn signed() {
    check!(fs::metadata("/sys/module/count").is_ok() && fs::metadata("/sys/module/watchdog").is_err());
    for name in ["unsigned", "changed", "strangers", "initrd"] {
        check_eq!(load(&format!("/lib/modules/{name}.ko"), ""), refused(libc::EKEYREJECTED));
        check!(fs::metadata("/sys/module/hello").is_err());
    }
    fs::copy(HELLO, "/tmp/copy.ko").unwrap();
    check_eq!(load("/tmp/copy.ko", ""), 0);
    check_eq!(text("/dev/hello"), "hello, world\n");
    check_eq!(unload("hello"), 0);
    println!("modules: all well");
}

fn listed() {
    check_eq!(text("/dev/hello"), "hello, list\n");
    let modules = text("/proc/modules");
    check!(modules.contains("count ") && modules.contains("hello "));
    check_eq!(text("/sys/module/count/parameters/drop_type"), "2054\n");
    check_eq!((load(HELLO, ""), unload("hello")), (refused(libc::EPERM), refused(libc::EPERM)));
}

/// Set when somebody has asked for `/end`.
static IS_OVER: AtomicBool = AtomicBool::new(false);
/// What `/state` answers.
static DONE: AtomicUsize = AtomicUsize::new(0);

/// Answers requests, a connection at a time in a thread of its own.
fn start_server() {
    let listener = TcpListener::bind("0.0.0.0:8080").unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || answer(stream));
        }
    });
}

fn answer(stream: TcpStream) {
    let mut lines = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    loop {
        let mut request = String::new();
        if lines.read_line(&mut request).unwrap_or(0) == 0 {
            return;
        }
        let mut header = String::new();
        while lines.read_line(&mut header).unwrap_or(0) > 2 {
            header.clear();
        }
        let body = match request.split(' ').nth(1) {
            Some("/state") => DONE.load(Ordering::Relaxed).to_string(),
            Some("/end") => {
                IS_OVER.store(true, Ordering::Relaxed);
                "end".to_owned()
            }
            _ => "Hello, World!".to_owned(),
        };
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// Memory that nobody uses, and the kernel's heap in use, in bytes.
fn memory() -> [i64; 2] {
    let metrics = text("/proc/unikernel/metrics");
    ["unikernel_memory_free_bytes ", "unikernel_kernel_heap_bytes "].map(|name| {
        let value = metrics.lines().find_map(|line| line.strip_prefix(name));
        value.and_then(|value| value.parse().ok()).unwrap()
    })
}

/// What the machine has when it has settled: the traffic goes on, and takes and gives.
fn settled() -> [i64; 2] {
    let looks: Vec<[i64; 2]> = (0..50)
        .map(|_| {
            thread::sleep(Duration::from_millis(5));
            memory()
        })
        .collect();
    [looks.iter().map(|look| look[0]).max().unwrap(), looks.iter().map(|look| look[1]).min().unwrap()]
}

fn serve(times: usize) {
    /// What buffers of connections may take more or less.
    const SLACK_BYTES: i64 = 256 << 10;
    start_server();
    let come_and_go = || {
        check_eq!(load(HELLO, "times=3"), 0);
        check!(text("/dev/hello").starts_with("hello, world\nhello"));
        check_eq!(unload("hello"), 0);
    };
    (0..100).for_each(|_| come_and_go());
    let before = settled();
    let start = Instant::now();
    for round in 0..times {
        come_and_go();
        DONE.store(round, Ordering::Relaxed);
    }
    let took = start.elapsed();
    let after = settled();
    println!("{times} times in {took:?}; free and heap: {before:?}, then {after:?}");
    check_eq!(text("/proc/modules"), "");
    check!(after[0] >= before[0] - SLACK_BYTES && after[1] <= before[1] + SLACK_BYTES);
    DONE.store(usize::MAX, Ordering::Relaxed);
    wait_for_end();
}

fn wait_for_end() {
    while !IS_OVER.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(10));
    }
    // The answer is under way.
    thread::sleep(Duration::from_millis(100));
}

fn count() {
    start_server();
    wait_for_end();
    let of =
        |name: &str| -> u64 { text(&format!("/sys/module/count/parameters/{name}")).trim().parse().unwrap() };
    let (received, filtered) = (of("received"), of("filtered"));
    println!("{received} frames received, {filtered} behind the filter");
    // The filter has denied the datagrams.
    check!(filtered >= 20 && received >= filtered + 10);
}

fn panics() {
    check_eq!(load("/lib/modules/faulty.ko", ""), 0);
    fs::write("/dev/faulty", "do it").unwrap();
}

fn watchdog(keeps: bool) {
    const SET_TIMEOUT: libc::c_ulong = 0xc004_5706;
    const GET_TIMEOUT: libc::c_ulong = 0x8004_5707;
    const GET_TIME_LEFT: libc::c_ulong = 0x8004_570a;
    const KEEP_ALIVE: libc::c_ulong = 0x8004_5705;
    let device = OpenOptions::new().write(true).open("/dev/watchdog").unwrap();
    let busy = OpenOptions::new().write(true).open("/dev/watchdog").map_err(|error| error.raw_os_error());
    check_eq!(busy.map(|_| ()), Err(Some(libc::EBUSY)));
    let ask = |request: libc::c_ulong, value: i32| {
        let mut value = value;
        // SAFETY: the request is about an `int`.
        let outcome = unsafe { libc::ioctl(device.as_raw_fd(), request as _, &raw mut value) };
        (outcome, value)
    };
    check_eq!(ask(GET_TIMEOUT, 0), (0, 30));
    check_eq!(ask(SET_TIMEOUT, 0).0, -1);
    check_eq!(ask(SET_TIMEOUT, 4), (0, 4));
    check_eq!((ask(GET_TIMEOUT, 0), ask(GET_TIME_LEFT, 0)), ((0, 4), (0, 4)));
    if !keeps {
        println!("nobody keeps it alive");
        thread::sleep(Duration::from_secs(60));
        process::exit(3);
    }
    for round in 0..10 {
        thread::sleep(Duration::from_millis(600));
        if round % 2 == 0 { check_eq!(ask(KEEP_ALIVE, 0).0, 0) } else { (&device).write_all(b"x").unwrap() }
    }
    (&device).write_all(b"V").unwrap();
    drop(device);
    // It is stopped: nothing happens any more.
    thread::sleep(Duration::from_secs(6));
}
