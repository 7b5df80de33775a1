//! A program that executes copies of itself with set-user-ID and set-group-ID bits and capabilities, as users of all kinds, and says
//! whom each runs as: `exec_tests.rs` compiles it with rustc alone, runs it on Linux as root, and boots it; both have to say the same.
//! What it makes is in its current directory. By a copy that is root's for everybody it becomes root again after each step.

use std::ffi::{CString, c_char, c_int, c_long, c_ulong};
use std::fs;
use std::os::unix::fs::PermissionsExt;

const SYS_CAPGET: c_long = 125;
const SYS_CAPSET: c_long = 126;
const SYS_SETGROUPS: c_long = 116;
const SYS_SETRESUID: c_long = 117;
const SYS_GETRESUID: c_long = 118;
const SYS_SETRESGID: c_long = 119;
const SYS_GETRESGID: c_long = 120;
const SYS_SETFSUID: c_long = 122;
const SYS_SETFSGID: c_long = 123;
const SYS_PRCTL: c_long = 157;
const PR_SET_KEEPCAPS: u64 = 8;
const PR_CAPBSET_DROP: u64 = 24;
const PR_GET_SECUREBITS: u64 = 27;
const PR_SET_SECUREBITS: u64 = 28;
const PR_SET_NO_NEW_PRIVS: u64 = 38;
const PR_GET_DUMPABLE: u64 = 3;
const PR_CAP_AMBIENT: u64 = 47;
const AT_SECURE: c_ulong = 23;
const KEEP: u64 = u32::MAX as u64;
/// All but `CAP_SYS_RESOURCE`, which root of some machines has not.
const ALL: u64 = ((1 << 41) - 1) & !(1 << 24);
const CHOWN: u64 = 1;
const SETPCAP: u64 = 1 << 8;

unsafe extern "C" {
    fn execve(
        path: *const c_char,
        arguments: *const *const c_char,
        environment: *const *const c_char,
    ) -> c_int;
    fn syscall(number: c_long, ...) -> c_long;
    fn getauxval(name: c_ulong) -> c_ulong;
    fn chown(path: *const c_char, user: u32, group: u32) -> c_int;
    fn setxattr(
        path: *const c_char,
        name: *const c_char,
        value: *const u8,
        size: usize,
        flags: c_int,
    ) -> c_int;
}

