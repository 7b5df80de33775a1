//! What the kernel's functions take of a stack. Kernel stacks have 16 KiB, and calls go twenty deep from a system call into the
//! filesystem: a function with a large frame is found here, not by a double fault. The bound is Linux's, whose stacks
//! are as large (`CONFIG_FRAME_WARN`).
//!
//! No disassembler is needed: a frame of 128 bytes and more is made by `sub rsp, imm32`, whose three first bytes (REX.W 81 /5)
//! hardly ever stand in the code by chance; and one above a page by several of them, or in a loop up to the address that
//! `lea r11, [rsp - imm32]` gives, because each page is touched.

use std::fmt;

use object::LittleEndian;
use object::elf::{FileHeader64, PT_LOAD, ProgramHeader64, STT_FUNC};
use object::read::elf::{FileHeader, ProgramHeader, Sym};

use crate::segments::KERNEL_OFFSET;

const ENDIAN: LittleEndian = LittleEndian;
/// The largest frame that a function may have.
const MOST_BYTES: u64 = 2048;
/// The same on the boot stack, which has 64 KiB.
const MOST_BYTES_AT_BOOT: u64 = 24 << 10;
/// No kernel is smaller than this: if less of its code is found, it was not looked at.
const LEAST_CODE_BYTES: usize = 512 << 10;
/// What runs before there are threads. (`Once` is for what is set at boot.)
const AT_BOOT: [&str; 15] = [
    "unikernel_hal::boot_info::BootInfo::read",
    "unikernel_hal::x86::relocate::move_kernel",
    "unikernel_hal::x86::arch::boot::main",
    "unikernel_hal::x86::platform::console::attach",
    "unikernel_kernel::kernel_main",
    "unikernel_kernel::drivers::probe",
    "unikernel_kernel::mount_disks",
    "unikernel_kernel::fs::ext4::format",
    "unikernel_kernel::fs::ext4::mount",
    "unikernel_kernel::fs::p9::mount",
    "unikernel_kernel::drivers::virtio::net::probe",
    "unikernel_kernel::net::init",
    "unikernel_net::stack::Stack::new",
    "unikernel_ext4::format::plan::Plan::new",
    "spin::once::Once<T,R>::try_call_once_slow",
];
/// What checks a signature, with all of `ed25519-compact` in it. It calls nothing deep, and `unikernel_kernel::trust` asks first whether 12 KiB of the
/// stack are left.
const BEHIND_A_CHECK: [&str; 1] = ["unikernel_trust::key::PublicKey::has_signed"];
/// The largest frame that it may have.
const MOST_BYTES_BEHIND_A_CHECK: u64 = 4096;
const SUB_RSP: [u8; 3] = [0x48, 0x81, 0xec];
const LEA_R11_FROM_RSP: [u8; 4] = [0x4c, 0x8d, 0x9c, 0x24];

/// A function whose frame is too large.
#[derive(Debug, PartialEq, Eq)]
pub struct LargeFrame {
    /// Its name, as people write it.
    pub name: String,
    /// The frame's size.
    pub bytes: u64,
    /// What it may be.
    pub most: u64,
}

impl fmt::Display for LargeFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, bytes, most } = self;
        write!(f, "the kernel's `{name}` takes {bytes} bytes of its stack: {most} are allowed")
    }
}

/// The functions of an image's kernel whose frames are too large, the largest first.
pub fn check(file: &[u8]) -> Result<Vec<LargeFrame>, String> {
    let text = |error: object::Error| error.to_string();
    let header = FileHeader64::<LittleEndian>::parse(file).map_err(text)?;
    let segments = header.program_headers(ENDIAN, file).map_err(text)?;
    let sections = header.sections(ENDIAN, file).map_err(text)?;
    let symbols = sections.symbols(ENDIAN, file, object::elf::SHT_SYMTAB).map_err(text)?;
    let name_of = |symbol: &object::elf::Sym64<LittleEndian>| {
        String::from_utf8_lossy(symbol.name(ENDIAN, symbols.strings()).unwrap_or_default()).into_owned()
    };
    let functions = symbols.iter().filter(|symbol| symbol.st_type() == STT_FUNC).filter_map(|symbol| {
        // The kernel runs in the last 2 GiB, and is loaded below.
        let loaded_at = symbol.st_value(ENDIAN).checked_sub(KERNEL_OFFSET)?;
        Some((symbol, code_at(file, segments, loaded_at, symbol.st_size(ENDIAN))?))
    });
    let (mut large, mut code_bytes) = (Vec::new(), 0);
    for (symbol, code) in functions {
        code_bytes += code.len();
        let bytes = frame_bytes(code);
        // Almost all are small, and their names need not be looked at.
        if bytes > MOST_BYTES {
            large.extend(judged(&name_of(symbol), bytes));
        }
    }
    if code_bytes < LEAST_CODE_BYTES {
        return Err(format!(
            "only {code_bytes} bytes of the kernel's code were found, whose frames are to be checked"
        ));
    }
    large.sort_by_key(|frame| core::cmp::Reverse(frame.bytes));
    Ok(large)
}

