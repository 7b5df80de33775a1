//! execve(2): another program in the place of the one that runs.
//!
//! Whatever can be wrong is found first, while the app is whole: files, words, memory. From then on there is no way back. The
//! other threads end; what the calling one has from the kernel goes, or stays as Linux has it; the address space is emptied, and
//! the program enters with a thread of its own, the first one: the calling one may be another, and its stack is in use.

use alloc::sync::Arc;

use linux_raw_sys::general::SIGKILL;

use super::ExecError;
use super::load::{LoadError, Loadable};
use super::stack::{StartedAs, Told};
use crate::abi::Errno;
use crate::arch::trap::TrapFrame;
use crate::file::table::{self, OnExec};
use crate::fs::proc;
use crate::kmem::{frames, symbols};
use crate::mem::{reclaim, space};
use crate::platform::time;
use crate::process::{exit, futex_robust, signal_timer};
use crate::task::process;
use crate::task::process::{PROCESS_ID, process};
use crate::task::thread::Thread;
use crate::task::{WaitQueue, confinement, credentials, current, scheduler};
use crate::uring::Ring;

/// Pages that a start takes besides the stack's: page tables, first and last pages of segments.
const START_PAGES: u64 = 64;
const PAGE_BYTES: u64 = crate::kmem::layout::PAGE_BYTES as u64;
/// How often it is looked whether the other threads have ended.
const LOOK_NS: u64 = 200_000;

impl From<LoadError> for Errno {
    fn from(error: LoadError) -> Self {
        error.errno()
    }
}

/// Puts a program in the place of the app's: its first thread is about to run, and the calling one has to [`leave`]. An error
/// leaves the app as it was.
pub(crate) fn replace(program: &Loadable, told: &Told<'_>) -> Result<(), Errno> {
    let execution = credentials::to_execute(&program.privileges()?)?;
    check_memory(program, told)?;
    let texts = proc::texts_of(told.arguments, told.environment)?;
    let thread = Thread::new(PROCESS_ID, &TrapFrame::default(), 0, false)?;
    if !process::begin_replacement() {
        // Another thread does the same, and ends this one.
        return Err(Errno::EAGAIN);
    }
    end_others();
    forget_what_goes();
    let is_secure = execution.is_secure;
    credentials::executed(execution);
    hand_over(&thread);
    let who = credentials::of(&thread);
    let who = StartedAs { who: &who, is_secure };
    let outcome = space::clear()
        .map_err(ExecError::from)
        .and_then(|()| super::enter(&thread, Some(program), told, &who));
    if let Err(error) = outcome {
        log::error!("execve: {error}; the program that called it is gone already");
        exit::exit_by_signal(SIGKILL);
    }
    proc::set_texts(texts);
    process().replace_threads(thread);
    Ok(())
}

/// Ends the calling thread, whose program is gone. What its caller still holds is never let go.
pub(crate) fn leave() -> ! {
    scheduler::exit_current()
}

/// Refuses what would find too little memory later. Nobody keeps it free until then, but the program that goes gives back
/// all that it has.
fn check_memory(program: &Loadable, told: &Told<'_>) -> Result<(), Errno> {
    let promised = program.writable_pages();
    let is_too_much = if space::is_strict() {
        promised.saturating_add(START_PAGES) > space::charge_limit()
    } else {
        promised > frames::total_pages() as u64
    };
    if is_too_much || program.has_conflict() {
        return Err(Errno::ENOMEM);
    }
    let pages = (told.bytes().div_ceil(PAGE_BYTES) + START_PAGES) as usize;
    reclaim::make_room(pages);
    if frames::can_app_take(pages) { Ok(()) } else { Err(Errno::ENOMEM) }
}

/// Ends the other threads: each leaves when it would go back to ring 3, and what it waits for in the kernel is cut short.
fn end_others() {
    static NOBODY: WaitQueue = WaitQueue::new();
    loop {
        if process::is_ending() {
            exit::rest();
        }
        if process().thread_count() == 1 {
            return;
        }
        // Each time: one may have been started since.
        exit::rest_others();
        let look_ns = time::now_ns() + LOOK_NS;
        let _: Option<()> = NOBODY.wait_uninterrupted(Some(look_ns), || None);
    }
}

/// What a program does not leave to the next one.
fn forget_what_goes() {
    // While the words that tell of them can be read.
    futex_robust::release(&current());
    for descriptor in table::in_use(0, usize::MAX) {
        // What a ring has begun writes into the address space. So rings go, whatever their descriptors say.
        let file = table::get_any(descriptor).ok();
        let ring = file.as_ref().and_then(|file| file.downcast::<Ring>());
        if let Some(ring) = ring
            && !ring.end_requests()
        {
            log::error!(
                "execve: a request of io_uring does not end, and could write into the new program's memory"
            );
            exit::exit_by_signal(SIGKILL);
        }
        if ring.is_some() || table::on_exec(descriptor) == Ok(OnExec::Close) {
            let _ = table::close(descriptor);
        }
    }
    signal_timer::delete_all();
    symbols::forget_app();
    process().dispositions.lock().forget_handlers();
}

/// Gives the new first thread what stays of the calling one's.
fn hand_over(thread: &Arc<Thread>) {
    let me = Arc::clone(&current());
    let (mask, pending) = {
        let mut signals = me.signals.lock();
        (signals.mask, core::mem::take(&mut signals.pending))
    };
    {
        let mut signals = thread.signals.lock();
        (signals.mask, signals.pending) = (mask, pending);
    }
    let settings = *me.settings.lock();
    *thread.settings.lock() = settings;
    credentials::pass_on(thread);
    confinement::inherit(thread, || ());
    thread.run_where(&me);
    if me.id == PROCESS_ID {
        let watch = core::mem::take(&mut *me.exit_watch.lock());
        *thread.exit_watch.lock() = watch;
    }
}
