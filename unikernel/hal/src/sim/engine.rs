//! Cores, the clock and interrupts. One core runs at a time; a seed decides when it is another's turn.

use core::cell::RefCell;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::boxed::Box;
use std::format;
use std::string::String;
use std::vec::Vec;

use unikernel_sched::MAX_CORES;

use super::heap::HostScope;
use super::stack::{HostStack, switch_stacks};
use super::{bus, faults, machine};
use crate::arch::trap::TrapFrame;
use crate::platform::interrupts::TIMER_VECTOR;

/// What only the one thread of a machine touches.
pub(super) struct Single<T>(RefCell<T>);

// SAFETY: a machine is a process with one thread. In the test's own process, which may have several, nothing here is used.
unsafe impl<T> Sync for Single<T> {}

impl<T> Single<T> {
    pub(super) const fn new(value: T) -> Self {
        Self(RefCell::new(value))
    }

    pub(super) fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        let _host = HostScope::enter();
        work(&mut self.0.borrow_mut())
    }
}

/// Numbers from a seed (Vigna, splitmix64).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Begins a row of numbers.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next one.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next_u64() % end.max(1)
    }

    /// True once in so many times; never for 0.
    pub fn one_in(&mut self, count: u32) -> bool {
        count > 0 && self.below(count.into()) == 0
    }
}

/// Words of a set of 256 vectors.
const VECTOR_WORDS: usize = 4;

struct Core {
    /// Where it goes on, while another runs.
    stack_pointer: u64,
    is_started: bool,
    is_halted: bool,
    /// Vectors that wait until it takes interrupts.
    pending: [u64; VECTOR_WORDS],
    /// When its timer goes off.
    deadline_ns: Option<u64>,
    /// It does nothing until then.
    stalled_until_ns: u64,
}

impl Core {
    const fn new() -> Self {
        Self {
            stack_pointer: 0,
            is_started: false,
            is_halted: false,
            pending: [0; VECTOR_WORDS],
            deadline_ns: None,
            stalled_until_ns: 0,
        }
    }

    fn has_interrupt(&self, now_ns: u64) -> bool {
        self.pending.iter().any(|word| *word != 0)
            || self.deadline_ns.is_some_and(|deadline_ns| deadline_ns <= now_ns)
    }

    fn can_run(&self, now_ns: u64) -> bool {
        self.is_started && self.stalled_until_ns <= now_ns && (!self.is_halted || self.has_interrupt(now_ns))
    }

    /// When it can run, if nothing else happens.
    fn runs_at_ns(&self) -> Option<u64> {
        let is_pending = self.pending.iter().any(|word| *word != 0);
        let wakes_ns = if self.is_halted && !is_pending { self.deadline_ns? } else { 0 };
        self.is_started.then_some(wakes_ns.max(self.stalled_until_ns))
    }
}

pub(super) struct Engine {
    random: Random,
    now_ns: u64,
    cores: Box<[Core; MAX_CORES]>,
    /// Another core's turn once in so many points.
    switch_one_in: u32,
    steps: u64,
    most_steps: u64,
    /// Rounds in which cores did nothing but spin.
    spins: u32,
    /// What was decided so far, mixed to one number.
    trace: u64,
}

static ENGINE: Single<Option<Engine>> = Single::new(None);
/// The core that runs.
static CURRENT: AtomicUsize = AtomicUsize::new(0);

fn with<R>(work: impl FnOnce(&mut Engine) -> R) -> R {
    ENGINE.with(|engine| work(engine.as_mut().expect("a machine runs")))
}

/// True in a machine's process.
pub fn is_running() -> bool {
    ENGINE.with(|engine| engine.is_some())
}

/// Begins: core 0 runs.
pub(super) fn init(seed: u64, switch_one_in: u32, most_steps: u64) {
    let mut cores = Box::new([const { Core::new() }; MAX_CORES]);
    cores[0].is_started = true;
    let engine = Engine {
        random: Random::new(seed),
        now_ns: 0,
        cores,
        switch_one_in,
        steps: 0,
        most_steps,
        spins: 0,
        trace: seed,
    };
    ENGINE.with(|slot| *slot = Some(engine));
}

/// The core that runs.
#[inline]
pub fn current() -> usize {
    CURRENT.load(Ordering::Relaxed)
}

