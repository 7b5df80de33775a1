//! Rules that threads put upon themselves (landlock(7)): a table of attempts under a table of rulesets, printed to be compared with
//! Linux word for word. Interface version 4: files and TCP ports.

use std::ffi::CString;
use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::thread;

use guest_tests::{check, check_eq, raw_syscall};
use libc::{O_CREAT, O_DIRECTORY, O_EXCL, O_PATH, O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY};

const CREATE: i64 = 444;
const ADD: i64 = 445;
const RESTRICT: i64 = 446;

const EXECUTE: u64 = 1;
const WRITE: u64 = 1 << 1;
const READ: u64 = 1 << 2;
const LIST: u64 = 1 << 3;
const REMOVE_DIR: u64 = 1 << 4;
const REMOVE_FILE: u64 = 1 << 5;
const MAKE_DIR: u64 = 1 << 7;
const MAKE_REG: u64 = 1 << 8;
const MAKE_SOCK: u64 = 1 << 9;
const MAKE_FIFO: u64 = 1 << 10;
const MAKE_SYM: u64 = 1 << 12;
const REFER: u64 = 1 << 13;
const TRUNCATE: u64 = 1 << 14;
const ALL: u64 = (1 << 15) - 1;
/// Of the interface's first version.
const FIRST: u64 = (1 << 13) - 1;

fn create(files: u64, ports: u64) -> i64 {
    let attributes = [files, ports];
    raw_syscall(CREATE, [attributes.as_ptr() as u64, 16, 0, 0, 0, 0])
}

fn add_path(ruleset: i64, path: &Path, access: u64) -> i64 {
    let path = CString::new(path.to_str().unwrap()).unwrap();
    // SAFETY: the path is one.
    let parent = unsafe { libc::open(path.as_ptr(), O_PATH) };
    check!(parent >= 0);
    let outcome = add_parent(ruleset, parent, access);
    // SAFETY: our own.
    unsafe { libc::close(parent) };
    outcome
}

fn add_parent(ruleset: i64, parent: i32, access: u64) -> i64 {
    let attributes = [access as u32, (access >> 32) as u32, parent as u32];
    raw_syscall(ADD, [ruleset as u64, 1, attributes.as_ptr() as u64, 0, 0, 0])
}

fn add_port(ruleset: i64, port: u64, access: u64) -> i64 {
    let attributes = [access, port];
    raw_syscall(ADD, [ruleset as u64, 2, attributes.as_ptr() as u64, 0, 0, 0])
}

fn restrict(ruleset: i64) -> i64 {
    raw_syscall(RESTRICT, [ruleset as u64, 0, 0, 0, 0, 0])
}

fn close(descriptor: i64) {
    raw_syscall(libc::SYS_close, [descriptor as u64, 0, 0, 0, 0, 0]);
}

/// The error number's name, or `ok`.
fn name(result: i64) -> String {
    match -result as i32 {
        _ if result >= 0 => "ok".into(),
        libc::EACCES => "EACCES".into(),
        libc::EXDEV => "EXDEV".into(),
        libc::ENOENT => "ENOENT".into(),
        libc::EEXIST => "EEXIST".into(),
        libc::EINVAL => "EINVAL".into(),
        libc::EBADF => "EBADF".into(),
        libc::EBADFD => "EBADFD".into(),
        libc::ENOMSG => "ENOMSG".into(),
        libc::E2BIG => "E2BIG".into(),
        libc::EFAULT => "EFAULT".into(),
        libc::EPERM => "EPERM".into(),
        other => format!("error {other}"),
    }
}

