//! Classic BPF: programs that look at a packet or at a system call, and answer a number.
//!
//! A [`Program`] is checked before it runs ([`check`]), with the refusals of Linux (`bpf_check_classic` in `net/core/filter.c`,
//! `seccomp_check_filter` in `kernel/seccomp.c`). Jumps lead forwards only, so a run takes at most as many steps as the program
//! is long ([`run`]).

mod check;
pub mod code;
mod run;

use alloc::vec::Vec;

pub use run::{Loaded, Source, Unknown, Width};

/// Instructions of a program at most (Linux: `BPF_MAXINSNS`).
pub const MAX_INSTRUCTIONS: usize = 4096;
/// Words of scratch memory (`BPF_MEMWORDS`).
const MEMORY_WORDS: usize = 16;
/// Offsets from here on are no place in a packet but a question about it (`SKF_AD_OFF`).
const ANCILLARY: u32 = -0x1000_i32 as u32;

/// One instruction: `struct sock_filter`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Instruction {
    /// What to do: one of [`code`].
    pub code: u16,
    /// How many instructions are left out if a condition holds.
    pub jump_true: u8,
    /// How many are left out if it does not.
    pub jump_false: u8,
    /// A constant, an offset or the number of a word of memory.
    pub k: u32,
}

impl Instruction {
    /// Bytes of an instruction.
    pub const BYTES: usize = 8;

    /// Reads an instruction as it stands in memory.
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        let [a, b, jump_true, jump_false, k @ ..] = bytes;
        Self { code: u16::from_le_bytes([a, b]), jump_true, jump_false, k: u32::from_le_bytes(k) }
    }

    /// An instruction without jumps.
    pub const fn plain(code: u16, k: u32) -> Self {
        Self { code, jump_true: 0, jump_false: 0, k }
    }
}

/// What a program looks at, which decides what it may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Subject {
    /// A packet that arrives at a socket.
    Packet,
    /// A system call: aligned words of its number and arguments, and no remainders.
    Call,
}

/// Why a program is refused; Linux answers `EINVAL` to all but the last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadProgram {
    /// It has no instruction, or too many.
    Length,
    /// There is no such instruction, or not for this subject.
    Code,
    /// A jump leads beyond the end.
    Jump,
    /// A division by a constant zero, or a shift by more bits than there are.
    Constant,
    /// There is no such word of memory, or it may be read before it was written.
    Memory,
    /// An offset of which nothing is known.
    Offset,
    /// The last instruction does not end the program.
    End,
    /// There is no memory to check it.
    OutOfMemory,
}

/// A program that was checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Program(Vec<Instruction>);

impl Program {
    /// Checks a program.
    ///
    /// # Errors
    ///
    /// See [`BadProgram`].
    pub fn check(instructions: Vec<Instruction>, subject: Subject) -> Result<Self, BadProgram> {
        check::check(&instructions, subject)?;
        Ok(Self(instructions))
    }

    /// How many instructions it has.
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests;
