//! `/proc/net`, line by line as Linux writes it.

use super::*;
use crate::listing::IpVersion;

fn text(write: impl FnOnce(&mut alloc::string::String)) -> alloc::string::String {
    let mut text = alloc::string::String::new();
    write(&mut text);
    text
}

/// Stands in for the numbers of the app's sockets.
fn inode(id: SocketId) -> u64 {
    match id {
        SocketId::Listener(_) => 71,
        SocketId::Tcp(_) => 72,
        SocketId::Udp(_) => 73,
    }
}

#[test]
fn connections_are_shown_as_ss_does() {
    let mut net = Net::new();
    let listener = net.a.listen(8080, 4);
    let (server, _) = net.connect(listener);
    let port = net.a.stack.tcp_peer(server).unwrap().port();
    net.connect(listener);
    let listeners = text(|out| net.a.stack.show_listeners(out, inode).unwrap());
    assert!(listeners.starts_with("LISTEN      0      0      0.0.0.0:8080 *:* ino:71"), "{listeners}");
    let mut passed = Vec::new();
    let all = text(|out| {
        // One at a time, until there is none.
        for start in 0.. {
            passed.push(net.a.stack.show_connections(out, start, 1, inode).unwrap());
            if passed.last() == Some(&0) {
                break;
            }
        }
    });
    assert_eq!(passed, [1, 1, 0]);
    assert_eq!(all.matches("ESTAB       0      0      10.0.2.15:8080 10.0.2.1:").count(), 2, "{all}");
    assert!(all.contains(&std::format!("10.0.2.1:{port} ino:72\n\t sack wscale:")), "{all}");
    assert!(all.contains(" rto:") && all.contains(" cwnd:10 "), "{all}");
}

#[test]
fn sockets_are_listed_as_linux_does() {
    let mut net = Net::new();
    let listener = net.a.listen(8080, 4);
    let (server, _) = net.connect(listener);
    let listeners = text(|out| net.a.stack.list_listeners(out, IpVersion::V4, inode).unwrap());
    assert!(
        listeners.contains(
            ": 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 71 "
        ),
        "{listeners}"
    );
    let connections = text(|out| net.a.stack.list_connections(out, IpVersion::V4, inode).unwrap());
    let port = net.a.stack.tcp_peer(server).unwrap().port();
    assert!(connections.contains(&std::format!(": 0F02000A:1F90 0102000A:{port:04X} 01 ")), "{connections}");
    assert_eq!(text(|out| net.a.stack.list_connections(out, IpVersion::V6, inode).unwrap()), "");
    net.a.stack.udp_bind("[::1]:53".parse().unwrap(), BindOptions::default()).unwrap();
    let udp = text(|out| net.a.stack.list_udp(out, IpVersion::V6, inode).unwrap());
    assert!(
        udp.contains(": 00000000000000000000000001000000:0035 00000000000000000000000000000000:0000 07 "),
        "{udp}"
    );
}

#[test]
fn addresses_routes_and_neighbours_are_listed() {
    let mut net = Net::new();
    net.introduce();
    let routes = text(|out| net.a.stack.list_routes(out, "eth0"));
    assert_eq!(
        routes,
        "eth0\t0002000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\neth0\t00000000\t0202000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
    );
    let neighbors = text(|out| net.a.stack.list_neighbors(out, "eth1"));
    assert_eq!(
        neighbors,
        "10.0.2.1         0x1         0x2         02-00-00-00-00-01     *        eth1\n".replace('-', ":")
    );
    let addresses = text(|out| net.a.stack.list_ipv6_addresses(out, "eth0", 2));
    assert_eq!(addresses.lines().count(), 1);
    assert!(addresses.ends_with("fe80000000000000000000fffe00000f 02 40 20 80     eth0\n"));
}

#[test]
fn counters_stand_under_their_names() {
    let counters = Counters { connects: 7, udp_full: 3, backlog_full: 2, ..Counters::default() };
    for file in [crate::listing::snmp(&counters), crate::listing::netstat(&counters)] {
        let lines: Vec<&str> = file.lines().collect();
        for pair in lines.chunks(2) {
            let columns = |line: &str| line.split(' ').count();
            assert_eq!(columns(pair[0]), columns(pair[1]), "{pair:?}");
        }
    }
    assert!(crate::listing::snmp(&counters).contains("Tcp: 7 0 0 0 0\n"));
}
