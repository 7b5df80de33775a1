//! `/proc/net`: sockets are found there by the numbers that `fstat` tells, as `ss` and `lsof` do it
//! (proc_net_unix(5), proc_net(5)).

use std::fs;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};

use guest_tests::{check, check_eq};

/// The number of the inode behind a descriptor, which must be the one in its name.
fn inode(socket: &impl AsFd) -> u64 {
    let number = rustix::fs::fstat(socket).expect("fstat of a socket").st_ino;
    let descriptor = socket.as_fd().as_raw_fd();
    let name = fs::read_link(format!("/proc/self/fd/{descriptor}")).expect("a descriptor has a name");
    assert_eq!(name.to_str(), Some(format!("socket:[{number}]").as_str()));
    number
}

/// The columns of a file's line whose column `at` is `number`.
fn find(file: &str, at: usize, number: u64) -> Option<Vec<String>> {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{file}: {error}"));
    let lines = text.lines().map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    lines.into_iter().find(|columns| columns.get(at).is_some_and(|column| *column == number.to_string()))
}

/// Flags, type, state and path of an `AF_UNIX` socket.
fn unix(socket: &impl AsFd) -> Vec<String> {
    let columns = find("/proc/net/unix", 6, inode(socket)).expect("the socket is listed");
    [&columns[3..6], &columns[7..]].concat()
}

fn unix_sockets() {
    let address = SocketAddr::from_abstract_name(format!("files-{}", std::process::id())).unwrap();
    let listener = UnixListener::bind_addr(&address).unwrap();
    let name = format!("@files-{}", std::process::id());
    check_eq!(unix(&listener), ["00010000", "0001", "01", &name]);
    let client = UnixStream::connect_addr(&address).unwrap();
    check_eq!(unix(&client), ["00000000", "0001", "03"]);
    let (server, _) = listener.accept().unwrap();
    check_eq!(unix(&server), ["00000000", "0001", "03", &name]);
    let path = std::env::temp_dir().join(format!("files-{}", std::process::id()));
    let datagram = UnixDatagram::bind(&path).unwrap();
    let shown = path.to_str().unwrap();
    check_eq!(unix(&datagram), ["00000000", "0002", "01", shown]);
    fs::remove_file(&path).unwrap();
    let number = inode(&client);
    drop(client);
    check!(find("/proc/net/unix", 6, number).is_none());
}

fn internet_sockets() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let local = format!("0100007F:{port:04X}");
    let listed = find("/proc/net/tcp", 9, inode(&listener)).expect("the listener is listed");
    check!(listed[1] == local && listed[3] == "0A");
    let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let (server, _) = listener.accept().unwrap();
    let listed = find("/proc/net/tcp", 9, inode(&client)).expect("the client is listed");
    check!(listed[2] == local && listed[3] == "01");
    let listed = find("/proc/net/tcp", 9, inode(&server)).expect("the server is listed");
    check!(listed[1] == local && listed[3] == "01");
    let udp = UdpSocket::bind("[::1]:0").unwrap();
    let listed = find("/proc/net/udp6", 9, inode(&udp)).expect("the UDP socket is listed");
    let port = udp.local_addr().unwrap().port();
    check!(listed[1] == format!("00000000000000000000000001000000:{port:04X}") && listed[3] == "07");
}

fn main() {
    unix_sockets();
    internet_sockets();
}
