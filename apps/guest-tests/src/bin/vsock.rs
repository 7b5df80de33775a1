//! `AF_VSOCK`. Without a device the family is refused. With the argument `device` there must be one, and the host's side is
//! `qemu/src/vsock_tests.rs`: it echoes what comes on port 1234, nobody is on 999, and it sends to our port 5000 what we echo.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::thread;

use guest_tests::{check, check_eq, errno};

const HOST: u32 = libc::VMADDR_CID_HOST;
const ECHO_PORT: u32 = 1234;
const CLOSED_PORT: u32 = 999;
const OUR_PORT: u32 = 5000;
/// More than both sides keep.
const BYTES: usize = 1 << 20;

fn socket() -> Result<OwnedFd, i32> {
    // SAFETY: nothing is asked of the arguments.
    let socket = unsafe { libc::socket(libc::AF_VSOCK, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    if socket < 0 {
        return Err(errno());
    }
    // SAFETY: it was opened a moment ago, and is nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(socket) })
}

fn address(cid: u32, port: u32) -> libc::sockaddr_vm {
    // SAFETY: the structure consists of integers.
    let mut address: libc::sockaddr_vm = unsafe { std::mem::zeroed() };
    address.svm_family = libc::AF_VSOCK as u16;
    (address.svm_cid, address.svm_port) = (cid, port);
    address
}

const ADDRESS_BYTES: u32 = size_of::<libc::sockaddr_vm>() as u32;

fn connect(socket: &OwnedFd, port: u32) -> Result<(), i32> {
    let address = address(HOST, port);
    // SAFETY: the address is as long as said.
    let result = unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), ADDRESS_BYTES) };
    if result == 0 { Ok(()) } else { Err(errno()) }
}

/// Our own address, or with `of_peer` the peer's.
fn name(socket: &OwnedFd, of_peer: bool) -> (u32, u32) {
    let (mut address, mut len) = (address(0, 0), ADDRESS_BYTES);
    let call = if of_peer { libc::getpeername } else { libc::getsockname };
    // SAFETY: there is room for as many bytes as said.
    check_eq!(unsafe { call(socket.as_raw_fd(), (&raw mut address).cast(), &raw mut len) }, 0);
    check_eq!((len, i32::from(address.svm_family)), (ADDRESS_BYTES, libc::AF_VSOCK));
    (address.svm_cid, address.svm_port)
}

fn pattern() -> Vec<u8> {
    (0..BYTES as u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn asking() {
    let socket = socket().unwrap();
    connect(&socket, ECHO_PORT).unwrap();
    check_eq!(name(&socket, true), (HOST, ECHO_PORT));
    check!(name(&socket, false).0 > HOST);
    let (mut reader, mut writer) = (File::from(socket.try_clone().unwrap()), File::from(socket));
    let sender = thread::spawn(move || {
        writer.write_all(&pattern()).unwrap();
        // SAFETY: nothing is asked of the arguments.
        check_eq!(unsafe { libc::shutdown(writer.as_raw_fd(), libc::SHUT_WR) }, 0);
        check_eq!(writer.write(b"more").unwrap_err().raw_os_error(), Some(libc::EPIPE));
        writer
    });
    let mut echo = Vec::new();
    reader.read_to_end(&mut echo).unwrap();
    check!(echo == pattern());
    drop(sender.join().unwrap());
}

fn answering() {
    let socket = socket().unwrap();
    let own = address(libc::VMADDR_CID_ANY, OUR_PORT);
    // SAFETY: the address is as long as said; the rest is numbers.
    unsafe {
        check_eq!(libc::bind(socket.as_raw_fd(), (&raw const own).cast(), ADDRESS_BYTES), 0);
        check_eq!(libc::listen(socket.as_raw_fd(), 4), 0);
    }
    check_eq!(name(&socket, false), (libc::VMADDR_CID_ANY, OUR_PORT));
    println!("listening on port {OUR_PORT}");
    // SAFETY: null pointers ask for no address.
    let accepted = unsafe { libc::accept(socket.as_raw_fd(), std::ptr::null_mut(), std::ptr::null_mut()) };
    check!(accepted >= 0);
    // SAFETY: it was opened a moment ago, and is nobody else's.
    let mut stream = File::from(unsafe { OwnedFd::from_raw_fd(accepted) });
    let mut chunk = [0; 10_000];
    while let Ok(count @ 1..) = stream.read(&mut chunk) {
        stream.write_all(&chunk[..count]).unwrap();
    }
}

fn refusals() {
    // A host says so at once; the device of the test says nothing (vhost-device-vsock 0.3).
    let refused = connect(&socket().unwrap(), CLOSED_PORT);
    check!(matches!(refused, Err(libc::ECONNRESET | libc::ETIMEDOUT)));
    let socket = socket().unwrap();
    // SAFETY: there is room for no byte, and none is asked for.
    check_eq!(unsafe { libc::recv(socket.as_raw_fd(), std::ptr::null_mut(), 0, 0) }, -1);
    check_eq!(errno(), libc::ENOTCONN);
    // SAFETY: nothing is asked of the arguments.
    check_eq!(unsafe { libc::socket(libc::AF_VSOCK, libc::SOCK_RDM, 0) }, -1);
    check_eq!(errno(), libc::ESOCKTNOSUPPORT);
}

fn main() {
    let must_be_there = std::env::args().any(|argument| argument == "device");
    match socket() {
        Ok(_) if must_be_there => {
            refusals();
            asking();
            answering();
        }
        Ok(_) => println!("there is a device, and nobody to talk to"),
        Err(error) => check_eq!((error, must_be_there), (libc::EAFNOSUPPORT, false)),
    }
}
