//! A network in simulated time between two of our stacks: a link of 100 Mbit/s with a queue, and after it
//! delay, loss, repetition, reordering and corruption by a seed. What comes out is a table of goodputs,
//! kept beside this file: a change that makes TCP better or worse shows as a changed number.
//!
//! To renew it: `UPDATE_SNAPSHOTS=1 cargo test -p unikernel-net netsim`.

use alloc::collections::BinaryHeap;
use alloc::string::String;
use core::cmp::Reverse;
use core::fmt::Write;

use super::*;

const SNAPSHOT: &str = include_str!("netsim.txt");
const BITS_PER_MICROSECOND: u64 = 100;
/// Frames that may wait for the link in each direction.
const QUEUE_FRAMES: u64 = 128;
const BYTES: usize = 1 << 20;
const LONGEST: Duration = Duration::from_secs(120);

/// What befalls frames, each in so many of a hundred thousand.
#[derive(Clone, Copy, Default)]
struct Trouble {
    loss: u64,
    repetition: u64,
    reordering: u64,
    corruption: u64,
    /// Frames arrive all together, once in so many milliseconds: hosts are busy, and cards save interrupts. Then there is
    /// one acknowledgement for many segments, and little under way when it comes.
    batch_ms: u64,
}

/// When a frame arrives, which one it is, to whom.
type OnTheWay = (Instant, u64, usize, Vec<u8>);

struct Network {
    hosts: [Host; 2],
    way: BinaryHeap<Reverse<OnTheWay>>,
    link_free_at: [Instant; 2],
    now: Instant,
    delay: Duration,
    trouble: Trouble,
    rng: Rng,
    serial: u64,
}

impl Network {
    fn new(delay: Duration, trouble: Trouble) -> Self {
        let host = |last: u8| {
            let wide = Config {
                tcp_rx_window: 65_536,
                tcp_rx_limit: 4 << 20,
                tcp_tx_limit: 1 << 20,
                ..config(last)
            };
            Host::with(wide)
        };
        let hosts = [host(15), host(1)];
        let now = Instant::ZERO;
        let (way, link_free_at, rng) = (BinaryHeap::new(), [now; 2], Rng(42));
        Self { hosts, way, link_free_at, now, delay, trouble, rng, serial: 0 }
    }

    fn happens(&mut self, chance: u64) -> bool {
        self.rng.below(100_000) < chance
    }

    /// Puts on the wire what a host has sent.
    fn carry(&mut self, from: usize) {
        for mut frame in core::mem::take(&mut self.hosts[from].nic.tx) {
            let wire_time = Duration::from_micros(frame.len() as u64 * 8 / BITS_PER_MICROSECOND);
            let start = self.link_free_at[from].max(self.now);
            // Everything before it has to go first; too much of that, and it is dropped.
            if start - self.now > wire_time * QUEUE_FRAMES as u32 && frame.len() > 200 {
                continue;
            }
            self.link_free_at[from] = start + wire_time;
            if self.happens(self.trouble.loss) {
                continue;
            }
            let mut arrival = start + wire_time + self.delay;
            if self.happens(self.trouble.reordering) {
                arrival += Duration::from_millis(1) + self.delay / 4;
            }
            if self.trouble.batch_ms > 0 {
                let batch_us = 1000 * self.trouble.batch_ms as i64;
                arrival = Instant::from_micros((arrival.total_micros() + batch_us - 1) / batch_us * batch_us);
            }
            if self.happens(self.trouble.corruption) {
                let at = 34 + self.rng.below(frame.len() as u64 - 34) as usize;
                frame[at] ^= 1 << self.rng.below(8);
            }
            let copies = 1 + u64::from(self.happens(self.trouble.repetition));
            for _ in 0..copies {
                self.serial += 1;
                self.way.push(Reverse((arrival, self.serial, 1 - from, frame.clone())));
            }
        }
    }

