//! Corners of sockets: which of them have room for out-of-band data as poll(2) names it, and what bind(2) answers to names of
//! `AF_UNIX` that cannot be.

use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use guest_tests::{check, check_eq, errno};

const FAMILY_BYTES: usize = 2;

fn main() {
    names_of_room();
    bad_names();
    second_names();
}

fn socket(family: i32, kind: i32) -> i32 {
    // SAFETY: makes a descriptor.
    let descriptor = unsafe { libc::socket(family, kind, 0) };
    check!(descriptor >= 0);
    descriptor
}

fn close(descriptor: i32) {
    // SAFETY: it is the test's own.
    check_eq!(unsafe { libc::close(descriptor) }, 0);
}

fn poll(descriptor: i32, events: i16) -> i16 {
    let mut entry = libc::pollfd { fd: descriptor, events, revents: 0 };
    // SAFETY: one entry.
    check!(unsafe { libc::poll(&raw mut entry, 1, 0) } >= 0);
    entry.revents
}

/// Sockets but for TCP's name it `POLLWRBAND`, too; other files do not.
fn names_of_room() {
    const ALL: i16 = libc::POLLOUT | libc::POLLWRNORM | libc::POLLWRBAND;
    const USUAL: i16 = libc::POLLOUT | libc::POLLWRNORM;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    check_eq!(poll(stream.as_raw_fd(), ALL), USUAL);
    check_eq!(poll(stream.as_raw_fd(), libc::POLLWRBAND), 0);
    for (family, kind) in [
        (libc::AF_INET, libc::SOCK_DGRAM),
        (libc::AF_INET6, libc::SOCK_DGRAM),
        (libc::AF_UNIX, libc::SOCK_DGRAM),
        (libc::AF_NETLINK, libc::SOCK_RAW),
    ] {
        let one = socket(family, kind);
        check_eq!((family, poll(one, ALL), poll(one, libc::POLLWRBAND)), (family, ALL, libc::POLLWRBAND));
        close(one);
    }
    for kind in [libc::SOCK_STREAM, libc::SOCK_SEQPACKET] {
        let mut pair = [0; 2];
        // SAFETY: there is room for two.
        check_eq!(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, pair.as_mut_ptr()) }, 0);
        check_eq!((kind, poll(pair[0], ALL)), (kind, ALL));
        pair.into_iter().for_each(close);
    }
    let (_, writer) = std::io::pipe().unwrap();
    check_eq!(poll(writer.as_raw_fd(), ALL) & ALL, USUAL);
}

/// Binds a socket to a path, or with nothing to a name that the kernel picks.
fn bind(socket: i32, name: &[u8]) -> i32 {
    // SAFETY: zeros are an address.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as u16;
    for (place, byte) in address.sun_path.iter_mut().zip(name) {
        *place = *byte as libc::c_char;
    }
    let len = (FAMILY_BYTES + name.len()) as u32;
    // SAFETY: the address is as long as said, or longer.
    if unsafe { libc::bind(socket, (&raw const address).cast(), len) } == 0 { 0 } else { errno() }
}

fn bad_names() {
    let folder = std::env::temp_dir().join(format!("corners-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    let path = |name: &str| folder.join(name);
    std::fs::write(path("file"), "").unwrap();
    std::os::unix::fs::symlink("nowhere", path("dangling")).unwrap();
    std::os::unix::fs::symlink("round", path("round")).unwrap();
    for (name, expected) in [
        ("file", libc::EADDRINUSE),
        ("file/", libc::EADDRINUSE),
        ("file/in", libc::ENOTDIR),
        ("dangling", libc::EADDRINUSE),
        ("round/in", libc::ELOOP),
        ("nowhere/in", libc::ENOENT),
        ("new/", libc::ENOENT),
        (".", libc::EADDRINUSE),
        ("..", libc::EADDRINUSE),
        ("", libc::EADDRINUSE),
        ("new", 0),
        ("new", libc::EADDRINUSE),
    ] {
        let one = socket(libc::AF_UNIX, libc::SOCK_STREAM);
        check_eq!((name, bind(one, path(name).as_os_str().as_bytes())), (name, expected));
        close(one);
    }
    let one = socket(libc::AF_UNIX, libc::SOCK_STREAM);
    check_eq!(bind(one, b"/"), libc::EADDRINUSE);
    check_eq!(bind(one, &[b'x'; 109]), libc::EINVAL);
    close(one);
    std::fs::remove_dir_all(&folder).unwrap();
}

/// Who has a name gets no other: but of a path Linux first says what is wrong with it, and who lets the kernel pick one has one.
fn second_names() {
    let folder = std::env::temp_dir();
    let own = folder.join(format!("corner-{}", std::process::id()));
    let other = folder.join(format!("corner-{}-other", std::process::id()));
    let bytes = |path: &Path| path.as_os_str().as_bytes().to_vec();
    let one = socket(libc::AF_UNIX, libc::SOCK_DGRAM);
    check_eq!(bind(one, &bytes(&own)), 0);
    check_eq!(bind(one, &bytes(&own)), libc::EADDRINUSE);
    check_eq!(bind(one, &bytes(&other)), libc::EINVAL);
    check!(!other.exists());
    check_eq!(bind(one, b"/nowhere/in"), libc::ENOENT);
    check_eq!(bind(one, b"\0corner"), libc::EINVAL);
    check_eq!(bind(one, b""), 0);
    close(one);
    std::fs::remove_file(&own).unwrap();
    let one = socket(libc::AF_UNIX, libc::SOCK_DGRAM);
    check_eq!((bind(one, b""), bind(one, b""), bind(one, b"\0other")), (0, 0, libc::EINVAL));
    close(one);
}
