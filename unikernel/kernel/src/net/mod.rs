//! The machine's network and the app's sockets.
//!
//! The stack itself is the pure crate `unikernel-net`; this room gives it a card, a clock and a
//! random source, and turns its events into wake-ups:
//!
//! - here: the calls of the scheduler and the system calls that drive the network; [`cards`]: which card is which;
//!   `shards`: the stacks, one for each pair of queues of a card;
//! - [`capture`]: what `pcap=` asks for; [`events`]: what is told to who records; `loopback`: names who listens where nobody outside gets;
//! - [`socket`]: the file that the app's descriptors lead to, with [`stream`], [`datagram`] and
//!   [`unix`], [`netlink`] and [`vsock`] for the kinds; [`options`]: what `setsockopt` sets; [`address`]: `sockaddr`.
//!
//! It runs to completion: [`poll`] takes in everything that has arrived, the app runs, and
//! [`flush`] sends what the app wrote, announcing it to the device once. While there is work the
//! card's interrupts are off. An app that computes for long is interrupted by a timer, every two
//! milliseconds at most, so that its last answers leave and new packets are acknowledged.

pub(crate) mod address;
mod cached_readiness;
pub(crate) mod capture;
pub(crate) mod cards;
mod config;
pub(crate) mod datagram;
pub(crate) mod endpoint;
mod errors;
pub(crate) mod events;
mod flows;
pub(crate) mod gather;
mod interface;
pub(crate) mod listing;
mod loopback;
mod message;
pub(crate) mod netlink;
pub(crate) mod options;
mod peek_offset;
mod routes;
mod shards;
pub(crate) mod socket;
mod socket_file;
pub(crate) mod socket_list;
pub(crate) mod stream;
mod taps;
mod transfer;
pub(crate) mod unix;
pub(crate) mod urgent;
pub(crate) mod vsock;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;
use core::ops::Range;

use unikernel_cmdline::Options;
use unikernel_net::Counters;
use unikernel_net::smoltcp::time::Instant;

use crate::arch::cpu::{exit_work, this_cpu};
use crate::drivers::network::{self, NetQueues, QueuePair};
use crate::drivers::virtio::VirtioDevice;
use crate::drivers::{DeviceType, Devices};
use crate::platform::time;
use shards::Guard;
pub(crate) use shards::set_address_observer;

/// How long the end of the machine waits for cards to take the last frames: a host may be busy with something else.
const LAST_WAIT_NS: u64 = time::NS_PER_SECOND;

/// Starts the network: every card, or loopback alone. `capture` is where all frames are written to.
pub(crate) fn init(options: &Options, mut devices: Devices, capture: Option<VirtioDevice>) {
    let socket = devices.take(DeviceType::Socket);
    let mut cards = devices.cards;
    if let Some(console) = capture {
        capture::start(console, options.snap_len, &mut cards);
    }
    if options.cards.len() > cards.len().max(1) {
        log::warn!("the command line is about {} cards, and there are {}", options.cards.len(), cards.len());
    }
    let pairs = cards.iter_mut().map(|card| (card.mac(), card.take_queues()));
    let mut queues: Vec<([u8; 6], Vec<QueuePair>)> = pairs.collect();
    if queues.is_empty() {
        queues.push(([2, 0, 0, 0, 0, 1], Vec::new()));
    }
    let stacks = queues.iter().map(|(_, nics)| nics.len().max(1)).sum();
    let part = |(number, (mac, nics))| (config::for_card(options, number, mac, stacks), nics);
    let ranges = shards::init(queues.into_iter().enumerate().map(part).collect());
    cards::init(cards, &ranges);
    shards::tell_siblings();
    if let Some(socket) = socket {
        vsock::init(socket, interrupt);
    }
    flush();
}

/// Lets each core have the interrupts of its own shards, now that all cores run.
pub(crate) fn spread_interrupts() {
    cards::spread_interrupts();
}

#[inline]
fn now() -> Instant {
    Instant::from_micros((time::now_ns() / 1000) as i64)
}

/// The first shard of the first card: it has what there is once, and every socket.
#[inline]
fn lock() -> Guard {
    shards::lock(0)
}

/// The card's interrupt: the work is done on the way out to ring 3, or by the idle loop.
pub(crate) fn interrupt() {
    this_cpu().request(exit_work::NETWORK);
}

/// The machine goes on from a saved state: secrets are not shared with another that does. Call with no lock held.
pub(crate) fn renew_secrets() {
    (0..shards::count()).for_each(|shard| shards::lock(shard).stack.renew_secrets());
}

/// Sets who sees the frames that come in. Call with no lock held.
pub(crate) fn set_frame_observer(observer: Option<unikernel_net::Observer>) {
    (0..shards::count()).for_each(|shard| shards::lock(shard).stack.set_observer(observer));
}

/// Takes in what has arrived and what has fallen due. True if there was anything.
pub(crate) fn poll() -> bool {
    let mut has_worked = vsock::poll();
    for (step, shard) in shards::from_here().enumerate() {
        if step == 0 {
            has_worked |= shards::lock(shard).poll();
        } else if let Some(net) = shards::try_lock(shard) {
            // Whoever holds the lock does the work. Its core may sleep, or be busy with the app.
            has_worked |= (shards::has_inbox(shard) || net.is_due()) && net.poll();
        }
    }
    has_worked
}

