//! The serial console as a terminal: the app's standard streams, and `/dev/tty`.
//!
//! Input is edited by line (`unikernel_fs::terminal`); Ctrl-C sends `SIGINT`. Output is handed to the
//! UART in large pieces.

use alloc::string::String;
use alloc::sync::Arc;

use linux_raw_sys::general::*;
use linux_raw_sys::ioctl::{FIONREAD, TCGETS, TIOCGWINSZ};
use spin::Once;
use unikernel_fs::terminal::{DELETE, END_OF_INPUT, INTERRUPT, LineEditor, Typed};

use super::table::{self, OnExec};
use super::{AttemptError, File, FileFlags, Metadata, PollSource, Readiness, WaitMode};
use crate::mem::user::{UserPtr, UserSlice};
use crate::platform::console;
use crate::sync::SpinLock;
use crate::syscall::{Errno, SysResult};
use crate::task::signal::{self, SignalInfo};
use crate::user_abi;

user_abi!(termios, winsize);

/// Output is copied from the app in pieces of this size.
const CHUNK_BYTES: usize = 512;
/// Major 5, minor 1: `/dev/console`.
pub const CONSOLE_DEVICE: u64 = 5 << 8 | 1;

/// The console.
pub struct Console {
    input: SpinLock<LineEditor>,
    source: PollSource,
}

static CONSOLE: Once<Arc<Console>> = Once::new();

/// The one console.
pub fn console() -> Arc<Console> {
    let make = || Arc::new(Console { input: SpinLock::default(), source: PollSource::new() });
    Arc::clone(CONSOLE.call_once(make))
}

/// Opens the console as descriptors 0, 1 and 2, and listens to what is typed.
///
/// # Panics
///
/// If descriptors are in use already.
pub fn open_standard_streams() {
    let opened = super::open(console(), FileFlags::READ_WRITE);
    for descriptor in 0..3 {
        let given = table::install(Arc::clone(&opened), OnExec::Keep);
        assert_eq!(given, Ok(descriptor), "the table was empty");
    }
    console::enable_input(on_input);
}

/// From the UART's interrupt: takes all that came.
fn on_input() {
    let console = console();
    let mut bytes = [0; 64];
    loop {
        let count = console::read(&mut bytes);
        if count == 0 {
            break;
        }
        bytes[..count].iter().for_each(|&byte| console.typed(byte));
    }
}

impl Console {
    fn typed(&self, byte: u8) {
        let typed = self.input.lock().key(byte, console::write);
        match typed {
            Typed::Edited => {}
            Typed::Completed => self.source.notify(Readiness::READABLE),
            Typed::Interrupted => {
                signal::send_to_process(SignalInfo::from_kernel(SIGINT));
            }
        }
    }

    /// Reads one line at most.
    fn try_read(&self, into: UserSlice) -> Result<usize, AttemptError> {
        let mut input = self.input.lock();
        let [head, tail] = input.content(into.len()).ok_or(Errno::EAGAIN)?;
        into.try_write(head)?;
        into.skip(head.len()).try_write(tail)?;
        let count = head.len() + tail.len();
        input.consume(count);
        Ok(count)
    }
}

/// The settings that this console has and cannot change.
fn settings() -> termios {
    let mut c_cc = [0; 19];
    c_cc[VINTR as usize] = INTERRUPT;
    c_cc[VEOF as usize] = END_OF_INPUT;
    c_cc[VERASE as usize] = DELETE;
    c_cc[VMIN as usize] = 1;
    termios {
        c_iflag: ICRNL,
        c_oflag: OPOST | ONLCR,
        c_cflag: B115200 | CS8 | CREAD,
        c_lflag: ISIG | ICANON | ECHO | ECHOE,
        c_line: 0,
        c_cc,
    }
}

impl File for Console {
    fn read(&self, into: UserSlice, mode: WaitMode) -> SysResult {
        if into.is_empty() {
            return Ok(0);
        }
        self.source.block_on(mode, None, || self.try_read(into))
    }

    fn write(&self, from: UserSlice, _mode: WaitMode) -> SysResult {
        let mut chunk = [0; CHUNK_BYTES];
        let mut written = 0;
        while written < from.len() {
            let rest = from.skip(written);
            let chunk = &mut chunk[..rest.len().min(CHUNK_BYTES)];
            match rest.read(chunk) {
                Ok(()) => console::write(chunk),
                Err(_) if written > 0 => break,
                Err(fault) => return Err(fault.into()),
            }
            written += chunk.len();
        }
        Ok(written)
    }

    fn readiness(&self) -> Readiness {
        let input = self.input.lock();
        let mut ready = Readiness::WRITABLE;
        ready.set(Readiness::READABLE, input.has_line());
        ready
    }

    fn poll_source(&self) -> Option<&PollSource> {
        Some(&self.source)
    }

    fn metadata(&self) -> Metadata {
        Metadata { special_device: CONSOLE_DEVICE, ..Metadata::anonymous(S_IFCHR, CONSOLE_DEVICE) }
    }

    fn ioctl(&self, request: u32, argument: u64) -> SysResult {
        match request {
            TCGETS => UserPtr::new(argument).write(settings())?,
            // A serial line does not know: 0 makes programs take their default.
            TIOCGWINSZ => {
                let size = winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
                UserPtr::new(argument).write(size)?;
            }
            FIONREAD => {
                let len = self.input.lock().len();
                UserPtr::new(argument).write(len as i32)?;
            }
            _ => return Err(Errno::ENOTTY),
        }
        Ok(0)
    }

    fn reopen(&self, _flags: FileFlags) -> Result<Arc<dyn File>, Errno> {
        // There is one, which nobody closes.
        Ok(console())
    }

    fn name(&self) -> String {
        "/dev/console".into()
    }
}
