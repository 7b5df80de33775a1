//! Two stacks on one machine, and a device that deals frames out as it likes.

use super::*;

/// A machine with a stack for each queue pair of its card.
struct Sharded {
    hosts: Vec<Host>,
    handed_over: usize,
}

impl Sharded {
    fn new(count: usize) -> Self {
        let mut rng = Rng(99);
        let shards = Shard::deal(count, &mut || rng.next());
        let hosts = shards.into_iter().map(|shard| Host::with(Config { shard, ..config(15) })).collect();
        Self { hosts, handed_over: 0 }
    }

    /// Lets every shard work until none has a frame for another.
    fn poll(&mut self, now: Instant) {
        loop {
            let mut frames = Vec::new();
            for (from, host) in self.hosts.iter_mut().enumerate() {
                host.poll(now);
                host.flush(now);
                let mut handed = Vec::new();
                host.stack.take_handovers(&mut handed);
                frames.extend(handed.into_iter().map(|(to, frame)| (from, to, frame)));
            }
            if frames.is_empty() {
                return;
            }
            for (from, to, frame) in frames {
                self.handed_over += 1;
                let count = self.hosts.len();
                let targets = (0..count).filter(|&shard| match to {
                    Addressee::One(one) => shard == one,
                    Addressee::Others => shard != from,
                });
                for shard in targets {
                    let Host { stack, nic } = &mut self.hosts[shard];
                    stack.sibling_in(now, &frame, nic);
                }
            }
        }
    }

    /// The same listener on every shard.
    fn listen(&mut self, port: u16) -> ListenerId {
        let ids: Vec<ListenerId> = self.hosts.iter_mut().map(|host| host.listen(port, 64)).collect();
        assert!(ids.windows(2).all(|pair| pair[0] == pair[1]));
        ids[0]
    }
}

/// A wire between a machine with shards and one without; the device deals frames out by a seed.
struct Wire {
    machine: Sharded,
    peer: Host,
    rng: Rng,
    now: Instant,
}

impl Wire {
    fn new(count: usize, seed: u64) -> Self {
        Self { machine: Sharded::new(count), peer: Host::new(2), rng: Rng(seed), now: Instant::ZERO }
    }

    fn settle(&mut self) {
        for _ in 0..200 {
            self.machine.poll(self.now);
            self.peer.poll(self.now);
            self.peer.flush(self.now);
            let count = self.machine.hosts.len() as u64;
            let mut moved = 0;
            for host in &mut self.machine.hosts {
                moved += host.nic.tx.len();
                self.peer.nic.rx.extend(host.nic.tx.drain(..));
            }
            while let Some(frame) = self.peer.nic.tx.pop_front() {
                moved += 1;
                let queue = self.rng.below(count) as usize;
                self.machine.hosts[queue].nic.rx.push_back(frame);
            }
            if moved == 0 {
                return;
            }
        }
        panic!("the wire does not fall silent");
    }
}

#[test]
fn connections_find_their_shard_whatever_the_device_does() {
    for count in 1..=4 {
        let mut wire = Wire::new(count, count as u64);
        let listener = wire.machine.listen(8080);
        let clients: Vec<TcpId> =
            (0..64).map(|_| wire.peer.stack.tcp_connect(wire.now, None, at(15, 8080)).unwrap()).collect();
        wire.settle();
        let mut accepted = Vec::new();
        for shard in 0..count {
            while let Ok(id) = wire.machine.hosts[shard].stack.tcp_accept(listener) {
                accepted.push((shard, id));
            }
        }
        assert_eq!(accepted.len(), clients.len());
        for &(shard, id) in &accepted {
            let port = wire.machine.hosts[shard].stack.tcp_peer(id).unwrap().port();
            wire.machine.hosts[shard].send(id, &port.to_be_bytes());
        }
        wire.settle();
        for client in clients {
            let port = wire.peer.stack.tcp_local(client).unwrap().port();
            assert_eq!(wire.peer.recv(client).unwrap(), port.to_be_bytes());
        }
        for shard in 0..count {
            let share = accepted.iter().filter(|(owner, _)| *owner == shard).count();
            assert!(share >= 64 / count / 3, "{share} of 64 fell to {shard} of {count}");
        }
        assert_eq!(wire.machine.handed_over > 0, count > 1);
    }
}

#[test]
fn every_shard_can_begin_connections() {
    let mut wire = Wire::new(3, 7);
    let listener = wire.peer.listen(80, 64);
    let mut ids = Vec::new();
    for shard in 0..3 {
        for _ in 0..8 {
            // The neighbour is unknown at first: the answer comes to any shard.
            let stack = &mut wire.machine.hosts[shard].stack;
            ids.push((shard, stack.tcp_connect(wire.now, None, at(2, 80)).unwrap()));
        }
    }
    wire.settle();
    for (shard, id) in ids {
        let stack = &mut wire.machine.hosts[shard].stack;
        assert!(stack.tcp_is_connected(id));
        assert_eq!(stack.owner_of(stack.tcp_local(id), at(2, 80)), Some(shard));
        assert!(wire.peer.stack.tcp_accept(listener).is_ok());
    }
}

#[test]
fn loopback_stays_within_a_shard() {
    let mut machine = Sharded::new(4);
    let listener = machine.listen(9000);
    for shard in 0..4 {
        let host = &mut machine.hosts[shard];
        let client = host.stack.tcp_connect(Instant::ZERO, None, at(15, 9000)).unwrap();
        machine.poll(Instant::ZERO);
        let host = &mut machine.hosts[shard];
        assert!(host.stack.tcp_is_connected(client));
        assert!(host.stack.tcp_accept(listener).is_ok());
    }
    assert_eq!(machine.handed_over, 0);
}

#[test]
fn datagrams_and_errors_go_where_they_belong() {
    let mut wire = Wire::new(2, 5);
    let first = &mut wire.machine.hosts[0].stack;
    let socket = first.udp_bind(any(53), BindOptions::default()).unwrap();
    let client = wire.peer.stack.udp_bind(any(4000), BindOptions::default()).unwrap();
    for round in 0..20 {
        let data = [round; 5];
        wire.peer
            .stack
            .udp_send::<SendError>(client, Some(at(15, 53)), 5, |room| {
                room.copy_from_slice(&data);
                Ok(())
            })
            .unwrap();
        wire.settle();
        let got = wire.machine.hosts[0].stack.udp_recv(socket, |bytes, _| bytes.to_vec()).unwrap();
        assert_eq!(got, data);
    }
    // Nobody listens there: the reset reaches the shard that asked.
    for shard in 0..2 {
        let stack = &mut wire.machine.hosts[shard].stack;
        let id = stack.tcp_connect(wire.now, None, at(2, 81)).unwrap();
        wire.settle();
        assert_eq!(wire.machine.hosts[shard].stack.tcp_take_error(id), Some(SocketError::Refused));
    }
}
