//! The machine's network and the app's sockets.
//!
//! The stack itself is the pure crate `unikernel-net`; this room gives it a card, a clock and a
//! random source, and turns its events into wake-ups:
//!
//! - here: the one [`Net`], and the calls of the scheduler and the system calls that drive it;
//! - [`socket`]: the file that the app's descriptors lead to, with [`stream`], [`datagram`] and
//!   [`unix`] for the kinds; [`options`]: what `setsockopt` sets; [`address`]: `sockaddr`.
//!
//! It runs to completion: [`poll`] takes in everything that has arrived, the app runs, and
//! [`flush`] sends what the app wrote, announcing it to the device once. While there is work the
//! card's interrupts are off. An app that computes for long is interrupted by a timer, at most
//! every [`TICK_NS`], so that its last answers leave and new packets are acknowledged.

pub mod address;
mod config;
pub mod datagram;
mod errors;
mod interface;
pub mod options;
mod routes;
pub mod socket;
pub mod stream;
mod transfer;
pub mod unix;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

use spin::Once;
use unikernel_cmdline::Options;
use unikernel_net::smoltcp::phy::Device;
use unikernel_net::smoltcp::time::Instant;
use unikernel_net::{Counters, NoDevice, SocketId, Stack};

use crate::arch::cpu::{exit_work, this_cpu};
use crate::drivers::virtio::net::Nic;
use crate::platform::{random, time};
use crate::sync::{SpinLock, SpinLockGuard};
use crate::task::timer;
use routes::Routes;

/// How long an app may compute before the network is looked after again.
const TICK_NS: u64 = 2_000_000;
/// How long the machine stays to see its last connections closed.
const GOODBYE_NS: u64 = 100_000_000;

static NET: Once<SpinLock<Net>> = Once::new();

/// The stack, the card, and who waits for what.
struct Net {
    stack: Stack,
    nic: Option<Nic>,
    routes: Routes,
    events: Vec<SocketId>,
    /// The card's interrupts are off.
    is_polling: bool,
}

/// Starts the network. The first card is used; there is always loopback.
pub fn init(options: &Options, nics: Vec<Nic>) {
    let mut nics = nics.into_iter();
    let nic = nics.next();
    for _ in nics {
        log::warn!("only the first network card is used");
    }
    let mac = nic.as_ref().map_or([2, 0, 0, 0, 0, 1], Nic::mac);
    let config = config::for_machine(options, mac);
    let capabilities = nic.as_ref().map(Nic::capabilities);
    let stack = Stack::new(config, capabilities, Box::new(random::next_u64), now());
    let net = Net { stack, nic, routes: Routes::default(), events: Vec::new(), is_polling: false };
    NET.call_once(|| SpinLock::new(net));
    flush();
}

fn now() -> Instant {
    Instant::from_micros((time::now_ns() / 1000) as i64)
}

/// The network, for as long as the guard lives.
fn lock() -> SpinLockGuard<'static, Net> {
    NET.get().expect("the network starts before the app").lock()
}

/// The card's interrupt: the work is done on the way out to ring 3, or by the idle loop.
pub fn interrupt() {
    this_cpu().request(exit_work::NETWORK);
}

/// Takes in what has arrived and what has fallen due. True if there was anything.
pub fn poll() -> bool {
    lock().poll()
}

/// True if the card has something for us. Cheap: a look at memory.
#[inline]
pub fn has_arrivals() -> bool {
    // Whoever holds the lock takes the packets in.
    let net = NET.get().and_then(SpinLock::try_lock);
    net.is_some_and(|net| net.nic.as_ref().is_some_and(Nic::has_rx))
}

/// Sends what is to be sent, with one notification of the device.
pub fn flush() {
    lock().flush();
}

/// Looks after the network while an app computes: after an interrupt of the card or the timer.
pub fn tick() {
    let mut net = lock();
    net.flush();
    if !net.poll() && net.is_polling {
        // It was quiet for a whole tick: from here on the card may interrupt again.
        if !net.stop_polling() {
            net.poll();
        }
    }
}

/// Lets the card interrupt again. False if there is work already, which must be done first.
pub fn prepare_to_sleep() -> bool {
    let mut net = lock();
    !net.stack.has_work() && net.stop_polling()
}

/// When the stack wants to be polled without a packet.
pub fn next_deadline_ns() -> Option<u64> {
    let at = lock().stack.poll_at()?;
    Some((at.total_micros().max(0) as u64).saturating_mul(1000))
}

/// Says goodbye to all peers: what was written is delivered and every connection closed, as far
/// as that takes no longer than a moment.
pub fn shut_down() {
    let Some(net) = NET.get() else { return };
    let mut net = net.lock();
    net.stack.tcp_close_all();
    let deadline_ns = time::now_ns() + GOODBYE_NS;
    while net.stack.counters().active > 0 && time::now_ns() < deadline_ns {
        net.flush();
        net.poll();
    }
    net.flush();
}

/// The sizes of a connection's receive and send buffers.
pub fn buffer_sizes() -> (usize, usize) {
    lock().stack.tcp_buffer_sizes()
}

/// The stack's counters.
pub fn counters() -> Counters {
    lock().stack.counters()
}

/// The card's counters, if there is a card.
pub fn nic_counters() -> Option<crate::drivers::virtio::net::Counters> {
    lock().nic.as_ref().map(Nic::counters)
}

/// What `/etc/resolv.conf` says (resolv.conf(5)).
pub fn resolv_conf() -> String {
    let net = lock();
    let mut text = String::new();
    for server in net.stack.config().ipv4.iter().flat_map(|config| &config.dns) {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "nameserver {server}");
    }
    text
}

impl Net {
    fn poll(&mut self) -> bool {
        let now_ns = time::now_ns();
        let now = Instant::from_micros((now_ns / 1000) as i64);
        let has_worked = match &mut self.nic {
            Some(nic) => self.stack.poll(now, nic),
            None => self.stack.poll(now, &mut NoDevice),
        };
        if has_worked {
            self.dispatch();
            self.keep_polling(now_ns);
        }
        has_worked
    }

    fn flush(&mut self) {
        let now = now();
        match &mut self.nic {
            Some(nic) => {
                self.stack.flush(now, nic);
                nic.kick();
            }
            None => {
                self.stack.flush(now, &mut NoDevice);
            }
        }
        self.dispatch();
    }

    /// Tells the waiters of each socket whose readiness may have changed.
    #[inline]
    fn dispatch(&mut self) {
        if !self.stack.has_events() {
            return;
        }
        self.stack.take_events(&mut self.events);
        for id in self.events.drain(..) {
            self.routes.notify(&self.stack, id);
        }
    }

    fn keep_polling(&mut self, now_ns: u64) {
        let Some(nic) = &mut self.nic else { return };
        if !self.is_polling {
            nic.disable_interrupts();
            self.is_polling = true;
        }
        timer::interrupt_by(now_ns + TICK_NS);
    }

    /// False if there is work already.
    fn stop_polling(&mut self) -> bool {
        self.is_polling = false;
        self.nic.as_mut().is_none_or(|nic| !nic.enable_interrupts())
    }
}