/// A folder in which everything is tried.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        let base = std::env::temp_dir().join(format!("landlock-test-{}", std::process::id()));
        let _ = fs::remove_dir_all(&base);
        for folder in ["a/sub/deep", "a/empty", "b", "c"] {
            fs::create_dir_all(base.join(folder)).unwrap();
        }
        for file in ["a/file", "a/other", "a/sub/file", "b/file", "c/file"] {
            fs::write(base.join(file), "content").unwrap();
        }
        std::os::unix::fs::symlink("../b/file", base.join("a/link")).unwrap();
        Self(base)
    }

    fn text(&self, path: &str) -> CString {
        CString::new(self.0.join(path).to_str().unwrap()).unwrap()
    }

    fn call(&self, number: i64, path: &str, rest: [u64; 2]) -> i64 {
        let path = self.text(path);
        raw_syscall(number, [path.as_ptr() as u64, rest[0], rest[1], 0, 0, 0])
    }

    fn both(&self, number: i64, path: &str, other: &str) -> i64 {
        let (path, other) = (self.text(path), self.text(other));
        raw_syscall(number, [path.as_ptr() as u64, other.as_ptr() as u64, 0, 0, 0, 0])
    }

    fn open(&self, path: &str, flags: i32) -> i64 {
        let opened = self.call(libc::SYS_open, path, [flags as u64, 0o644]);
        if opened >= 0 {
            close(opened);
        }
        opened
    }

    fn exchange(&self, path: &str, other: &str) -> i64 {
        let (path, other) = (self.text(path), self.text(other));
        let here = libc::AT_FDCWD as u64;
        raw_syscall(libc::SYS_renameat2, [here, path.as_ptr() as u64, here, other.as_ptr() as u64, 2, 0])
    }

    /// Opens a file to write, and cuts it off by its descriptor.
    fn cut(&self, path: &str) -> i64 {
        let opened = self.call(libc::SYS_open, path, [O_WRONLY as u64, 0]);
        if opened < 0 {
            return opened;
        }
        let result = raw_syscall(libc::SYS_ftruncate, [opened as u64, 1, 0, 0, 0, 0]);
        close(opened);
        result
    }

    fn bind(&self, path: &str) -> i64 {
        let outcome = std::os::unix::net::UnixListener::bind(self.0.join(path));
        outcome.map_or_else(|error| -i64::from(error.raw_os_error().unwrap_or(1)), |_| 0)
    }

    fn bring(&self, opened: i32) -> i64 {
        let path = CString::new(format!("/proc/self/fd/{opened}")).unwrap();
        let again = raw_syscall(libc::SYS_open, [path.as_ptr() as u64, O_RDWR as u64, 0, 0, 0, 0]);
        if again >= 0 {
            close(again);
        }
        again
    }
}

