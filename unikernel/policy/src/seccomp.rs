//! Filters of system calls (seccomp(2)): programs that see a call's number and arguments, and say what becomes of it.
//!
//! A thread has a [`Chain`] of [`Filter`]s, each added in front of those that were there. All are asked, and the strictest answer
//! counts. What a filter allows by the number alone is known beforehand, so that most calls are not worth a run (Linux:
//! `seccomp_cache_prepare`).

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::bpf::{Loaded, Program, Source, Width};
use crate::calls::{CALL_NUMBERS, CallSet};

/// Bytes of `struct seccomp_data`.
pub const CALL_DATA_BYTES: u32 = 64;
/// `AUDIT_ARCH_X86_64`.
pub const ARCHITECTURE: u32 = 0xc000_003e;
/// Instructions of all filters of a thread, with a few for each (Linux: `MAX_INSNS_PER_PATH`, seccomp(2)).
const MAX_INSTRUCTIONS: usize = 32_768;
const FILTER_PENALTY: usize = 4;
/// The largest error number that a filter can give (Linux: `MAX_ERRNO`).
const MAX_ERROR: u16 = 4095;

/// What a filter sees: `struct seccomp_data`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CallData {
    /// The number, as in `eax`.
    pub number: u32,
    /// Where the call is made.
    pub instruction_pointer: u64,
    /// Its arguments.
    pub arguments: [u64; 6],
}

impl Source for CallData {
    fn load(&self, offset: u32, _width: Width) -> Loaded {
        let half = |value: u64| (value >> (8 * (offset % 8))) as u32;
        Loaded::Value(match offset / 8 {
            0 if offset.is_multiple_of(8) => self.number,
            0 => ARCHITECTURE,
            1 => half(self.instruction_pointer),
            index => match self.arguments.get(index as usize - 2) {
                Some(argument) => half(*argument),
                None => return Loaded::Outside,
            },
        })
    }

    fn len(&self) -> u32 {
        CALL_DATA_BYTES
    }
}

/// A call of which only the number is known.
struct NumberOnly(u32);

impl Source for NumberOnly {
    fn load(&self, offset: u32, _width: Width) -> Loaded {
        match offset {
            0 => Loaded::Value(self.0),
            4 => Loaded::Value(ARCHITECTURE),
            _ => Loaded::Unknown,
        }
    }

    fn len(&self) -> u32 {
        CALL_DATA_BYTES
    }
}

/// What becomes of a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// The app ends by `SIGSYS`.
    KillProcess,
    /// The thread ends.
    KillThread,
    /// The thread gets `SIGSYS`, with this in `si_errno`.
    Trap(u16),
    /// The call answers this error number, or 0.
    Errno(u16),
    /// A supervisor is asked.
    Notify,
    /// A tracer is asked.
    Trace(u16),
    /// It is allowed, and told.
    Log,
    /// It is allowed.
    Allow,
}

impl Action {
    /// Reads what a filter has answered; what is unknown ends the app, as on Linux.
    pub fn from_value(value: u32) -> Self {
        let data = value as u16;
        match value & 0xffff_0000 {
            0x0000_0000 => Self::KillThread,
            0x0003_0000 => Self::Trap(data),
            0x0005_0000 => Self::Errno(data.min(MAX_ERROR)),
            0x7fc0_0000 => Self::Notify,
            0x7ff0_0000 => Self::Trace(data),
            0x7ffc_0000 => Self::Log,
            0x7fff_0000 => Self::Allow,
            _ => Self::KillProcess,
        }
    }

    /// True for what `SECCOMP_GET_ACTION_AVAIL` tells to be there: all but supervisors.
    pub fn is_available(value: u32) -> bool {
        value == 0x8000_0000
            || value & 0xffff == 0 && !matches!(Self::from_value(value), Self::KillProcess | Self::Notify)
    }
}

/// One filter.
#[derive(Debug)]
pub struct Filter {
    program: Program,
    /// All that it does is told, except for allowing.
    logs: bool,
    /// The calls that it allows whatever their arguments.
    allowed: CallSet,
}

impl Filter {
    /// Makes a filter of a program for calls. `pause` is called now and then meanwhile.
    pub fn new(program: Program, logs: bool, mut pause: impl FnMut()) -> Self {
        let mut allowed = CallSet::EMPTY;
        for number in 0..CALL_NUMBERS {
            if program.run(&NumberOnly(number)).map(Action::from_value) == Ok(Action::Allow) {
                allowed.insert(number);
            }
            pause();
        }
        Self { program, logs, allowed }
    }
}

/// Why a filter cannot be added.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CannotAdd {
    /// There are too many instructions.
    TooLong,
    /// There is no memory.
    OutOfMemory,
}

/// The filters of a thread, the oldest first.
#[derive(Debug)]
pub struct Chain {
    filters: Vec<Arc<Filter>>,
    allowed: CallSet,
    instructions: usize,
}

/// What a chain says of a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Verdict {
    /// What becomes of the call.
    pub action: Action,
    /// The filter wants it to be told.
    pub logs: bool,
}

impl Chain {
    /// A chain with one filter more.
    ///
    /// # Errors
    ///
    /// See [`CannotAdd`].
    pub fn with(older: Option<&Self>, filter: Arc<Filter>) -> Result<Self, CannotAdd> {
        let (known, instructions) =
            older.map_or((&[][..], 0), |older| (&older.filters[..], older.instructions));
        // Each that was there counts for some instructions more.
        let instructions =
            instructions + filter.program.len() + if known.is_empty() { 0 } else { FILTER_PENALTY };
        if instructions > MAX_INSTRUCTIONS {
            return Err(CannotAdd::TooLong);
        }
        let mut filters = Vec::new();
        filters.try_reserve_exact(known.len() + 1).map_err(|_| CannotAdd::OutOfMemory)?;
        filters.extend(known.iter().cloned());
        let allowed = older.map_or(filter.allowed, |older| older.allowed.intersection(filter.allowed));
        filters.push(filter);
        Ok(Self { filters, allowed, instructions })
    }

    /// True if this chain has come from `other` by adding filters: then who has `other` may be given this one.
    pub fn extends(&self, other: &Self) -> bool {
        let mut both = self.filters.iter().zip(&other.filters);
        self.filters.len() >= other.filters.len() && both.all(|(mine, its)| Arc::ptr_eq(mine, its))
    }

    /// True if the call is allowed whatever its arguments.
    #[inline]
    pub fn allows_any(&self, number: u32) -> bool {
        self.allowed.contains(number)
    }

    /// How many filters there are.
    pub fn count(&self) -> usize {
        self.filters.len()
    }

    /// What becomes of a call.
    pub fn judge(&self, call: &CallData) -> Verdict {
        let mut strictest = (ALLOW, None);
        for filter in self.filters.iter().rev() {
            // Nothing is unknown of a call that is made.
            let value = filter.program.run(call).unwrap_or(0);
            if severity(value) < severity(strictest.0) {
                strictest = (value, Some(filter));
            }
        }
        let (value, filter) = strictest;
        Verdict { action: Action::from_value(value), logs: filter.is_some_and(|filter| filter.logs) }
    }
}

/// `SECCOMP_RET_ALLOW`.
pub(crate) const ALLOW: u32 = 0x7fff_0000;

/// The lower, the stricter (Linux: `ACTION_ONLY`).
fn severity(value: u32) -> i32 {
    (value & 0xffff_0000) as i32
}

#[cfg(test)]
mod tests;
