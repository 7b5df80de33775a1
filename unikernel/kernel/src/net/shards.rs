//! The stacks of the machine: one for each card, or with a card that has several pairs of queues one for each pair
//! ([`unikernel_net::Shard`]). Each has its own lock, and no core ever holds two of them. The shards of one card follow
//! each other; which they are, [`super::cards`] knows.
//!
//! Every core serves its own shard first and helps the others where nobody else is at work. What an app has
//! written is flushed on every shard where something was ([`Guard`] takes note).

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr};
use core::ops::{Deref, DerefMut, Range};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use spin::Once;
use unikernel_net::smoltcp::phy::Device;
use unikernel_net::smoltcp::time::Instant;
use unikernel_net::{Addressee, Config, NoDevice, Shard, SocketId, Stack};

use super::routes::Routes;
use super::{capture, cards, now};
use crate::arch::cpu::this_cpu;
use crate::drivers::network::{NetQueues, QueuePair};
use crate::platform::{random, time};
use crate::sync::{SpinLock, SpinLockGuard};
use crate::task::timer;

/// How long an app may compute before the network is looked after again.
const TICK_NS: u64 = 2_000_000;

static SHARDS: Once<Vec<Slot>> = Once::new();
/// No connections are taken from outside any more.
static IS_REFUSING: AtomicBool = AtomicBool::new(false);

/// A shard and what others may touch without its lock.
struct Slot {
    net: SpinLock<Net>,
    /// Frames that other shards have handed over.
    inbox: SpinLock<Vec<Vec<u8>>>,
    has_inbox: AtomicBool,
    /// Something was left to be sent.
    has_output: AtomicBool,
    /// Changes of the addresses that a card's first shard has told the others of.
    told: AtomicU64,
}

/// A stack, its card, and who waits for what.
pub(super) struct Net {
    pub(super) stack: Stack,
    pub(super) nic: Option<QueuePair>,
    pub(super) routes: Routes,
    events: Vec<SocketId>,
    /// The card's interrupts are off.
    pub(super) is_polling: bool,
    /// The core that took in something last, and will look again within [`TICK_NS`].
    pub(super) poller: usize,
    /// When it did.
    polled_at_ns: u64,
    handovers: Vec<(Addressee, Vec<u8>)>,
}

/// One shard's lock, held.
pub(super) struct Guard {
    index: usize,
    slot: &'static Slot,
    net: SpinLockGuard<'static, Net>,
}

impl Deref for Guard {
    type Target = Net;
    #[inline]
    fn deref(&self) -> &Net {
        &self.net
    }
}

impl DerefMut for Guard {
    #[inline]
    fn deref_mut(&mut self) -> &mut Net {
        &mut self.net
    }
}

impl Drop for Guard {
    #[inline]
    fn drop(&mut self) {
        if self.net.stack.has_work() {
            self.slot.has_output.store(true, Ordering::Relaxed);
        }
    }
}

/// A card's configuration and queue pairs; no pairs for loopback alone.
pub(super) type Part = (Config, Vec<QueuePair>);

/// Makes a stack for each queue pair, or one for loopback alone; answers which shards each part got.
pub(super) fn init(parts: Vec<Part>) -> Vec<Range<usize>> {
    let (mut slots, mut ranges) = (Vec::new(), Vec::new());
    for (config, nics) in parts {
        let first = slots.len();
        let shards = Shard::deal(nics.len().max(1), &mut random::next_u64);
        let mut nics = nics.into_iter();
        slots.extend(shards.into_iter().map(|shard| Slot::new(&config, shard, nics.next())));
        ranges.push(first..slots.len());
    }
    SHARDS.call_once(|| slots);
    ranges
}

impl Slot {
    fn new(config: &Config, shard: Shard, nic: Option<QueuePair>) -> Self {
        let capabilities = nic.as_ref().map(QueuePair::capabilities);
        let config = super::config::for_shard(config, shard);
        let stack = Stack::new(config, capabilities, Box::new(random::next_u64), now());
        let net = Net {
            stack,
            nic,
            routes: Routes::default(),
            events: Vec::new(),
            is_polling: false,
            polled_at_ns: 0,
            poller: 0,
            handovers: Vec::new(),
        };
        Self {
            net: SpinLock::new(net),
            inbox: SpinLock::default(),
            has_inbox: AtomicBool::new(false),
            has_output: AtomicBool::new(true),
            told: AtomicU64::new(0),
        }
    }
}

#[inline]
fn slots() -> &'static [Slot] {
    SHARDS.get().expect("the network starts before the app")
}

/// Has all stacks refuse new connections from outside.
pub(super) fn refuse_connections() {
    IS_REFUSING.store(true, Ordering::Relaxed);
}

/// How many shards there are; 0 before [`init`].
pub(super) fn count() -> usize {
    SHARDS.get().map_or(0, Vec::len)
}

