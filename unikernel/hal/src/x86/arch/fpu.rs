//! The app's x87, SSE and AVX state. Ring 0 is compiled without them, so the registers hold the
//! state of whatever thread ran last, and they change hands only in a thread switch (eagerly:
//! lazy switching leaks state through speculation, CVE-2018-3665).

use alloc::alloc::{alloc_zeroed, dealloc};
use core::alloc::Layout;
use core::arch::asm;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use raw_cpuid::CpuId;

/// Bytes of one save area; 512 means that only FXSAVE exists.
static AREA_BYTES: AtomicUsize = AtomicUsize::new(FXSAVE_BYTES);
const FXSAVE_BYTES: usize = 512;
/// XCR0, as far as XSAVE is in use.
static ENABLED_COMPONENTS: AtomicU64 = AtomicU64::new(0);
/// x87, SSE, AVX, and the three parts of AVX-512 (SDM Vol. 1, 13.1).
const WANTED_COMPONENTS: u64 = 0b1110_0111;
/// Alignment that XSAVE demands.
const AREA_ALIGN: usize = 64;
/// All floating-point exceptions masked, as at program start (System V ABI, 3.4.1).
const INITIAL_MXCSR: u32 = 0x1f80;
const INITIAL_FCW: u16 = 0x37f;

/// Selects the state components that this processor has.
pub fn init(cpuid: &CpuId<raw_cpuid::CpuIdReaderNative>) {
    if !cpuid.get_feature_info().is_some_and(|f| f.has_xsave()) {
        return;
    }
    let supported = raw_cpuid::native_cpuid::cpuid_count(0xd, 0);
    let components = (u64::from(supported.edx) << 32 | u64::from(supported.eax)) & WANTED_COMPONENTS;
    // SAFETY: OSXSAVE is on (`cpu::enable_features`), x87 is among the components, and all are
    // supported by CPUID's word.
    unsafe {
        asm!("xsetbv", in("ecx") 0, in("eax") components as u32, in("edx") (components >> 32) as u32);
    }
    ENABLED_COMPONENTS.store(components, Ordering::Relaxed);
    // EBX of leaf 0xd answers for the components enabled just now.
    let enabled = raw_cpuid::native_cpuid::cpuid_count(0xd, 0);
    AREA_BYTES.store(enabled.ebx as usize, Ordering::Relaxed);
}

/// Exceptions of the app's x87 unit that are raised and not masked.
pub fn x87_errors() -> u32 {
    let (mut status, mut control) = (0u16, 0u16);
    // SAFETY: neither instruction waits for a pending exception, and each writes two bytes.
    unsafe {
        asm!("fnstsw [{}]", in(reg) &raw mut status, options(nostack, preserves_flags));
        asm!("fnstcw [{}]", in(reg) &raw mut control, options(nostack, preserves_flags));
    }
    u32::from(status & !control)
}

/// The same for SSE and its successors: the flags are bits 0 to 5 of MXCSR, their masks 7 to 12.
pub fn simd_errors() -> u32 {
    let mut control = 0u32;
    // SAFETY: writes four bytes.
    unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut control, options(nostack, preserves_flags)) };
    control & !(control >> 7)
}

/// Size of one thread's area in bytes.
pub fn area_bytes() -> usize {
    AREA_BYTES.load(Ordering::Relaxed)
}

/// One thread's saved registers.
pub struct FpuState {
    area: *mut u8,
    bytes: usize,
}

// SAFETY: the area is owned; only the holder of the `FpuState` reaches it.
unsafe impl Send for FpuState {}

impl FpuState {
    /// The state at program start, or `None` if memory is short.
    pub fn new() -> Option<Self> {
        let bytes = area_bytes();
        let layout = Layout::from_size_align(bytes, AREA_ALIGN).ok()?;
        // SAFETY: the layout has a size.
        let area = unsafe { alloc_zeroed(layout) };
        if area.is_null() {
            return None;
        }
        // SAFETY: the area is ours and large enough; offsets are those of the FXSAVE image
        // (SDM Vol. 1, 10.5.1). A zero XSAVE header restores every other component to its initial state.
        unsafe {
            area.cast::<u16>().write(INITIAL_FCW);
            area.add(24).cast::<u32>().write(INITIAL_MXCSR);
            if bytes > FXSAVE_BYTES {
                area.add(FXSAVE_BYTES).cast::<u64>().write(0b11);
            }
        }
        Some(Self { area, bytes })
    }

    /// Stores the registers here.
    pub fn save(&mut self) {
        // SAFETY: the area is ours, aligned and as large as the enabled components need.
        unsafe {
            if self.bytes > FXSAVE_BYTES {
                asm!("xsave64 [{}]", in(reg) self.area, in("eax") -1i32, in("edx") -1i32, options(nostack));
            } else {
                asm!("fxsave64 [{}]", in(reg) self.area, options(nostack));
            }
        }
    }

    /// Loads the registers from here.
    pub fn restore(&self) {
        // SAFETY: the area holds an image made by `new`, `save`, or `load_image`, which checks
        // what would fault.
        unsafe {
            if self.bytes > FXSAVE_BYTES {
                asm!("xrstor64 [{}]", in(reg) self.area, in("eax") -1i32, in("edx") -1i32, options(nostack));
            } else {
                asm!("fxrstor64 [{}]", in(reg) self.area, options(nostack));
            }
        }
    }

    /// The image, for a signal frame.
    pub fn image(&self) -> &[u8] {
        // SAFETY: the area is initialised and has this many bytes.
        unsafe { core::slice::from_raw_parts(self.area, self.bytes) }
    }

    /// Takes an image that the app may have changed. What the processor would refuse (reserved
    /// MXCSR bits, unknown components, header bits) is cleared, so that `restore` cannot fault.
    pub fn load_image(&mut self, image: &[u8]) {
        let bytes = self.bytes.min(image.len());
        // SAFETY: the area is ours, has `self.bytes` bytes, and no other reference to it exists.
        let area = unsafe { core::slice::from_raw_parts_mut(self.area, self.bytes) };
        area[..bytes].copy_from_slice(&image[..bytes]);
        // Bits 16 and above of MXCSR are reserved and fault (SDM Vol. 1, 10.2.3).
        area[26] = 0;
        area[27] = 0;
        if self.bytes > FXSAVE_BYTES {
            let header = &mut area[FXSAVE_BYTES..FXSAVE_BYTES + 64];
            let components = u64::from_le_bytes(header[..8].try_into().expect("eight bytes"))
                & ENABLED_COMPONENTS.load(Ordering::Relaxed);
            header.fill(0);
            header[..8].copy_from_slice(&components.to_le_bytes());
        }
    }
}

impl Drop for FpuState {
    fn drop(&mut self) {
        let layout = Layout::from_size_align(self.bytes, AREA_ALIGN).expect("checked in new");
        // SAFETY: allocated with this layout in `new`.
        unsafe { dealloc(self.area, layout) }
    }
}
