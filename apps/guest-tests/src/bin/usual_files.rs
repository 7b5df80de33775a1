//! What programs look for on any machine: directories, texts of `/etc`, devices, the environment, the machine's name. The
//! argument is that name.

use std::ffi::CStr;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::net::ToSocketAddrs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};

use guest_tests::{check, check_eq};

fn main() {
    let name = std::env::args().nth(1).expect("the machine's name");
    environment();
    directories();
    texts();
    time_zone();
    devices();
    host_name(&name);
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What the command line says goes before what is usual.
fn environment() {
    let home = std::env::var("HOME").unwrap();
    check_eq!(home, std::env::var("EXPECTED_HOME").unwrap_or_else(|_| "/root".into()));
    check_eq!(std::env::vars().filter(|(name, _)| name == "HOME").count(), 1);
    check!(std::env::var("PATH").unwrap().split(':').any(|folder| folder == "/usr/bin"));
}

fn directories() {
    let open = ["/tmp", "/var/tmp", "/dev/shm"];
    for path in
        ["/var/log", "/var/lib", "/var/cache", "/var/run", "/run", "/home", "/root"].iter().chain(&open)
    {
        let file = format!("{path}/made-by-a-test");
        fs::write(&file, "x").unwrap_or_else(|error| panic!("{file}: {error}"));
        fs::remove_file(file).unwrap();
        let mode = fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        check_eq!(mode == 0o1777, open.contains(path));
    }
    check_eq!(fs::canonicalize("/var/run").unwrap().to_str(), Some("/run"));
}

fn texts() {
    check!(
        read("/etc/passwd").lines().any(|line| line.starts_with("root:x:0:0:") && line.contains(":/root:"))
    );
    for line in read("/etc/passwd").lines() {
        check_eq!(line.split(':').count(), 7);
    }
    for line in read("/etc/group").lines() {
        check_eq!(line.split(':').count(), 4);
    }
    // Servers give rights up by becoming a group that is called so by one half of the distributions each.
    for name in [c"nobody", c"nogroup"] {
        check_eq!(group_id(name), Some(65534));
    }
    check!(read("/etc/nsswitch.conf").contains("hosts:"));
    check!(read("/etc/mime.types").lines().any(|line| line.starts_with("text/html") && line.contains("htm")));
    check!(fs::metadata("/etc/resolv.conf").unwrap().is_file());
    // SAFETY: the strings end with a NUL; nothing else in this program asks for entries.
    let port = unsafe {
        let entry = libc::getservbyname(c"https".as_ptr(), c"tcp".as_ptr());
        check!(!entry.is_null());
        u16::from_be((*entry).s_port as u16)
    };
    check_eq!(port, 443);
    let id = read("/etc/machine-id");
    check_eq!(id.len(), 33);
    check!(id.trim_end().bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)));
    check!(id.trim_end() != "0".repeat(32));
}

fn group_id(name: &CStr) -> Option<u32> {
    // SAFETY: the name ends with a NUL; nothing else in this program asks for entries.
    unsafe { libc::getgrnam(name.as_ptr()).as_ref().map(|entry| entry.gr_gid) }
}

/// Times of the machine are those of UTC, by a file that the C library reads.
fn time_zone() {
    let zone = fs::read("/etc/localtime").unwrap();
    check!(zone.starts_with(b"TZif2") && zone.ends_with(b"\nUTC0\n"));
    // The counts behind the version, and behind the first block of 54 bytes those of the second.
    for at in [20, 74] {
        check_eq!(zone[at..at + 24], *b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\x04");
    }
    check_eq!(zone.len(), 54 + 54 + 6);
    check!(fs::read_link("/etc/localtime").unwrap().to_str().unwrap().ends_with("zoneinfo/UTC"));
    let time = 1_000_000_000;
    // SAFETY: both are valid for the calls.
    let parts = unsafe {
        let mut parts = std::mem::zeroed();
        libc::localtime_r(&raw const time, &raw mut parts);
        parts
    };
    check_eq!((parts.tm_hour, parts.tm_min, parts.tm_gmtoff), (1, 46, 0));
}

fn devices() {
    for name in ["null", "zero", "full", "random", "urandom", "tty", "ptmx"] {
        check!(fs::metadata(format!("/dev/{name}")).unwrap().file_type().is_char_device());
    }
    check_eq!(File::create("/dev/full").unwrap().write(b"x").unwrap_err().kind(), ErrorKind::StorageFull);
    let mut bytes = [1; 4];
    File::open("/dev/full").unwrap().read_exact(&mut bytes).unwrap();
    check_eq!(bytes, [0; 4]);
    for name in ["stdout", "stderr", "fd/1"] {
        File::options().write(true).open(format!("/dev/{name}")).unwrap().write_all(b"heard\n").unwrap();
    }
    check!(fs::metadata("/dev/stdin").is_ok());
}

fn host_name(expected: &str) {
    let mut bytes = [0; 65];
    // SAFETY: the buffer is valid and of that length.
    check_eq!(unsafe { libc::gethostname(bytes.as_mut_ptr(), bytes.len()) }, 0);
    // SAFETY: as above, and the last byte is a NUL.
    check_eq!(unsafe { CStr::from_ptr(bytes.as_ptr()) }.to_str(), Ok(expected));
    check_eq!(read("/proc/sys/kernel/hostname"), format!("{expected}\n"));
    check_eq!(read("/etc/hostname"), format!("{expected}\n"));
    check_eq!(rustix::system::uname().nodename().to_str(), Ok(expected));
    // An initrd brings its own `/etc/hosts`.
    if std::env::args().nth(2).as_deref() == Some("own-hosts") {
        check!(!read("/etc/hosts").contains(expected));
    } else {
        let found: Vec<_> = (expected, 80).to_socket_addrs().unwrap().collect();
        check!(!found.is_empty() && found.iter().all(|address| address.ip().is_loopback()));
        check!(("localhost", 80).to_socket_addrs().unwrap().any(|address| address.ip().is_loopback()));
    }
}
