//! Who called whom, from a thread's registers and stack.
//!
//! Our own code and the prebuilt standard library keep frame pointers: a function begins with
//! `push rbp; mov rbp, rsp`, and at `rbp` lie the caller's `rbp` and the return address. The C
//! library does not, and it is where an app stops that calls `abort` (each Rust panic does) or
//! gives `memcpy` a bad pointer. In such a function the walk looks up the stack for the nearest word that can be
//! its return address: one that points behind a call instruction which leads here.
//!
//! Everything that is read may be nonsense. The walk reads only what the [`View`] grants, always
//! moves up the stack, and ends after [`MAX_FRAMES`].

/// No walk is longer. A stack that overflowed has many thousand frames, and who began is at its end.
pub const MAX_FRAMES: usize = 20_000;

/// How far up the stack a return address is looked for: the C library's largest frames are
/// those of `printf`, some 500 bytes.
const SCAN_BYTES: u64 = 1024;
/// A label inside of a function written in assembly, which the names show as a function of its
/// own, lies at most this far behind the place where the function is entered.
const LABEL_BYTES: u64 = 256;
/// The longest call instruction: opcode, two address bytes, 32-bit displacement.
const CALL_BYTES: usize = 7;
/// `push rbp; mov rbp, rsp`.
const PROLOGUE: [u8; 4] = [0x55, 0x48, 0x89, 0xe5];

/// What the walk may see of the machine.
pub trait View {
    /// The word at an address of the stack.
    fn word(&self, address: u64) -> Option<u64>;
    /// Bytes of code at an address, all or none.
    fn code<const N: usize>(&self, address: u64) -> Option<[u8; N]>;
    /// Where the function around an address of code begins, if that is known.
    fn function_start(&self, address: u64) -> Option<u64>;
}

/// The registers that place a function on its stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame {
    /// The instruction: the first frame's own, the other frames' next one after the call.
    pub instruction: u64,
    /// The stack pointer.
    pub stack: u64,
    /// The frame pointer, or whatever the register holds.
    pub frame_pointer: u64,
}

/// Calls `visit` with each frame from the innermost outwards.
pub fn walk(view: &impl View, innermost: Frame, mut visit: impl FnMut(Frame)) {
    visit(innermost);
    let mut next = caller_of_interrupted(view, innermost);
    for _ in 1..MAX_FRAMES {
        let Some(frame) = next else { return };
        visit(frame);
        next = caller(view, frame);
    }
}

/// The caller of a function that was stopped at any instruction, perhaps in its prologue, or of
/// one that is no code at all (a call through a bad pointer).
fn caller_of_interrupted(view: &impl View, frame: Frame) -> Option<Frame> {
    let start = view.function_start(frame.instruction);
    let pushed_bytes = match start.map(|start| frame.instruction - start) {
        None | Some(0) => Some(0),
        Some(1) if is_framed(view, frame.instruction) => Some(8),
        _ => None,
    };
    let by_entry = pushed_bytes.and_then(|pushed| {
        let slot = frame.stack.checked_add(pushed)?;
        let instruction = view.word(slot).filter(|&word| call_before(view, word).is_some())?;
        Some(Frame { instruction, stack: slot + 8, frame_pointer: frame.frame_pointer })
    });
    by_entry.or_else(|| caller(view, frame))
}

/// The caller of a function that is past its prologue.
fn caller(view: &impl View, frame: Frame) -> Option<Frame> {
    let by_record = || record(view, frame.frame_pointer, frame.stack);
    if is_framed(view, frame.instruction) {
        return by_record();
    }
    let by_scan = || scan(view, frame);
    by_scan().or_else(by_record)
}

/// True if the function around `address` keeps a frame pointer.
fn is_framed(view: &impl View, address: u64) -> bool {
    // A return address may lie behind the last instruction of its function.
    let start = view.function_start(address.saturating_sub(1));
    start.or_else(|| view.function_start(address)).and_then(|start| view.code(start)) == Some(PROLOGUE)
}

