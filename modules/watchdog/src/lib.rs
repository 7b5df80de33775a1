//! The watchdog i6300esb (Intel 6300ESB I/O Controller Hub, datasheet, chapter 16) as `/dev/watchdog` (Linux: Documentation/watchdog/watchdog-api.rst).
//!
//! Opening the device starts the watchdog. From then on somebody has to write to it, or make the request `WDIOC_KEEPALIVE`, at least once in
//! `timeout` seconds, or the machine is reset (by QEMU: whatever `-action watchdog=` says). Whoever writes a `V` last may close it and stops it so,
//! unless `nowayout`; whoever ends without that does not.
//!
//! The device has two stages: when the first has run out it would raise an interrupt, which we leave off, and the second begins. Each gets half of
//! the time. It counts in ticks of 2^15 periods of the PCI clock (33 MHz): a millisecond, nearly.

#![no_std]
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use unikernel_module::device::{CharDevice, Device};
use unikernel_module::parameter::{Bool, Uint};
use unikernel_module::pci::{Function, Registers};
use unikernel_module::{Context, Error, Module, info, module, time, warn};

static TIMEOUT: Uint = Uint::new(30, 1..=2046);
static NOWAYOUT: Bool = Bool::new(false);

const VENDOR: u16 = 0x8086;
const DEVICE: u16 = 0x25ab;

/// Configuration space: which events lead to what, and the lock that starts it.
const CONFIG: u16 = 0x60;
const LOCK: u16 = 0x68;
/// No interrupt after the first stage.
const CONFIG_NO_INTERRUPT: u32 = 0b11;
const LOCK_ENABLE: u32 = 0b10;
/// The device heeds no writes of another width.
const CONFIG_BYTES: u32 = 2;
const LOCK_BYTES: u32 = 1;

/// Registers: the two stages, and the one that starts them anew.
const TIMER_1: usize = 0;
const TIMER_2: usize = 4;
const RELOAD: usize = 0xc;
const REGISTER_BYTES: usize = 16;
const RELOAD_BIT: u16 = 1 << 8;
/// What has to be written before a register takes a value.
const UNLOCK: [u16; 2] = [0x80, 0x86];
/// Ticks of a second, halved for each stage.
const TICKS_OF_HALF_A_SECOND: u32 = 1 << 9;

/// Requests of ioctl(2), and what they tell (linux/watchdog.h).
const GET_SUPPORT: u32 = 0x8028_5700;
const GET_STATUS: u32 = 0x8004_5701;
const GET_BOOT_STATUS: u32 = 0x8004_5702;
const SET_OPTIONS: u32 = 0x8004_5704;
const KEEP_ALIVE: u32 = 0x8004_5705;
const SET_TIMEOUT: u32 = 0xc004_5706;
const GET_TIMEOUT: u32 = 0x8004_5707;
const GET_TIME_LEFT: u32 = 0x8004_570a;
const DISABLE: u32 = 1;
const ENABLE: u32 = 2;
/// `WDIOF_SETTIMEOUT`, `WDIOF_MAGICCLOSE`, `WDIOF_KEEPALIVEPING`.
const OPTIONS: u32 = 0x80 | 0x100 | 0x8000;
const IDENTITY: &[u8] = b"i6300ESB timer";
const SECOND_NS: u64 = 1_000_000_000;

struct Watchdog {
    context: Context,
    function: Function,
    registers: Registers,
    is_open: AtomicBool,
    /// The last that was written was a `V`.
    may_stop: AtomicBool,
    /// When it was told last that all is well.
    kept_alive_ns: AtomicU64,
}

impl Watchdog {
    fn find(context: Context) -> Result<Self, Error> {
        let function = Function::find(context, VENDOR, DEVICE)?;
        let registers = function.map(0, REGISTER_BYTES)?;
        let (is_open, may_stop) = (AtomicBool::new(false), AtomicBool::new(false));
        Ok(Self { context, function, registers, is_open, may_stop, kept_alive_ns: AtomicU64::new(0) })
    }

    fn unlock(&self) {
        UNLOCK.into_iter().for_each(|value| self.registers.write(RELOAD, value));
    }

    fn keep_alive(&self) {
        self.unlock();
        self.registers.write(RELOAD, RELOAD_BIT);
        self.kept_alive_ns.store(time::now_ns(), Ordering::Relaxed);
    }

