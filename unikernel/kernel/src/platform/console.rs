//! The serial console: COM1, a 16550. It carries the log, the app's standard output and, by its
//! interrupt, the app's standard input.
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
}

/// Writes although the lock may be held: for a panic, which may have interrupted its holder and
/// never returns to it.
pub fn write_in_panic(bytes: &[u8]) {
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
    if !IS_PRESENT.load(Ordering::Relaxed) {
        return 0;
    }
    CONSOLE.lock().uart.receive_bytes(buffer)
}

/// True if [`read`] would answer something.
pub fn has_input() -> bool {
    IS_PRESENT.load(Ordering::Relaxed) && CONSOLE.lock().uart.ready_to_receive().is_ok()
}

/// Calls `on_input`, from the interrupt handler, whenever input came. The UART raises its line
/// again only after the input was read, so the callee must see to that.
pub fn enable_input(on_input: fn()) {
    if !IS_PRESENT.load(Ordering::Relaxed) {
        return;
    }
    ON_INPUT.call_once(|| on_input);
    let Some(vector) = interrupts::register(&input_interrupt) else { return };
    interrupts::route_isa_irq(COM1_IRQ, vector);
    CONSOLE.lock().uart.enable_interrupts(IER::DATA_READY);
}

fn input_interrupt() {
    if let Some(on_input) = ON_INPUT.get() {
        on_input();
    }
}

impl Console {
    fn write(&mut self, bytes: &[u8]) {
        let mut chunk = ArrayVec::<u8, CHUNK_BYTES>::new();
        for &byte in bytes {
            if chunk.remaining_capacity() < 2 {
                self.uart.send_bytes_exact(&chunk);
                chunk.clear();
            }
            if byte == b'\n' {
                chunk.push(b'\r');
            }
            chunk.push(byte);
        }
        self.uart.send_bytes_exact(&chunk);
    }
}

/// Formats straight to the console.
pub struct Writer;

impl fmt::Write for Writer {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        write(text.as_bytes());
        Ok(())
    }
}