/// The shard that this core serves first.
#[inline]
pub(super) fn here() -> usize {
    this_cpu().index() % slots().len()
}

/// All shards, this core's own first.
#[inline]
pub(super) fn from_here() -> impl Iterator<Item = usize> {
    let (count, here) = (slots().len(), here());
    (0..count).map(move |step| (here + step) % count)
}

/// A shard, for as long as the guard lives.
#[inline]
pub(super) fn lock(index: usize) -> Guard {
    let slot = &slots()[index];
    Guard { index, slot, net: slot.net.lock() }
}

/// The same for who changes nothing, and so leaves nothing to be sent.
#[inline]
pub(super) fn look(index: usize) -> impl Deref<Target = Net> {
    slots()[index].net.lock()
}

/// A shard, unless another core is at work there.
#[inline]
pub(super) fn try_lock(index: usize) -> Option<Guard> {
    let slot = &slots()[index];
    Some(Guard { index, slot, net: slot.net.try_lock()? })
}

/// True if a shard was left with something to send; asked once.
#[inline]
pub(super) fn take_output(index: usize) -> bool {
    let has_output = &slots()[index].has_output;
    has_output.load(Ordering::Relaxed) && has_output.swap(false, Ordering::Relaxed)
}

/// True if other shards have handed something over.
#[inline]
pub(super) fn has_inbox(index: usize) -> bool {
    slots()[index].has_inbox.load(Ordering::Relaxed)
}

impl Guard {
    /// Which shard it is.
    pub(super) fn shard(&self) -> usize {
        self.index
    }

    /// Takes in what has arrived and what has fallen due. True if there was anything.
    pub(super) fn poll(mut self) -> bool {
        let now_ns = time::now_ns();
        let now = Instant::from_micros((now_ns / 1000) as i64);
        if IS_REFUSING.load(Ordering::Relaxed) {
            self.net.stack.refuse_connections();
        }
        let has_worked = self.take_inbox(now) | self.net.receive(now);
        self.settle(now_ns, has_worked);
        has_worked
    }

    /// Takes in what other shards have handed over, and nothing else. In the card's ring there may be more of theirs: whoever
    /// hands over what they hand over, and so on, comes to no end while frames arrive.
    fn take_over(mut self) {
        let now_ns = time::now_ns();
        let has_worked = self.take_inbox(Instant::from_micros((now_ns / 1000) as i64));
        self.settle(now_ns, has_worked);
    }

    #[inline]
    fn take_inbox(&mut self, now: Instant) -> bool {
        let slot = self.slot;
        if !slot.has_inbox.load(Ordering::Relaxed) || !slot.has_inbox.swap(false, Ordering::Acquire) {
            return false;
        }
        let frames = core::mem::take(&mut *slot.inbox.lock());
        self.net.take_in(now, &frames);
        !frames.is_empty()
    }

    /// After something was taken in: tells who waits for it, and hands over what is others'.
    #[inline]
    fn settle(mut self, now_ns: u64, has_worked: bool) {
        if has_worked {
            self.net.dispatch();
            self.net.keep_polling(now_ns);
            // Answers to what came in may stand in the card's ring, where the stack does not know of them.
            self.slot.has_output.store(true, Ordering::Relaxed);
        }
        self.hand_over();
    }

    /// True if a frame has come in, or something has fallen due.
    pub(super) fn is_due(&self) -> bool {
        self.net.nic.as_ref().is_some_and(NetQueues::has_rx)
            || self.net.stack.poll_at().is_some_and(|at| at <= now())
    }

    /// Sends what is to be sent, with one notification of the device.
    pub(super) fn flush(mut self) {
        self.net.flush();
        self.hand_over();
    }

    /// Gives other shards what is theirs, after letting go of this one, and has them take it in.
    #[inline]
    fn hand_over(mut self) {
        let (index, slot, net) = (self.index, self.slot, &mut *self.net);
        let changes = net.stack.address_changes();
        let has_moved =
            slot.told.load(Ordering::Relaxed) != changes && cards::shards_with(index).start == index;
        if !net.stack.has_handovers() && !has_moved {
            return;
        }
        if has_moved {
            slot.told.store(changes, Ordering::Relaxed);
        }
        let config = has_moved.then(|| net.stack.config().clone());
        let mut handovers = core::mem::take(&mut net.handovers);
        net.stack.take_handovers(&mut handovers);
        drop(self);
        deliver(index, handovers);
        if let Some(config) = config {
            cards::shards_with(index).skip(1).for_each(|shard| lock(shard).stack.adopt(&config));
            tell_siblings();
            let servers = config.ipv4.iter().flat_map(|lease| lease.time_servers.iter().copied());
            if let Some(observer) = ADDRESS_OBSERVER.get() {
                observer(&servers.collect::<Vec<_>>());
            }
        }
    }
}