    /// Goes on to the next thing that happens, and lets the hosts see to it.
    fn step(&mut self) {
        for host in 0..2 {
            self.hosts[host].flush(self.now);
            self.carry(host);
        }
        let timers = self.hosts.iter().filter_map(|host| host.stack.poll_at());
        let frames = self.way.peek().map(|Reverse((at, ..))| *at);
        let Some(next) = timers.chain(frames).min() else { return };
        self.now = next.max(self.now);
        while self.way.peek().is_some_and(|Reverse((at, ..))| *at <= self.now) {
            let Some(Reverse((_, _, to, frame))) = self.way.pop() else { break };
            self.hosts[to].nic.rx.push_back(frame);
        }
        for host in &mut self.hosts {
            host.poll(self.now);
        }
    }

    /// How long it takes to send [`BYTES`] from one host to the other; none if too long.
    fn transfer(&mut self) -> Option<Duration> {
        let listener = self.hosts[0].listen(80, 4);
        let client = self.hosts[1].stack.tcp_connect(self.now, None, at(15, 80)).ok()?;
        let (mut server, mut sent, mut received) = (None, 0, 0);
        let data: Vec<u8> = (0..BYTES).map(|index| (index % 251) as u8).collect();
        let mut start = self.now;
        while received < BYTES {
            self.step();
            if server.is_none() {
                server = self.hosts[0].stack.tcp_accept(listener).ok();
                start = self.now;
            }
            if let Some(server) = server {
                sent += self.hosts[0].send(server, &data[sent..]);
            }
            let bytes = self.hosts[1].recv(client).unwrap_or_default();
            assert_eq!(bytes, data[received..received + bytes.len()], "the stream is intact");
            received += bytes.len();
            if self.now - start > LONGEST {
                return None;
            }
        }
        Some(self.now - start)
    }
}

/// Goodput in kbit/s, the middle one of nine seeds.
fn goodput(delay: Duration, trouble: Trouble) -> u64 {
    let mut results = [1, 2, 3, 4, 5, 6, 7, 8, 9].map(|seed| {
        let mut network = Network::new(delay, trouble);
        network.rng = Rng(seed);
        let took = network.transfer();
        took.map_or(0, |took| BYTES as u64 * 8 * 1000 / took.total_micros().max(1))
    });
    results.sort_unstable();
    results[4]
}

fn table() -> String {
    let rows = [
        ("nothing", Trouble::default()),
        ("0.1 % lost", Trouble { loss: 100, ..Trouble::default() }),
        ("1 % lost", Trouble { loss: 1000, ..Trouble::default() }),
        ("3 % lost", Trouble { loss: 3000, ..Trouble::default() }),
        ("1 % repeated", Trouble { repetition: 1000, ..Trouble::default() }),
        ("1 % late", Trouble { reordering: 1000, ..Trouble::default() }),
        ("1 % corrupt", Trouble { corruption: 1000, ..Trouble::default() }),
        ("batches", Trouble { batch_ms: 5, ..Trouble::default() }),
        ("and 0.1 % lost", Trouble { batch_ms: 5, loss: 100, ..Trouble::default() }),
        ("and 1 % lost", Trouble { batch_ms: 5, loss: 1000, ..Trouble::default() }),
    ];
    let delays = [1, 10, 50];
    let mut text = String::from("Goodput in kbit/s over a link of 100 Mbit/s, by round-trip time.\n\n");
    let _ = write!(text, "{:14}", "trouble");
    for delay in delays {
        let _ = write!(text, "{:>10}", alloc::format!("{} ms", 2 * delay));
    }
    text.push('\n');
    for (name, trouble) in rows {
        let _ = write!(text, "{name:14}");
        for delay in delays {
            let _ = write!(text, "{:>10}", goodput(Duration::from_millis(delay), trouble));
        }
        text.push('\n');
    }
    text
}

#[test]
fn goodput_is_as_the_snapshot_says() {
    let table = table();
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/src/tests/netsim.txt"), &table).unwrap();
        return;
    }
    assert_eq!(table, SNAPSHOT, "goodput has changed: see the head of netsim.rs");
}
