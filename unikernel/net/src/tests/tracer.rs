//! What becomes of connections is told.

use std::cell::RefCell;
use std::vec::Vec;

use core::net::SocketAddr;

use super::*;
use crate::Turn;

std::thread_local! {
    static TOLD: RefCell<Vec<(u16, u16, Turn)>> = const { RefCell::new(Vec::new()) };
}

fn note(local: &SocketAddr, remote: &SocketAddr, turn: Turn) {
    TOLD.with_borrow_mut(|told| told.push((local.port(), remote.port(), turn)));
}

fn told() -> Vec<(u16, u16, Turn)> {
    TOLD.with_borrow_mut(core::mem::take)
}

fn states(told: &[(u16, u16, Turn)], local: u16) -> Vec<u8> {
    let state = |turn: &Turn| if let Turn::State(state) = turn { Some(*state) } else { None };
    told.iter().filter(|(port, ..)| *port == local).filter_map(|(.., turn)| state(turn)).collect()
}

/// Numbers of Linux's `net/tcp_states.h`.
#[test]
fn a_connection_is_followed_to_its_end() {
    let mut net = buffers::net(Duration::from_secs(2));
    [&mut net.a, &mut net.b].into_iter().for_each(|host| host.stack.set_tracer(Some(note)));
    let listener = net.a.listen(8080, 16);
    let (server, client) = net.connect(listener);
    let ours = told();
    let port = ours.iter().find(|(port, ..)| *port != 8080).map(|(port, ..)| *port).unwrap();
    assert_eq!((states(&ours, port), states(&ours, 8080)), (std::vec![2, 1], std::vec![3, 1]));
    // Data changes nothing.
    assert_eq!(net.b.send(client, b"hello"), 5);
    net.settle();
    assert_eq!(net.a.recv(server).unwrap(), b"hello");
    net.settle();
    assert_eq!(told(), []);
    net.b.stack.tcp_close(client);
    net.settle();
    net.a.stack.tcp_close(server);
    net.settle();
    let end = told();
    let (active, passive) = (states(&end, port), states(&end, 8080));
    assert!(active.starts_with(&[4]) && active.ends_with(&[6]), "FIN-WAIT-1 to TIME-WAIT: {active:?}");
    assert!(passive.starts_with(&[8]) && passive.ends_with(&[7]), "CLOSE-WAIT to CLOSED: {passive:?}");
}

#[test]
fn what_is_sent_again_is_told() {
    let mut net = buffers::net(Duration::from_secs(2));
    let listener = net.a.listen(8080, 16);
    let (server, client) = net.connect(listener);
    net.a.stack.set_tracer(Some(note));
    net.a.send(server, b"lost");
    net.a.flush(net.now);
    net.a.nic.tx.clear();
    net.advance(Duration::from_secs(3));
    assert_eq!(net.b.recv(client).unwrap(), b"lost");
    let resent = |(port, _, turn): &(u16, u16, Turn)| matches!(turn, Turn::Resent(1..)) && *port == 8080;
    assert!(told().iter().any(resent));
    net.a.stack.set_tracer(None);
    net.a.stack.tcp_close(server);
    net.settle();
    assert_eq!(told(), []);
}
