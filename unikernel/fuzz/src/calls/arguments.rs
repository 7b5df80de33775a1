//! Arguments of system calls, by what they are: mostly what a call can use, now and then what it cannot.

use std::vec::Vec;

use linux_raw_sys::general as linux;
use unikernel_hal::sim::app;

use super::super::input::Input;
use super::call;

/// What an argument is.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// A descriptor; calls leave low ones.
    Fd,
    /// The name of a file.
    Path,
    /// Memory with so many bytes that the call reads.
    In(u8),
    /// A `struct timespec`, or two.
    Time,
    /// Memory that the call writes.
    Out,
    /// A length.
    Size,
    /// A place in the area where the input maps and unmaps.
    Address,
    /// Bits of a mask, and now and then others.
    Flags(u32),
    /// One of these, and now and then another.
    One(&'static [u32]),
    /// A small number, or one at the edge of something.
    Number,
}

/// An argument, before it has its place in memory.
pub(super) enum Argument {
    /// A number.
    Plain(u64),
    /// Bytes, which are written there first.
    Bytes(u64, Vec<u8>),
    /// An address in the app's memory, from its start.
    Place(u64),
}

/// Where the app's memory is.
const BASE: u64 = 0x2000_0000;
const PAGE: u64 = 4096;
/// Parts of it, from its start: what the app itself needs, names, what calls read, what they write, a page that can only be read, and a last one
/// before none.
const OWN: u64 = 0;
const NAMES: u64 = PAGE;
const INPUTS: u64 = 2 * PAGE;
const OUTPUTS: u64 = 8 * PAGE;
const READ_ONLY: u64 = 24 * PAGE;
const LAST: u64 = 25 * PAGE;
const END: u64 = 26 * PAGE;
/// Where the input maps and unmaps.
const AREA: u64 = 256 * PAGE;
const AREA_PAGES: u64 = 32;

const NAME_BYTES: u64 = 64;
const FILES: [&str; 20] = [
    "/tmp/a",
    "/tmp/b",
    "/tmp/d",
    "/tmp/d/x",
    "/tmp/d/../a",
    "a",
    ".",
    "/",
    "",
    "/dev/null",
    "/dev/zero",
    "/dev/ptmx",
    "/dev/full",
    "/proc/self/maps",
    "/proc/self/fd/3",
    "/proc/meminfo",
    "/proc/self/status",
    "/etc/hosts",
    "/tmp/d/none/x",
    "user.name",
];

/// Maps memory somewhere.
pub(super) fn map(len: u64) -> Option<u64> {
    map_at(0, len, linux::PROT_READ | linux::PROT_WRITE)
}

fn map_at(address: u64, len: u64, protection: u32) -> Option<u64> {
    let fixed = if address == 0 { 0 } else { linux::MAP_FIXED };
    let flags = linux::MAP_PRIVATE | linux::MAP_ANONYMOUS | fixed;
    u64::try_from(call(linux::__NR_mmap, &[address, len, protection.into(), flags.into(), u64::MAX, 0])).ok()
}

/// The app's memory.
#[derive(Clone, Copy)]
pub(super) struct Memory(());

impl Memory {
    /// Maps it.
    pub(super) fn new() -> Self {
        map_at(BASE, END, linux::PROT_READ | linux::PROT_WRITE).expect("memory");
        for (index, name) in FILES.iter().enumerate() {
            app::write(BASE + NAMES + index as u64 * NAME_BYTES, name.as_bytes());
        }
        call(linux::__NR_mprotect, &[BASE + READ_ONLY, PAGE, linux::PROT_READ.into()]);
        Self(())
    }

    /// For a thread that waits.
    pub(super) fn own_time(self) -> u64 {
        BASE + OWN
    }

    /// For answers that the app itself needs.
    pub(super) fn scratch(self) -> u64 {
        BASE + OWN + 256
    }

    /// The value of an argument, with what it names in its place.
    pub(super) fn place(self, argument: &Argument) -> u64 {
        match argument {
            Argument::Plain(value) => *value,
            Argument::Place(at) => BASE + at,
            Argument::Bytes(at, bytes) => {
                app::write(BASE + at, bytes);
                BASE + at
            }
        }
    }

