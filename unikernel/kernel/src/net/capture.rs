//! `pcap=`: every frame that passes a card goes, as a pcapng file ([`unikernel_net::pcapng`]), to a port of a virtio
//! console, which the host keeps in a file. A card shows its frames ([`Tap`]) as the device has brought them,
//! before anybody has judged them, and as it will get them: a checksum that the device completes is not there yet.
//! Loopback passes no card.
//!
//! Frames are gathered in buffers and leave with the batch that they belong to. Nothing waits for the host: when
//! it is too slow, frames are lost from the capture, counted, and told in the file with the next one.

use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use unikernel_net::pcapng::{self, Direction, PACKET_OVERHEAD, Packet};

use super::taps;
use crate::drivers::network::{NetDevice, Tap};
use crate::drivers::virtio::VirtioDevice;
use crate::drivers::virtio::console::Output;
use crate::platform::time;
use crate::sync::SpinLock;

/// Buffers: a megabyte is a burst of 700 whole frames, or of five thousand that were cut.
const BUFFERS: u16 = 16;
const BUFFER_BYTES: usize = 65_536;
/// The longest part of a frame that can be kept.
const MAX_SNAP_BYTES: usize = BUFFER_BYTES - PACKET_OVERHEAD;
/// What the file says made it.
const APPLICATION: &str = "unikernel";
/// How long the end of the machine waits for the host to take the rest.
const GOODBYE_NS: u64 = 100_000_000;

/// What became of frames.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Counters {
    /// Frames written.
    pub written: u64,
    /// Frames lost because the host was too slow.
    pub lost: u64,
}

/// A card in the file.
#[derive(Default)]
struct Interface {
    counters: Counters,
    /// Frames lost since the last one that was not.
    lost_lately: u64,
}

struct Capture {
    output: Output,
    /// The buffer that is being filled, and its bytes so far.
    current: Option<(u16, usize)>,
    snap_len: usize,
    interfaces: Vec<Interface>,
}

static CAPTURE: SpinLock<Option<Capture>> = SpinLock::new(None);
/// There is one: for who is asked at each batch of frames.
static IS_ON: AtomicBool = AtomicBool::new(false);

/// Starts the capture of all cards, before they are used. `snap_len` is how many bytes of a frame are kept, none for
/// all.
pub(super) fn start(console: VirtioDevice, snap_len: Option<u32>, cards: &mut [Box<dyn NetDevice>]) {
    let place = console.place.clone();
    let output = match Output::start(console, BUFFERS, BUFFER_BYTES) {
        Ok(output) => output,
        Err(error) => return log::warn!("{place}: no capture: {error}"),
    };
    let snap_len = snap_len.map_or(MAX_SNAP_BYTES, |len| (len as usize).min(MAX_SNAP_BYTES));
    let mut capture = Capture { output, current: None, snap_len, interfaces: Vec::new() };
    capture.append(0, |room| pcapng::section(room, APPLICATION));
    for (number, card) in cards.iter_mut().enumerate() {
        let (name, mac) = (format!("eth{number}"), card.mac());
        capture.append(0, |room| pcapng::interface(room, &name, mac, snap_len));
        capture.interfaces.push(Interface::default());
        card.set_tap(Tap { interface: number as u32, see });
    }
    capture.send();
    log::info!("{place}: takes a capture of {} cards, {snap_len} bytes of each frame", cards.len());
    *CAPTURE.lock() = Some(capture);
    IS_ON.store(true, Ordering::Relaxed);
}

/// What passed, for the counters.
pub(crate) fn counters() -> Option<Counters> {
    let capture = CAPTURE.lock();
    let each = capture.as_ref()?.interfaces.iter().map(|interface| interface.counters);
    Some(each.fold(Counters::default(), |sum, one| Counters {
        written: sum.written + one.written,
        lost: sum.lost + one.lost,
    }))
}

/// True if there is one, which has a tap of each card.
#[inline]
pub(super) fn is_on() -> bool {
    IS_ON.load(Ordering::Relaxed)
}

/// Called by a card for each frame.
#[cold]
fn see(interface: u32, direction: Direction, frame: &[u8]) {
    taps::see(interface, direction, frame);
    if let Some(capture) = CAPTURE.lock().as_mut() {
        capture.frame(interface, direction, frame);
    }
}

/// Lets the host have what was gathered, at the end of a batch.
#[cold]
pub(super) fn flush() {
    if let Some(capture) = CAPTURE.lock().as_mut() {
        capture.send();
    }
}

/// Ends the capture: what each card has seen is told, and the host gets a moment to take the rest.
pub(super) fn finish() {
    let Some(mut capture) = CAPTURE.lock().take() else { return };
    IS_ON.store(false, Ordering::Relaxed);
    for number in 0..capture.interfaces.len() {
        let Counters { written, lost } = capture.interfaces[number].counters;
        let statistics =
            |room: &mut [u8]| pcapng::statistics(room, number as u32, time::wall_ns(), written + lost, lost);
        capture.append(PACKET_OVERHEAD, statistics);
    }
    capture.send();
    let deadline_ns = time::now_ns() + GOODBYE_NS;
    while !capture.output.is_drained() && time::now_ns() < deadline_ns {
        core::hint::spin_loop();
    }
}

impl Capture {
    fn frame(&mut self, interface: u32, direction: Direction, frame: &[u8]) {
        let snap_len = self.snap_len;
        let Some(lost) = self.interfaces.get(interface as usize).map(|known| known.lost_lately) else {
            return;
        };
        let packet = Packet { interface, direction, time_ns: time::wall_ns(), frame, snap_len, lost };
        let needed = frame.len().min(snap_len) + PACKET_OVERHEAD;
        let is_written = self.append(needed, |room| pcapng::packet(room, &packet));
        let Interface { counters, lost_lately } = &mut self.interfaces[interface as usize];
        counters.written += u64::from(is_written);
        counters.lost += u64::from(!is_written);
        *lost_lately = if is_written { 0 } else { lost + 1 };
    }

    /// Adds a block, for which `needed` bytes are enough, to the buffer that is being filled or to the next. False if
    /// there is none.
    fn append(&mut self, needed: usize, write: impl FnOnce(&mut [u8]) -> Option<usize>) -> bool {
        if self.current.is_some_and(|(_, len)| len + needed > BUFFER_BYTES) {
            self.post();
        }
        if self.current.is_none() {
            self.current = self.output.take().map(|buffer| (buffer, 0));
        }
        let Some((buffer, len)) = &mut self.current else { return false };
        let written = write(&mut self.output.bytes(*buffer)[*len..]);
        *len += written.unwrap_or(0);
        written.is_some()
    }

    fn post(&mut self) {
        if let Some((buffer, len)) = self.current.take() {
            self.output.post(buffer, len);
        }
    }

    fn send(&mut self) {
        self.post();
        self.output.notify();
    }
}
