//! `AF_UNIX` sockets: streams, datagrams, sequenced packets, names, and open files that travel.

use std::fs::{self, File};
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};
use std::thread;
use std::time::Duration;

use guest_tests::{check, check_eq};
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketType, recvmsg, sendmsg,
};

fn main() {
    let path = format!("/tmp/guest-test-{}.socket", std::process::id());
    streams(&path);
    backlog();
    unaccepted(&path);
    shutdown_and_close();
    datagrams(&path);
    abstract_names();
    packets();
    files_travel();
    big_writes();
    told_buffer();
}

fn streams(path: &str) {
    let listener = UnixListener::bind(path).unwrap();
    check_eq!(UnixListener::bind(path).unwrap_err().kind(), ErrorKind::AddrInUse);
    check!(std::os::unix::fs::FileTypeExt::is_socket(&fs::metadata(path).unwrap().file_type()));
    let name = path.to_owned();
    let client = thread::spawn(move || {
        let mut stream = UnixStream::connect(&name).unwrap();
        check_eq!(stream.peer_addr().unwrap().as_pathname().unwrap().to_str(), Some(name.as_str()));
        check!(stream.local_addr().unwrap().is_unnamed());
        stream.write_all(b"ping").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        check_eq!(answer, "pong");
    });
    let (mut stream, peer) = listener.accept().unwrap();
    check!(peer.is_unnamed());
    check_eq!(stream.local_addr().unwrap().as_pathname().unwrap().to_str(), Some(path));
    let mut question = [0; 4];
    stream.read_exact(&mut question).unwrap();
    check_eq!(&question, b"ping");
    stream.write_all(b"pong").unwrap();
    drop(stream);
    client.join().unwrap();
    drop(listener);
    // The name stays, but nobody is there.
    check_eq!(UnixStream::connect(path).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    check_eq!(File::open(path).unwrap_err().raw_os_error(), Some(libc::ENXIO));
    fs::remove_file(path).unwrap();
    check_eq!(UnixStream::connect(path).unwrap_err().kind(), ErrorKind::NotFound);
}

fn backlog() {
    let address = SocketAddr::from_abstract_name(format!("backlog-{}", std::process::id())).unwrap();
    let listener = UnixListener::bind_addr(&address).unwrap();
    listener.set_nonblocking(true).unwrap();
    check_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    let mut waiting: Vec<_> = (0..10).map(|_| UnixStream::connect_addr(&address).unwrap()).collect();
    // Bytes may come before the other side has accepted.
    waiting[0].write_all(b"early").unwrap();
    let (mut first, _) = listener.accept().unwrap();
    let mut bytes = [0; 5];
    first.read_exact(&mut bytes).unwrap();
    check_eq!(&bytes, b"early");
    drop(listener);
    check_eq!(waiting[9].read(&mut bytes).map_err(|error| error.kind()), Err(ErrorKind::ConnectionReset));
}

/// A connection that nobody has accepted ends with its listener.
fn unaccepted(path: &str) {
    let listener = UnixListener::bind(path).unwrap();
    let mut client = UnixStream::connect(path).unwrap();
    drop(listener);
    check_eq!(client.take_error().unwrap().unwrap().kind(), ErrorKind::ConnectionReset);
    check!(client.take_error().unwrap().is_none());
    check_eq!(client.read(&mut [0]).unwrap(), 0);
    fs::remove_file(path).unwrap();
}

fn shutdown_and_close() {
    let (mut one, mut other) = UnixStream::pair().unwrap();
    one.write_all(b"last words").unwrap();
    one.shutdown(std::net::Shutdown::Write).unwrap();
    check_eq!(one.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
    let mut text = String::new();
    other.read_to_string(&mut text).unwrap();
    check_eq!(text, "last words");
    drop(one);
    check_eq!(other.read(&mut [0; 1]).unwrap(), 0);
    check_eq!(other.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);

    let (mut one, other) = UnixStream::pair().unwrap();
    one.write_all(b"never read").unwrap();
    drop(other);
    check_eq!(one.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);

    let (mut one, _other) = UnixStream::pair().unwrap();
    one.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    check_eq!(one.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::WouldBlock);
}

fn datagrams(path: &str) {
    let receiver = UnixDatagram::bind(path).unwrap();
    let sender = UnixDatagram::unbound().unwrap();
    check_eq!(sender.send(b"x").unwrap_err().kind(), ErrorKind::NotConnected);
    check_eq!(UnixStream::connect(path).unwrap_err().raw_os_error(), Some(libc::EPROTOTYPE));
    sender.send_to(b"first", path).unwrap();
    sender.connect(path).unwrap();
    sender.send(b"").unwrap();
    sender.send(b"second").unwrap();
    let mut bytes = [0; 3];
    // What does not fit is lost.
    let (len, from) = receiver.recv_from(&mut bytes).unwrap();
    check_eq!((len, &bytes), (3, b"fir"));
    check!(from.is_unnamed());
    check_eq!(receiver.recv(&mut bytes).unwrap(), 0);
    let mut bytes = [0; 100];
    check_eq!(receiver.recv(&mut bytes).unwrap(), 6);
    receiver.set_nonblocking(true).unwrap();
    check_eq!(receiver.recv(&mut bytes).unwrap_err().kind(), ErrorKind::WouldBlock);
    drop(receiver);
    check_eq!(sender.send(b"x").unwrap_err().kind(), ErrorKind::ConnectionRefused);
    fs::remove_file(path).unwrap();
    let stream = UnixStream::pair().unwrap().0;
    check_eq!(rustix::net::sockopt::socket_type(stream.as_fd()), Ok(SocketType::STREAM));
}

fn abstract_names() {
    let name = format!("name\0with zero {}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let receiver = UnixDatagram::bind_addr(&address).unwrap();
    check_eq!(receiver.local_addr().unwrap().as_abstract_name(), Some(name.as_bytes()));
    check_eq!(UnixDatagram::bind_addr(&address).unwrap_err().kind(), ErrorKind::AddrInUse);
    let sender = UnixDatagram::unbound().unwrap();
    sender.send_to_addr(b"hello", &address).unwrap();
    check_eq!(receiver.recv(&mut [0; 9]).unwrap(), 5);
    // Streams have abstract names of their own; a path is one for all.
    check_eq!(UnixStream::connect_addr(&address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    drop(receiver);
    check_eq!(sender.send_to_addr(b"x", &address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    UnixDatagram::bind_addr(&address).unwrap();
}

fn packets() {
    let pair = || {
        rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            rustix::net::SocketFlags::empty(),
            None,
        )
    };
    let (one, other) = pair().unwrap();
    rustix::io::write(&one, b"one").unwrap();
    rustix::io::write(&one, b"two").unwrap();
    let mut bytes = [0; 100];
    check_eq!(rustix::io::read(&other, &mut bytes[..]), Ok(3));
    check_eq!(&bytes[..3], b"one");
    drop(one);
    check_eq!(rustix::io::read(&other, &mut bytes[..]), Ok(3));
    check_eq!(rustix::io::read(&other, &mut bytes[..]), Ok(0));
    let mut fds = [PollFd::new(&other, PollFlags::IN)];
    check_eq!(rustix::event::poll(&mut fds, None), Ok(1));
    check!(fds[0].revents().contains(PollFlags::IN | PollFlags::HUP));
}

fn send_file(socket: &impl AsFd, file: &File, bytes: &[u8]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [file.as_fd()];
    check!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
    sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::empty()).unwrap();
}

fn receive_files(socket: &impl AsFd, bytes: &mut [u8]) -> (usize, Vec<OwnedFd>) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = recvmsg(socket, &mut [IoSliceMut::new(bytes)], &mut control, flags).unwrap();
    let mut files = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            files.extend(rights);
        }
    }
    (received.bytes, files)
}

fn files_travel() {
    let (one, other) = UnixStream::pair().unwrap();
    let (mut reader, mut writer) = io::pipe().unwrap();
    let file = File::from(OwnedFd::from(writer.try_clone().unwrap()));
    (&one).write_all(b"before").unwrap();
    send_file(&one, &file, b"with");
    (&one).write_all(b"after").unwrap();
    drop(file);
    let mut bytes = [0; 100];
    let (len, files) = receive_files(&other, &mut bytes);
    check_eq!((&bytes[..len], files.len()), (&b"beforewith"[..], 1));
    check_eq!((&other).read(&mut bytes).unwrap(), 5);
    let mut travelled = File::from(files.into_iter().next().unwrap());
    travelled.write_all(b"through").unwrap();
    drop(travelled);
    writer.write_all(b"!").unwrap();
    drop(writer);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    check_eq!(text, "through!");

    // A file that is never received is closed with the socket that it was sent to.
    let (mut reader, writer) = io::pipe().unwrap();
    let file = File::from(OwnedFd::from(writer));
    send_file(&one, &file, b"lost");
    drop((file, one, other));
    check_eq!(reader.read(&mut bytes).unwrap(), 0);
}

fn big_writes() {
    let (mut one, mut other) = UnixStream::pair().unwrap();
    let bytes: Vec<u8> = (0..3_000_000u32).map(|index| (index % 253) as u8).collect();
    let copy = bytes.clone();
    let writer = thread::spawn(move || one.write_all(&copy).unwrap());
    let mut received = Vec::new();
    other.read_to_end(&mut received).unwrap();
    writer.join().unwrap();
    check!(received == bytes);

    let (one, _other) = UnixDatagram::pair().unwrap();
    one.set_nonblocking(true).unwrap();
    let error = (0..10_000).find_map(|_| one.send(&[0; 1000]).err()).unwrap();
    check_eq!(error.kind(), ErrorKind::WouldBlock);
    let mut fds = [PollFd::new(&one, PollFlags::OUT)];
    check_eq!(rustix::event::poll(&mut fds, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(0));
    check_eq!(Errno::from_io_error(&one.send(&[0; 1_000_000]).unwrap_err()), Some(Errno::MSGSIZE));
}

/// Two datagrams of half of what SO_SNDBUF tells find room, and a third does not.
fn told_buffer() {
    let (sender, receiver) = UnixDatagram::pair().unwrap();
    let half = vec![7; rustix::net::sockopt::socket_send_buffer_size(&sender).unwrap() / 2];
    sender.set_nonblocking(true).unwrap();
    check_eq!(sender.send(&half).ok(), Some(half.len()));
    check_eq!(sender.send(&half).ok(), Some(half.len()));
    check_eq!(sender.send(&half).map_err(|error| error.kind()), Err(ErrorKind::WouldBlock));
    check_eq!(receiver.recv(&mut vec![0; half.len()]).ok(), Some(half.len()));
    check_eq!(sender.send(&half).ok(), Some(half.len()));
}