/// A number from the seed.
pub fn random() -> u64 {
    with(|engine| engine.random.next_u64())
}

/// How many decisions there have been, what the clock shows, and what was decided, mixed to one number.
pub fn progress() -> (u64, u64, u64) {
    with(|engine| (engine.steps, engine.now_ns, engine.trace))
}

/// Reads the clock, which goes on by it: a loop that waits for a time comes to its end.
pub fn clock_ns() -> u64 {
    /// More than a look takes: what polls until a time comes to it in fewer rounds.
    const LOOK_NS: u64 = 250;
    advance_ns(LOOK_NS)
}

/// Sets the clock forward; answers what it shows then.
pub fn advance_ns(ns: u64) -> u64 {
    let now_ns = with(|engine| {
        engine.now_ns += ns;
        engine.now_ns
    });
    bus::run_due(now_ns);
    now_ns
}

impl Engine {
    /// One more step; true if the run has had its share.
    fn step(&mut self) -> bool {
        self.steps += 1;
        self.now_ns += 20 + self.random.below(100);
        self.steps > self.most_steps
    }

    fn others(&self) -> Vec<usize> {
        let runs = |&core: &usize| core != current() && self.cores[core].can_run(self.now_ns);
        (0..MAX_CORES).filter(runs).collect()
    }

    fn any_other(&mut self) -> Option<usize> {
        let others = self.others();
        let chosen = others.get(self.random.below(others.len() as u64) as usize).copied()?;
        self.trace =
            (self.trace.rotate_left(5) ^ chosen as u64 ^ self.now_ns).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Some(chosen)
    }
}

/// Makes a step: devices run whose time has come. A run that has had its share of steps ends with what the core was at.
fn step(at_what: &str) {
    let (is_over, now_ns) = with(|engine| (engine.step(), engine.now_ns));
    if is_over {
        machine::fail(&format!("no end after {} steps: {at_what}", progress().0));
    }
    bus::run_due(now_ns);
}

/// A place where it may be another core's turn.
pub fn point() {
    if !is_running() {
        return;
    }
    step("a core is about to take a lock, or to copy");
    with(|engine| engine.spins = 0);
    stop_if_due();
    stall_if_due();
    let take_turns =
        |engine: &mut Engine| engine.random.one_in(engine.switch_one_in).then(|| engine.any_other());
    if let Some(Some(next)) = with(take_turns) {
        switch_to(next);
    }
}

/// The core waits for another: it is another's turn, if any can run.
pub fn give_way() {
    if !is_running() {
        return;
    }
    step("a core spins");
    skip_to_end_of_stall();
    if let Some(next) = with(Engine::any_other) {
        switch_to(next);
    }
}

fn switch_to(next: usize) {
    let host = HostScope::enter();
    let (save, load) = with(|engine| {
        let save = &raw mut engine.cores[current()].stack_pointer;
        (save, engine.cores[next].stack_pointer)
    });
    CURRENT.store(next, Ordering::Relaxed);
    // SAFETY: `load` is where the other core was left, by this very call or by `start`; `save` stays where it is, for the
    // cores are in a box that lives as long as the machine.
    unsafe { switch_stacks(save, load) };
    drop(host);
}

/// Starts a core on a stack of its own: `main` never returns.
pub(super) fn start(core: usize, main: extern "C" fn() -> !) {
    let stack = HostStack::new().expect("memory for a core's first stack");
    let stack_pointer = stack.prepare(main);
    // The core leaves it for its idle thread's, and nobody can tell when.
    core::mem::forget(stack);
    with(|engine| {
        engine.cores[core].stack_pointer = stack_pointer;
        engine.cores[core].is_started = true;
    });
}

/// Raises a vector on a core.
pub fn raise(core: usize, vector: u8) {
    with(|engine| engine.cores[core].pending[usize::from(vector) / 64] |= 1 << (vector % 64));
}

/// Sets this core's timer.
pub fn set_deadline(deadline_ns: Option<u64>) {
    with(|engine| engine.cores[current()].deadline_ns = deadline_ns);
}

