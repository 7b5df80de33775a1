//! A bad network, by a seed: frames are delayed, lost, repeated, overtaken and damaged. The host's kernel need
//! not have `netem` for it.
//!
//! [`Impairment`] is one direction of a wire; [`BadWire`] is a tap device behind two of them; a [`Forwarder`] leads from there to a guest.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TunTapInterface, TxToken, wait};
use smoltcp::time::Instant as StackInstant;
use socket2::SockRef;

use crate::namespace::TAP;
use crate::random::Random;

/// What befalls frames: each of the chances is in so many of a hundred thousand.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Trouble {
    /// What every frame takes, one way.
    pub(crate) delay: Duration,
    pub(crate) loss: u64,
    pub(crate) repetition: u64,
    /// Frames that take a millisecond and a quarter of the delay more, so that others overtake them.
    pub(crate) reordering: u64,
    /// Frames of which one bit changes, behind the addresses.
    pub(crate) corruption: u64,
}

/// One direction of a wire.
pub(crate) struct Impairment {
    trouble: Trouble,
    random: Random,
    /// When a frame arrives, and which one it is, so that none overtakes another of the same moment.
    on_the_way: BinaryHeap<Reverse<(Instant, u64, Vec<u8>)>>,
    serial: u64,
}

/// Ethernet and IPv4 headers are left as they are: what they damage is nobody's segment any more.
const HEADERS: usize = 34;
/// How long the forwarder waits for the guest's frames before it looks again.
const NAP: Duration = Duration::from_micros(100);
/// Frames of the guest's that may wait for the forwarder, in bytes.
const SOCKET_BYTES: usize = 4 << 20;

impl Impairment {
    /// A direction whose troubles depend on the seed alone.
    pub(crate) fn new(trouble: Trouble, seed: u64) -> Self {
        Self { trouble, random: Random::new(seed), on_the_way: BinaryHeap::new(), serial: 0 }
    }

    fn happens(&mut self, chance: u64) -> bool {
        self.random.below(100_000) < chance
    }

    /// Sends a frame on its way.
    pub(crate) fn send(&mut self, now: Instant, mut frame: Vec<u8>) {
        if self.happens(self.trouble.loss) {
            return;
        }
        let mut arrival = now + self.trouble.delay;
        if self.happens(self.trouble.reordering) {
            arrival += Duration::from_millis(1) + self.trouble.delay / 4;
        }
        if frame.len() > HEADERS && self.happens(self.trouble.corruption) {
            let at = HEADERS + self.random.below((frame.len() - HEADERS) as u64) as usize;
            frame[at] ^= 1 << self.random.below(8);
        }
        if self.happens(self.trouble.repetition) {
            self.push(arrival, frame.clone());
        }
        self.push(arrival, frame);
    }

    fn push(&mut self, arrival: Instant, frame: Vec<u8>) {
        self.serial += 1;
        self.on_the_way.push(Reverse((arrival, self.serial, frame)));
    }

    /// When the next frame arrives.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.on_the_way.peek().map(|Reverse((arrival, ..))| *arrival)
    }

    /// The next frame that has arrived.
    pub(crate) fn arrived(&mut self, now: Instant) -> Option<Vec<u8>> {
        self.due().filter(|due| *due <= now)?;
        self.on_the_way.pop().map(|Reverse((_, _, frame))| frame)
    }
}

/// The way to the host's stack: a tap device with trouble in both directions. As a [`Device`] it is the far end.
pub(crate) struct BadWire {
    tap: TunTapInterface,
    inward: Impairment,
    outward: Impairment,
}

impl BadWire {
    /// Attaches to a tap device that is there.
    pub(crate) fn on(tap: &str, trouble: Trouble, seed: u64) -> Result<Self> {
        let tap = TunTapInterface::new(tap, Medium::Ethernet).context("cannot attach to the tap device")?;
        let [inward, outward] = [2 * seed, 2 * seed + 1].map(|seed| Impairment::new(trouble, seed));
        Ok(Self { tap, inward, outward })
    }

    /// Takes what the host has sent, and gives it what has arrived.
    pub(crate) fn carry(&mut self) {
        let now = Instant::now();
        while let Some((frame, _)) = self.tap.receive(StackInstant::ZERO) {
            frame.consume(|frame| self.inward.send(now, frame.to_vec()));
        }
        while let Some(frame) = self.outward.arrived(now) {
            if let Some(token) = self.tap.transmit(StackInstant::ZERO) {
                token.consume(frame.len(), |place| place.copy_from_slice(&frame));
            }
        }
    }