type Attempt = (&'static str, fn(&Place) -> i64);

const ATTEMPTS: &[Attempt] = &[
    ("read a/file", |place| place.open("a/file", O_RDONLY)),
    ("write a/file", |place| place.open("a/file", O_WRONLY)),
    ("read and write a/file", |place| place.open("a/file", O_RDWR)),
    ("cut a/file while opening", |place| place.open("a/file", O_WRONLY | O_TRUNC)),
    ("cut a/file while reading", |place| place.open("a/file", O_RDONLY | O_TRUNC)),
    ("cut a/file by its path", |place| place.call(libc::SYS_truncate, "a/file", [1, 0])),
    ("cut a/file by its descriptor", |place| place.cut("a/file")),
    ("name a/file", |place| place.open("a/file", O_PATH)),
    ("create a/new", |place| place.open("a/new", O_WRONLY | O_CREAT)),
    ("create a/file again", |place| place.open("a/file", O_WRONLY | O_CREAT)),
    ("create a/file exclusively", |place| place.open("a/file", O_WRONLY | O_CREAT | O_EXCL)),
    ("read a/none", |place| place.open("a/none", O_RDONLY)),
    ("make a file without a name in a", |place| place.open("a", libc::O_TMPFILE | O_RDWR)),
    ("list a", |place| place.open("a", O_RDONLY | O_DIRECTORY)),
    ("list a/sub/deep", |place| place.open("a/sub/deep", O_RDONLY)),
    ("list a by dots", |place| place.open("a/sub/deep/../..", O_RDONLY)),
    ("read a/sub/file", |place| place.open("a/sub/file", O_RDONLY)),
    ("read b/file", |place| place.open("b/file", O_RDONLY)),
    ("write b/file", |place| place.open("b/file", O_WRONLY)),
    ("read b/file by a/link", |place| place.open("a/link", O_RDONLY)),
    ("read c/file", |place| place.open("c/file", O_RDONLY)),
    ("list the folder", |place| place.open("", O_RDONLY)),
    ("look at b/file", |place| {
        let mut room = [0_u64; 32];
        place.call(libc::SYS_stat, "b/file", [room.as_mut_ptr() as u64, 0])
    }),
    ("change b/file's mode", |place| place.call(libc::SYS_chmod, "b/file", [0o644, 0])),
    ("make a/folder", |place| place.call(libc::SYS_mkdir, "a/folder", [0o755, 0])),
    ("make b/folder", |place| place.call(libc::SYS_mkdir, "b/folder", [0o755, 0])),
    ("make a/empty again", |place| place.call(libc::SYS_mkdir, "a/empty", [0o755, 0])),
    ("remove a/empty", |place| place.call(libc::SYS_rmdir, "a/empty", [0, 0])),
    ("unlink a/other", |place| place.call(libc::SYS_unlink, "a/other", [0, 0])),
    ("unlink a/none", |place| place.call(libc::SYS_unlink, "a/none", [0, 0])),
    ("unlink c/file", |place| place.call(libc::SYS_unlink, "c/file", [0, 0])),
    ("make a/pipe", |place| place.call(libc::SYS_mknod, "a/pipe", [u64::from(libc::S_IFIFO | 0o644), 0])),
    ("make a/node", |place| place.call(libc::SYS_mknod, "a/node", [u64::from(libc::S_IFREG | 0o644), 0])),
    ("make a/symlink", |place| place.both(libc::SYS_symlink, "none", "a/symlink")),
    ("bind a/socket", |place| place.bind("a/socket")),
    ("rename within a", |place| place.both(libc::SYS_rename, "a/file", "a/moved")),
    ("rename over a file within a", |place| place.both(libc::SYS_rename, "a/sub/file", "a/sub/moved")),
    ("rename from a to a/sub", |place| place.both(libc::SYS_rename, "a/file", "a/sub/moved")),
    ("rename from a to b", |place| place.both(libc::SYS_rename, "a/file", "b/moved")),
    ("rename over b/file", |place| place.both(libc::SYS_rename, "a/file", "b/file")),
    ("rename from b to a", |place| place.both(libc::SYS_rename, "b/file", "a/moved")),
    ("move a/empty to b", |place| place.both(libc::SYS_rename, "a/empty", "b/empty")),
    ("move a/none to b", |place| place.both(libc::SYS_rename, "a/none", "b/none")),
    ("exchange a/file and b/file", |place| place.exchange("a/file", "b/file")),
    ("exchange a/file and a/empty", |place| place.exchange("a/file", "a/empty")),
    ("link within a", |place| place.both(libc::SYS_link, "a/file", "a/second")),
    ("link from a to b", |place| place.both(libc::SYS_link, "a/file", "b/second")),
    ("link from b to a", |place| place.both(libc::SYS_link, "b/file", "a/second")),
    ("open memory again", |place| {
        // SAFETY: the name is one.
        let memory = unsafe { libc::memfd_create(c"x".as_ptr(), 0) };
        let result = place.bring(memory);
        close(memory.into());
        result
    }),
];

/// What a thread forbids itself: for each ruleset what it is about, and what is given below which folder.
type Scenario = (&'static str, &'static [(u64, &'static [(&'static str, u64)])]);

const SCENARIOS: &[Scenario] = &[
    ("nothing", &[(ALL, &[])]),
    ("nothing of the first version", &[(FIRST, &[])]),
    ("all below a", &[(ALL, &[("a", ALL)])]),
    ("all below all", &[(ALL, &[("", ALL)])]),
    ("reading below a", &[(ALL, &[("a", READ | LIST)])]),
    ("writing a's file", &[(WRITE | READ, &[("a/file", WRITE)])]),
    ("no cutting off", &[(TRUNCATE, &[("b", TRUNCATE)])]),
    ("cutting a's file off", &[(TRUNCATE | WRITE, &[("a/file", TRUNCATE | WRITE)])]),
    ("no execution", &[(EXECUTE, &[])]),
    (
        "names below a",
        &[(
            FIRST,
            &[("a", REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | MAKE_SOCK | MAKE_FIFO | MAKE_SYM)],
        )],
    ),
    ("moves", &[(REFER, &[("", REFER)])]),
    ("moves from a", &[(REFER, &[("a", REFER)])]),
    ("moves of files", &[(REFER | MAKE_REG | REMOVE_FILE, &[("", REFER | MAKE_REG | REMOVE_FILE)])]),
    ("moves to more rights", &[(REFER | WRITE, &[("", REFER), ("b", WRITE)])]),
    ("moves to fewer rights", &[(REFER | WRITE, &[("", REFER), ("a", WRITE)])]),
    ("moves to other rights of folders", &[(REFER | LIST, &[("", REFER), ("b", LIST)])]),
    (
        "two rulesets",
        &[(ALL, &[("a", ALL), ("b", READ)]), (READ | MAKE_REG, &[("a/sub", READ), ("b", READ)])],
    ),
    ("two rulesets about moves", &[(REFER, &[("", REFER)]), (WRITE, &[("", WRITE)])]),
    ("rights that add up", &[(READ | WRITE | LIST, &[("", LIST), ("a", READ), ("a/file", WRITE)])]),
];