/// Takes the next interrupt of this core: the highest vector first, as an APIC has it.
pub(super) fn take_interrupt() -> Option<u8> {
    with(|engine| {
        let now_ns = engine.now_ns;
        let core = &mut engine.cores[current()];
        if core.deadline_ns.is_some_and(|deadline_ns| deadline_ns <= now_ns) {
            core.deadline_ns = None;
            return Some(TIMER_VECTOR);
        }
        let (index, word) = core.pending.iter_mut().enumerate().rev().find(|(_, word)| **word != 0)?;
        let bit = 63 - word.leading_zeros();
        *word &= !(1 << bit);
        Some((index as u32 * 64 + bit) as u8)
    })
}

unsafe extern "C" {
    safe fn kernel_trap(frame: &mut TrapFrame);
}

/// Takes the interrupts that are pending, in the kernel.
pub fn admit_interrupts() {
    while let Some(vector) = take_interrupt() {
        let mut frame = TrapFrame { vector: vector.into(), ..TrapFrame::default() };
        kernel_trap(&mut frame);
    }
}

/// Halts this core until it has an interrupt, and takes it.
pub fn wait_for_interrupt() {
    let here = current();
    with(|engine| engine.cores[here].is_halted = true);
    loop {
        step("the cores sleep and wake");
        if with(|engine| engine.cores[here].can_run(engine.now_ns)) {
            break;
        }
        match with(Engine::any_other) {
            Some(next) => switch_to(next),
            None => skip_to_next_event(),
        }
    }
    stall_if_due();
    with(|engine| engine.cores[here].is_halted = false);
    admit_interrupts();
}

/// When a core runs next: now, or when the first timer goes off; none if all wait for devices.
pub(super) fn next_core_ns(now_ns: u64) -> Option<u64> {
    with(|engine| {
        if engine.cores.iter().any(|core| core.can_run(now_ns)) {
            return Some(now_ns);
        }
        engine.cores.iter().filter_map(Core::runs_at_ns).min()
    })
}

/// Nobody can run: the clock goes to when somebody can.
fn skip_to_next_event() {
    let timers = with(|engine| engine.cores.iter().filter_map(Core::runs_at_ns).min());
    let next_ns = timers.into_iter().chain(bus::next_event_ns()).min();
    let Some(next_ns) = next_ns else {
        machine::fail("every core sleeps, and nothing will wake one");
    };
    let now_ns = with(|engine| {
        engine.now_ns = engine.now_ns.max(next_ns);
        engine.now_ns
    });
    bus::run_due(now_ns);
}

/// The running core may stall here: it goes on later, and the others meanwhile.
fn stall_if_due() {
    let Some(stall_ns) = faults::stall_ns() else { return };
    let here = current();
    with(|engine| engine.cores[here].stalled_until_ns = engine.now_ns + stall_ns);
    while with(|engine| engine.cores[here].stalled_until_ns > engine.now_ns) {
        step("a core stalls");
        match with(Engine::any_other) {
            Some(next) => switch_to(next),
            None => skip_to_next_event(),
        }
    }
}

/// All cores may stop here for a while.
fn stop_if_due() {
    let Some((stop_ns, by_ns)) = faults::stop() else { return };
    advance_ns(stop_ns);
    if by_ns != 0 {
        crate::platform::time::jump(by_ns);
    }
}

/// Where cores have done nothing but spin for a while, and one is stalled that may have what they wait for: it goes on.
fn skip_to_end_of_stall() {
    const MOST_SPINS: u32 = 64;
    let end_ns = with(|engine| {
        engine.spins += 1;
        let now_ns = engine.now_ns;
        let ends = engine.cores.iter().map(|core| core.stalled_until_ns).filter(|end_ns| *end_ns > now_ns);
        let end_ns = if engine.spins > MOST_SPINS { ends.min() } else { None };
        engine.now_ns = end_ns.unwrap_or(now_ns);
        end_ns
    });
    if let Some(end_ns) = end_ns {
        bus::run_due(end_ns);
    }
}

/// Who runs where, for a report.
pub(super) fn describe() -> String {
    with(|engine| {
        let core = |(index, core): (usize, &Core)| {
            format!(
                "core {index}: halted {}, pending {:x?}, timer {:?}, stalled until {}\n",
                core.is_halted, core.pending, core.deadline_ns, core.stalled_until_ns
            )
        };
        let started = engine.cores.iter().enumerate().filter(|(_, core)| core.is_started);
        let cores: String = started.map(core).collect();
        format!("step {}, {} ns, core {} runs\n{cores}", engine.steps, engine.now_ns, current())
    })
}
