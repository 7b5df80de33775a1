//! What becomes of a lease, and of connections when it changes.

use super::neighbors::{arp_answer, dhcp_server};
use super::*;

/// A host on a lease of 100 seconds from a server that can be told what to answer.
struct Leased {
    host: Host,
    now: Instant,
    lease: Ipv4Addr,
}

impl Leased {
    fn new() -> Self {
        let mut leased = Self {
            host: Host::with(Config::new(mac(15), Addressing::Dhcp)),
            now: Instant::ZERO,
            lease: ip(40),
        };
        leased.run(1, |_| true);
        leased
    }

    /// Lets seconds pass; the server answers the frames that `hears` lets through.
    fn run(&mut self, seconds: u64, hears: impl Fn(&[u8]) -> bool) {
        let lease = self.lease;
        let is_asked = |frame: &[u8]| frame[41] == 2;
        self.exchange(seconds, is_asked, |_, frame| dhcp_server(frame, lease).filter(|_| hears(frame)));
    }

    /// Lets seconds pass; ARP requests that `is_asked` is true for are answered, and `serve` answers the rest.
    fn exchange(
        &mut self,
        seconds: u64,
        is_asked: impl Fn(&[u8]) -> bool,
        serve: impl Fn(u64, &[u8]) -> Option<Vec<u8>>,
    ) {
        for second in 0..seconds {
            for _ in 0..6 {
                self.host.poll(self.now);
                self.host.flush(self.now);
                for frame in core::mem::take(&mut self.host.nic.tx) {
                    if frame[12..14] == [8, 6] && is_asked(&frame) {
                        self.host.nic.rx.push_back(arp_answer(&frame));
                    }
                    self.host.nic.rx.extend(serve(second, &frame));
                }
            }
            self.now += Duration::from_secs(1);
        }
    }

    fn address(&self) -> Option<Ipv4Addr> {
        self.host.stack.config().ipv4.as_ref().map(|config| config.address.address())
    }
}

fn is_broadcast(frame: &[u8]) -> bool {
    frame[..6] == [0xff; 6]
}

#[test]
fn servers_are_told_the_name() {
    for name in [&b""[..], b"web-1"] {
        let config = Config { host_name: name.to_vec(), ..Config::new(mac(15), Addressing::Dhcp) };
        let mut leased = Leased { host: Host::with(config), now: Instant::ZERO, lease: ip(40) };
        let told = core::cell::RefCell::new(Vec::new());
        leased.exchange(
            2,
            |_| false,
            |_, frame| {
                if frame[12..14] == [8, 0] && frame[36..38] == [0, 67] {
                    let packet = smoltcp::wire::DhcpPacket::new_checked(&frame[42..]).unwrap();
                    let name =
                        packet.options().find(|option| option.kind == 12).map(|option| option.data.to_vec());
                    told.borrow_mut().push(name);
                }
                dhcp_server(frame, ip(40))
            },
        );
        // In the question and in the request.
        let expected = Some(name.to_vec()).filter(|name| !name.is_empty());
        assert_eq!(told.into_inner(), [expected.clone(), expected]);
        assert_eq!(leased.address(), Some(ip(40)));
    }
}

#[test]
fn server_that_is_deaf_to_renewals_is_asked_by_broadcast() {
    let mut leased = Leased::new();
    assert_eq!(leased.address(), Some(ip(40)));
    for _ in 0..400 {
        leased.run(1, is_broadcast);
        assert_eq!(leased.address(), Some(ip(40)), "rebinding keeps the lease, at {}", leased.now);
    }
}

#[test]
fn renewal_changes_nothing_for_connections() {
    let mut leased = Leased::new();
    let id = leased.host.stack.tcp_connect(leased.now, None, at(2, 80)).unwrap();
    let changes = leased.host.stack.address_changes();
    leased.run(60, |_| true);
    assert_eq!(leased.host.stack.address_changes(), changes);
    assert_eq!(leased.host.stack.tcp_take_error(id), None);
}