/// A frame that is too large for a function with this name.
fn judged(mangled: &str, bytes: u64) -> Option<LargeFrame> {
    let name = format!("{:#}", rustc_demangle::demangle(mangled));
    let most = match name.as_str() {
        name if AT_BOOT.contains(&name) => MOST_BYTES_AT_BOOT,
        name if BEHIND_A_CHECK.contains(&name) => MOST_BYTES_BEHIND_A_CHECK,
        _ => MOST_BYTES,
    };
    (bytes > most).then_some(LargeFrame { name, bytes, most })
}

fn code_at<'a>(
    file: &'a [u8],
    segments: &[ProgramHeader64<LittleEndian>],
    address: u64,
    len: u64,
) -> Option<&'a [u8]> {
    segments.iter().filter(|segment| segment.p_type(ENDIAN) == PT_LOAD).find_map(|segment| {
        let at = usize::try_from(address.checked_sub(segment.p_vaddr(ENDIAN))?).ok()?;
        segment.data(ENDIAN, file).ok()?.get(at..at.checked_add(usize::try_from(len).ok()?)?)
    })
}

/// What a function takes of the stack in large pieces.
fn frame_bytes(code: &[u8]) -> u64 {
    let number_behind = |at: usize| {
        let bytes = code.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, i32::from_le_bytes)
    };
    let taken_at = |at: usize| {
        let here = &code[at..];
        if here.starts_with(&SUB_RSP) {
            u64::try_from(number_behind(at + SUB_RSP.len())).unwrap_or(0)
        } else if here.starts_with(&LEA_R11_FROM_RSP) {
            u64::try_from(-i64::from(number_behind(at + LEA_R11_FROM_RSP.len()))).unwrap_or(0)
        } else {
            0
        }
    };
    (0..code.len()).map(taken_at).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Prologues as the compiler makes them: small, large, above a page, and in a loop.
    #[test]
    fn frames_are_told_by_their_prologues() {
        let touch: &[u8] = b"\x48\xc7\x04\x24\0\0\0\0";
        let page: &[u8] = b"\x48\x81\xec\0\x10\0\0";
        assert_eq!(frame_bytes(b"\x55\x53\x48\x83\xec\x28\xc3"), 0);
        assert_eq!(frame_bytes(b"\x55\x53\x48\x81\xec\x68\x08\0\0\xc3"), 0x868);
        let two = [b"\x53", page, touch, page, touch, b"\x48\x81\xec\x10\x01\0\0"].concat();
        assert_eq!(frame_bytes(&two), 0x2110);
        let in_a_loop = [b"\x4c\x8d\x9c\x24\0\x60\xff\xff", page, touch, b"\x4c\x39\xdc\x75\xef"].concat();
        assert!(frame_bytes(&in_a_loop) >= 0xa000);
        // Cut off within the instruction.
        assert_eq!(frame_bytes(b"\x48\x81\xec\x68"), 0);
    }

    #[test]
    fn checks_of_signatures_may_take_what_is_asked_for_before() {
        let name = "_ZN15unikernel_trust3key9PublicKey10has_signed17h0123456789abcdefE";
        assert_eq!(judged(name, MOST_BYTES_BEHIND_A_CHECK), None);
        assert_eq!(judged(name, 4104).map(|frame| frame.most), Some(MOST_BYTES_BEHIND_A_CHECK));
    }

    #[test]
    fn boot_functions_may_take_more() {
        assert_eq!(judged("_ZN16unikernel_kernel11kernel_main17h0123456789abcdefE", 10_000), None);
        let judgement = judged("_ZN16unikernel_kernel4file4read17h0123456789abcdefE", 2056);
        let name = "unikernel_kernel::file::read".to_owned();
        assert_eq!(judgement, Some(LargeFrame { name, bytes: 2056, most: MOST_BYTES }));
    }
}