    /// Waits until the host sends something, a frame arrives, or so much time has passed.
    pub(crate) fn rest(&self, longest: Duration) -> Result<()> {
        let now = Instant::now();
        let dues = [self.inward.due(), self.outward.due()].into_iter().flatten();
        let longest = dues.map(|due| due.saturating_duration_since(now)).fold(longest, Duration::min);
        wait(self.tap.as_raw_fd(), Some(longest.into())).context("cannot wait for the tap device")
    }
}

/// A frame that has arrived.
pub(crate) struct Arrived(Vec<u8>);

impl RxToken for Arrived {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for &mut Impairment {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        self.send(Instant::now(), frame);
        result
    }
}

/// It takes single segments only.
impl unikernel_net::Segmenter for BadWire {}

impl Device for BadWire {
    type RxToken<'a> = Arrived;
    type TxToken<'a> = &'a mut Impairment;

    fn receive(&mut self, _: StackInstant) -> Option<(Arrived, &mut Impairment)> {
        let frame = self.inward.arrived(Instant::now())?;
        Some((Arrived(frame), &mut self.outward))
    }

    fn transmit(&mut self, _: StackInstant) -> Option<&mut Impairment> {
        Some(&mut self.outward)
    }

    fn capabilities(&self) -> DeviceCapabilities {
        self.tap.capabilities()
    }
}

/// Carries frames between QEMU's UDP socket and the tap device for as long as it lives.
pub(crate) struct Forwarder {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Forwarder {
    /// Begins, on the tap device that there is.
    pub(crate) fn start((qemu, ours): (u16, u16), trouble: Trouble, seed: u64) -> Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, ours)).context("cannot bind the wire's end")?;
        socket.connect((Ipv4Addr::LOCALHOST, qemu))?;
        socket.set_nonblocking(true)?;
        SockRef::from(&socket).set_recv_buffer_size(SOCKET_BYTES)?;
        let is_over = Arc::new(AtomicBool::new(false));
        let is_told = Arc::clone(&is_over);
        let thread = thread::spawn(move || {
            if let Err(error) = forward(&socket, trouble, seed, &is_told) {
                // Nothing arrives any more, which whoever waits for it notices.
                eprintln!("the wire has failed: {error:#}");
            }
        });
        Ok(Self { is_over, thread: Some(thread) })
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        // It does not panic; and if it did, it would have said so.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn forward(socket: &UdpSocket, trouble: Trouble, seed: u64, is_over: &AtomicBool) -> Result<()> {
    let mut wire = BadWire::on(TAP, trouble, seed)?;
    let mut buffer = [0; 2048];
    while !is_over.load(Ordering::Relaxed) {
        wire.carry();
        // Errors are the other end's: there is nobody yet, or any more.
        while let Ok(count) = socket.recv(&mut buffer) {
            let Some(token) = wire.transmit(StackInstant::ZERO) else { break };
            token.consume(count, |frame| frame.copy_from_slice(&buffer[..count]));
        }
        while let Some((frame, _)) = wire.receive(StackInstant::ZERO) {
            let _ = frame.consume(|frame| socket.send(frame));
        }
        wire.carry();
        wire.rest(NAP)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(trouble: Trouble, frames: usize) -> (Impairment, Instant) {
        let (mut way, now) = (Impairment::new(trouble, 1), Instant::now());
        (0..frames).for_each(|index| way.send(now, vec![index as u8; 60]));
        (way, now)
    }

    #[test]
    fn frames_arrive_after_the_delay_in_order() {
        let delay = Duration::from_millis(10);
        let (mut way, now) = sent(Trouble { delay, ..Trouble::default() }, 5);
        assert_eq!(way.arrived(now), None);
        let arrived: Vec<u8> =
            std::iter::from_fn(|| way.arrived(now + delay)).map(|frame| frame[0]).collect();
        assert_eq!(arrived, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn troubles_come_as_often_as_they_should() {
        let of = |trouble| {
            let (mut way, now) = sent(trouble, 10_000);
            std::iter::from_fn(move || way.arrived(now + Duration::from_secs(1))).collect::<Vec<_>>()
        };
        let lost = 10_000 - of(Trouble { loss: 3000, ..Trouble::default() }).len();
        let repeated = of(Trouble { repetition: 3000, ..Trouble::default() }).len() - 10_000;
        let is_damaged = |frame: &&Vec<u8>| frame.iter().any(|byte| *byte != frame[0]);
        let damaged =
            of(Trouble { corruption: 3000, ..Trouble::default() }).iter().filter(is_damaged).count();
        for count in [lost, repeated, damaged] {
            assert!((200..400).contains(&count), "{count} of 10,000 at 3 %");
        }
    }
}
