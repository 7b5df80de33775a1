//! From a file's bytes to a module that runs: checked, laid out, linked, mapped, given its parameters, started. After an error nothing is left.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::AtomicUsize;

use unikernel_cmdline::Shown;
use unikernel_elf::object::modinfo::{Modinfo, is_module_name};
use unikernel_elf::object::{Area, Object, ObjectError, Unresolved, arguments};
use unikernel_hal::module::{Loaded, Space, exports};
use unikernel_module::abi;

use super::errors::LoadError;
use super::symbols::Symbols;
use super::{MODULES, Module, State, Usage, by_name, disk, next_number, sysfs, turn, unload};
use crate::abi::Errno;
use crate::kmem::room;
use crate::sync::SpinLock;

/// The name by which an object has its descriptor.
const DESCRIPTOR: &str = "unikernel_module";

/// Loads a module from its file, with parameters as `key=value`. `from` is what people call the file.
pub(crate) fn load(file: &[u8], parameters: &str, from: &str) -> Result<(), Errno> {
    let _turn = turn();
    load_in_turn(file, parameters).map_err(|error| {
        log::error!("{}: not loaded: {}", Shown(from), Shown(&error.to_string()));
        Errno::from(&error)
    })
}

/// Starts a module that is a part of the kernel.
pub(super) fn start_built_in(name: &str, loaded: Loaded, parameters: &str) {
    let _turn = turn();
    let (version, uses, symbols) = (env!("CARGO_PKG_VERSION"), Vec::new(), Symbols::default());
    let outcome = start(Unstarted { name, version, loaded, uses, symbols }, parameters);
    if let Err(error) = outcome {
        log::error!("module {name}: not started: {}", Shown(&error.to_string()));
    }
}

fn load_in_turn<'a>(file: &'a [u8], parameters: &str) -> Result<(), LoadError<'a>> {
    unload::free_memory();
    let object = Object::parse(verified(file)?)?;
    let info = object.modinfo()?;
    let name = info.get("name").filter(|name| is_module_name(name)).ok_or(LoadError::NoName)?;
    let interface = info.get("abi").unwrap_or("0");
    if interface.parse() != Ok(abi::VERSION) {
        return Err(LoadError::OtherInterface(interface));
    }
    if by_name(name).is_some() {
        return Err(LoadError::IsLoaded(name));
    }
    let mut uses = Uses::default();
    info.depends().try_for_each(|needed| uses.add_named(needed))?;
    let loaded = map(&object, info, &mut uses)?;
    let version = info.get("version").unwrap_or_default();
    let symbols = Symbols::of(&object)?;
    start(Unstarted { name, version, loaded, uses: uses.into_list(), symbols }, parameters)
}

/// Where the bytes of a module are judged before anything in them is looked at: the part of a file that is the module, if it may be loaded.
fn verified(file: &[u8]) -> Result<&[u8], LoadError<'_>> {
    super::boot::judge(file).map_err(|_| LoadError::Untrusted)
}

/// Modules that another uses, each held once.
#[derive(Default)]
struct Uses(Vec<Arc<Module>>);

impl Uses {
    fn add_named<'a>(&mut self, name: &'a str) -> Result<(), LoadError<'a>> {
        let module = by_name(name).filter(|module| module.usage.lock().state == State::Live);
        self.add(&module.ok_or(LoadError::Needs(name))?).map_err(|()| LoadError::OutOfMemory)
    }

    fn add(&mut self, module: &Arc<Module>) -> Result<(), ()> {
        let is_known = self.0.iter().any(|known| Arc::ptr_eq(known, module));
        if is_known {
            return Ok(());
        }
        self.0.try_reserve(1).map_err(|_| ())?;
        if !module.hold() {
            return Err(());
        }
        self.0.push(Arc::clone(module));
        Ok(())
    }

    /// The modules, for who goes on to hold them.
    fn into_list(mut self) -> Vec<Arc<Module>> {
        core::mem::take(&mut self.0)
    }

    /// Where a symbol is: in the kernel, or in a module that is used from then on.
    fn resolve(&mut self, name: &str, info: Modinfo<'_>) -> Result<u64, Unresolved> {
        let wanted = info.version_of("symver", name).unwrap_or(0);
        let (address, version) = match exports(name) {
            Some(export) => (export.address, export.version),
            None => self.resolve_in_modules(name).ok_or(Unresolved::Unknown)?,
        };
        match version {
            Some(found) if found != wanted => Err(Unresolved::OtherVersion { wanted, found }),
            _ => Ok(address),
        }
    }

    fn resolve_in_modules(&mut self, name: &str) -> Option<(u64, Option<u32>)> {
        for module in super::all() {
            let mut exports = module.loaded.exports();
            let found =
                exports.find(|(known, ..)| *known == name).map(|(_, version, address)| (address, version));
            if let Some((address, version)) = found {
                self.add(&module).ok()?;
                return Some((address, Some(version)));
            }
        }
        None
    }
}

