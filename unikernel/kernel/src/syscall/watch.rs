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

/// Has somebody look at each call from now on.
pub(crate) fn add(watchers: Watchers) {
    WATCHERS.fetch_or(watchers.bits(), Ordering::Relaxed);
}

/// Has somebody look no more.
pub(crate) fn remove(watchers: Watchers) {
    WATCHERS.fetch_and(!watchers.bits(), Ordering::Relaxed);
}

/// True if somebody has to be asked about this call. Rules alone are looked at here, where the call goes on as if nobody had looked:
/// `allow-calls=` costs a server the look at its bit, not a way of its own.
#[inline]
pub(super) fn is_asked(number: u64) -> bool {
    match WATCHERS.load(Ordering::Relaxed) {
        0 => false,
        ONLY_RULES => !calls::allows(number as u32),
        _ => true,
    }
}

/// Runs a call of which [`is_asked`] is true; see [`enter`](super::enter).
#[cold]
#[inline(never)]
pub(super) fn enter(number: u64, args: &[u64; 6], frame: &mut TrapFrame) -> Option<u64> {
    let watchers = Watchers::from_bits_truncate(WATCHERS.load(Ordering::Relaxed));
    if !watchers.contains(Watchers::EVENTS) {
        return enter_judged(watchers, number, args, frame);
    }
    events::note(Kind::CallBegin, number as u32, args[0], args[1]);
    let result = enter_judged(watchers, number, args, frame);
    events::note(Kind::CallEnd, number as u32, result.unwrap_or(frame.rax), 0);
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
