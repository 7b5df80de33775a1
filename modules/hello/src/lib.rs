//! An example of a module: `/dev/hello` says hello to whom a parameter names, as often as another says, and every second, if asked to, the log does.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::string::String;
use core::fmt::Write;
use core::sync::atomic::{AtomicU32, Ordering};

use unikernel_module::device::{CharDevice, Device};
use unikernel_module::parameter::{Bool, Text, Uint};
use unikernel_module::work::{Deferred, Work};
use unikernel_module::{Context, Error, Module, info, module};

static WHO: Text<32> = Text::new("world");
static TIMES: Uint = Uint::new(1, 0..=100);
static TICKS: Bool = Bool::new(false);

const SECOND_NS: u64 = 1_000_000_000;

/// The device.
struct Greeter {
    /// How often it was opened.
    opened: AtomicU32,
}

impl CharDevice for Greeter {
    fn open(&self, _flags: u32) -> Result<u32, Error> {
        Ok(self.opened.fetch_add(1, Ordering::Relaxed))
    }

    fn read(&self, _file: u32, offset: u64, into: &mut [u8]) -> Result<usize, Error> {
        let mut text = String::new();
        // A string takes everything.
        WHO.with(|who| (0..TIMES.get()).for_each(|_| _ = writeln!(text, "hello, {who}")));
        let rest = text.as_bytes().get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write(&self, _file: u32, from: &[u8]) -> Result<usize, Error> {
        let text = core::str::from_utf8(from).map_err(|_| Error::EINVAL)?;
        unikernel_module::parameter::Value::set_text(&WHO, text.trim_ascii_end())?;
        Ok(from.len())
    }
}

/// Says so once a second.
struct Tick(Context);

impl Work for Tick {
    fn run(&self) -> Option<u64> {
        info!(self.0, "tick");
        Some(SECOND_NS)
    }
}

/// The module.
struct Hello {
    context: Context,
    _device: Device<Greeter>,
    tick: Option<Deferred<Tick>>,
}

impl Module for Hello {
    fn init(context: Context) -> Result<Self, Error> {
        let device = Device::add(context, "hello", 0o666, Greeter { opened: AtomicU32::new(0) })?;
        let tick = TICKS.get().then(|| Deferred::new(context, Tick(context)));
        if let Some(tick) = &tick {
            tick.ask(SECOND_NS)?;
        }
        WHO.with(|who| info!(context, "hello, {who}"));
        Ok(Self { context, _device: device, tick })
    }
}

impl Drop for Hello {
    fn drop(&mut self) {
        self.tick = None;
        info!(self.context, "goodbye");
    }
}

module! {
    name: "hello",
    type: Hello,
    parameters: {
        who: Text<32> = WHO, 0o644, "who is greeted",
        times: Uint = TIMES, 0o644, "how often, 0 to 100",
        ticks: Bool = TICKS, 0o444, "whether the log is told each second",
    },
}
