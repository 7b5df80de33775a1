//! Sockets sent over sockets: however deep they are nested, and whether or not they keep each other open, all are
//! closed in the end. A pipe's end that travels along tells when.

use std::io::Read;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};
use std::time::{Duration, Instant};

use guest_tests::{check, check_eq};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

fn main() {
    let tests: &[(&str, fn())] = &[
        ("a chain", chain),
        ("a socket over itself", itself),
        ("circles", circles),
        ("datagrams", datagrams),
        ("not yet accepted", unaccepted),
        ("many circles", many),
        ("what is in use stays", in_use),
    ];
    for (name, test) in tests {
        println!("{name}");
        test();
    }
}

fn send(over: impl AsFd, files: &[BorrowedFd]) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    check!(control.push(SendAncillaryMessage::ScmRights(files)));
    sendmsg(over, &[std::io::IoSlice::new(b"x")], &mut control, SendFlags::empty()).map(drop)
}

fn receive(from: impl AsFd) -> Vec<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(from, &mut [std::io::IoSliceMut::new(&mut byte)], &mut control, RecvFlags::empty()).unwrap();
    let messages = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(files) => Some(files),
        _ => None,
    });
    messages.flatten().collect()
}

/// Waits until the other end of a pipe is closed. Linux looks for garbage when a socket is closed, by and by.
fn await_end(reader: &impl AsFd) {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(10) {
        let mut polled = [PollFd::new(reader, PollFlags::IN)];
        poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 1_000_000 })).unwrap();
        if polled[0].revents().contains(PollFlags::HUP) {
            return;
        }
        drop(UnixStream::pair().unwrap());
    }
    panic!("the pipe is still open");
}

/// Each pair's first socket waits in the next pair. Closing the last closes them all, one within another.
fn chain() {
    const LINKS: usize = 400;
    let (reader, writer) = std::io::pipe().unwrap();
    let mut inner: OwnedFd = writer.into();
    for _ in 0..LINKS {
        let (to, from) = UnixStream::pair().unwrap();
        send(&to, &[inner.as_fd()]).unwrap();
        inner = from.into();
    }
    let mut polled = [PollFd::new(&reader, PollFlags::IN)];
    check_eq!(poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(0));
    drop(inner);
    let mut reader = reader;
    check_eq!(reader.read(&mut [0]).unwrap(), 0);
}

fn itself() {
    let (reader, writer) = std::io::pipe().unwrap();
    let (to, from) = UnixStream::pair().unwrap();
    send(&to, &[from.as_fd(), to.as_fd(), writer.as_fd()]).unwrap();
    drop((to, from, writer));
    await_end(&reader);
}

fn circles() {
    let (reader, writer) = std::io::pipe().unwrap();
    let pairs: Vec<_> = (0..20).map(|_| UnixStream::pair().unwrap()).collect();
    for (at, (to, _)) in pairs.iter().enumerate() {
        // The next one, the one after it, and the first pair's own sender.
        let [next, second] = [1, 2].map(|step| pairs[(at + step) % pairs.len()].1.as_fd());
        send(to, &[next, second, pairs[0].0.as_fd(), writer.as_fd()]).unwrap();
    }
    drop((pairs, writer));
    await_end(&reader);
}

fn datagrams() {
    let (reader, writer) = std::io::pipe().unwrap();
    let (one, other) = UnixDatagram::pair().unwrap();
    send(&one, &[other.as_fd(), writer.as_fd()]).unwrap();
    send(&other, &[one.as_fd()]).unwrap();
    drop((one, other, writer));
    await_end(&reader);
}

/// A listener waits in a connection that nobody has accepted from it.
fn unaccepted() {
    let (reader, writer) = std::io::pipe().unwrap();
    let address = SocketAddr::from_abstract_name(format!("garbage-{}", std::process::id())).unwrap();
    let listener = UnixListener::bind_addr(&address).unwrap();
    let client = UnixStream::connect_addr(&address).unwrap();
    send(&client, &[listener.as_fd(), client.as_fd(), writer.as_fd()]).unwrap();
    drop((client, listener, writer));
    await_end(&reader);
}

/// So many that their memory would be missed.
fn many() {
    for _ in 0..20_000 {
        let (to, from) = UnixStream::pair().unwrap();
        while send(&to, &[from.as_fd()]) == Err(Errno::TOOMANYREFS) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// A socket that is open nowhere, but on its way to one that is, can still be received, and works.
fn in_use() {
    let (to, from) = UnixStream::pair().unwrap();
    let (inner_to, inner_from) = UnixStream::pair().unwrap();
    let (innermost, peer) = UnixStream::pair().unwrap();
    send(&inner_to, &[innermost.as_fd(), inner_from.as_fd()]).unwrap();
    send(&to, &[inner_from.as_fd()]).unwrap();
    drop((inner_from, innermost));
    for _ in 0..50 {
        let (to, from) = UnixStream::pair().unwrap();
        let _ = send(&to, &[from.as_fd()]);
    }
    let received = receive(&from);
    check_eq!(received.len(), 1);
    let mut files = receive(&received[0]);
    check_eq!(files.len(), 2);
    rustix::io::write(files.remove(0), b"!").unwrap();
    let mut byte = [0];
    (&peer).read_exact(&mut byte).unwrap();
    check_eq!(&byte, b"!");
    drop((inner_to, received, files));
    check_eq!((&peer).read(&mut byte).unwrap(), 0);
}