/// Who is told of new addresses.
static ADDRESS_OBSERVER: Once<fn(&[Ipv4Addr])> = Once::new();

/// Sets who is told that the machine's addresses have changed, with the time servers that DHCP has told of. No lock of
/// the network is held then.
pub(crate) fn set_address_observer(observer: fn(&[Ipv4Addr])) {
    ADDRESS_OBSERVER.call_once(|| observer);
}

/// Tells the stacks of each card which addresses the other cards have.
#[cold]
pub(super) fn tell_siblings() {
    if cards::all().len() <= 1 {
        return;
    }
    let addresses_of = |first| {
        let net = lock(first);
        let config = net.stack.config();
        let v4 = config.ipv4.iter().map(|own| IpAddr::V4(own.address.address()));
        v4.chain(config.ipv6.iter().map(|own| IpAddr::V6(own.address.address()))).collect::<Vec<_>>()
    };
    let known: Vec<(usize, Vec<IpAddr>)> =
        cards::firsts().map(|first| (first, addresses_of(first))).collect();
    for card in cards::all() {
        let others = known.iter().filter(|(first, _)| *first != card.shards.start);
        let siblings: Vec<IpAddr> = others.flat_map(|(_, addresses)| addresses).copied().collect();
        card.shards.clone().for_each(|shard| lock(shard).stack.set_siblings(siblings.clone()));
    }
}

#[cold]
fn deliver(from: usize, handovers: Vec<(Addressee, Vec<u8>)>) {
    let shards = cards::shards_with(from);
    // Each stack knows itself by its place among those of its card.
    let is_for = |to, shard| match to {
        Addressee::One(one) => shard == shards.start + one,
        Addressee::Others => shard != from,
    };
    for shard in shards.clone() {
        let slot = &slots()[shard];
        let frames = handovers.iter().filter(|(to, _)| is_for(*to, shard)).map(|(_, frame)| frame.clone());
        let mut inbox = slot.inbox.lock();
        inbox.extend(frames);
        let has_inbox = !inbox.is_empty();
        drop(inbox);
        if has_inbox {
            slot.has_inbox.store(true, Ordering::Release);
            // Of what is taken over, only the first shard hands anything on, to all others ([`Addressee::Others`]),
            // and they keep it: this ends.
            lock(shard).take_over();
        }
    }
}

impl Net {
    #[cold]
    fn take_in(&mut self, now: Instant, frames: &[Vec<u8>]) {
        // Only what has a card is handed anything over.
        let Some(nic) = &mut self.nic else { return };
        frames.iter().for_each(|frame| self.stack.sibling_in(now, frame, nic));
    }

    #[inline]
    fn receive(&mut self, now: Instant) -> bool {
        match &mut self.nic {
            Some(nic) => self.stack.poll(now, nic),
            None => self.stack.poll(now, &mut NoDevice),
        }
    }

    /// Sends what is to be sent.
    pub(super) fn flush(&mut self) {
        let now = now();
        match &mut self.nic {
            Some(nic) => {
                self.stack.flush(now, nic);
                nic.kick();
                if capture::is_on() {
                    capture::flush();
                }
            }
            None => {
                self.stack.flush(now, &mut NoDevice);
            }
        }
        self.dispatch();
    }

    /// Tells the waiters of each socket whose readiness may have changed.
    #[inline]
    pub(super) fn dispatch(&mut self) {
        if !self.stack.has_events() {
            return;
        }
        self.stack.take_events(&mut self.events);
        for id in self.events.drain(..) {
            self.routes.notify(&mut self.stack, id);
        }
    }

    fn keep_polling(&mut self, now_ns: u64) {
        let Some(nic) = &mut self.nic else { return };
        if !self.is_polling {
            nic.disable_interrupts();
            self.is_polling = true;
        }
        (self.poller, self.polled_at_ns) = (this_cpu().index(), now_ns);
        timer::interrupt_by(now_ns + TICK_NS);
    }

    /// Nothing has come in just now. If nothing has for a whole tick, the card may interrupt again. False if there is work
    /// already. An interrupt that comes sooner is mostly one for a frame which an idle core has seen before it: to ask for
    /// more on its account would bring one for each frame.
    pub(super) fn stop_polling_in_time(&mut self) -> bool {
        if !self.is_polling {
            return true;
        }
        let over_ns = self.polled_at_ns + TICK_NS;
        if time::now_ns() >= over_ns {
            return self.stop_polling();
        }
        timer::interrupt_by(over_ns);
        true
    }

    /// Lets the card interrupt again. False if there is work already.
    pub(super) fn stop_polling(&mut self) -> bool {
        self.is_polling = false;
        self.nic.as_mut().is_none_or(|nic| !nic.enable_interrupts())
    }
}