/// The caller by the pair of words at `frame_pointer`, if that is a plausible record.
fn record(view: &impl View, frame_pointer: u64, lowest: u64) -> Option<Frame> {
    if frame_pointer < lowest || !frame_pointer.is_multiple_of(8) {
        return None;
    }
    let stack = frame_pointer.checked_add(16)?;
    let instruction = view.word(frame_pointer + 8).filter(|&word| call_before(view, word).is_some())?;
    Some(Frame { instruction, stack, frame_pointer: view.word(frame_pointer)? })
}

/// The caller of a function without frame pointer: the nearest return address up the stack. Older
/// calls leave such addresses behind, so one behind a call of this very function goes first.
fn scan(view: &impl View, frame: Frame) -> Option<Frame> {
    let start = view.function_start(frame.instruction.saturating_sub(1));
    scan_for(view, frame, |call| start.is_some_and(|start| call == Call::Direct(start)))
        .or_else(|| scan_for(view, frame, |call| call.may_lead_to(frame.instruction)))
}

fn scan_for(view: &impl View, frame: Frame, is_ours: impl Fn(Call) -> bool) -> Option<Frame> {
    let end = frame.stack.checked_add(SCAN_BYTES)?;
    for slot in (frame.stack..end).step_by(8) {
        let word = view.word(slot)?;
        if call_before(view, word).is_some_and(&is_ours) {
            let frame_pointer = restored_frame_pointer(view, frame, slot);
            return Some(Frame { instruction: word, stack: slot + 8, frame_pointer });
        }
    }
    None
}

/// The caller's frame pointer: unchanged, or saved below the return address in `slot`.
fn restored_frame_pointer(view: &impl View, frame: Frame, slot: u64) -> u64 {
    let is_good = |pointer: &u64| record(view, *pointer, slot + 8).is_some();
    let words = (slot - frame.stack) / 8;
    let saved = || (1..=words).filter_map(|below| view.word(slot - 8 * below)).find(is_good);
    Some(frame.frame_pointer).filter(is_good).or_else(saved).unwrap_or(frame.frame_pointer)
}

/// A call instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Call {
    Direct(u64),
    Indirect,
}

impl Call {
    /// True if the call may have led to `address`.
    fn may_lead_to(self, address: u64) -> bool {
        match self {
            Self::Direct(target) => (target..target.saturating_add(LABEL_BYTES)).contains(&address),
            Self::Indirect => true,
        }
    }
}

/// The call instruction before `address` (Intel SDM, volume 2, CALL).
fn call_before(view: &impl View, address: u64) -> Option<Call> {
    let code: [u8; CALL_BYTES] = view.code(address.checked_sub(CALL_BYTES as u64)?)?;
    if let [_, _, 0xe8, displacement @ ..] = code {
        let target = address.wrapping_add_signed(i64::from(i32::from_le_bytes(displacement)));
        if view.code::<1>(target).is_some() {
            return Some(Call::Direct(target));
        }
    }
    let is_indirect = (2..=CALL_BYTES).any(|len| match code[CALL_BYTES - len..] {
        [0xff, address_form, ..] => address_form >> 3 & 7 == 2 && indirect_call_bytes(address_form) == len,
        _ => false,
    });
    is_indirect.then_some(Call::Indirect)
}

/// Length of an indirect call by its ModRM byte (Intel SDM, volume 2, table 2-2).
fn indirect_call_bytes(address_form: u8) -> usize {
    let (mode, base) = (address_form >> 6, address_form & 7);
    let index_byte = usize::from(mode != 3 && base == 4);
    let displacement = match (mode, base) {
        (0, 5) | (2, _) => 4,
        (1, _) => 1,
        _ => 0,
    };
    2 + index_byte + displacement
}

#[cfg(test)]
mod tests;
