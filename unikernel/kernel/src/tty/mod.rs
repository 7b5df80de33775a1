//! Terminals: what the console and pseudo-terminals have in common (tty_ioctl(4), termios(3)). The line discipline
//! is `unikernel_fs::terminal`.
//!
//! - [`Line`]: a terminal of either kind, to read from it and to set it;
//! - [`console`]: the serial console; [`session`]: the app's controlling terminal; [`pty`]: pseudo-terminals, [`master`] and [`slave`] their two ends.

pub(crate) mod console;
pub(crate) mod master;
pub(crate) mod open;
pub(crate) mod pty;
pub(crate) mod session;
pub(crate) mod slave;

use core::sync::atomic::{AtomicBool, Ordering};

use linux_raw_sys::general::*;
use linux_raw_sys::ioctl::*;
use unikernel_fs::terminal::{Key, Settings, Signal};

use crate::abi::{Errno, SysResult};
use crate::file::{AttemptError, PollSource, WaitMode};
use crate::mem::user::{UserPtr, UserSlice};
use crate::platform::time;
use crate::task::credentials::{self, Capability};
use crate::task::process::PROCESS_ID;

/// No window is known: programs take their default.
pub(crate) const NO_WINDOW: winsize = winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
/// The unit of `VTIME`.
const TENTH_OF_SECOND_NS: u64 = 100_000_000;

/// A terminal.
pub(crate) trait Line {
    /// Who waits for what is typed.
    fn source(&self) -> &PollSource;
    /// One try to read what was typed; 0 is the end.
    fn try_read(&self, into: UserSlice) -> Result<usize, AttemptError>;
    /// What it is set to.
    fn settings(&self) -> Settings;
    /// Sets it; whoever waits looks again.
    fn set(&self, settings: Settings);
    /// Bytes that can be read.
    fn input_len(&self) -> usize;
    /// Drops what was typed, or written, and not yet read.
    fn flush(&self, queues: Queues);
    /// Holds output, or lets it go on.
    fn hold(&self, is_held: bool);
    /// Sends a key to the other side.
    fn send(&self, byte: u8);
    /// The window's size.
    fn window(&self) -> winsize;
    /// Sets that, and answers if it is another one.
    fn set_window(&self, size: winsize) -> bool;
    /// True while nobody but root may open it (`TIOCEXCL`).
    fn is_exclusive(&self) -> &AtomicBool;
    /// Its device's number.
    fn device(&self) -> u64;
    /// True if it is the app's controlling terminal.
    fn is_controlling(&self) -> bool;
    /// Makes it that, if the app has none.
    fn take_control(&self) -> Result<(), Errno>;
    /// The app gives it up.
    fn give_up_control(&self) -> Result<(), Errno>;
}

/// Which queues a call is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Queues {
    /// What was typed.
    pub input: bool,
    /// What was written.
    pub output: bool,
}

/// The number of a signal that a key sends.
pub(crate) fn number_of(signal: Signal) -> u32 {
    match signal {
        Signal::Interrupt => SIGINT,
        Signal::Quit => SIGQUIT,
        Signal::Suspend => SIGTSTP,
    }
}

/// How long a read without lines waits, and for how much (termios(3), "Canonical and noncanonical mode").
struct Plan {
    minimum: usize,
    timeout_ns: Option<u64>,
    /// The time counts from the start, not from the last byte.
    is_for_all: bool,
}

impl Plan {
    fn of(settings: &Settings) -> Self {
        if settings.is_canonical() {
            return Self { minimum: 1, timeout_ns: None, is_for_all: false };
        }
        let minimum = usize::from(settings.character(Key::Minimum));
        let time_ns = u64::from(settings.character(Key::Time)) * TENTH_OF_SECOND_NS;
        let timeout_ns = (minimum == 0 || time_ns > 0).then_some(time_ns);
        Self { minimum: minimum.max(1), timeout_ns, is_for_all: minimum == 0 }
    }
}

/// Reads: a line, or as much as the settings ask for.
pub(crate) fn read(line: &impl Line, into: UserSlice, mode: WaitMode) -> SysResult {
    let mut done = 0;
    while done < into.len() {
        let settings = line.settings();
        let plan = Plan::of(&settings);
        let timeout_ns = plan.timeout_ns.filter(|_| plan.is_for_all || done > 0);
        // Without any time, a read answers what there is, be it nothing.
        let is_look = timeout_ns == Some(0);
        let mode_now = if is_look { WaitMode::NonBlocking } else { mode };
        let deadline_ns = timeout_ns.map(|timeout_ns| time::now_ns().saturating_add(timeout_ns));
        match line.source().block_on(mode_now, deadline_ns, || line.try_read(into.skip(done))) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(Errno::EAGAIN) if is_look || timeout_ns.is_some() && mode == WaitMode::MayBlock => break,
            Err(_) if done > 0 => break,
            Err(error) => return Err(error),
        }
        if settings.is_canonical() || done >= plan.minimum {
            break;
        }
    }
    Ok(done)
}

