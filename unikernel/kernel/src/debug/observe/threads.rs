//! The app's threads: what each does, and who called whom, in the kernel and in the app.
//!
//! A thread that sleeps, or waits for a core, has left its registers. One that runs has not: its core is interrupted first, so that
//! what the app was doing a moment ago lies on the thread's stack. Where the kernel is, nobody is told: the app may ask its owner's tools.

use alloc::sync::Arc;
use core::fmt::{Result, Write};

use unikernel_hal::backtrace::{self, Registers};
use unikernel_hal::thread::Entry;
use unikernel_report::stack::{Frame, View};
use unikernel_trace::request::Request;

use crate::arch::cpu;
use crate::debug::backtrace::{Addresses, App, function_start, write_frames};
use crate::file::long_text::LongText;
use crate::kmem::layout;
use crate::platform::interrupts::{self, Kind};
use crate::platform::time;
use crate::syscall::trace;
use crate::task::process::process;
use crate::task::scheduler;
use crate::task::thread::Thread;

/// How long other cores get to take the interrupt: a virtual one may have to wait for a real one.
const MOMENT_NS: u64 = 50_000_000;

/// Writes them, oldest first.
pub(super) fn write(out: &mut LongText, request: &Request<'_>) -> Result {
    let has_stacks = request.parameter("stacks") != Some("off");
    writeln!(out, "{} threads, {} cores", process().thread_count(), cpu::online())?;
    interrupt_others();
    for thread in process().threads() {
        write_thread(out, &thread, has_stacks)?;
        scheduler::breathe();
    }
    Ok(())
}

/// Has all other cores leave their registers where [`Thread::last_entry`] finds them. One that is in the kernel takes no interrupt there,
/// and has left them at the entry.
fn interrupt_others() {
    let taken = |core: usize| interrupts::taken_by(core)[Kind::Reschedule as usize];
    let here = cpu::this_cpu().index();
    let until_ns = time::now_ns() + MOMENT_NS;
    for core in (0..cpu::online()).filter(|&core| core != here) {
        let before = taken(core);
        interrupts::send(core, interrupts::RESCHEDULE_VECTOR);
        while taken(core) == before && time::now_ns() < until_ns {
            scheduler::breathe();
        }
    }
}

fn write_thread(out: &mut LongText, thread: &Arc<Thread>, has_stacks: bool) -> Result {
    let left_at = thread.left_at();
    let entry = thread.last_entry();
    let doing = match (thread.has_begun_block(), left_at) {
        (true, _) => "sleeps",
        (false, Some(_)) => "waits for a core",
        (false, None) => "runs",
    };
    let cpu_ns = scheduler::cpu_time_ns(thread);
    thread.with_name(|name| write!(out, "\nthread {} \"{}\": ", thread.id, name.escape_ascii()))?;
    write!(
        out,
        "{doing}, core {}, ran {}.{:03} s",
        thread.core_index(),
        cpu_ns / time::NS_PER_SECOND,
        cpu_ns / 1_000_000 % 1000
    )?;
    if let Some(Entry { call: Some(number), arguments, .. }) = entry {
        out.write_str("\n  in ")?;
        trace::write_call(out, number, &arguments)?;
    }
    out.write_char('\n')?;
    if !has_stacks {
        return Ok(());
    }
    if let Some(left_at) = left_at {
        out.write_str(" kernel:\n")?;
        write_frames(out, &Stack(thread), frame_of(left_at), Addresses::Hidden)?;
    }
    if let Some(entry) = entry {
        out.write_str(" app:\n")?;
        write_frames(out, &App, frame_of(entry.registers), Addresses::Shown)?;
    }
    Ok(())
}

fn frame_of(registers: Registers) -> Frame {
    let Registers { instruction, stack, frame_pointer } = registers;
    Frame { instruction, stack, frame_pointer }
}

/// The kernel's side of one thread. The frame pointer that the app has brought along leads nowhere else, and
/// the code of modules, which may be going, is left out.
struct Stack<'a>(&'a Thread);

impl View for Stack<'_> {
    fn word(&self, address: u64) -> Option<u64> {
        self.0.stack_word(address)
    }

    fn code<const N: usize>(&self, address: u64) -> Option<[u8; N]> {
        let kernel = layout::kernel_text_start()..layout::kernel_text_end();
        kernel.contains(&address).then(|| backtrace::code(address)).flatten()
    }

    fn function_start(&self, address: u64) -> Option<u64> {
        function_start(address)
    }
}
