//! The serial console: COM1, a 16550. It carries the log, the app's standard output and, by its
//! interrupt, the app's standard input. A driver may bring a second console ([`attach`]), for machines without a UART, or
//! with one that leads nowhere: both carry the same.
//!
//! It works from the first instruction of Rust on (no heap, no interrupts). Writing is polled: the
//! FIFO takes 16 bytes for one look at the status register, and under a hypervisor each port access
//! is an exit. Output is `\n` to `\r\n`, as a terminal wants.

use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

use arrayvec::ArrayVec;
use spin::Once;
use uart_16550::backend::PioBackend;
use uart_16550::spec::registers::IER;
use uart_16550::{BaudRate, Config, Uart16550};

use super::interrupts;
use crate::sync::SpinLock;

/// COM1's registers on every PC.
const COM1_PORT: u16 = 0x3f8;
/// COM1's line on the ISA bus.
const COM1_IRQ: u8 = 4;
/// Output is gathered to this size before it is sent, so that translating line ends does not cost
/// a look at the status register each.
const CHUNK_BYTES: usize = 128;
/// So much is kept of what was written before the second console came.
const EARLY_BYTES: usize = 4096;

struct Console {
    uart: Uart16550<PioBackend>,
}

const fn com1() -> Uart16550<PioBackend> {
    // SAFETY: COM1 is at this port or nowhere; a UART does no DMA, and this is its only owner.
    match unsafe { Uart16550::new_port(COM1_PORT) } {
        Ok(uart) => uart,
        Err(_) => panic!("the port is far below the last one"),
    }
}

static CONSOLE: SpinLock<Console> = SpinLock::new(Console { uart: com1() });
/// False until [`init`] found the UART; writing without one would wait for ever.
static IS_PRESENT: AtomicBool = AtomicBool::new(false);
static ON_INPUT: Once<fn()> = Once::new();

/// A console that a driver brings. Called from interrupt handlers, too.
pub trait Port: Sync {
    /// Writes bytes as they are to be shown.
    fn write(&self, bytes: &[u8]);
    /// The same in a panic, which may have interrupted another write.
    fn write_in_panic(&self, bytes: &[u8]);
    /// Waits, but not for long, until all is shown. Before the machine ends, perhaps in a panic.
    fn flush(&self);
    /// Reads what has come in, without waiting; answers how many bytes. Leaves what does not fit.
    fn read(&self, buffer: &mut [u8]) -> usize;
    /// True if [`Self::read`] would answer something.
    fn has_input(&self) -> bool;
}

/// The second console.
static PORT: Once<&'static dyn Port> = Once::new();
/// What was written before it came, or would have come: shown on it as well.
static EARLY: SpinLock<Option<ArrayVec<u8, EARLY_BYTES>>> = SpinLock::new(Some(ArrayVec::new_const()));
/// Sets up the UART. Call first of all.
pub fn init() {
    let config = Config { baud_rate: BaudRate::Baud115200, ..Config::DEFAULT };
    let is_present = CONSOLE.lock().uart.init(config).is_ok();
    IS_PRESENT.store(is_present, Ordering::Relaxed);
}

/// Writes all of `bytes`, waiting for the line.
pub fn write(bytes: &[u8]) {
    if IS_PRESENT.load(Ordering::Relaxed) {
        CONSOLE.lock().write(bytes);
    }
    match PORT.get() {
        Some(port) => in_lines(bytes, |chunk| port.write(chunk)),
        None => keep_early(bytes),
    }
}

/// Writes bytes in which line ends are as they are to be shown.
pub fn write_processed(bytes: &[u8]) {
    if IS_PRESENT.load(Ordering::Relaxed) {
        CONSOLE.lock().uart.send_bytes_exact(bytes);
    }
    match PORT.get() {
        Some(port) => port.write(bytes),
        None => keep_early(bytes),
    }
}

fn keep_early(bytes: &[u8]) {
    if let Some(early) = &mut *EARLY.lock() {
        let kept = bytes.len().min(early.remaining_capacity());
        early.extend(bytes[..kept].iter().copied());
    }
}

/// Takes a second console into use, which is shown what was written so far.
pub fn attach(port: &'static dyn Port) {
    let early = EARLY.lock().take();
    in_lines(&early.unwrap_or_default(), |chunk| port.write(chunk));
    PORT.call_once(|| port);
}

/// Sees that all that was written is shown: the machine is about to end.
pub fn flush() {
    if let Some(port) = PORT.get() {
        port.flush();
    }
}

/// There will be no second console.
pub fn forget_early() {
    *EARLY.lock() = None;
}

/// Writes although the lock may be held: for a panic, which may have interrupted its holder and
/// never returns to it.
pub fn write_in_panic(bytes: &[u8]) {
    if let Some(port) = PORT.get() {
        in_lines(bytes, |chunk| port.write_in_panic(chunk));
    }
    if !IS_PRESENT.load(Ordering::Relaxed) {
        return;
    }
    match CONSOLE.try_lock() {
        Some(mut console) => console.write(bytes),
        None => Console { uart: com1() }.write(bytes),
    }
}

/// Reads what has come in, without waiting; answers how many bytes.
pub fn read(buffer: &mut [u8]) -> usize {
    let mut count = 0;
    if IS_PRESENT.load(Ordering::Relaxed) {
        count = CONSOLE.lock().uart.receive_bytes(buffer);
    }
    count + PORT.get().map_or(0, |port| port.read(&mut buffer[count..]))
}

/// True if [`read`] would answer something.
pub fn has_input() -> bool {
    let is_at_uart = IS_PRESENT.load(Ordering::Relaxed) && CONSOLE.lock().uart.ready_to_receive().is_ok();
    is_at_uart || PORT.get().is_some_and(|port| port.has_input())
}

/// Calls `on_input`, from the interrupt handler, whenever input came. The UART raises its line
/// again only after the input was read, so the callee must see to that.
pub fn enable_input(on_input: fn()) {
    ON_INPUT.call_once(|| on_input);
    if !IS_PRESENT.load(Ordering::Relaxed) {
        return;
    }
    let Some(vector) = interrupts::register(&input_arrived) else { return };
    interrupts::route_isa_irq(COM1_IRQ, vector);
    CONSOLE.lock().uart.enable_interrupts(IER::DATA_READY);
}

/// From the interrupt of whatever brings input.
pub fn input_arrived() {
    if let Some(on_input) = ON_INPUT.get() {
        on_input();
    }
}

impl Console {
    fn write(&mut self, bytes: &[u8]) {
        in_lines(bytes, |chunk| self.uart.send_bytes_exact(chunk));
    }
}

/// Sends bytes in chunks, with line ends as terminals want them.
fn in_lines(bytes: &[u8], mut send: impl FnMut(&[u8])) {
    let mut chunk = ArrayVec::<u8, CHUNK_BYTES>::new();
    for &byte in bytes {
        if chunk.remaining_capacity() < 2 {
            send(&chunk);
            chunk.clear();
        }
        if byte == b'\n' {
            chunk.push(b'\r');
        }
        chunk.push(byte);
    }
    send(&chunk);
}

/// Formats straight to the console.
pub struct Writer;

impl fmt::Write for Writer {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        write(text.as_bytes());
        Ok(())
    }
}
