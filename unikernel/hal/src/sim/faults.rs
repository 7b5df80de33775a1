//! What goes wrong with a machine beside its devices: memory that is refused, cores that stall, a machine that is stopped for a while.
//!
//! Only what may fail by the kernel's rules is refused ([`crate::kmem::room`]): room for an object, a frame that has one owner, a block
//! for a device, a thread's stack, a piece of the heap larger than its classes. Small objects come from the reserve, and are there.

use std::boxed::Box;

use super::engine::{Random, Single};

/// What goes wrong, and how often. None of it by default.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Decides what does.
    pub seed: u64,
    /// Memory that may be refused is, once in so many times; 0 for never.
    pub refuse_one_in: u32,
    /// A core stalls once in so many places where another may have its turn, with locks held or without, and before it takes the
    /// interrupt that wakes it.
    pub stall_one_in: u32,
    /// The longest stall.
    pub stall_ns: u64,
    /// All cores stop once in so many places, as if the host had stopped the machine.
    pub stop_one_in: u32,
    /// The longest stop.
    pub stop_ns: u64,
    /// The wall clock is another after a stop, earlier or later by up to so much: the host has set it meanwhile.
    pub clock_jump_ns: u64,
}

struct Active {
    faults: Faults,
    random: Random,
}

static ACTIVE: Single<Option<Box<Active>>> = Single::new(None);

/// From here on, this goes wrong.
pub fn set(faults: Faults) {
    let random = Random::new(!faults.seed);
    ACTIVE.with(|active| *active = Some(Box::new(Active { faults, random })));
}

/// From here on, nothing does.
pub fn end() {
    ACTIVE.with(|active| *active = None);
}

fn draw<T>(choose: impl FnOnce(&Faults, &mut Random) -> Option<T>) -> Option<T> {
    ACTIVE.with(|active| {
        let active = active.as_mut()?;
        choose(&active.faults, &mut active.random)
    })
}

/// True if memory is to be refused that may be.
pub fn refuses() -> bool {
    draw(|faults, random| random.one_in(faults.refuse_one_in).then_some(())).is_some()
}

/// True while memory may be refused that there is.
pub fn may_refuse() -> bool {
    ACTIVE.with(|active| active.as_ref().is_some_and(|active| active.faults.refuse_one_in > 0))
}

/// A span: short ones are as frequent as long ones.
fn span_ns(random: &mut Random, most_ns: u64) -> u64 {
    let bits = 64 - most_ns.leading_zeros();
    let shift = random.below(u64::from(bits).max(1));
    random.below(most_ns >> shift).max(1)
}

/// How long the running core stalls here, if it does.
pub(super) fn stall_ns() -> Option<u64> {
    draw(|faults, random| random.one_in(faults.stall_one_in).then(|| span_ns(random, faults.stall_ns)))
}

/// How long the machine stops here, if it does, and by how much the wall clock is set then.
pub(super) fn stop() -> Option<(u64, i64)> {
    draw(|faults, random| {
        random.one_in(faults.stop_one_in).then(|| {
            let by_ns = random.below(2 * faults.clock_jump_ns + 1) as i64 - faults.clock_jump_ns as i64;
            (span_ns(random, faults.stop_ns), by_ns)
        })
    })
}
