//! Names for addresses in modules, for reports. A module's functions are kept in a list of its own; nothing here waits for a lock, because
//! who asks may be a panic.

use alloc::string::String;
use alloc::vec::Vec;

use unikernel_elf::object::Object;

use super::{MODULES, Module};
use crate::kmem::room::OutOfMemory;

/// A module's functions, by ascending places.
#[derive(Default)]
pub(super) struct Symbols {
    functions: Vec<Function>,
    names: String,
}

struct Function {
    at: u32,
    name_at: u32,
    name_bytes: u32,
}

impl Symbols {
    /// Those of an object.
    pub(super) fn of(object: &Object<'_>) -> Result<Self, OutOfMemory> {
        let mut symbols = Self::default();
        for (at, _, name) in object.functions() {
            symbols.functions.try_reserve(1).map_err(|_| OutOfMemory)?;
            symbols.names.try_reserve(name.len()).map_err(|_| OutOfMemory)?;
            let (name_at, name_bytes) = (symbols.names.len() as u32, name.len() as u32);
            symbols.functions.push(Function { at: at as u32, name_at, name_bytes });
            symbols.names.push_str(name);
        }
        symbols.functions.sort_unstable_by_key(|function| function.at);
        Ok(symbols)
    }

    fn find(&self, at: u64) -> Option<(u64, &str)> {
        let next = self.functions.partition_point(|function| u64::from(function.at) <= at);
        let function = self.functions.get(next.checked_sub(1)?)?;
        let end = function.name_at as usize + function.name_bytes as usize;
        Some((function.at.into(), self.names.get(function.name_at as usize..end)?))
    }
}

/// Tells in which module an address is, and in which of its functions: where that begins, and its name.
pub(crate) fn find<R>(address: u64, tell: impl FnOnce(&str, Option<(u64, &str)>) -> R) -> Option<R> {
    let modules = MODULES.try_lock()?;
    let module: &Module = modules.iter().find(|module| module.loaded.code().contains(address))?;
    let start = module.loaded.code().start()?;
    let function = module.symbols.find(address - start).map(|(at, name)| (start + at, name));
    Some(tell(&module.name, function))
}

/// Where the function of a module begins that an address is in.
pub(crate) fn function_start(address: u64) -> Option<u64> {
    find(address, |_, function| function.map(|(start, _)| start))?
}