impl Drop for Uses {
    fn drop(&mut self) {
        self.0.iter().for_each(|module| module.release());
    }
}

/// Links the object and maps it.
fn map<'a>(object: &Object<'a>, info: Modinfo<'a>, uses: &mut Uses) -> Result<Loaded, LoadError<'a>> {
    let descriptor = object.find(DESCRIPTOR).ok_or(ObjectError::UnknownSymbol(DESCRIPTOR));
    let descriptor =
        descriptor.map_err(|_| LoadError::Descriptor(unikernel_hal::module::BadDescriptor::Damaged))?;
    let mut image: Vec<u8> = room::filled(0, object.image_bytes())?;
    let space = Space::reserve(image.len()).map_err(|_| LoadError::OutOfMemory)?;
    object.link(space.start(), &mut image, |name| uses.resolve(name, info))?;
    let (code, read_only) = (object.area(Area::Code).end, object.area(Area::ReadOnly).end);
    let code = space.fill(&image, code, read_only).map_err(|_| LoadError::OutOfMemory)?;
    code.descriptor(descriptor).map_err(LoadError::Descriptor)
}

/// A module that is in memory.
pub(super) struct Unstarted<'a> {
    pub(super) name: &'a str,
    pub(super) version: &'a str,
    pub(super) loaded: Loaded,
    pub(super) uses: Vec<Arc<Module>>,
    pub(super) symbols: Symbols,
}

/// Gives a module its parameters, shows it, and starts it.
pub(super) fn start<'a>(module: Unstarted<'_>, parameters: &str) -> Result<(), LoadError<'a>> {
    let Unstarted { name, version, loaded, uses, symbols } = module;
    let module = Arc::new(Module {
        number: next_number(),
        name: Box::from(name),
        version: Box::from(version),
        loaded,
        usage: SpinLock::new(Usage { state: State::Loading, holders: 0 }),
        uses,
        charged: AtomicUsize::new(0),
        symbols,
    });
    set_parameters(&module, parameters)?;
    {
        let mut modules = MODULES.lock();
        modules.try_reserve(1).map_err(|_| LoadError::OutOfMemory)?;
        modules.push(Arc::clone(&module));
    }
    let outcome = sysfs::add(&module).map_err(LoadError::Nodes).and_then(|()| {
        match module.loaded.init(module.number) {
            0 => Ok(()),
            error => Err(LoadError::Init(error.wrapping_neg())),
        }
    });
    if let Err(error) = outcome {
        unload::take_away(module);
        return Err(error);
    }
    module.usage.lock().state = State::Live;
    let kib = module.loaded.code().bytes() / 1024;
    if module.is_built_in() {
        log::info!("module {}: started", module.name);
    } else {
        log::info!("module {}: loaded, {kib} KiB", module.name);
    }
    disk::publish(&module);
    Ok(())
}

/// Sets what `key=value` names. Like Linux, it tells of parameters that the module does not have, and goes on.
fn set_parameters<'a>(module: &Module, text: &str) -> Result<(), LoadError<'a>> {
    for (key, value) in arguments::words(text) {
        let parameter = module.loaded.parameters().find(|parameter| same_name(parameter.name(), key));
        let Some(parameter) = parameter else {
            log::warn!("module {}: unknown parameter `{}` ignored", module.name, Shown(key));
            continue;
        };
        // A name alone is a yes.
        let outcome = parameter.set(value.unwrap_or("Y"));
        outcome.map_err(|error| LoadError::BadParameter(String::from(parameter.name()), error))?;
    }
    Ok(())
}

/// Dashes are as good as underscores (Linux: `parameqn`).
fn same_name(one: &str, other: &str) -> bool {
    let dashed = |byte: u8| if byte == b'-' { b'_' } else { byte };
    one.len() == other.len() && one.bytes().map(dashed).eq(other.bytes().map(dashed))
}
