//! A cable between two machines, each of which is a process with a clock of its own.
//!
//! A frame is under way for [`Wire::delay_ns`] at least. So neither machine can notice before a *horizon* what the other
//! does now: it is the first moment at which one of the two has something to do, and the delay. Both run up to the horizon, exchange what
//! they have sent and when they have something to do next, and know the next horizon (Chandy and Misra, 1979: conservative simulation).
//! While both are idle, both jump. A machine whose clock steps over the horizon sees a frame that much later.
//!
//! What becomes of a frame the seed decides, at the end that sends it. No clock of the host's is read, so runs repeat.

use alloc::format;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::time::Duration;
use std::boxed::Box;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use smoltcp::wire::{EthernetFrame, PrettyPrinter};
use unikernel_hal::sim::card::{Card, Frame, Peer, Port};
use unikernel_hal::sim::engine::Random;
use unikernel_hal::sim::machine::{self, End};

/// A machine that has lost its power is on again after this time.
pub(super) const PAUSE_NS: u64 = 500_000_000;
/// The other machine's process is gone, or stands still.
const PATIENCE: Duration = Duration::from_secs(60);
/// "Never".
const NEVER: u64 = u64::MAX;
/// Behind these, IP and what it carries have checksums.
const ETHERNET_BYTES: u64 = 14;

/// What a cable is like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wire {
    pub(super) seed: u64,
    /// The least time that a frame is under way, and how much longer it may be.
    pub(super) delay_ns: u64,
    pub(super) jitter_ns: u64,
    /// How long a byte takes to be sent.
    pub(super) byte_ns: u64,
    /// A frame is lost once in so many times; 0 for never. So are the others.
    pub(super) loss_one_in: u32,
    /// It comes twice.
    pub(super) double_one_in: u32,
    /// It comes behind later ones.
    pub(super) late_one_in: u32,
    /// A bit of it is wrong.
    pub(super) corrupt_one_in: u32,
    /// Both machines are on one host, which hands large packets over as they are.
    pub(super) is_bridge: bool,
}

/// One end of it, of a machine that may be booted several times.
pub(super) struct Plug {
    stream: UnixStream,
    is_first: bool,
    wire: Wire,
}

/// The other machine.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Other {
    Runs,
    /// It is off, until a time, or for good.
    Off(u64),
}

/// What an end tells the other.
struct Message {
    /// The sender is off from now on; this is when it will be on again.
    is_off: bool,
    now_ns: u64,
    /// When it has something to do.
    next_ns: u64,
    frames: Vec<(u64, Frame)>,
}

struct State {
    stream: UnixStream,
    is_first: bool,
    wire: Wire,
    random: Random,
    /// The time at which this machine has begun. All times here are since the first has.
    base_ns: u64,
    horizon_ns: u64,
    other: Other,
    /// What was sent and the other has not been told of: when it arrives.
    outbox: Vec<(u64, Frame)>,
    /// When the cable is free again, and when the frame arrives that was sent last.
    free_ns: u64,
    last_ns: u64,
}

/// Both ends of a cable.
pub(super) fn cable(wire: Wire) -> (Plug, Plug) {
    let (one, other) = UnixStream::pair().expect("a pair of sockets");
    let plug = |stream: UnixStream, is_first| {
        stream.set_read_timeout(Some(PATIENCE)).expect("a time");
        stream.set_write_timeout(Some(PATIENCE)).expect("a time");
        let seed = wire.seed ^ u64::from(is_first) << 32;
        Plug { stream, is_first, wire: Wire { seed, ..wire } }
    };
    (plug(one, true), plug(other, false))
}

impl Plug {
    /// Plugs it into a machine that is about to boot, at a time: 0, or what [`PAUSE_NS`] after a power cut is.
    pub(super) fn plug_in(&self, card: Card, base_ns: u64) {
        let stream = self.stream.try_clone().expect("a descriptor");
        let state = State {
            stream,
            is_first: self.is_first,
            wire: self.wire,
            random: Random::new(self.wire.seed ^ base_ns),
            base_ns,
            horizon_ns: base_ns + self.wire.delay_ns,
            other: Other::Runs,
            outbox: Vec::new(),
            free_ns: 0,
            last_ns: 0,
        };
        let state = Rc::new(RefCell::new(state));
        if base_ns > 0 {
            // The other has said this to whom it did not know to be off.
            let mut state = state.borrow_mut();
            let late = state.receive();
            if late.is_off {
                state.other = Other::Off(late.next_ns);
            }
        }
        let same = state.clone();
        machine::on_end(move |end, now_ns| {
            // One that fails while it talks has nothing more to say.
            if let Ok(mut state) = same.try_borrow_mut() {
                state.say_goodbye(end, now_ns);
            }
        });
        card.plug_in(Box::new(Machine(state)));
    }

