//! System calls by their names, with what they take: numbers, texts, and places in the app's memory.

use alloc::vec::Vec;
use core::array::from_fn;

use unikernel_hal::sim::app;
use unikernel_report::calls::name;

use super::run::{self, Answer};
use super::{get, map, put, text};

/// Numbers that Linux has on x86-64, with room.
const NUMBERS: u32 = 512;

/// What a register is loaded with.
pub(in crate::workbench) trait Argument {
    fn register(self) -> u64;
}

impl Argument for u64 {
    fn register(self) -> u64 {
        self
    }
}

impl Argument for i64 {
    fn register(self) -> u64 {
        self as u64
    }
}

impl Argument for u32 {
    fn register(self) -> u64 {
        self.into()
    }
}

impl Argument for i32 {
    fn register(self) -> u64 {
        self as u64
    }
}

impl Argument for usize {
    fn register(self) -> u64 {
        self as u64
    }
}

/// A text goes into the app's memory, with a zero behind it.
impl Argument for &str {
    fn register(self) -> u64 {
        text(self)
    }
}

impl Argument for &Room {
    fn register(self) -> u64 {
        self.0
    }
}

/// Makes the system call of this name.
pub(in crate::workbench) fn by_name(wanted: &str, arguments: &[u64]) -> Answer {
    let number = (0..NUMBERS).find(|number| name(*number) == Some(wanted));
    run::sys(number.expect("a call of Linux"), arguments)
}

/// `sys!(name, arguments...)` makes a system call.
macro_rules! sys {
    ($name:ident $(, $argument:expr)* $(,)?) => {
        $crate::workbench::app::calls::by_name(
            stringify!($name),
            &[$($crate::workbench::app::calls::Argument::register($argument)),*],
        )
    };
}
pub(in crate::workbench) use sys;

/// Memory of the app's: whole pages, zeros at first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::workbench) struct Room(pub(in crate::workbench) u64);

impl Room {
    pub(in crate::workbench) fn new(len: usize) -> Self {
        Self(map(len))
    }

    /// Bytes in it.
    pub(in crate::workbench) fn of(bytes: &[u8]) -> Self {
        Self(put(bytes))
    }

    /// Words of 64 bits in it.
    pub(in crate::workbench) fn of_longs(longs: &[u64]) -> Self {
        Self::of(&longs.iter().flat_map(|long| long.to_le_bytes()).collect::<Vec<_>>())
    }

    /// The address of a byte of it.
    pub(in crate::workbench) fn at(&self, offset: usize) -> u64 {
        self.0 + offset as u64
    }

    pub(in crate::workbench) fn bytes(&self, offset: usize, len: usize) -> Vec<u8> {
        get(self.at(offset), len)
    }

    pub(in crate::workbench) fn byte(&self, offset: usize) -> u8 {
        self.bytes(offset, 1)[0]
    }

    pub(in crate::workbench) fn word(&self, offset: usize) -> u32 {
        u32::from_le_bytes(from_fn(|index| self.byte(offset + index)))
    }

    pub(in crate::workbench) fn long(&self, offset: usize) -> u64 {
        u64::from_le_bytes(from_fn(|index| self.byte(offset + index)))
    }

    pub(in crate::workbench) fn put(&self, offset: usize, bytes: &[u8]) {
        app::write(self.at(offset), bytes);
    }

    pub(in crate::workbench) fn put_word(&self, offset: usize, word: u32) {
        self.put(offset, &word.to_le_bytes());
    }

    pub(in crate::workbench) fn put_long(&self, offset: usize, long: u64) {
        self.put(offset, &long.to_le_bytes());
    }
}