/// Puts rulesets upon the calling thread.
fn confine(place: &Place, rulesets: &[(u64, &[(&str, u64)])]) {
    for (handled, rules) in rulesets {
        let ruleset = create(*handled, 0);
        check!(ruleset >= 0);
        for (folder, access) in *rules {
            let path = if folder.is_empty() { place.0.clone() } else { place.0.join(folder) };
            check_eq!(add_path(ruleset, &path, *access), 0);
        }
        check_eq!(restrict(ruleset), 0);
        close(ruleset);
    }
}

fn files() {
    for (scenario, rulesets) in SCENARIOS {
        for (attempt, work) in ATTEMPTS {
            let place = Place::new();
            let result = thread::spawn(move || {
                confine(&place, rulesets);
                work(&place)
            });
            println!("| {scenario} | {attempt} | {}", name(result.join().unwrap()));
        }
    }
    let _ = fs::remove_dir_all(Place::new().0);
}

/// An address of this machine, as `struct sockaddr_in`.
fn address(family: u16, port: u16) -> [u8; 16] {
    let ([a, b], [c, d]) = (family.to_le_bytes(), port.to_be_bytes());
    [a, b, c, d, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]
}

fn with_socket(kind: i32, call: i64, family: u16, port: u16) -> i64 {
    // SAFETY: no memory is involved.
    let socket = unsafe { libc::socket(libc::AF_INET, kind, 0) };
    let address = address(family, port);
    let result = raw_syscall(call, [socket as u64, address.as_ptr() as u64, 16, 0, 0, 0]);
    close(socket.into());
    result
}

fn ports() {
    const BIND: u64 = 1;
    const CONNECT: u64 = 2;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let open = listener.local_addr().unwrap().port();
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    let other = datagrams.local_addr().unwrap().port();
    for (scenario, handled, rules) in [
        ("no ports", BIND | CONNECT, vec![]),
        ("binding port 0", BIND, vec![(0, BIND)]),
        ("connecting", CONNECT, vec![(u64::from(open), CONNECT)]),
        ("both", BIND | CONNECT, vec![(u64::from(open), BIND | CONNECT), (0, CONNECT)]),
    ] {
        let result = thread::spawn(move || {
            let ruleset = create(0, handled);
            rules.iter().for_each(|(port, access)| check_eq!(add_port(ruleset, *port, *access), 0));
            check_eq!(restrict(ruleset), 0);
            let (inet, none) = (libc::AF_INET as u16, libc::AF_UNSPEC as u16);
            for (attempt, result) in [
                ("bind a stream", with_socket(libc::SOCK_STREAM, libc::SYS_bind, inet, 0)),
                ("connect a stream", with_socket(libc::SOCK_STREAM, libc::SYS_connect, inet, open)),
                ("disconnect a stream", with_socket(libc::SOCK_STREAM, libc::SYS_connect, none, open)),
                ("bind a datagram socket", with_socket(libc::SOCK_DGRAM, libc::SYS_bind, inet, 0)),
                ("connect a datagram socket", with_socket(libc::SOCK_DGRAM, libc::SYS_connect, inet, other)),
            ] {
                println!("| {scenario} | {attempt} | {}", name(result));
            }
        });
        check!(result.join().is_ok());
    }
}

