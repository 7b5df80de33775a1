//! The frame that a signal handler finds on the app's stack, and the way back from it. The layout
//! is the x86-64 kernel ABI's `struct rt_sigframe`, which debuggers and unwinders know as well;
//! `linux-raw-sys` does not carry it.
//!
//! A frame that comes back (`rt_sigreturn`) is the app's word: every field that could reach the
//! kernel is sanitised here. Segments are never taken from it, flags only as far as ring 3 may
//! set them, and the vector state is checked by `arch::fpu`.

use linux_raw_sys::general::{SA_ONSTACK, SA_RESTORER, SS_AUTODISARM, SS_DISABLE, SS_ONSTACK};
use unikernel_hal::user_abi_struct;

use super::signal;
use super::signal_delivery::Cause;
use crate::arch::descriptor::{USER_CODE, USER_DATA};
use crate::arch::trap::TrapFrame;
use crate::mem::fault::paging_in;
use crate::mem::user::{Fault, UserAbi, UserPtr, UserSlice};
use crate::task::current;
use crate::task::signal::{AlternateStack, SigAction, SignalSet};

/// `stack_t`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct StackT {
    /// Lowest address.
    pub base: u64,
    /// `SS_*`.
    pub flags: u32,
    /// Keeps kernel bytes out of the gap.
    pub padding: u32,
    /// Bytes.
    pub size: u64,
}
user_abi_struct!(StackT { base, flags, padding, size });

/// `struct sigcontext`.
#[derive(Clone, Copy)]
#[repr(C)]
struct SigContext {
    r8: u64,
    r9: u64,
    r10: u64,
    r11: u64,
    r12: u64,
    r13: u64,
    r14: u64,
    r15: u64,
    rdi: u64,
    rsi: u64,
    rbp: u64,
    rbx: u64,
    rdx: u64,
    rax: u64,
    rcx: u64,
    rsp: u64,
    rip: u64,
    rflags: u64,
    cs: u16,
    gs: u16,
    fs: u16,
    ss: u16,
    error_code: u64,
    trap: u64,
    old_mask: u64,
    cr2: u64,
    fpu_state: u64,
    reserved: [u64; 8],
}
user_abi_struct!(SigContext {
    r8,
    r9,
    r10,
    r11,
    r12,
    r13,
    r14,
    r15,
    rdi,
    rsi,
    rbp,
    rbx,
    rdx,
    rax,
    rcx,
    rsp,
    rip,
    rflags,
    cs,
    gs,
    fs,
    ss,
    error_code,
    trap,
    old_mask,
    cr2,
    fpu_state,
    reserved
});

/// `struct rt_sigframe`: return address, `ucontext`, `siginfo`.
#[derive(Clone, Copy)]
#[repr(C)]
struct RtSigFrame {
    restorer: u64,
    uc_flags: u64,
    uc_link: u64,
    stack: StackT,
    context: SigContext,
    mask: SignalSet,
    info: [u64; 16],
}
user_abi_struct!(RtSigFrame { restorer, uc_flags, uc_link, stack, context, mask, info });

/// Bytes below the stack pointer that leaf functions use without reserving (System V ABI, 3.2.2).
const RED_ZONE_BYTES: u64 = 128;
/// CF, PF, AF, ZF, SF, TF, DF, OF, RF, AC: what a handler may change (Linux: `FIX_EFLAGS`).
const USER_FLAGS: u64 = 0x0005_0dd5;
/// IF and the bit that is always one.
const FIXED_FLAGS: u64 = 0x202;
/// `UC_FP_XSTATE`, `UC_SIGCONTEXT_SS` and `UC_STRICT_RESTORE_SS`.
const UC_FLAGS: u64 = 0b111;

/// Pushes a frame for `cause` and points `frame` at the handler.
pub(crate) fn push(frame: &mut TrapFrame, cause: &Cause, action: &SigAction) -> Result<(), Fault> {
    if action.flags & u64::from(SA_RESTORER) == 0 {
        return Err(Fault);
    }
    let me = current();
    let (alternate, mask) = {
        let signals = me.signals.lock();
        (signals.alternate_stack, signals.saved_mask.unwrap_or(signals.mask))
    };
    let is_on_alternate = alternate.contains(frame.rsp);
    let enters_alternate =
        action.flags & u64::from(SA_ONSTACK) != 0 && alternate.size != 0 && !is_on_alternate;
    let top = if enters_alternate {
        alternate.base.wrapping_add(alternate.size)
    } else {
        frame.rsp.wrapping_sub(RED_ZONE_BYTES)
    };
    let fpu_bytes = crate::arch::fpu::area_bytes();
    let fpu_at = top.wrapping_sub(fpu_bytes as u64) & !63;
    // The handler is entered as if called: 16-byte alignment before the return address.
    let at = (fpu_at.wrapping_sub(size_of::<RtSigFrame>() as u64) & !15).wrapping_sub(8);
    // What lies below the alternate stack is not the signal's (Linux: "overflowed sigaltstack").
    if (enters_alternate || is_on_alternate) && !alternate.contains(at) {
        return Err(Fault);
    }
    // The area is not to be lent out while the thread sleeps.
    paging_in(|| UserSlice::new(fpu_at, fpu_bytes).try_write_vector_state(&me))?;

    let mut pushed = RtSigFrame::zeroed();
    pushed.restorer = action.restorer;
    pushed.uc_flags = UC_FLAGS;
    pushed.stack = describe(&alternate, frame.rsp);
    pushed.context = save_context(frame, cause, fpu_at, mask);
    pushed.mask = mask;
    pushed.info = signal_info(cause);
    UserPtr::new(at).write(pushed)?;

    {
        let mut signals = me.signals.lock();
        signals.saved_mask = None;
        if alternate.is_auto_disarm {
            signals.alternate_stack = AlternateStack::default();
        }
    }
    frame.rsp = at;
    frame.rip = action.handler;
    frame.rdi = u64::from(cause.info.signal);
    frame.rsi = at + core::mem::offset_of!(RtSigFrame, info) as u64;
    frame.rdx = at + core::mem::offset_of!(RtSigFrame, uc_flags) as u64;
    frame.rax = 0;
    frame.rflags = FIXED_FLAGS;
    // A frame from `syscall` must not take the short way back: all registers changed.
    frame.vector = 0;
    Ok(())
}

