//! The table of function names in an image, and the walk up a stack that holds anything.

use core::fmt::Write;

use unikernel_report::stack::{Frame, MAX_FRAMES, View, walk};
use unikernel_report::symbols::Table;

/// Where the stack lies.
const STACK: u64 = 0x10_0000;

/// The input as a stack and as code, with functions of 64 bytes.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn at<const N: usize>(&self, offset: u64) -> Option<[u8; N]> {
        self.0.get(usize::try_from(offset).ok()?..)?.first_chunk().copied()
    }
}

impl View for Bytes<'_> {
    fn word(&self, address: u64) -> Option<u64> {
        self.at(address.checked_sub(STACK)?).map(u64::from_le_bytes)
    }

    fn code<const N: usize>(&self, address: u64) -> Option<[u8; N]> {
        self.at(address)
    }

    fn function_start(&self, address: u64) -> Option<u64> {
        (address < self.0.len() as u64).then_some(address & !63)
    }
}

pub(crate) fn run(data: &[u8]) {
    if let Some(table) = Table::parse(data) {
        let _ = table.program();
        let mut text = String::new();
        for (symbol, _) in table.functions().take(1000) {
            write!(text, "{} ", symbol.name).expect("a string takes all");
            let _ = table.find(symbol.start);
        }
    }
    let mut frames = 0;
    let mut last = 0;
    let innermost = Frame { instruction: 0, stack: STACK, frame_pointer: STACK };
    walk(&Bytes(data), innermost, |frame| {
        frames += 1;
        assert!(frame.stack >= last, "the walk goes up");
        last = frame.stack;
    });
    assert!(frames <= MAX_FRAMES);
}
