//! The serial console as a terminal: the app's standard streams, and `/dev/tty` while nothing else is.
//!
//! The line discipline is that of all terminals (`unikernel_fs::terminal`); its keys send their signals to the app always.

use alloc::string::String;
use alloc::sync::Arc;
use core::sync::atomic::AtomicBool;

use arrayvec::ArrayVec;
use linux_raw_sys::general::*;
use spin::Once;
use unikernel_fs::terminal::{Screen, Settings, Terminal, Typed};

use super::{Line, NO_WINDOW, Queues, number_of, session};
use crate::abi::{Errno, SysResult};
use crate::file::table::{self, OnExec};
use crate::file::{self, AttemptError, File, FileFlags, Metadata, PollSource, Readiness, WaitMode};
use crate::fs::device::Device;
use crate::mem::user::UserSlice;
use crate::platform::{console, records};
use crate::sync::SpinLock;

/// Output is copied from the app in pieces of this size.
const CHUNK_BYTES: usize = 512;

/// The console.
pub(crate) struct Console {
    terminal: SpinLock<Terminal>,
    window: SpinLock<winsize>,
    source: PollSource,
    is_exclusive: AtomicBool,
}

static CONSOLE: Once<Arc<Console>> = Once::new();

/// The one console.
pub(crate) fn console() -> Arc<Console> {
    let make = || {
        let (terminal, window) = (SpinLock::new(Terminal::new()), SpinLock::new(NO_WINDOW));
        Arc::new(Console {
            terminal,
            window,
            source: PollSource::new(),
            is_exclusive: AtomicBool::new(false),
        })
    };
    Arc::clone(CONSOLE.call_once(make))
}

/// Opens it once more, if that is allowed.
pub(crate) fn open_again() -> Result<Arc<Console>, Errno> {
    let console = console();
    super::check_open(&*console)?;
    Ok(console)
}

/// Opens the console as descriptors 0, 1 and 2, and listens to what is typed.
///
/// # Panics
///
/// If descriptors are in use already.
pub(crate) fn open_standard_streams() {
    let opened = file::open(console(), FileFlags::READ_WRITE);
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

/// What is to be written to the UART, in large pieces.
#[derive(Default)]
struct Gathered(ArrayVec<u8, CHUNK_BYTES>);

impl Gathered {
    fn flush(&mut self) {
        console::write_processed(&self.0);
        self.0.clear();
    }
}

impl Screen for Gathered {
    fn put(&mut self, byte: u8) {
        if self.0.is_full() {
            self.flush();
        }
        self.0.push(byte);
    }
}

impl Drop for Gathered {
    fn drop(&mut self) {
        self.flush();
    }
}

impl Console {
    fn typed(&self, byte: u8) {
        let typed = self.terminal.lock().key(byte, &mut Gathered::default());
        self.tell(&typed);
        if let Some(signal) = typed.signal {
            session::signal(number_of(signal));
        }
    }

    fn tell(&self, typed: &Typed) {
        if typed.is_readable {
            self.source.notify(Readiness::READABLE);
        }
        if typed.is_held == Some(false) {
            self.source.notify(Readiness::WRITABLE);
        }
    }

    fn show(&self, bytes: &[u8]) -> SysResult {
        let mut terminal = self.terminal.lock();
        if terminal.is_held() {
            return Err(Errno::EAGAIN);
        }
        let mut screen = Gathered::default();
        bytes.iter().for_each(|&byte| terminal.write(byte, &mut screen));
        records::wrote(bytes);
        Ok(bytes.len())
    }
}

impl Line for Console {
    fn source(&self) -> &PollSource {
        &self.source
    }

    fn try_read(&self, into: UserSlice) -> Result<usize, AttemptError> {
        let mut terminal = self.terminal.lock();
        let [head, tail] = terminal.content(into.len()).ok_or(Errno::EAGAIN)?;
        into.try_write(head)?;
        into.skip(head.len()).try_write(tail)?;
        let count = head.len() + tail.len();
        terminal.consume(count);
        Ok(count)
    }

    fn settings(&self) -> Settings {
        *self.terminal.lock().settings()
    }

    fn set(&self, settings: Settings) {
        self.terminal.lock().set(settings, &mut Gathered::default());
        self.source.notify(self.readiness());
    }

    fn input_len(&self) -> usize {
        self.terminal.lock().len()
    }

    fn flush(&self, queues: Queues) {
        // What is written is shown at once.
        if queues.input {
            self.terminal.lock().clear_input();
        }
    }

    fn hold(&self, is_held: bool) {
        let typed = self.terminal.lock().hold(is_held, &mut Gathered::default());
        self.tell(&typed);
    }

    fn send(&self, byte: u8) {
        console::write_processed(&[byte]);
    }

    fn window(&self) -> winsize {
        *self.window.lock()
    }

    fn set_window(&self, size: winsize) -> bool {
        let parts = |size: &winsize| [size.ws_row, size.ws_col, size.ws_xpixel, size.ws_ypixel];
        let before = core::mem::replace(&mut *self.window.lock(), size);
        parts(&before) != parts(&size)
    }

    fn is_exclusive(&self) -> &AtomicBool {
        &self.is_exclusive
    }

    fn device(&self) -> u64 {
        Device::Console.number()
    }

    fn is_controlling(&self) -> bool {
        session::controlling().is_none()
    }

    fn take_control(&self) -> Result<(), Errno> {
        if self.is_controlling() { Ok(()) } else { Err(Errno::EPERM) }
    }

    fn give_up_control(&self) -> Result<(), Errno> {
        // Its keys would still send signals.
        Err(Errno::ENOTTY)
    }
}

impl File for Console {
    fn read(&self, into: UserSlice, mode: WaitMode) -> SysResult {
        super::read(self, into, mode)
    }

    fn write(&self, from: UserSlice, mode: WaitMode) -> SysResult {
        super::write_chunks::<CHUNK_BYTES>(from, mode, |bytes, mode| {
            self.source.block_on(mode, None, || self.show(bytes))
        })
    }

    fn readiness(&self) -> Readiness {
        let terminal = self.terminal.lock();
        let mut ready = Readiness::empty();
        ready.set(Readiness::WRITABLE, !terminal.is_held());
        ready.set(Readiness::READABLE, terminal.is_readable());
        ready
    }

    fn poll_source(&self) -> Option<&PollSource> {
        Some(&self.source)
    }

    fn metadata(&self) -> Metadata {
        let device = Device::Console.number();
        Metadata { special_device: device, ..Metadata::anonymous(S_IFCHR, device) }
    }

    fn ioctl(&self, request: u32, argument: u64) -> SysResult {
        super::ioctl(self, request, argument)
    }

    fn reopen(&self, _flags: FileFlags) -> Result<Arc<dyn File>, Errno> {
        // There is one, which nobody closes.
        Ok(console())
    }

    fn name(&self) -> String {
        "/dev/console".into()
    }
}