/// `stack_t` for the thread's alternate stack, as `sigaltstack` and frames show it.
pub(crate) fn describe(alternate: &AlternateStack, stack_pointer: u64) -> StackT {
    let mut flags = if alternate.size == 0 { SS_DISABLE } else { 0 };
    if alternate.contains(stack_pointer) {
        flags = SS_ONSTACK;
    }
    if alternate.is_auto_disarm {
        flags |= SS_AUTODISARM;
    }
    StackT { base: alternate.base, flags, padding: 0, size: alternate.size }
}

fn save_context(frame: &TrapFrame, cause: &Cause, fpu_at: u64, mask: SignalSet) -> SigContext {
    SigContext {
        r8: frame.r8,
        r9: frame.r9,
        r10: frame.r10,
        r11: frame.r11,
        r12: frame.r12,
        r13: frame.r13,
        r14: frame.r14,
        r15: frame.r15,
        rdi: frame.rdi,
        rsi: frame.rsi,
        rbp: frame.rbp,
        rbx: frame.rbx,
        rdx: frame.rdx,
        rax: frame.rax,
        rcx: frame.rcx,
        rsp: frame.rsp,
        rip: frame.rip,
        rflags: frame.rflags,
        cs: frame.cs as u16,
        gs: 0,
        fs: 0,
        ss: frame.ss as u16,
        error_code: cause.error_code,
        trap: cause.trap,
        old_mask: mask,
        cr2: if cause.trap == 14 { cause.info.detail } else { 0 },
        fpu_state: fpu_at,
        reserved: [0; 8],
    }
}

/// `siginfo_t`: number, errno, code, then the union, whose first word is an address or a sender.
fn signal_info(cause: &Cause) -> [u64; 16] {
    let mut info = [0; 16];
    info[0] = u64::from(cause.info.signal) | u64::from(cause.errno) << 32;
    info[1] = u64::from(cause.info.code as u32);
    info[2] = cause.info.detail;
    info[3] = cause.info.value;
    info
}

/// `rt_sigreturn`: takes the frame at the app's stack pointer back.
pub(crate) fn pop(frame: &mut TrapFrame) -> Result<(), Fault> {
    // The handler's `ret` has taken the restorer's address.
    let pushed: RtSigFrame = UserPtr::new(frame.rsp.wrapping_sub(8)).read()?;
    let context = &pushed.context;
    if context.fpu_state != 0 {
        let mut image = alloc::vec![0; crate::arch::fpu::area_bytes()];
        UserSlice::new(context.fpu_state, image.len()).read(&mut image)?;
        current().load_vector_state(&image);
    }
    load_context(frame, context);
    signal::set_mask(pushed.mask);
    current().signals.lock().alternate_stack = AlternateStack {
        base: pushed.stack.base,
        size: if pushed.stack.flags & SS_DISABLE != 0 { 0 } else { pushed.stack.size },
        is_auto_disarm: pushed.stack.flags & SS_AUTODISARM != 0,
    };
    Ok(())
}

fn load_context(frame: &mut TrapFrame, context: &SigContext) {
    *frame = TrapFrame {
        r8: context.r8,
        r9: context.r9,
        r10: context.r10,
        r11: context.r11,
        r12: context.r12,
        r13: context.r13,
        r14: context.r14,
        r15: context.r15,
        rdi: context.rdi,
        rsi: context.rsi,
        rbp: context.rbp,
        rbx: context.rbx,
        rdx: context.rdx,
        rax: context.rax,
        rcx: context.rcx,
        rsp: context.rsp,
        rip: context.rip,
        rflags: context.rflags & USER_FLAGS | FIXED_FLAGS,
        cs: u64::from(USER_CODE.0),
        ss: u64::from(USER_DATA.0),
        // Not a system call any more: the full frame goes back, and nothing is restarted.
        vector: 0,
        error_code: 0,
    };
}
