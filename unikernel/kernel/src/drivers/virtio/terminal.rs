//! The console device (specification, section 5.3) as a console of the machine: what is logged and printed goes there, too,
//! and what is typed comes from there. Some hypervisors show nothing else (Cloud Hypervisor's `--console tty`).
//!
//! Several ports are not asked for, so the device has the one that is the console (section 5.3.4).

use alloc::vec::Vec;

use bitflags::bitflags;
use spin::Once;

use super::ring::{Direction, Ring};
use super::transport::VirtioTransport;
use super::{StartError, VirtioDevice};
use crate::platform::{console, time};
use crate::sync::SpinLock;

/// Queues (section 5.3.2).
const RX: u16 = 0;
const TX: u16 = 1;
/// What is typed comes in small pieces.
const RX_BUFFERS: u16 = 8;
const RX_BYTES: usize = 16;
const TX_BUFFERS: u16 = 32;
const TX_BYTES: usize = 256;
/// How long the host may leave all buffers unread before what is written is dropped.
const PATIENCE_NS: u64 = 100_000_000;

bitflags! {
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    struct Features: u64 {
        const VERSION_1 = 1 << 32;
    }
}

struct Queues {
    /// Kept, as the device is in use for as long.
    _link: VirtioTransport,
    rx: Ring,
    tx: Ring,
    free: Vec<u16>,
    /// The host did not take what was written in time; nobody waits for it again until it does.
    is_stuck: bool,
}

struct Terminal {
    queues: SpinLock<Queues>,
}

static TERMINAL: Once<Terminal> = Once::new();

/// Starts the device, and shows on it what was written so far.
pub(crate) fn start(device: VirtioDevice) -> Result<(), StartError> {
    let mut link = device.link;
    link.negotiate(|offered: Features| offered)?;
    link.connect_interrupt(console::input_arrived, 1)?;
    let mut rx = Ring::new(&mut link, RX, RX_BUFFERS, RX_BYTES, Direction::ToDriver)?;
    let mut tx = Ring::new(&mut link, TX, TX_BUFFERS, TX_BYTES, Direction::ToDevice)?;
    (0..rx.size()).for_each(|buffer| rx.post(buffer, RX_BYTES));
    tx.disable_interrupts();
    link.start();
    rx.notify();
    let free = (0..tx.size()).rev().collect();
    let queues = SpinLock::new(Queues { _link: link, rx, tx, free, is_stuck: false });
    console::attach(TERMINAL.call_once(|| Terminal { queues }));
    Ok(())
}

impl Queues {
    /// Waits until the host has left so many buffers free; false if it does not in time.
    fn wait_for_free(&mut self, count: usize) -> bool {
        let deadline_ns = time::now_ns().saturating_add(PATIENCE_NS);
        loop {
            while let Some(completion) = self.tx.take() {
                self.free.push(completion.buffer);
                self.is_stuck = false;
            }
            if self.free.len() >= count {
                return true;
            }
            if self.is_stuck || time::now_ns() >= deadline_ns {
                self.is_stuck = true;
                return false;
            }
            self.tx.notify();
            core::hint::spin_loop();
        }
    }

    fn take_buffer(&mut self) -> Option<u16> {
        if self.wait_for_free(1) { self.free.pop() } else { None }
    }

    fn write(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(TX_BYTES) {
            let Some(buffer) = self.take_buffer() else { break };
            self.tx.buffer(buffer)[..piece.len()].copy_from_slice(piece);
            self.tx.post(buffer, piece.len());
        }
        self.tx.notify();
    }
}

impl console::Port for Terminal {
    fn write(&self, bytes: &[u8]) {
        self.queues.lock().write(bytes);
    }

    fn write_in_panic(&self, bytes: &[u8]) {
        // Its holder may be what panicked; the queues are in no state to be used then.
        if let Some(mut queues) = self.queues.try_lock() {
            queues.write(bytes);
        }
    }

    fn flush(&self) {
        if let Some(mut queues) = self.queues.try_lock() {
            let all = usize::from(queues.tx.size());
            queues.wait_for_free(all);
        }
    }

    fn read(&self, buffer: &mut [u8]) -> usize {
        let mut queues = self.queues.lock();
        let mut count = 0;
        while buffer.len() - count >= RX_BYTES
            && let Some(completion) = queues.rx.take()
        {
            let piece = &queues.rx.buffer(completion.buffer)[..completion.len as usize];
            buffer[count..][..piece.len()].copy_from_slice(piece);
            count += piece.len();
            queues.rx.post(completion.buffer, RX_BYTES);
        }
        queues.rx.notify();
        count
    }

    fn has_input(&self) -> bool {
        self.queues.lock().rx.has_completions()
    }
}