/// Copies what the app writes in pieces, and hands each to `write` until it takes less than all. Only the first may wait
/// in vain.
pub(crate) fn write_chunks<const BYTES: usize>(
    from: UserSlice,
    mode: WaitMode,
    mut write: impl FnMut(&[u8], WaitMode) -> SysResult,
) -> SysResult {
    let mut chunk = [0; BYTES];
    let mut written = 0;
    while written < from.len() {
        let rest = from.skip(written);
        let chunk = &mut chunk[..rest.len().min(BYTES)];
        let outcome = rest.read(chunk).map_err(Errno::from).and_then(|()| write(chunk, mode));
        match outcome {
            Ok(count) => written += count,
            Err(_) if written > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(written)
}

fn to_termios2(settings: &Settings) -> termios2 {
    termios2 {
        c_iflag: settings.input,
        c_oflag: settings.output,
        c_cflag: settings.control,
        c_lflag: settings.local,
        c_line: settings.line,
        c_cc: settings.characters,
        c_ispeed: settings.speeds[0],
        c_ospeed: settings.speeds[1],
    }
}

fn from_termios2(new: &termios2) -> Settings {
    Settings {
        input: new.c_iflag,
        output: new.c_oflag,
        // Eight bits and a receiver are what there is.
        control: new.c_cflag & !(CSIZE | PARENB) | CS8 | CREAD,
        local: new.c_lflag,
        line: new.c_line,
        characters: new.c_cc,
        speeds: [new.c_ispeed, new.c_ospeed],
    }
}

fn from_termios(new: &termios, before: &Settings) -> Settings {
    let [c_ispeed, c_ospeed] = before.speeds;
    from_termios2(&termios2 {
        c_iflag: new.c_iflag,
        c_oflag: new.c_oflag,
        c_cflag: new.c_cflag,
        c_lflag: new.c_lflag,
        c_line: new.c_line,
        c_cc: new.c_cc,
        c_ispeed,
        c_ospeed,
    })
}

/// The calls that any terminal knows.
pub(crate) fn ioctl(line: &impl Line, request: u32, argument: u64) -> SysResult {
    match request {
        TCGETS => {
            let termios2 { c_iflag, c_oflag, c_cflag, c_lflag, c_line, c_cc, .. } =
                to_termios2(&line.settings());
            UserPtr::new(argument).write(termios { c_iflag, c_oflag, c_cflag, c_lflag, c_line, c_cc })?;
        }
        TCGETS2 => UserPtr::new(argument).write(to_termios2(&line.settings()))?,
        TCSETS | TCSETSW | TCSETSF => {
            let new = UserPtr::<termios>::new(argument).read()?;
            set(line, from_termios(&new, &line.settings()), request == TCSETSF);
        }
        TCSETS2 | TCSETSW2 | TCSETSF2 => {
            let new = UserPtr::<termios2>::new(argument).read()?;
            set(line, from_termios2(&new), request == TCSETSF2);
        }
        TIOCGWINSZ => UserPtr::new(argument).write(line.window())?,
        TIOCSWINSZ => {
            if line.set_window(UserPtr::new(argument).read()?) && line.is_controlling() {
                session::signal(SIGWINCH);
            }
        }
        FIONREAD => UserPtr::new(argument).write(line.input_len() as i32)?,
        // Whoever writes has handed it on when the call returns.
        TIOCOUTQ => UserPtr::new(argument).write(0_i32)?,
        TCSBRK | TCSBRKP => {}
        TIOCEXCL | TIOCNXCL | TIOCGEXCL => exclude(line.is_exclusive(), request, argument)?,
        TCFLSH => line.flush(queues_of(argument)?),
        TCXONC => control_flow(line, argument)?,
        // There is one line discipline.
        TIOCGETD => UserPtr::new(argument).write(0_i32)?,
        TIOCSETD if UserPtr::<i32>::new(argument).read()? == 0 => {}
        TIOCSETD => return Err(Errno::EINVAL),
        TIOCGDEV => UserPtr::new(argument).write(line.device() as u32)?,
        _ => return control(line, request, argument),
    }
    Ok(0)
}

fn exclude(is_exclusive: &AtomicBool, request: u32, argument: u64) -> Result<(), Errno> {
    match request {
        TIOCGEXCL => UserPtr::new(argument).write(i32::from(is_exclusive.load(Ordering::Relaxed)))?,
        _ => is_exclusive.store(request == TIOCEXCL, Ordering::Relaxed),
    }
    Ok(())
}

/// Whether a terminal may be opened.
pub(crate) fn check_open(line: &impl Line) -> Result<(), Errno> {
    let is_closed = line.is_exclusive().load(Ordering::Relaxed) && !credentials::has(Capability::SysAdmin);
    if is_closed { Err(Errno::EBUSY) } else { Ok(()) }
}

fn set(line: &impl Line, settings: Settings, flushes: bool) {
    if flushes {
        line.flush(Queues { input: true, output: false });
    }
    line.set(settings);
}

fn queues_of(argument: u64) -> Result<Queues, Errno> {
    let argument = argument as u32;
    if argument > TCIOFLUSH {
        return Err(Errno::EINVAL);
    }
    Ok(Queues { input: argument != TCOFLUSH, output: argument != TCIFLUSH })
}

fn control_flow(line: &impl Line, argument: u64) -> Result<(), Errno> {
    match argument as u32 {
        TCOOFF => line.hold(true),
        TCOON => line.hold(false),
        TCIOFF => line.send(line.settings().character(Key::Stop)),
        TCION => line.send(line.settings().character(Key::Start)),
        _ => return Err(Errno::EINVAL),
    }
    Ok(())
}

/// Calls about sessions: the app is one, of one group of processes.
fn control(line: &impl Line, request: u32, argument: u64) -> SysResult {
    match request {
        TIOCSCTTY => line.take_control()?,
        TIOCNOTTY => line.give_up_control()?,
        TIOCGPGRP | TIOCGSID if line.is_controlling() => UserPtr::new(argument).write(PROCESS_ID)?,
        TIOCSPGRP if line.is_controlling() => match UserPtr::<i32>::new(argument).read()? {
            PROCESS_ID => {}
            group if group < 0 => return Err(Errno::EINVAL),
            _ => return Err(Errno::ESRCH),
        },
        _ => return Err(Errno::ENOTTY),
    }
    Ok(0)
}