/// Calls that mean nothing.
fn nonsense() {
    let tell = |what: &str, result: i64| println!("| nonsense | {what} | {}", name(result));
    tell("no attributes", raw_syscall(CREATE, [0, 16, 0, 0, 0, 0]));
    tell("short attributes", raw_syscall(CREATE, [[ALL].as_ptr() as u64, 7, 0, 0, 0, 0]));
    tell("long attributes", raw_syscall(CREATE, [[ALL].as_ptr() as u64, 8192, 0, 0, 0, 0]));
    tell("zeros behind them", raw_syscall(CREATE, [[ALL, 0, 0, 0, 0].as_ptr() as u64, 40, 0, 0, 0, 0]));
    tell("more behind them", raw_syscall(CREATE, [[ALL, 0, 0, 0, 9].as_ptr() as u64, 40, 0, 0, 0, 0]));
    tell("unknown rights", create(1 << 40, 0));
    tell("unknown rights over ports", create(ALL, 1 << 9));
    tell("no rights", create(0, 0));
    tell("flags", raw_syscall(CREATE, [0, 0, 1 << 9, 0, 0, 0]));
    tell("a version of something", raw_syscall(CREATE, [0, 16, 1, 0, 0, 0]));
    let ruleset = create(READ | WRITE | LIST, 1);
    let place = Place::new();
    let file = fs::File::open(place.0.join("a/file")).unwrap();
    let (reader, _writer) = std::io::pipe().unwrap();
    tell("a rule of no kind", raw_syscall(ADD, [ruleset as u64, 9, 0, 0, 0, 0]));
    tell("flags of a rule", raw_syscall(ADD, [ruleset as u64, 1, 0, 1, 0, 0]));
    tell("a rule of nowhere", raw_syscall(ADD, [ruleset as u64, 1, 0, 0, 0, 0]));
    tell("a rule for no ruleset", add_parent(file.as_raw_fd().into(), file.as_raw_fd(), READ));
    tell("a rule for nobody", add_parent(999, file.as_raw_fd(), READ));
    tell("a rule without rights", add_parent(ruleset, file.as_raw_fd(), 0));
    tell("a rule with others", add_parent(ruleset, file.as_raw_fd(), EXECUTE));
    tell("a file with rights of folders", add_parent(ruleset, file.as_raw_fd(), LIST));
    tell("a rule about a pipe", add_parent(ruleset, reader.as_raw_fd(), READ));
    tell("a rule about a ruleset", add_parent(ruleset, ruleset as i32, READ));
    tell("a rule about nothing", add_parent(ruleset, 999, READ));
    tell("a port beyond all", add_port(ruleset, 65_536, 1));
    tell("a port with other rights", add_port(ruleset, 80, 2));
    tell("a port without rights", add_port(ruleset, 80, 0));
    tell("flags for oneself", raw_syscall(RESTRICT, [ruleset as u64, 1 << 20, 0, 0, 0, 0]));
    tell("no ruleset", restrict(file.as_raw_fd().into()));
    tell("nobody's ruleset", restrict(999));
    let mut room = [0_u8; 8];
    tell(
        "reading a ruleset",
        raw_syscall(libc::SYS_read, [ruleset as u64, room.as_mut_ptr() as u64, 8, 0, 0, 0]),
    );
    let deep =
        thread::spawn(|| (0..20).map(|_| restrict(create(EXECUTE, 0))).filter(|result| *result == 0).count());
    println!("| nonsense | {} rulesets", deep.join().unwrap());
    let _ = fs::remove_dir_all(&place.0);
}

/// What is restricted stays so for threads that are started, and binds no others.
fn inheritance() {
    let place = Place::new();
    let file = place.0.join("a/file");
    let path = file.clone();
    let inside = thread::spawn(move || {
        check_eq!(restrict(create(READ, 0)), 0);
        thread::spawn(move || fs::read(path).is_err()).join().unwrap()
    });
    check!(inside.join().unwrap());
    check!(fs::read(&file).is_ok());
    // What was opened before stays open.
    let opened = fs::File::options().write(true).open(&file).unwrap();
    let outcome = thread::spawn(move || {
        check_eq!(restrict(create(ALL, 0)), 0);
        opened.set_len(3).is_ok()
    });
    check!(outcome.join().unwrap());
    let _ = fs::remove_dir_all(&place.0);
}

fn main() {
    check!(raw_syscall(CREATE, [0, 0, 1, 0, 0, 0]) >= 4);
    check_eq!(raw_syscall(libc::SYS_prctl, [libc::PR_SET_NO_NEW_PRIVS as u64, 1, 0, 0, 0, 0]), 0);
    nonsense();
    ports();
    inheritance();
    files();
}
