//! What a core does when nobody can run: look for packets for a moment, then halt until an
//! interrupt.

use core::sync::atomic::{AtomicBool, Ordering};

use spin::Once;

use super::cores::{CORES, Cores, DISPATCHER, SwitchReason};
use super::{scheduler, timer};
use crate::arch::cpu::{self, this_cpu};
use crate::arch::tlb;
use crate::platform::events::{self, Kind};
use crate::platform::time;

/// How often an idle core looks for packets between two looks at the clock.
const LOOKS_PER_CLOCK: usize = 64;

/// True while a core looks around before it halts. One is enough: the others would only take the
/// host's processors away from whoever sends the packet.
static HAS_POLLER: AtomicBool = AtomicBool::new(false);

/// What an idle core does for the rooms above this one.
pub(crate) trait Work: Sync {
    /// Does what was put off until nobody runs.
    fn begin(&self);

    /// Takes in what has arrived. True if a thread may run for it.
    fn poll(&self) -> bool;

    /// True if something may have arrived. Looks at memory only.
    fn has_arrivals(&self) -> bool;

    /// The core is about to sleep: from here on an interrupt tells of arrivals. False if one has come meanwhile.
    fn prepare_to_sleep(&self) -> bool;

    /// When there is something to do at the latest, whatever arrives.
    fn next_deadline_ns(&self) -> Option<u64>;
}

static WORK: Once<&'static dyn Work> = Once::new();

/// Sets what idle cores do.
pub(crate) fn set_work(work: &'static dyn Work) {
    WORK.call_once(|| work);
}

/// An idle thread's whole life. It runs when the core has left a dead thread's stack, or one that
/// must go on elsewhere, and before the first thread.
pub(super) extern "C" fn main() -> ! {
    scheduler::finish_task_switch();
    loop {
        scheduler::run_next(SwitchReason::Stopped);
    }
}

/// Waits until there may be a thread to take.
#[cold]
pub(super) fn wait() {
    let here = this_cpu().index();
    CORES.is_idling.store(true, Ordering::Relaxed);
    events::note(Kind::IdleBegin, 0, 0, 0);
    timer::run_expired();
    let work = *WORK.get().expect("it is set before threads run");
    work.begin();
    // The thread whose stack this is sleeps: its processor time stands still.
    scheduler::stop_clock();
    DISPATCHER.begin_idle(here);
    tlb::begin_lazy();
    look_around(here, work);
    if DISPATCHER.waiting(here) == 0 {
        // There was work, and nobody to run for it: a core does not get as far as its sleep while a device brings more. It hears
        // of the power button all the same.
        cpu::admit_interrupts();
    }
    tlb::end_lazy();
    DISPATCHER.end_idle(here);
    scheduler::start_clock();
    events::note(Kind::IdleEnd, 0, 0, 0);
    CORES.is_idling.store(false, Ordering::Relaxed);
}

fn look_around(here: usize, work: &dyn Work) {
    let start_ns = time::now_ns();
    let mut looked_ns = start_ns;
    let mut spin = *CORES.spin.lock();
    let is_poller = !HAS_POLLER.swap(true, Ordering::Acquire);
    loop {
        let has_work = work.poll() || DISPATCHER.waiting(here) > 0;
        let is_over = !is_poller || looked_ns - start_ns >= spin.spin_ns();
        if is_poller && (has_work || is_over) {
            HAS_POLLER.store(false, Ordering::Release);
        }
        if has_work {
            spin.record(looked_ns - start_ns, true);
            *CORES.spin.lock() = spin;
            return;
        }
        if is_over {
            break;
        }
        // Looks at memory only. No `pause` and few clock reads: an emulator takes locks for both,
        // which its device thread needs just now, to deliver what is being waited for.
        let _ = (0..LOOKS_PER_CLOCK).any(|_| work.has_arrivals() || DISPATCHER.waiting(here) > 0);
        let now_ns = time::now_ns();
        account(now_ns - looked_ns);
        looked_ns = now_ns;
    }
    halt(here, work);
    spin.record(time::now_ns() - start_ns, false);
    *CORES.spin.lock() = spin;
}

fn halt(here: usize, work: &dyn Work) {
    // From here on an interrupt announces a packet; one that came before shows in this last look.
    if !work.prepare_to_sleep() {
        work.poll();
        return;
    }
    if !DISPATCHER.begin_halt(&Cores, here) {
        return;
    }
    let halted_ns = time::now_ns();
    if let Some(deadline_ns) = work.next_deadline_ns() {
        timer::interrupt_by(deadline_ns);
    }
    cpu::wait_for_interrupt();
    DISPATCHER.end_halt(here);
    account(time::now_ns() - halted_ns);
}

/// So much time was idle: the core slept, or looked for work in vain.
fn account(idle_ns: u64) {
    CORES.idle_ns.fetch_add(idle_ns, Ordering::Relaxed);
}
