//! Bulk data over bad wires, and properties of the byte stream.

use proptest::prelude::{ProptestConfig, prop_assert_eq, proptest};

use super::*;

/// Sends `total` bytes from a to b and checks each; answers the time it took.
pub(super) fn transfer(net: &mut Net, total: usize, chunk: usize) -> Duration {
    let listener = net.a.listen(8080, 4);
    let client = net.b.stack.tcp_connect(net.now, None, at(15, 8080)).unwrap();
    let mut server = None;
    let (mut sent, mut received) = (0, 0);
    let byte = |index: usize| (index % 251) as u8;
    let start = net.now;
    for _ in 0..200_000 {
        net.step();
        server = server.or_else(|| net.a.stack.tcp_accept(listener).ok());
        if let Some(server) = server
            && sent < total
        {
            let data: Vec<u8> = (sent..total.min(sent + chunk)).map(byte).collect();
            sent += net.a.send(server, &data);
            if sent == total {
                net.a.stack.tcp_shutdown_send(server).unwrap();
            }
        }
        match net.b.recv(client) {
            Ok(data) => {
                for (offset, value) in data.iter().enumerate() {
                    assert_eq!(*value, byte(received + offset));
                }
                received += data.len();
            }
            Err(RecvError::Finished) => {
                assert_eq!(received, total);
                return net.now - start;
            }
            Err(RecvError::WouldBlock | RecvError::NotConnected) => {}
            Err(error) => panic!("{error}"),
        }
        net.now += Duration::from_millis(1);
    }
    panic!("only {received} of {total} bytes arrived");
}

#[test]
fn clean_wire_is_fast() {
    let mut net = Net::new();
    let took = transfer(&mut net, 1 << 20, 1 << 16);
    assert!(took < Duration::from_secs(1), "{took}");
    assert_eq!(net.a.stack.counters().retransmits, 0);
}

#[test]
fn lossy_wire_delivers() {
    for seed in 0..6 {
        let mut net = Net::new();
        net.rng = Rng(seed);
        net.trouble = [20, 20, 50];
        transfer(&mut net, 100_000, 5000);
    }
}

#[test]
fn tiny_transmit_ring_delivers() {
    let mut net = Net::new();
    net.a.nic.tx_room = 1;
    net.b.nic.tx_room = 1;
    transfer(&mut net, 50_000, 4000);
}

/// A lost FIN, and acknowledgements that the wire repeats: the FIN must be sent again.
#[test]
fn lost_fin_is_sent_again_despite_repeated_acks() {
    let mut net = Net::new();
    net.rng = Rng(315_721_473_598_267_185);
    net.trouble = [31, 10, 40];
    transfer(&mut net, 15_493, 898);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn streams_arrive_whole(seed: u64, total in 1usize..40_000, chunk in 1usize..9000, loss in 0u64..60) {
        let mut net = Net::new();
        net.introduce();
        net.rng = Rng(seed);
        net.trouble = [loss, 10, 40];
        transfer(&mut net, total, chunk.max(total / 500));
    }

    #[test]
    fn keys_find_their_flow(ports in proptest::collection::vec(1u16.., 1..60)) {
        let mut net = Net::new();
        let listener = net.a.listen(8080, 4096);
        let mut pairs = std::collections::HashMap::new();
        for port in ports {
            if let Ok(client) = net.b.stack.tcp_connect(net.now, Some(any(port)), at(15, 8080)) {
                pairs.insert(port, client);
            }
        }
        net.settle();
        let mut accepted = 0;
        while let Ok(server) = net.a.stack.tcp_accept(listener) {
            let port = net.a.stack.tcp_peer(server).unwrap().port();
            net.a.send(server, &port.to_be_bytes());
            accepted += 1;
        }
        prop_assert_eq!(accepted, pairs.len());
        net.settle();
        for (port, client) in pairs {
            prop_assert_eq!(net.b.recv(client).unwrap(), port.to_be_bytes());
        }
    }
}
