//! Who is shown the frames of the cards while it wants to see them: what is recorded ([`super::events`]) and what is gathered
//! ([`super::gather`]). A capture (`pcap=`) has the taps for good, and passes on what it sees.

use core::sync::atomic::{AtomicU8, Ordering};

use unikernel_net::pcapng::Direction;

use super::{capture, cards, events, gather, shards};
use crate::drivers::network::{NetQueues, Tap};
use crate::task::mutex::Mutex;

/// Somebody who looks at frames now and then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Watcher {
    /// [`events::frame`].
    Events = 1,
    /// [`gather::frame`].
    Gathering = 2,
}

static WATCHERS: AtomicU8 = AtomicU8::new(0);
static TURN: Mutex<()> = Mutex::new(());

/// Has the cards show their frames to somebody, or no more.
#[cold]
pub(super) fn show(watcher: Watcher, is_wanted: bool) {
    // The cards have been told of one change before the next.
    let _turn = TURN.lock();
    let watchers = match is_wanted {
        true => WATCHERS.fetch_or(watcher as u8, Ordering::Relaxed) | watcher as u8,
        false => WATCHERS.fetch_and(!(watcher as u8), Ordering::Relaxed) & !(watcher as u8),
    };
    if capture::is_on() {
        return;
    }
    // One alone is called without a look at who there is: it is asked for every frame.
    let see = match watchers {
        0 => None,
        1 => Some(events::frame as fn(u32, Direction, &[u8])),
        _ => Some(see as fn(u32, Direction, &[u8])),
    };
    for (interface, card) in (0..).zip(cards::all()) {
        for shard in card.shards.clone() {
            if let Some(nic) = shards::lock(shard).nic.as_mut() {
                nic.set_tap(see.map(|see| Tap { interface, see }));
            }
        }
    }
}

/// A frame passes a card.
#[cold]
pub(super) fn see(interface: u32, direction: Direction, frame: &[u8]) {
    let watchers = WATCHERS.load(Ordering::Relaxed);
    if watchers & Watcher::Events as u8 != 0 {
        events::frame(interface, direction, frame);
    }
    if watchers & Watcher::Gathering as u8 != 0 {
        gather::frame(interface, direction, frame);
    }
}