fn call(number: c_long, arguments: &[u64]) -> i64 {
    let mut all = [0; 5];
    all[..arguments.len()].copy_from_slice(arguments);
    let [a, b, c, d, e] = all;
    // SAFETY: the callers pass values, and places of their own.
    let outcome = unsafe { syscall(number, a, b, c, d, e) };
    if outcome < 0 {
        -i64::from(std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
    } else {
        outcome
    }
}

fn must(number: c_long, arguments: &[u64]) {
    assert_eq!(call(number, arguments), 0, "call {number} {arguments:?}");
}

fn capset(effective: u64, permitted: u64, inheritable: u64) {
    let header = [0x2008_0522_u32, 0];
    let half = |shift: u32| [effective, permitted, inheritable].map(|set| (set >> shift) as u32);
    let words = [half(0), half(32)];
    must(SYS_CAPSET, &[header.as_ptr() as u64, words.as_ptr() as u64]);
}

/// Ids, capabilities, and what else says whom it runs as.
fn state() -> String {
    let ids = |number| {
        let mut ids = [9_u32; 3];
        let [real, effective, saved] = &mut ids;
        must(number, &[real, effective, saved].map(|place| &raw mut *place as u64));
        ids.map(|id| id.to_string()).join("/")
    };
    let (header, mut words) = ([0x2008_0522_u32, 0], [[0_u32; 3]; 2]);
    must(SYS_CAPGET, &[header.as_ptr() as u64, words.as_mut_ptr() as u64]);
    let sets = [0, 1, 2].map(|index| u64::from(words[0][index]) | u64::from(words[1][index]) << 32);
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("?").trim().to_owned();
    format!(
        "{} {} fs {}/{} caps {:x}/{:x}/{:x} bounding {} ambient {} bits {:x} nnp {} secure {} dumpable {}",
        ids(SYS_GETRESUID),
        ids(SYS_GETRESGID),
        call(SYS_SETFSUID, &[KEEP]),
        call(SYS_SETFSGID, &[KEEP]),
        sets[0],
        sets[1],
        sets[2],
        line("CapBnd:"),
        line("CapAmb:"),
        call(SYS_PRCTL, &[PR_GET_SECUREBITS]),
        line("NoNewPrivs:"),
        // SAFETY: a value only.
        unsafe { getauxval(AT_SECURE) },
        call(SYS_PRCTL, &[PR_GET_DUMPABLE]),
    )
}

/// Whom a program is executed as.
const USERS: usize = 7;

fn become_user(which: usize) {
    let become_ids = |user: [u64; 3], group: [u64; 3]| {
        must(SYS_SETRESGID, &group);
        must(SYS_SETRESUID, &user);
    };
    let keep = |user: [u64; 3], group: [u64; 3]| {
        must(SYS_PRCTL, &[PR_SET_KEEPCAPS, 1]);
        become_ids(user, group);
    };
    match which {
        0 => {}
        1 => become_ids([1000; 3], [2000; 3]),
        2 => become_ids([KEEP, 1000, KEEP], [KEEP, 2000, KEEP]),
        3 => become_ids([1000, 0, 0], [2000, 0, 0]),
        4 => {
            keep([1000; 3], [2000; 3]);
            capset(CHOWN, ALL, CHOWN | SETPCAP);
            must(SYS_PRCTL, &[PR_CAP_AMBIENT, 2, 0]);
        }
        5 => {
            capset(ALL, ALL, CHOWN);
            must(SYS_PRCTL, &[PR_CAP_AMBIENT, 2, 0]);
        }
        _ => keep([1000, 1000, 0], [2000, 2000, 0]),
    }
}

/// Owner, group and mode of what is executed, and its capabilities, if it has some: permitted, inheritable, in force.
type Program = (u32, u32, u32, Option<(u64, u64, bool)>);
const PROGRAMS: [Program; 16] = [
    (0, 0, 0o755, None),
    (0, 0, 0o4755, None),
    (0, 0, 0o2755, None),
    (1001, 2001, 0o4755, None),
    (1001, 2001, 0o2755, None),
    (1001, 2001, 0o6755, None),
    (1001, 2001, 0o2745, None),
    (1000, 2000, 0o6755, None),
    (1000, 2000, 0o711, None),
    (1001, 2001, 0o700, None),
    (0, 0, 0o644, None),
    (0, 0, 0o755, Some((1 << 10, 0, true))),
    (0, 0, 0o755, Some((1 << 10, CHOWN, false))),
    (0, 0, 0o4755, Some((1 << 10, 0, true))),
    (1001, 2001, 0o4755, Some((1 << 10 | 1 << 24, 0, true))),
    (0, 0, 0o755, Some((0, CHOWN | SETPCAP, true))),
];

fn c(text: &str) -> CString {
    CString::new(text).unwrap()
}

/// Makes a copy of this program, or has the one that is there change hands, which takes its capabilities.
fn make(path: &str, (user, group, mode, capabilities): Program) {
    if fs::metadata(path).is_err() {
        fs::copy("program", path).unwrap();
    }
    // SAFETY: a path that ends with a zero.
    assert_eq!(unsafe { chown(c(path).as_ptr(), user, group) }, 0);
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    if let Some((permitted, inheritable, is_effective)) = capabilities {
        let words = [
            0x0200_0000 | u32::from(is_effective),
            permitted as u32,
            inheritable as u32,
            (permitted >> 32) as u32,
            (inheritable >> 32) as u32,
        ];
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let (path, name) = (c(path), c("security.capability"));
        // SAFETY: strings that end with zeros, and bytes with their length.
        let set = unsafe { setxattr(path.as_ptr(), name.as_ptr(), bytes.as_ptr(), bytes.len(), 0) };
        assert_eq!(set, 0);
    }
}

fn execute(path: &str, arguments: &[&str]) -> i32 {
    let words: Vec<CString> = std::iter::once(path).chain(arguments.iter().copied()).map(c).collect();
    let pointers: Vec<_> = words.iter().map(|word| word.as_ptr()).chain([std::ptr::null()]).collect();
    let environment = [std::ptr::null()];
    // SAFETY: a path and two lists that end with null, all alive.
    unsafe { execve(c(path).as_ptr(), pointers.as_ptr(), environment.as_ptr()) };
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let arguments: Vec<&str> = arguments.iter().skip(1).map(String::as_str).collect();
    match arguments[..] {
        ["first", way] => first(way),
        ["told", step, way] => {
            println!("| {step} {}", state());
            go_back(step.parse().unwrap(), way);
        }
        ["back", step, way] => go_on(step.parse().unwrap(), way),
        _ => panic!("{arguments:?}"),
    }
}

fn first(way: &str) {
    must(SYS_SETGROUPS, &[0, 0]);
    must(SYS_PRCTL, &[PR_CAPBSET_DROP, 24]);
    capset(ALL, ALL, 0);
    make("back", (0, 0, 0o4755, None));
    go_on(0, way);
}

/// Becomes root again, for the step behind this one.
fn go_back(step: usize, way: &str) {
    let error = execute("./back", &["back", &(step + 1).to_string(), way]);
    println!("| there is no way back: {error}");
}

fn go_on(step: usize, way: &str) {
    let is_last = way != "all";
    let step = if is_last && step == 0 { 0 } else { step };
    if is_last && step > 0 {
        println!("| back: {}", state());
        println!("all said");
        return;
    }
    call(SYS_PRCTL, &[PR_CAP_AMBIENT, 4]);
    must(SYS_SETRESUID, &[0, 0, 0]);
    must(SYS_SETRESGID, &[0, 0, 0]);
    must(SYS_PRCTL, &[PR_SET_SECUREBITS, 0]);
    capset(ALL, ALL, 0);
    let (user, program) = match way {
        "no-new-privileges" => {
            must(SYS_PRCTL, &[PR_SET_NO_NEW_PRIVS, 1]);
            (1, 5)
        }
        "no-new-privileges-root" => {
            must(SYS_PRCTL, &[PR_SET_NO_NEW_PRIVS, 1]);
            (2, 1)
        }
        "bounded" => {
            must(SYS_PRCTL, &[PR_CAPBSET_DROP, 0]);
            must(SYS_PRCTL, &[PR_CAPBSET_DROP, 12]);
            (1, 1)
        }
        "no-root" => {
            must(SYS_PRCTL, &[PR_SET_SECUREBITS, 3]);
            (0, 0)
        }
        _ => (step / PROGRAMS.len(), step % PROGRAMS.len()),
    };
    if user == USERS {
        println!("all said");
        return;
    }
    // What is on no disk has no capabilities.
    let parts = PROGRAMS[program];
    if parts.3.is_some() && fs::metadata("on-a-disk").is_err() {
        return go_on(step + 1, way);
    }
    make("copy", parts);
    become_user(user);
    let error = execute("./copy", &["told", &step.to_string(), way]);
    println!("| {step} error {error} {}", state());
    go_back(step, way);
}
