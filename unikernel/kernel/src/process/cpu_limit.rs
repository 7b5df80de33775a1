//! `RLIMIT_CPU`: the app is told once a second that it has used its processor time (`SIGXCPU`), and ended at the hard limit
//! (setrlimit(2)).

use alloc::sync::Arc;

use linux_raw_sys::general::{SIGKILL, SIGXCPU};
use spin::Once;

use super::clocks::CpuClock;
use super::signal;
use super::signal_timer;
use crate::sync::SpinLock;
use crate::task::limits::{Limit, UNLIMITED};
use crate::task::signal::SignalInfo;
use crate::task::timer::{self, Timer, TimerTarget};

const SECOND_NS: u64 = 1_000_000_000;

struct State {
    /// Processor time at which the app is told next.
    soft_ns: u64,
    hard_ns: u64,
    timer: Option<Timer>,
}

static STATE: SpinLock<State> = SpinLock::new(State { soft_ns: UNLIMITED, hard_ns: UNLIMITED, timer: None });

/// Keeps to a limit from now on.
pub(crate) fn set(limit: Limit) {
    // As on Linux, 0 is as good as 1.
    let in_ns = |seconds: u64| match seconds {
        UNLIMITED => UNLIMITED,
        seconds => seconds.max(1).saturating_mul(SECOND_NS),
    };
    {
        let mut state = STATE.lock();
        (state.soft_ns, state.hard_ns) = (in_ns(limit.soft), in_ns(limit.hard));
    }
    look();
}

/// Looks at the app's processor time when so much of it may have been used.
struct Watch;

impl TimerTarget for Watch {
    fn expired(&self) {
        look();
    }
}

fn look() {
    static WATCH: Once<Arc<Watch>> = Once::new();
    let now_ns = CpuClock::Process.now_ns();
    let mut state = STATE.lock();
    let (is_told, is_ended) = (now_ns >= state.soft_ns, now_ns >= state.hard_ns);
    if is_told {
        state.soft_ns = now_ns.saturating_add(SECOND_NS);
    }
    let next_ns = state.soft_ns.min(state.hard_ns);
    let timer = (next_ns != UNLIMITED && !is_ended).then(|| {
        let target = WATCH.call_once(|| Arc::new(Watch));
        timer::call_at(signal_timer::earliest_ns(next_ns.saturating_sub(now_ns)), Arc::clone(target) as _)
    });
    let before = core::mem::replace(&mut state.timer, timer);
    drop(state);
    drop(before);
    if is_ended {
        signal::send_to_process(SignalInfo::from_kernel(SIGKILL));
    } else if is_told {
        signal::send_to_process(SignalInfo::from_kernel(SIGXCPU));
    }
}
