//! Who looks at each system call before it is done: the tracer, and those who may refuse it. There is one look whether there is
//! anybody at all, so that a call that nobody watches costs no more for all of them.

use core::sync::atomic::{AtomicU8, Ordering};

use bitflags::bitflags;

use super::{dispatch, run, trace};
use crate::arch::trap::TrapFrame;
use crate::platform::events::{self, Kind};
use crate::policy::judge::{self, Judgement};
use crate::policy::{calls, learn};

bitflags! {
    /// Who does.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) struct Watchers: u8 {
        /// `trace=syscalls`.
        const TRACER = 1;
        /// A thread has filters of its own.
        const FILTERS = 2;
        /// `allow-calls=`.
        const RULES = 4;
        /// `trace=policy`.
        const RECORDER = 8;
        /// Events are recorded.
        const EVENTS = 16;
    }
}

static WATCHERS: AtomicU8 = AtomicU8::new(0);
const ONLY_RULES: u8 = Watchers::RULES.bits();
const ONLY_EVENTS: u8 = Watchers::EVENTS.bits();

/// Has somebody look at each call from now on.
pub(crate) fn add(watchers: Watchers) {
    WATCHERS.fetch_or(watchers.bits(), Ordering::Relaxed);
}

/// Has somebody look no more.
pub(crate) fn remove(watchers: Watchers) {
    WATCHERS.fetch_and(!watchers.bits(), Ordering::Relaxed);
}

/// What has to be done about a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Look {
    /// Nothing.
    None,
    /// It is noted.
    Note,
    /// Somebody has to be asked: [`enter`] runs it.
    Ask,
}

/// Whether somebody looks at this call. Rules alone are looked at here, where the call goes on as if nobody had looked: `allow-calls=` costs
/// a server the look at its bit, not a way of its own; and recording events no more than these.
#[inline]
pub(super) fn look(number: u64) -> Look {
    match WATCHERS.load(Ordering::Relaxed) {
        0 => Look::None,
        ONLY_RULES if calls::allows(number as u32) => Look::None,
        ONLY_EVENTS => Look::Note,
        _ => Look::Ask,
    }
}

/// Notes that a call begins.
pub(super) fn note_begin(number: u64, args: &[u64; 6]) {
    events::record(Kind::CallBegin, number as u32, args[0], args[1]);
}

/// Notes what came of it.
pub(super) fn note_end(number: u64, result: Option<u64>, frame: &TrapFrame) {
    events::record(Kind::CallEnd, number as u32, result.unwrap_or(frame.rax), 0);
}

/// Runs a call of which [`look`] says [`Look::Ask`]; see [`enter`](super::enter).
#[cold]
#[inline(never)]
pub(super) fn enter(number: u64, args: &[u64; 6], frame: &mut TrapFrame) -> Option<u64> {
    let watchers = Watchers::from_bits_truncate(WATCHERS.load(Ordering::Relaxed));
    if !watchers.contains(Watchers::EVENTS) {
        return enter_judged(watchers, number, args, frame);
    }
    note_begin(number, args);
    let result = enter_judged(watchers, number, args, frame);
    note_end(number, result, frame);
    result
}

fn enter_judged(watchers: Watchers, number: u64, args: &[u64; 6], frame: &mut TrapFrame) -> Option<u64> {
    if watchers.contains(Watchers::RECORDER) {
        learn::call(number as u32);
    }
    let mut judgement = Judgement::Passes;
    if watchers.contains(Watchers::RULES) {
        judgement = judge::by_rules(number as u32, frame);
    }
    if watchers.contains(Watchers::FILTERS) && matches!(judgement, Judgement::Passes) {
        judgement = judge::by_filters(number as u32, args, frame);
    }
    match judgement {
        Judgement::Passes => {}
        Judgement::Answers(value) => return Some(value),
        Judgement::GoesElsewhere => return None,
    }
    run(number, args, frame, if watchers.contains(Watchers::TRACER) { trace::call } else { dispatch })
}
