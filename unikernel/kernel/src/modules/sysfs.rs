//! What the app sees of modules: `/proc/modules` (proc(5)) and `/sys/module/NAME`.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::fmt::Write;

use unikernel_hal::module::Parameter;

use super::{Module, State, all};
use crate::abi::Errno;
use crate::fs::attribute::{self, Attribute};

/// Adds `/proc/modules`.
pub(super) fn init() {
    struct List;
    impl Attribute for List {
        fn show(&self) -> Result<Vec<u8>, Errno> {
            Ok(list().into_bytes())
        }
    }
    if let Err(error) = attribute::add("/proc/modules", Arc::new(List), 0o444) {
        log::warn!("/proc/modules cannot be made: {}", error.name());
    }
}

/// A line each: name, bytes, holders, who they are, state, and an address, which is nobody's business.
fn list() -> String {
    let modules = all();
    let mut text = String::new();
    for module in modules.iter().rev().filter(|module| !module.is_built_in()) {
        let (state, holders) = {
            let usage = module.usage.lock();
            (usage.state, usage.holders)
        };
        // Writing to a string cannot fail.
        let _ = write!(text, "{} {} {holders} ", module.name, module.loaded.code().bytes());
        let start = text.len();
        for user in modules.iter().filter(|user| user.uses.iter().any(|used| Arc::ptr_eq(used, module))) {
            let _ = write!(text, "{},", user.name);
        }
        if text.len() == start {
            text.push('-');
        }
        let state = match state {
            State::Loading => "Loading",
            State::Live => "Live",
            State::Unloading => "Unloading",
        };
        let _ = writeln!(text, " {state} 0x0000000000000000");
    }
    text
}

/// A text about a module.
struct About {
    module: Weak<Module>,
    tell: fn(&Module) -> String,
}

impl Attribute for About {
    fn show(&self) -> Result<Vec<u8>, Errno> {
        let module = self.module.upgrade().ok_or(Errno::ENODEV)?;
        Ok((self.tell)(&module).into_bytes())
    }
}

/// A parameter, by its name.
struct Value {
    module: Weak<Module>,
    name: String,
}

impl Value {
    /// Runs `work` with the parameter, if the module runs and goes on doing so meanwhile.
    fn with<R>(&self, work: impl FnOnce(&Parameter) -> Result<R, Errno>) -> Result<R, Errno> {
        let module = self.module.upgrade().filter(|module| module.hold()).ok_or(Errno::ENODEV)?;
        let found = module.loaded.parameters().find(|parameter| parameter.name() == self.name);
        let outcome = found.ok_or(Errno::ENODEV).and_then(|parameter| work(&parameter));
        module.release();
        outcome
    }
}

impl Attribute for Value {
    fn show(&self) -> Result<Vec<u8>, Errno> {
        self.with(|parameter| Ok(format!("{}\n", parameter.get().ok_or(Errno::EIO)?).into_bytes()))
    }

    fn store(&self, bytes: &[u8]) -> Result<(), Errno> {
        let text = core::str::from_utf8(bytes).map_err(|_| Errno::EINVAL)?;
        // As Linux, which takes one line.
        let text = text.strip_suffix('\n').unwrap_or(text);
        self.with(|parameter| parameter.set(text).map_err(Errno::of_module))
    }
}

/// A name below the module's folder, and what makes its text.
type ModuleFile = (&'static str, fn(&Module) -> String);

const TEXTS: [ModuleFile; 4] = [
    ("version", |module| format!("{}\n", module.version)),
    ("refcnt", |module| format!("{}\n", module.usage.lock().holders)),
    ("coresize", |module| format!("{}\n", module.loaded.code().bytes())),
    ("initstate", |module| {
        let state = match module.usage.lock().state {
            State::Loading => "coming",
            State::Live => "live",
            State::Unloading => "going",
        };
        format!("{state}\n")
    }),
];

fn folder(module: &Module) -> String {
    format!("/sys/module/{}", module.name)
}

/// Shows a module. What was added before an error is for [`remove`].
pub(super) fn add(module: &Arc<Module>) -> Result<(), Errno> {
    let folder = folder(module);
    for (name, tell) in TEXTS {
        let about = About { module: Arc::downgrade(module), tell };
        attribute::add(&format!("{folder}/{name}"), Arc::new(about), 0o444)?;
    }
    for parameter in module.loaded.parameters().filter(is_shown) {
        let value = Value { module: Arc::downgrade(module), name: parameter.name().to_string() };
        let path = format!("{folder}/parameters/{}", parameter.name());
        attribute::add(&path, Arc::new(value), (parameter.mode() & 0o666) as u16)?;
    }
    Ok(())
}

/// A name that is good for a file, of a parameter that somebody may see.
fn is_shown(parameter: &Parameter) -> bool {
    parameter.mode() != 0 && unikernel_elf::object::modinfo::is_module_name(parameter.name())
}

/// Undoes that.
pub(super) fn remove(module: &Module) {
    let folder = folder(module);
    for parameter in module.loaded.parameters().filter(is_shown) {
        attribute::remove(&format!("{folder}/parameters/{}", parameter.name()));
    }
    for (name, _) in TEXTS {
        attribute::remove(&format!("{folder}/{name}"));
    }
    attribute::remove_directory(&format!("{folder}/parameters"));
    attribute::remove_directory(&folder);
}