#[test]
fn lost_lease_ends_what_used_it_and_nothing_else() {
    let mut leased = Leased::new();
    let stack = &mut leased.host.stack;
    let listener = stack.tcp_bind(any(80), BindOptions::default()).unwrap();
    stack.tcp_listen(listener, 4).unwrap();
    let inside = stack.tcp_connect(leased.now, None, "127.0.0.1:80".parse().unwrap()).unwrap();
    let outside = stack.tcp_connect(leased.now, None, at(2, 80)).unwrap();
    leased.run(101, |_| false);
    assert_eq!(leased.address(), None);
    assert_eq!(leased.host.stack.tcp_take_error(outside), Some(SocketError::AddressLost));
    assert!(leased.host.stack.tcp_is_connected(inside));
    assert!(leased.host.stack.tcp_connect(leased.now, None, at(2, 80)).is_err());

    leased.lease = ip(41);
    leased.run(60, |_| true);
    assert_eq!(leased.address(), Some(ip(41)), "another address is as good");
    assert!(leased.host.stack.tcp_is_connected(inside));
    let again = leased.host.stack.tcp_connect(leased.now, None, at(2, 80)).unwrap();
    assert_eq!(leased.host.stack.tcp_local(again).unwrap().ip(), ip(41));
}

/// The same answer with other options: `change` gets the options behind the magic number, up to the end.
fn with_options(frame: &[u8], change: impl Fn(Vec<u8>) -> Vec<u8>) -> Vec<u8> {
    let message = &frame[42..];
    let end = message.iter().rposition(|byte| *byte == 255).unwrap();
    let changed = [&message[..240], &change(message[240..end].to_vec()), &[255]].concat();
    crate::dhcp::frame(&frame[..14], (ip(2), Ipv4Addr::BROADCAST), &changed).unwrap()
}

/// Options without those of a kind.
fn without(options: &[u8], kind: u8) -> Vec<u8> {
    let (mut rest, mut kept) = (options, Vec::new());
    while let [known, len, ..] = rest {
        let (option, tail) = rest.split_at(2 + usize::from(*len));
        if *known != kind {
            kept.extend_from_slice(option);
        }
        rest = tail;
    }
    kept
}

impl Leased {
    /// A host that asks a server whose answers `change` makes others, and hears nothing more after `seconds`.
    fn from_server(seconds: u64, change: impl Fn(u64, Vec<u8>) -> Vec<u8>) -> Self {
        let host = Host::with(Config::new(mac(15), Addressing::Dhcp));
        let mut leased = Self { host, now: Instant::ZERO, lease: ip(40) };
        leased.serve(seconds, change);
        leased
    }

    fn serve(&mut self, seconds: u64, change: impl Fn(u64, Vec<u8>) -> Vec<u8>) {
        let lease = self.lease;
        let is_request = |frame: &[u8]| frame[21] == 1;
        self.exchange(seconds, is_request, |second, frame| {
            let answer = dhcp_server(frame, lease)?;
            Some(with_options(&answer, |options| change(second, options)))
        });
    }

    fn config(&self) -> &Ipv4Config {
        self.host.stack.config().ipv4.as_ref().expect("there is a lease")
    }

    /// Whose hardware address is asked for on the way to `to`.
    fn next_hop(&mut self, to: Ipv4Addr) -> Option<Ipv4Addr> {
        self.host.stack.tcp_connect(self.now, None, SocketAddr::new(to.into(), 80)).ok()?;
        self.host.flush(self.now);
        let question = self.host.nic.tx.drain(..).find(|frame| frame[12..14] == [8, 6])?;
        Some(Ipv4Addr::new(question[38], question[39], question[40], question[41]))
    }
}

#[test]
fn first_of_several_routers_is_the_default() {
    let two = [3, 8, 10, 0, 2, 7, 10, 0, 2, 8];
    let mut leased = Leased::from_server(2, |_, options| [without(&options, 3), two.to_vec()].concat());
    assert_eq!(leased.config().gateway, Some(ip(7)));
    assert_eq!(leased.next_hop(Ipv4Addr::new(1, 1, 1, 1)), Some(ip(7)));
}