/// True if the card has something for us. Cheap: a look at memory.
#[inline]
pub(crate) fn has_arrivals() -> bool {
    // No shards yet means a core that was started before the network: there is nothing for it.
    (0..shards::count()).any(has_arrivals_at) || vsock::has_arrivals()
}

#[inline]
fn has_arrivals_at(shard: usize) -> bool {
    // Whoever holds the lock takes the packets in.
    let has_rx = |net: Guard| net.nic.as_ref().is_some_and(NetQueues::has_rx);
    shards::has_inbox(shard) || shards::try_lock(shard).is_some_and(has_rx)
}

/// Has connections that are quiet give their buffers back. True if there is more memory now.
#[cold]
pub(crate) fn squeeze() -> bool {
    (0..shards::count()).fold(false, |has_freed, shard| shards::lock(shard).stack.squeeze(now()) | has_freed)
}

/// Sends what is to be sent, with one notification of the device.
pub(crate) fn flush() {
    for (step, shard) in shards::from_here().enumerate() {
        if shards::take_output(shard) || step == 0 {
            shards::lock(shard).flush();
        }
    }
}

/// Looks after the network while an app computes: after an interrupt of the card or the timer.
pub(crate) fn tick() {
    vsock::poll();
    for shard in shards::from_here() {
        let net = shards::lock(shard);
        if shards::take_output(shard) || net.nic.as_ref().is_some_and(NetQueues::can_send_again) {
            net.flush();
        } else {
            drop(net);
        }
        if shards::lock(shard).poll() {
            continue;
        }
        let mut net = shards::lock(shard);
        if !net.stop_polling_in_time() {
            net.poll();
        }
    }
}

/// Lets the card interrupt again, on the shards that this core has served. False if there is work already,
/// which must be done first.
pub(crate) fn prepare_to_sleep() -> bool {
    let mut may_sleep = !vsock::has_arrivals();
    for (step, shard) in shards::from_here().enumerate() {
        let mut net = shards::lock(shard);
        if step == 0 || net.poller == this_cpu().index() {
            may_sleep &= !net.stack.has_work() && net.stop_polling();
        }
        may_sleep &= !shards::has_inbox(shard);
    }
    may_sleep
}

/// When the stack wants to be polled without a packet.
pub(crate) fn next_deadline_ns() -> Option<u64> {
    let at = shards::from_here().filter_map(|shard| shards::lock(shard).stack.poll_at()).min()?;
    Some((at.total_micros().max(0) as u64).saturating_mul(1000))
}

/// From now on the listeners take no new connections from outside. Callable from an interrupt; takes effect with the next poll.
pub(crate) fn refuse_connections() {
    shards::refuse_connections();
    interrupt();
}

/// Closes every listener and every connection of the app's.
pub(crate) fn close_all() {
    (0..shards::count()).for_each(|shard| shards::lock(shard).stack.tcp_close_all());
}

/// True while a peer has not acknowledged everything that it was sent.
pub(crate) fn has_undelivered() -> bool {
    vsock::has_unsent() || (0..shards::count()).any(|shard| shards::look(shard).stack.has_undelivered())
}

/// Sends and takes in what there is, on all shards.
pub(crate) fn exchange() {
    vsock::poll();
    for shard in 0..shards::count() {
        shards::lock(shard).flush();
        shards::lock(shard).poll();
    }
}

/// The last that the network does: all that was left to be sent leaves. A hypervisor that is told of the machine's end first would
/// not look at what the cards were given last.
pub(crate) fn shut_down() {
    exchange();
    (0..shards::count()).for_each(|shard| shards::lock(shard).flush());
    let deadline_ns = time::now_ns() + LAST_WAIT_NS;
    let has_sent_all = |shard: usize| shards::lock(shard).nic.as_mut().is_none_or(NetQueues::has_sent_all);
    while !(0..shards::count()).all(has_sent_all) && time::now_ns() < deadline_ns {
        core::hint::spin_loop();
    }
    capture::finish();
}

/// The sizes of a connection's receive and send buffers.
pub(crate) fn buffer_sizes() -> (usize, usize) {
    lock().stack.tcp_buffer_sizes()
}

/// The stacks' counters, together.
pub(crate) fn counters() -> Counters {
    let mut sum = Counters::default();
    (0..shards::count()).for_each(|shard| sum += shards::lock(shard).stack.counters());
    sum
}

/// The cards' counters together, if there is a card.
pub(crate) fn nic_counters() -> Option<network::Counters> {
    sum_of(0..shards::count())
}

fn sum_of(shards: Range<usize>) -> Option<network::Counters> {
    let pairs = shards.filter_map(|shard| shards::lock(shard).nic.as_ref().map(NetQueues::counters));
    pairs.reduce(|sum, pair| sum + pair)
}

/// What `/etc/resolv.conf` says (resolv.conf(5)).
pub(crate) fn resolv_conf() -> String {
    let mut text = String::new();
    for shard in cards::firsts() {
        for server in shards::lock(shard).stack.config().ipv4.iter().flat_map(|config| &config.dns) {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "nameserver {server}");
        }
    }
    text
}
