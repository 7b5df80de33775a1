//! The serial console as a terminal: the app's standard streams, and `/dev/tty`.
//!
//! Input is edited by line, as a Linux terminal in canonical mode does it: what is typed is echoed,
//! backspace erases, Ctrl-D ends a line without a line end, Ctrl-C sends `SIGINT`. Output is
//! handed to the UART in large pieces.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::sync::Arc;

use arrayvec::ArrayVec;
use linux_raw_sys::general::*;
use linux_raw_sys::ioctl::{FIONREAD, TCGETS, TIOCGWINSZ};
use spin::Once;

use super::table::{self, OnExec};
use super::{File, FileFlags, Metadata, PollSource, Readiness, WaitMode};
use crate::mem::user::{UserPtr, UserSlice};
use crate::platform::console;
use crate::sync::SpinLock;
use crate::syscall::{Errno, SysResult};
use crate::task::signal::{self, SignalInfo};
use crate::user_abi;

user_abi!(termios, winsize);

/// Output is copied from the app in pieces of this size.
const CHUNK_BYTES: usize = 512;
/// The longest line; more is not taken (termios(3): 4096).
const MAX_LINE_BYTES: usize = 4096;
/// Completed lines kept for an app that does not read; more input is dropped.
const MAX_INPUT_BYTES: usize = 65_536;
/// Major 5, minor 1: `/dev/console`.
pub const CONSOLE_DEVICE: u64 = 5 << 8 | 1;

const INTERRUPT: u8 = 3;
const END_OF_INPUT: u8 = 4;
const BACKSPACE: u8 = 8;
const DELETE: u8 = 0x7f;

/// What was typed.
#[derive(Default)]
struct Input {
    /// Complete lines.
    lines: VecDeque<u8>,
    /// The line being edited.
    edited: ArrayVec<u8, MAX_LINE_BYTES>,
    /// Ctrl-D at the start of a line: the next read answers 0.
    is_at_end: bool,
}

/// The console.
pub struct Console {
    input: SpinLock<Input>,
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
        if byte == INTERRUPT {
            echo(b"^C\n");
            self.input.lock().edited.clear();
            return signal::send_to_process(SignalInfo::from_kernel(SIGINT));
        }
        if self.input.lock().edit(byte) {
            self.source.notify(Readiness::READABLE);
        }
    }

    fn try_read(&self, into: UserSlice) -> SysResult {
        let mut input = self.input.lock();
        if input.lines.is_empty() {
            return if core::mem::take(&mut input.is_at_end) { Ok(0) } else { Err(Errno::EAGAIN) };
        }
        // A read answers one line at most.
        let line =
            input.lines.iter().position(|&byte| byte == b'\n').map_or(input.lines.len(), |end| end + 1);
        let count = line.min(into.len());
        let (head, tail) = input.lines.as_slices();
        let head = &head[..count.min(head.len())];
        into.write(head)?;
        into.skip(head.len()).write(&tail[..count - head.len()])?;
        input.lines.drain(..count);
        Ok(count)
    }
}

impl Input {
    /// Edits the line. True if something can be read now.
    fn edit(&mut self, byte: u8) -> bool {
        match byte {
            BACKSPACE | DELETE => {
                if self.edited.pop().is_some() {
                    echo(b"\x08 \x08");
                }
            }
            END_OF_INPUT if self.edited.is_empty() => self.is_at_end = true,
            END_OF_INPUT => self.complete(),
            b'\r' | b'\n' => {
                echo(b"\n");
                // The line end always finds room, as typing leaves one byte free.
                self.edited.push(b'\n');
                self.complete();
            }
            _ if self.edited.remaining_capacity() > 1 => {
                echo(&[byte]);
                self.edited.push(byte);
            }
            _ => {}
        }
        self.is_at_end || !self.lines.is_empty()
    }

    fn complete(&mut self) {
        if self.lines.len() + self.edited.len() <= MAX_INPUT_BYTES {
            self.lines.extend(&self.edited);
        }
        self.edited.clear();
    }
}

fn echo(bytes: &[u8]) {
    console::write(bytes);
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
        ready.set(Readiness::READABLE, input.is_at_end || !input.lines.is_empty());
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
            FIONREAD => UserPtr::new(argument).write(self.input.lock().lines.len() as i32)?,
            _ => return Err(Errno::ENOTTY),
        }
        Ok(0)
    }

    fn name(&self) -> String {
        "/dev/console".into()
    }
}