#[test]
fn classless_routes_are_asked_for_and_used() {
    let mut leased = Leased::from_server(2, |_, options| {
        let routes = [121, 18, 24, 10, 9, 9, 10, 0, 2, 9, 0, 10, 0, 2, 8, 16, 172, 20, 0, 0, 0, 0];
        let mut routes = routes.to_vec();
        routes[1] = (routes.len() - 2) as u8;
        [options, routes].concat()
    });
    assert_eq!(leased.config().gateway, Some(ip(8)), "the router of the other option counts for nothing");
    assert_eq!(leased.next_hop(Ipv4Addr::new(10, 9, 9, 1)), Some(ip(9)));
    assert_eq!(leased.next_hop(Ipv4Addr::new(8, 8, 8, 8)), Some(ip(8)));
    let direct = Ipv4Addr::new(172, 20, 3, 4);
    assert_eq!(leased.next_hop(direct), Some(direct));
}

#[test]
fn discover_asks_for_classless_routes_first() {
    let mut host = Host::with(Config::new(mac(15), Addressing::Dhcp));
    host.flush(Instant::ZERO);
    let frame = host.nic.tx.iter().find(|frame| frame[12..14] == [8, 0]).unwrap();
    assert!(frame.windows(7).any(|window| window == [55, 5, 1, 121, 3, 6, 42]));
}

#[test]
fn renewal_without_a_mask_keeps_the_lease() {
    let leased = Leased::from_server(300, |second, options| match second {
        0 => options,
        _ => without(&options, 1),
    });
    assert_eq!(leased.config().address, Ipv4Cidr::new(ip(40), 24));
    assert_eq!(leased.host.stack.address_changes(), 1);
}

#[test]
fn lease_of_no_time_makes_no_storm() {
    for times in [&[51, 4, 0, 0, 0, 0][..], &[51, 4, 0, 0, 0, 100, 58, 4, 0, 0, 0, 0, 59, 4, 0, 0, 0, 1]] {
        let leased = Leased::from_server(60, |_, options| [without(&options, 51), times.to_vec()].concat());
        assert_eq!(leased.config().address.address(), ip(40));
        let sent = leased.host.stack.counters().tx_packets;
        assert!(sent < 40, "{sent} packets in a minute");
    }
}

/// A server that refuses a renewal and then gives the same address again, or another.
#[test]
fn refusal_ends_connections_only_if_the_address_changes() {
    for (again, outcome) in [(ip(40), None), (ip(41), Some(SocketError::AddressLost))] {
        let mut leased = Leased::new();
        let id = leased.host.stack.tcp_connect(leased.now, None, at(2, 80)).unwrap();
        leased.lease = again;
        let refuse = |_, options: Vec<u8>| [without(&options, 53), vec![53, 1, 6]].concat();
        // Up to the renewal, which is refused.
        while leased.host.stack.tcp_take_error(id).is_none() && leased.now < Instant::from_secs(52) {
            leased.serve(1, refuse);
        }
        leased.serve(3, |_, options| options);
        assert_eq!(leased.address(), Some(again));
        assert_eq!(leased.host.stack.tcp_take_error(id), outcome);
    }
}

#[test]
fn refused_address_goes_in_the_end() {
    let mut leased = Leased::new();
    leased.serve(80, |_, options| [without(&options, 53), vec![53, 1, 6]].concat());
    assert_eq!(leased.address(), None);
}

#[test]
fn refusals_make_no_storm() {
    let refuse = |_, options: Vec<u8>| match options.windows(3).any(|option| option == [53, 1, 5]) {
        true => [without(&options, 53), vec![53, 1, 6]].concat(),
        false => options,
    };
    let mut leased = Leased::from_server(120, refuse);
    assert_eq!(leased.address(), None);
    let sent = leased.host.stack.counters().tx_packets;
    assert!(sent < 60, "{sent} packets in two minutes");
    leased.serve(70, |_, options| options);
    assert_eq!(leased.address(), Some(ip(40)));
}

