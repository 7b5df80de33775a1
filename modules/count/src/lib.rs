//! Counts the frames that come in, and those that the packet filter lets pass; drops those of an Ethernet type, if it is told one. The numbers are
//! parameters: `/sys/module/count/parameters`.

#![no_std]
#![forbid(unsafe_code)]

use unikernel_module::packet::{Hooked, PacketHook, Place, Verdict};
use unikernel_module::parameter::Uint;
use unikernel_module::{Context, Error, Module, module};

static RECEIVED: Uint = Uint::new(0, 0..=u64::MAX);
static FILTERED: Uint = Uint::new(0, 0..=u64::MAX);
static DROPPED: Uint = Uint::new(0, 0..=u64::MAX);
static DROP_TYPE: Uint = Uint::new(0, 0..=0xffff);

/// Where an Ethernet header has the type.
const TYPE_AT: core::ops::Range<usize> = 12..14;

fn add(counter: &Uint) {
    // Frames come one at a time; every number is within the bounds.
    let _ = counter.set(counter.get().wrapping_add(1));
}

struct Before;

impl PacketHook for Before {
    fn see(&self, frame: &[u8]) -> Verdict {
        add(&RECEIVED);
        let kind = frame.get(TYPE_AT).map_or(0, |bytes| u64::from(bytes[0]) << 8 | u64::from(bytes[1]));
        let wanted = DROP_TYPE.get();
        if wanted != 0 && kind == wanted {
            add(&DROPPED);
            return Verdict::Drop;
        }
        Verdict::Pass
    }
}

struct After;

impl PacketHook for After {
    fn see(&self, _frame: &[u8]) -> Verdict {
        add(&FILTERED);
        Verdict::Pass
    }
}

/// The module.
struct Count {
    _before: Hooked<Before>,
    _after: Hooked<After>,
}

impl Module for Count {
    fn init(context: Context) -> Result<Self, Error> {
        let before = Hooked::add(context, Place::Received, Before)?;
        let after = Hooked::add(context, Place::Filtered, After)?;
        Ok(Self { _before: before, _after: after })
    }
}

module! {
    name: "count",
    type: Count,
    parameters: {
        received: Uint = RECEIVED, 0o444, "frames that came in",
        filtered: Uint = FILTERED, 0o444, "those that the packet filter let pass",
        dropped: Uint = DROPPED, 0o444, "those that were dropped here",
        drop_type: Uint = DROP_TYPE, 0o644, "the Ethernet type of frames to drop, such as 0x0806; 0: none",
    },
}