    /// Gives back what the input has mapped.
    pub(super) fn clear(self) {
        call(linux::__NR_munmap, &[BASE + AREA, AREA_PAGES * PAGE]);
    }
}

/// A place in which there is something wrong.
fn odd_place(input: &mut Input<'_>) -> Argument {
    match input.below(8) {
        0 => Argument::Plain(0),
        1 => Argument::Place(READ_ONLY),
        2 => Argument::Place(END),
        3 => Argument::Place(END - 1 - u64::from(input.byte() % 32)),
        4 => Argument::Place(LAST + u64::from(input.byte())),
        5 => Argument::Plain(0xffff_8000_0000_0000),
        6 => Argument::Plain(0x8000_0000_0000 - u64::from(input.byte())),
        _ => Argument::Plain(u64::MAX - u64::from(input.byte())),
    }
}

fn bytes_at(input: &mut Input<'_>, bytes: Vec<u8>) -> Argument {
    let place = input.byte();
    if place >= 0xf0 {
        return odd_place(input);
    }
    // Some of them at odd addresses.
    let at = INPUTS + u64::from(place % 32) * 512 + if place >= 0xe0 { 3 } else { 0 };
    Argument::Bytes(at, bytes)
}

fn size(input: &mut Input<'_>) -> u64 {
    let byte = input.byte();
    match byte {
        0..=127 => byte.into(),
        128..=223 => {
            let edge = 1u64 << (byte % 18);
            edge.wrapping_add(u64::from(byte / 18 % 3)).wrapping_sub(1)
        }
        224..=239 => u64::from(byte - 223) * PAGE,
        _ => 1u64.rotate_left(byte.into()).wrapping_sub(u64::from(byte & 1)),
    }
}

fn number(input: &mut Input<'_>) -> u64 {
    match input.byte() {
        byte @ 0..=63 => byte.into(),
        byte @ 64..=127 => u64::from(byte - 64) * PAGE / 8,
        byte @ 128..=191 => (1u64 << (byte - 128)).wrapping_sub(1),
        byte @ 192..=223 => -i64::from(byte - 191) as u64,
        _ => input.long(),
    }
}

impl Kind {
    /// Makes one of the input's next bytes.
    pub(super) fn read(self, input: &mut Input<'_>) -> Argument {
        match self {
            Self::Fd => Argument::Plain(match input.byte() {
                byte @ 0..=239 => u64::from(byte % 16),
                240..=245 => linux::AT_FDCWD as u64,
                byte => i64::from(byte as i8) as u64,
            }),
            Self::Path => match input.byte() {
                0xf8.. => odd_place(input),
                byte => Argument::Place(NAMES + u64::from(byte) % FILES.len() as u64 * NAME_BYTES),
            },
            Self::In(len) => {
                let bytes = input.take(len.into()).to_vec();
                bytes_at(input, bytes)
            }
            Self::Time => {
                let span = |input: &mut Input<'_>| {
                    let shift = input.byte() % 40;
                    [u64::from(shift > 34), u64::from(input.byte()) << (shift % 24)]
                        .map(u64::to_le_bytes)
                        .concat()
                };
                let (first, second) = (span(input), span(input));
                bytes_at(input, [first, second].concat())
            }
            Self::Out => match input.byte() {
                0xf0.. => odd_place(input),
                byte => Argument::Place(OUTPUTS + u64::from(byte % 8) * 2 * PAGE + u64::from(byte >> 6)),
            },
            Self::Size => Argument::Plain(size(input)),
            Self::Address => match input.byte() {
                0xf8.. => odd_place(input),
                byte => Argument::Place(AREA + u64::from(byte) % AREA_PAGES * PAGE + u64::from(byte > 0xf0)),
            },
            Self::Flags(mask) => {
                let byte = input.byte();
                let chosen = input.word();
                Argument::Plain(if byte == 0xff { chosen } else { chosen & mask }.into())
            }
            Self::One(choices) => Argument::Plain(match input.byte() {
                0xfc.. => input.word().into(),
                byte => choices[usize::from(byte) % choices.len()].into(),
            }),
            Self::Number => Argument::Plain(number(input)),
        }
    }
}
