//! Modules: code that is loaded into the kernel while it runs (`docs/modules.md`, decision 50).
//!
//! - here: what a [`Module`] is, and the list of them; [`load`]: from a file's bytes to code that runs; [`unload`]: its end;
//! - [`services`]: what modules ask of the kernel: [`device`], character devices; [`disk`], disks; [`work`], what is done later; [`hook`], frames that pass;
//! - `sysfs`: `/proc/modules` and `/sys/module`; [`boot`]: what the command line and `/etc/modules` name, and who may load one afterwards;
//! - `errors`: what is wrong, in words and as error numbers.
//!
//! A module is loaded or unloaded one at a time ([`turn`]). It is held ([`Module::hold`]) by whoever has one of its devices open, by modules that use its
//! symbols, and by itself; while anybody does, it is not unloaded. Its functions are called with a spin lock of the device, work or hook
//! in question held, so who takes that away waits until nobody is in it.

pub(crate) mod boot;
mod device;
mod disk;
mod errors;
mod hook;
pub(crate) mod load;
mod services;
mod symbols;
mod sysfs;
pub(crate) mod unload;
mod work;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use unikernel_hal::module::Loaded;

use crate::sync::SpinLock;
use crate::task::mutex::{Mutex, MutexGuard};
pub(crate) use symbols::{find as find_symbol, function_start};

/// What a module is at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// It is being started.
    Loading,
    /// It runs.
    Live,
    /// It is being ended.
    Unloading,
}

struct Usage {
    state: State,
    /// How many keep it from being unloaded.
    holders: usize,
}

/// A module that is loaded, or a part of the kernel.
struct Module {
    /// By which it is known in calls; never used twice.
    number: u64,
    name: Box<str>,
    version: Box<str>,
    loaded: Loaded,
    usage: SpinLock<Usage>,
    /// Whose symbols it uses; each is held for it.
    uses: Vec<Arc<Module>>,
    /// Bytes of the kernel's heap that it has.
    charged: AtomicUsize,
    /// Its functions, for backtraces.
    symbols: symbols::Symbols,
}

/// All of them, in the order in which they were loaded.
static MODULES: SpinLock<Vec<Arc<Module>>> = SpinLock::new(Vec::new());
static NEXT_NUMBER: AtomicU64 = AtomicU64::new(1);

/// One module comes or goes at a time.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock()
}

fn by_name(name: &str) -> Option<Arc<Module>> {
    MODULES.lock().iter().find(|module| *module.name == *name).cloned()
}

fn by_number(number: u64) -> Option<Arc<Module>> {
    MODULES.lock().iter().find(|module| module.number == number).cloned()
}

/// All that are loaded now.
fn all() -> Vec<Arc<Module>> {
    let mut list = Vec::new();
    let modules = MODULES.lock();
    if list.try_reserve_exact(modules.len()).is_ok() {
        list.extend(modules.iter().cloned());
    }
    list
}

fn next_number() -> u64 {
    NEXT_NUMBER.fetch_add(1, Ordering::Relaxed)
}

impl Module {
    /// Keeps it loaded; false if it is on its way out.
    fn hold(&self) -> bool {
        let mut usage = self.usage.lock();
        if usage.state == State::Unloading {
            return false;
        }
        usage.holders += 1;
        true
    }

    /// Undoes that.
    fn release(&self) {
        let mut usage = self.usage.lock();
        usage.holders = usage.holders.saturating_sub(1);
    }

    /// True for a module that is a part of the kernel.
    fn is_built_in(&self) -> bool {
        self.loaded.code().start().is_none()
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        self.uses.iter().for_each(|used| used.release());
    }
}
