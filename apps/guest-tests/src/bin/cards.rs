//! Two cards on two networks. The host answers on port 9000 with the address that it sees the question come from, so
//! that the answer tells which card it left by. `qemu/src/tap_tests.rs` has the host's side; `eth0` is 10.0.2.15 and has the first default route, `eth1` is
//! 10.0.3.15 and leads to 10.9.8.0/24.

use std::fs;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::thread;
use std::time::Duration;

use guest_tests::{check, check_eq, errno};

const ETH0: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 2, 15));
const ETH1: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 3, 15));
/// The host's addresses: on either network, behind both, and behind the second alone.
const NEAR: [&str; 2] = ["10.0.2.1:9000", "10.0.3.1:9000"];
const BEHIND_BOTH: &str = "10.9.0.1:9000";
const BEHIND_ETH1: &str = "10.9.8.1:9000";

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Binds a socket to a card, or with an empty name to none.
fn bind_to_device(socket: &impl AsRawFd, name: &str) -> i32 {
    // SAFETY: the name is that long.
    unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_BINDTODEVICE,
            name.as_ptr().cast(),
            name.len() as u32,
        )
    }
}

/// Who the host sees over TCP, from a socket bound to `device`.
fn tcp_source(to: &str, device: &str) -> IpAddr {
    let socket =
        rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None).unwrap();
    check_eq!(bind_to_device(&socket, device), 0);
    rustix::net::connect(&socket, &address(to)).unwrap();
    let mut stream = TcpStream::from(socket);
    let mut seen = String::new();
    stream.read_to_string(&mut seen).unwrap();
    let seen = seen.parse().unwrap();
    check_eq!(stream.local_addr().unwrap().ip(), seen);
    seen
}

/// Who the host sees over UDP.
fn udp_source(socket: &UdpSocket, to: &str) -> IpAddr {
    let mut room = [0; 64];
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket.send_to(b"?", address(to)).unwrap();
    let (len, from) = socket.recv_from(&mut room).unwrap();
    check_eq!(from, address(to));
    str::from_utf8(&room[..len]).unwrap().parse().unwrap()
}

fn routes_choose_the_card() {
    for (to, source) in [(NEAR[0], ETH0), (NEAR[1], ETH1), (BEHIND_BOTH, ETH0), (BEHIND_ETH1, ETH1)] {
        check_eq!(tcp_source(to, ""), source);
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        check_eq!(udp_source(&socket, to), source);
        socket.connect(to).unwrap();
        check_eq!(socket.local_addr().unwrap().ip(), source);
        check_eq!(socket.peer_addr().unwrap(), address(to));
    }
}

fn sockets_choose_the_card() {
    check_eq!(tcp_source(BEHIND_BOTH, "eth1"), ETH1);
    check_eq!(tcp_source(BEHIND_BOTH, "eth0"), ETH0);
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    check_eq!(bind_to_device(&socket, "eth1"), 0);
    check_eq!(udp_source(&socket, BEHIND_BOTH), ETH1);
    check_eq!(bind_to_device(&socket, ""), 0);
    check_eq!(udp_source(&socket, BEHIND_BOTH), ETH0);
    check_eq!(bind_to_device(&socket, "eth7"), -1);
    check_eq!(errno(), libc::ENODEV);
    // The address chooses, too.
    let socket = UdpSocket::bind((ETH1, 0)).unwrap();
    check_eq!(udp_source(&socket, BEHIND_BOTH), ETH1);
}

/// A datagram of one card does not hide those of the other.
fn both_cards_are_heard() {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    NEAR.iter().for_each(|to| check_eq!(socket.send_to(b"?", address(to)).unwrap(), 1));
    let mut sources: Vec<String> = NEAR
        .iter()
        .map(|_| {
            let mut room = [0; 64];
            let (len, _) = socket.recv_from(&mut room).unwrap();
            String::from_utf8_lossy(&room[..len]).into_owned()
        })
        .collect();
    sources.sort();
    check_eq!(sources, [ETH0.to_string(), ETH1.to_string()]);
}

/// Both addresses are the machine's own, from wherever it looks.
fn own_addresses_are_near() {
    for to in [ETH0, ETH1, IpAddr::V4(Ipv4Addr::LOCALHOST)] {
        let listener = TcpListener::bind((to, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = thread::spawn(move || TcpStream::connect((to, port)).unwrap());
        let (_, peer) = listener.accept().unwrap();
        check_eq!(peer.ip(), to);
        check_eq!(client.join().unwrap().peer_addr().unwrap().ip(), to);
        let (one, other) = (UdpSocket::bind((to, 0)).unwrap(), UdpSocket::bind("0.0.0.0:0").unwrap());
        other.send_to(b"hello", one.local_addr().unwrap()).unwrap();
        check_eq!(one.recv_from(&mut [0; 8]).unwrap().0, 5);
    }
    check!(TcpListener::bind("10.0.4.15:0").is_err());
}

fn files_show_both() {
    let has_line = |file: &str, start: &str| {
        let text = fs::read_to_string(file).unwrap();
        text.lines().any(|line| line.trim_start().starts_with(start))
    };
    for card in ["eth0:", "eth1:"] {
        check!(has_line("/proc/net/dev", card));
    }
    check!(has_line("/proc/net/route", "eth0\t00000000\t0102000A"));
    check!(has_line("/proc/net/route", "eth1\t00000000\t0103000A"));
    check!(has_line("/proc/net/route", "eth1\t0008090A\t0103000A"));
    for (index, name) in [(1, "lo"), (2, "eth0"), (3, "eth1")] {
        check_eq!(
            rustix::net::netdevice::name_to_index(UdpSocket::bind("0.0.0.0:0").unwrap(), name).unwrap(),
            index
        );
    }
}

fn main() {
    routes_choose_the_card();
    sockets_choose_the_card();
    both_cards_are_heard();
    own_addresses_are_near();
    files_show_both();
}
