//! Signals: handlers for all that are sent, sending, blocking, second stacks. The watchdog's own is always let through.

use std::ptr::null_mut;

use guest_tests::raw_syscall;

use crate::worker::Worker;
use crate::world::{self, SIGNALS, STACK_LEN};

extern "C" fn on_signal(_: libc::c_int) {}

/// Signals that do nothing by default, so that a handler that is taken off once it ran does not end the program.
const HARMLESS: [i32; 3] = [libc::SIGURG, libc::SIGWINCH, libc::SIGCHLD];

/// Signals that calls lead to: broken pipes, limits, timers of processor time, terminals.
const BY_CALLS: [i32; 12] = [
    libc::SIGPIPE,
    libc::SIGXFSZ,
    libc::SIGXCPU,
    libc::SIGVTALRM,
    libc::SIGPROF,
    libc::SIGIO,
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
];

/// A handler for everything that is sent.
pub(crate) fn install_handlers() {
    for signal in SIGNALS.into_iter().chain(BY_CALLS).chain([libc::SIGUSR1]) {
        handle(signal, on_signal as *const () as usize, 0, 0);
    }
}

fn handle(signal: i32, handler: usize, flags: i32, mask: u64) {
    // SAFETY: all zeros is a valid value, and the handler does nothing. The set is longer than a word.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        (action.sa_sigaction, action.sa_flags) = (handler, flags);
        (&raw mut action.sa_mask).cast::<u64>().write(mask);
        libc::sigaction(signal, &raw const action, null_mut());
    }
}

/// Ends a thread's wait.
pub(crate) fn interrupt(thread: i32) {
    let process = raw_syscall(libc::SYS_getpid, [0; 6]) as u64;
    raw_syscall(libc::SYS_tgkill, [process, thread as u64, libc::SIGUSR1 as u64, 0, 0, 0]);
}

impl Worker {
    pub(crate) fn send_signal(&mut self) {
        let (process, thread) = (self.call(libc::SYS_getpid, [0; 6]) as u64, self.any_thread());
        let signal = *self.random.pick(&SIGNALS) as u64;
        let info = self.put(&[
            signal,
            // SI_QUEUE.
            u64::from((-1_i32) as u32),
            0,
            self.index as u64,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
        ]);
        match self.random.below(4) {
            0 => self.call(libc::SYS_kill, [process, signal, 0, 0, 0, 0]),
            1 => self.call(libc::SYS_rt_sigqueueinfo, [process, signal, info, 0, 0, 0]),
            2 => self.call(libc::SYS_rt_tgsigqueueinfo, [process, thread, signal, info, 0, 0]),
            _ => self.call(libc::SYS_tgkill, [process, thread, signal, 0, 0, 0]),
        };
    }

    /// A set of signals that leaves out the watchdog's and those of faults.
    pub(crate) fn mask(&mut self) -> u64 {
        let set = SIGNALS
            .iter()
            .filter(|_| self.random.below(2) == 0)
            .fold(0, |set, signal| set | 1 << (signal - 1));
        self.put(&[set, 0])
    }

    pub(crate) fn signal_settings(&mut self) {
        let (mask, index) = (self.mask(), self.index);
        match self.random.below(5) {
            0..2 => {
                let how = self.random.below(3) as u64;
                self.call(libc::SYS_rt_sigprocmask, [how, mask, mask + 8, 8, 0, 0]);
            }
            2 => {
                let signal = *self.random.pick(&SIGNALS);
                let flags = [
                    libc::SA_RESTART,
                    libc::SA_NODEFER,
                    libc::SA_ONSTACK,
                    libc::SA_SIGINFO,
                    libc::SA_RESETHAND,
                ];
                let flags = flags.iter().filter(|_| self.one_in(3)).fold(0, |all, flag| all | flag);
                // Timers do not send it: their signals would follow each other faster than handlers end.
                let flags = if signal == SIGNALS[0] { flags } else { flags & !libc::SA_NODEFER };
                let flags = if HARMLESS.contains(&signal) { flags } else { flags & !libc::SA_RESETHAND };
                let handler = if self.one_in(4) { libc::SIG_IGN } else { on_signal as *const () as usize };
                // SAFETY: the place was just written.
                handle(signal, handler, flags, unsafe { *(mask as *const u64) });
            }
            3 => {
                let (flags, len) =
                    (*self.random.pick(&[0, 2, 1 << 31]), *self.random.pick(&[0, 1024, STACK_LEN]));
                let stack = self.put(&[world::signal_stack(index), flags, len]);
                self.call(libc::SYS_sigaltstack, [stack, 0, 0, 0, 0, 0]);
            }
            _ => drop(self.call(libc::SYS_rt_sigsuspend, [mask, 8, 0, 0, 0, 0])),
        }
    }
}