    /// Says at a time that the machine does not come back, if its power has gone and it is waited for.
    pub(super) fn unplug(&self, now_ns: u64) {
        let message = Message { is_off: true, now_ns, next_ns: NEVER, frames: Vec::new() };
        // The other may have ended.
        let _ = say(&self.stream, &message);
    }
}

fn say(mut stream: &UnixStream, message: &Message) -> std::io::Result<()> {
    let bytes = message.encode();
    let len = (bytes.len() as u32).to_le_bytes();
    stream.write_all(&[&len[..], &bytes].concat())
}

/// The other machine, as a card sees it.
struct Machine(Rc<RefCell<State>>);

impl Peer for Machine {
    fn take(&mut self, frame: Frame, port: &mut Port) {
        let mut state = self.0.borrow_mut();
        if state.other == Other::Off(NEVER) {
            return;
        }
        if state.wire.is_bridge {
            return state.send(frame, port.now_ns);
        }
        frame.on_wire().into_iter().for_each(|bytes| state.send(Frame::whole(bytes), port.now_ns));
    }

    fn wake(&mut self, port: &mut Port) {
        self.0.borrow_mut().wake(port);
    }
}

impl State {
    /// Sends a frame, with what becomes of it on the way.
    fn send(&mut self, mut frame: Frame, local_ns: u64) {
        show(self.is_first, self.base_ns + local_ns, &frame.bytes);
        let Self { wire, random, .. } = self;
        self.free_ns = self.free_ns.max(self.base_ns + local_ns) + wire.byte_ns * frame.bytes.len() as u64;
        if random.one_in(wire.loss_one_in) {
            return;
        }
        if random.one_in(wire.corrupt_one_in) && frame.partial.is_none() && frame.bytes[12..14] != [8, 6] {
            let at = ETHERNET_BYTES + random.below(frame.bytes.len() as u64 - ETHERNET_BYTES);
            frame.bytes[at as usize] ^= 1 << random.below(8);
        }
        let arrival_ns = self.free_ns + wire.delay_ns + random.below(wire.jitter_ns + 1);
        let at_ns = if random.one_in(wire.late_one_in) {
            arrival_ns + random.below(4 * wire.delay_ns)
        } else {
            self.last_ns = self.last_ns.max(arrival_ns);
            self.last_ns
        };
        if random.one_in(wire.double_one_in) {
            let again_ns = at_ns + random.below(wire.delay_ns);
            self.outbox.push((again_ns, frame.clone()));
        }
        self.outbox.push((at_ns, frame));
    }

    fn wake(&mut self, port: &mut Port) {
        while self.other != Other::Off(NEVER) && self.base_ns + port.now_ns >= self.horizon_ns {
            self.meet(port);
        }
        if self.other != Other::Off(NEVER) && self.horizon_ns != NEVER {
            port.wake_at(self.horizon_ns - self.base_ns);
        }
    }