#[test]
fn routes_of_every_kind_are_read_or_left_out() {
    let cases: [(&[u8], Option<Ipv4Addr>); 6] = [
        // Malformed: the router of the other option counts.
        (&[121, 3, 24, 10, 9], Some(ip(2))),
        (&[121, 5, 33, 10, 0, 2, 9], Some(ip(2))),
        (&[121, 4, 0, 10, 0, 2], Some(ip(2))),
        (&[121, 0], Some(ip(2))),
        // No default among them: there is none.
        (&[121, 8, 24, 10, 9, 9, 10, 0, 2, 9], None),
        // Two: the first.
        (&[121, 10, 0, 10, 0, 2, 8, 0, 10, 0, 2, 9], Some(ip(8))),
    ];
    for (routes, gateway) in cases {
        let leased = Leased::from_server(2, |_, options| [options, routes.to_vec()].concat());
        assert_eq!(leased.config().gateway, gateway, "{routes:?}");
        assert_eq!(leased.address(), Some(ip(40)));
    }
}

#[test]
fn endless_lease_stays() {
    let mut leased = Leased::from_server(2, |_, options| {
        [without(&options, 51), vec![51, 4, 255, 255, 255, 255]].concat()
    });
    leased.now += Duration::from_secs(1_000_000_000);
    leased.run(10, |_| false);
    assert_eq!(leased.address(), Some(ip(40)));
}

/// As in Google's cloud: the address is a network of its own, and the router outside of it.
#[test]
fn router_outside_of_the_network_is_a_neighbor() {
    let mask = [1, 4, 255, 255, 255, 255];
    let mut leased = Leased::from_server(2, |_, options| [without(&options, 1), mask.to_vec()].concat());
    assert_eq!(leased.config().address, Ipv4Cidr::new(ip(40), 32));
    let far = "1.1.1.1:80".parse().unwrap();
    leased.host.stack.tcp_connect(leased.now, None, far).unwrap();
    leased.host.flush(leased.now);
    let question = leased.host.nic.tx.pop_front().unwrap();
    assert_eq!((&question[12..14], &question[38..42]), (&[8, 6][..], &ip(2).octets()[..]));
    leased.host.nic.rx.push_back(arp_answer(&question));
    leased.host.poll(leased.now);
    leased.host.flush(leased.now);
    let opening = leased.host.nic.tx.pop_front().expect("the SYN leaves");
    assert_eq!((&opening[..6], &opening[12..14]), (&mac(2).0[..], &[8, 0][..]));
    // The router asks for us.
    let mut asking = question.clone();
    asking[..6].copy_from_slice(&[0xff; 6]);
    asking[6..12].copy_from_slice(&mac(2).0);
    asking[22..28].copy_from_slice(&mac(2).0);
    asking[28..32].copy_from_slice(&ip(2).octets());
    asking[38..42].copy_from_slice(&ip(40).octets());
    leased.host.nic.tx.clear();
    leased.host.nic.rx.push_back(asking);
    leased.host.poll(leased.now);
    let answer = leased.host.nic.tx.pop_front().expect("it is answered");
    assert_eq!(
        (answer[21], &answer[28..32], &answer[38..42]),
        (2, &ip(40).octets()[..], &ip(2).octets()[..])
    );
}

#[test]
fn given_router_outside_of_the_network_is_a_neighbor() {
    let own = Ipv4Cidr::new(Ipv4Addr::new(10, 128, 0, 5), 32);
    let gateway = Some(Ipv4Addr::new(10, 128, 0, 1));
    let address = Ipv4Config { address: own, gateway, dns: vec![], routes: vec![], time_servers: vec![] };
    let host = Host::with(Config::new(mac(15), Addressing::Static(address)));
    let mut leased = Leased { host, now: Instant::ZERO, lease: ip(40) };
    assert_eq!(leased.next_hop(Ipv4Addr::new(1, 1, 1, 1)), gateway);
}