    fn set_timeout(&self, seconds: u64) -> Result<(), Error> {
        TIMEOUT.set(seconds).map_err(|_| Error::EINVAL)?;
        let ticks = seconds as u32 * TICKS_OF_HALF_A_SECOND;
        for timer in [TIMER_1, TIMER_2] {
            self.unlock();
            self.registers.write(timer, ticks);
        }
        self.keep_alive();
        Ok(())
    }

    fn lock(&self, value: u32) {
        self.function.write_config(LOCK, LOCK_BYTES, value);
    }

    fn start(&self) -> Result<(), Error> {
        self.function.write_config(CONFIG, CONFIG_BYTES, CONFIG_NO_INTERRUPT);
        self.set_timeout(TIMEOUT.get())?;
        self.lock(LOCK_ENABLE);
        self.keep_alive();
        Ok(())
    }

    fn stop(&self) {
        self.keep_alive();
        self.lock(0);
    }

    fn seconds_left(&self) -> u64 {
        let passed_ns = time::now_ns().saturating_sub(self.kept_alive_ns.load(Ordering::Relaxed));
        TIMEOUT.get().saturating_sub(passed_ns / SECOND_NS)
    }
}

/// The number that a request has, or gets.
fn number(argument: &mut [u8]) -> Result<&mut [u8; 4], Error> {
    argument.first_chunk_mut().ok_or(Error::EINVAL)
}

impl CharDevice for Watchdog {
    fn open(&self, _flags: u32) -> Result<u32, Error> {
        if self.is_open.swap(true, Ordering::Relaxed) {
            return Err(Error::EBUSY);
        }
        self.may_stop.store(false, Ordering::Relaxed);
        self.start().inspect_err(|_| self.is_open.store(false, Ordering::Relaxed))?;
        Ok(0)
    }

    fn close(&self, _file: u32) {
        if self.may_stop.load(Ordering::Relaxed) && !NOWAYOUT.get() {
            self.stop();
        } else {
            warn!(self.context, "closed without a `V`: the watchdog goes on");
            self.keep_alive();
        }
        self.is_open.store(false, Ordering::Relaxed);
    }

    fn write(&self, _file: u32, from: &[u8]) -> Result<usize, Error> {
        self.may_stop.store(from.contains(&b'V'), Ordering::Relaxed);
        if !from.is_empty() {
            self.keep_alive();
        }
        Ok(from.len())
    }

    fn control(&self, _file: u32, request: u32, argument: &mut [u8]) -> Result<(), Error> {
        match request {
            GET_SUPPORT => {
                argument.fill(0);
                *number(argument)? = OPTIONS.to_ne_bytes();
                argument.get_mut(8..8 + IDENTITY.len()).ok_or(Error::EINVAL)?.copy_from_slice(IDENTITY);
            }
            GET_STATUS | GET_BOOT_STATUS => *number(argument)? = [0; 4],
            SET_OPTIONS => match u32::from_ne_bytes(*number(argument)?) {
                DISABLE => self.stop(),
                ENABLE => self.start()?,
                _ => return Err(Error::EINVAL),
            },
            KEEP_ALIVE => self.keep_alive(),
            SET_TIMEOUT => {
                let seconds = i32::from_ne_bytes(*number(argument)?);
                self.set_timeout(u64::try_from(seconds).map_err(|_| Error::EINVAL)?)?;
            }
            GET_TIMEOUT => *number(argument)? = (TIMEOUT.get() as u32).to_ne_bytes(),
            GET_TIME_LEFT => *number(argument)? = (self.seconds_left() as u32).to_ne_bytes(),
            _ => return Err(Error::ENOTTY),
        }
        Ok(())
    }
}

/// The module.
struct Driver(Device<Watchdog>);

impl Module for Driver {
    fn init(context: Context) -> Result<Self, Error> {
        let watchdog = Watchdog::find(context)?;
        watchdog.stop();
        info!(context, "i6300esb: {} s", TIMEOUT.get());
        Ok(Self(Device::add(context, "watchdog", 0o600, watchdog)?))
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // Nobody would keep it alive any more.
        if !NOWAYOUT.get() {
            self.0.device().stop();
        }
    }
}

module! {
    name: "watchdog",
    type: Driver,
    parameters: {
        timeout: Uint = TIMEOUT, 0o444, "seconds, 1 to 2046",
        nowayout: Bool = NOWAYOUT, 0o444, "whether it goes on once it has begun",
    },
}