    /// Tells the other what there is to tell, hears the same, and sets the next horizon.
    fn meet(&mut self, port: &mut Port) {
        let now_ns = self.base_ns + port.now_ns;
        let next = port.next_ns.into_iter().chain(port.next_arrival_ns()).min();
        let next_ns = next.map_or(NEVER, |next_ns| self.base_ns + next_ns);
        let frames = core::mem::take(&mut self.outbox);
        let first = |frames: &[(u64, Frame)]| frames.iter().map(|(at_ns, _)| *at_ns).min().unwrap_or(NEVER);
        let for_other_ns = first(&frames);
        let own = Message { is_off: false, now_ns, next_ns, frames };
        // One of them speaks first, or both might wait for room.
        let other = if self.is_first {
            self.say(&own);
            self.receive()
        } else {
            let other = self.receive();
            self.say(&own);
            other
        };
        let wakes_ns = |now_ns: u64, next_ns: u64, arrival_ns: u64| next_ns.min(arrival_ns).max(now_ns);
        let own_ns = wakes_ns(now_ns, next_ns, first(&other.frames));
        let mut other_ns = wakes_ns(other.now_ns, other.next_ns, for_other_ns);
        if other.is_off {
            self.other = Other::Off(other.next_ns);
            other_ns = other.next_ns;
        } else {
            self.other = Other::Runs;
        }
        // A machine that is off hears nothing: both go on at the time when it is on.
        let first_ns = if other.is_off { other_ns } else { own_ns.min(other_ns) };
        self.horizon_ns = first_ns.saturating_add(self.wire.delay_ns);
        for (at_ns, frame) in other.frames {
            // What was for the machine before its power went is lost.
            if let Some(local_ns) = at_ns.checked_sub(self.base_ns) {
                port.send_at(local_ns, frame);
            }
        }
    }

    fn say_goodbye(&mut self, end: End, local_ns: u64) {
        if self.other == Other::Off(NEVER) {
            return;
        }
        let now_ns = self.base_ns + local_ns;
        let next_ns = if end == End::Cut { now_ns + PAUSE_NS } else { NEVER };
        let frames = core::mem::take(&mut self.outbox);
        self.say(&Message { is_off: true, now_ns, next_ns, frames });
    }

    fn say(&self, message: &Message) {
        say(&self.stream, message).expect("the other machine's process can be told");
    }

    fn receive(&mut self) -> Message {
        let mut len = [0; 4];
        self.stream.read_exact(&mut len).expect("the other machine's process says something");
        let mut bytes = alloc::vec![0; u32::from_le_bytes(len) as usize];
        self.stream.read_exact(&mut bytes).expect("all of it");
        Message::decode(&bytes)
    }
}

/// With `SIMULATE_FRAMES=1`, each frame in a line, from the first machine (`>`) or to it (`<`).
fn show(is_first: bool, at_ns: u64, frame: &[u8]) {
    if std::env::var_os("SIMULATE_FRAMES").is_some() {
        let printed = PrettyPrinter::<EthernetFrame<&[u8]>>::new(" ", &frame);
        let line = format!("{printed}").replace('\n', " ");
        std::eprintln!("{:>12.6} {} {line}", at_ns as f64 / 1e9, if is_first { '>' } else { '<' });
    }
}

impl Message {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = alloc::vec![u8::from(self.is_off)];
        bytes.extend([self.now_ns, self.next_ns].into_iter().flat_map(u64::to_le_bytes));
        for (at_ns, frame) in &self.frames {
            let (start, offset) = frame.partial.unwrap_or_default();
            bytes.extend(at_ns.to_le_bytes());
            bytes.extend((frame.bytes.len() as u32).to_le_bytes());
            bytes.extend(
                [start, offset, frame.segment_bytes.unwrap_or(0)].into_iter().flat_map(u16::to_le_bytes),
            );
            bytes.extend(&frame.bytes);
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Self {
        let mut rest = bytes;
        let is_off = number(&mut rest, 1) == 1;
        let (now_ns, next_ns) = (number(&mut rest, 8), number(&mut rest, 8));
        let mut frames = Vec::new();
        while !rest.is_empty() {
            let (at_ns, len) = (number(&mut rest, 8), number(&mut rest, 4) as usize);
            let [start, offset, segment_bytes] = core::array::from_fn(|_| number(&mut rest, 2) as u16);
            let (frame, more) = rest.split_at(len);
            rest = more;
            // A partial checksum does not begin with the frame, and segments have bytes.
            let partial = (start > 0).then_some((start, offset));
            let segment_bytes = (segment_bytes > 0).then_some(segment_bytes);
            frames.push((at_ns, Frame { bytes: frame.to_vec(), partial, segment_bytes }));
        }
        Self { is_off, now_ns, next_ns, frames }
    }
}

/// Takes a number of so many bytes.
fn number(bytes: &mut &[u8], len: usize) -> u64 {
    let (now, rest) = bytes.split_at(len);
    *bytes = rest;
    now.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}
