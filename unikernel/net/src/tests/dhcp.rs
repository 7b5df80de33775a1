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
        for _ in 0..seconds {
            for _ in 0..6 {
                self.host.poll(self.now);
                self.host.flush(self.now);
                for frame in core::mem::take(&mut self.host.nic.tx) {
                    if frame[12..14] == [8, 6] && frame[41] == 2 {
                        self.host.nic.rx.push_back(arp_answer(&frame));
                    }
                    let answer = dhcp_server(&frame, self.lease).filter(|_| hears(&frame));
                    self.host.nic.rx.extend(answer);
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
