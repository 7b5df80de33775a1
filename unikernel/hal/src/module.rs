//! Code that is loaded into the kernel (`unikernel_module` is what it is written with).
//!
//! - [`Space`]: a place for a module; [`Code`]: one that is there, for as long as anybody has a part of it; [`Loaded`]: its beginning, its end,
//!   its parameters and exports;
//! - [`Device`], [`Disk`], [`Work`], [`Hook`]: functions of a module that it has told the kernel to call;
//! - [`Services`]: what modules ask of the kernel; [`exports`]: by which names.
//!
//! A module runs in ring 0 and is trusted as the kernel is: what its code does is not checked by anybody. What is here keeps the kernel from
//! doing harm with one that is good: code stays mapped while anything refers to it, functions that are called lie in the module's code,
//! no page is writable and executable, and what has been unmapped is free only when no core remembers it.

mod call;
mod memory;
mod pci;
mod services;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use core::{ptr, slice, str};

use unikernel_module::abi::{self, Descriptor, Parts};

pub use call::{Device, Disk, Hook, Parameter, UnboundDevice, UnboundDisk, UnboundHook, UnboundWork, Work};
pub use services::{Export, Level, Services, exports, set_services};

use crate::kmem::layout::PAGE_BYTES;
use crate::kmem::page_table::OutOfFrames;
use crate::machine::module_map;
use crate::sync::SpinLock;

/// Takes back what a module has of the machine: interrupts, PCI functions, which do not use memory on their own any more, and then memory for devices. Answers
/// how many bytes of that there were.
pub fn release_all(module: u64) -> usize {
    pci::release_all(module);
    memory::free_all(module)
}

/// What a page of a module is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protection {
    /// It is read and executed.
    Code,
    /// It is read.
    ReadOnly,
    /// It is read and written.
    Data,
}

/// Where modules are.
struct Places {
    /// By ascending addresses.
    taken: Vec<Range<u64>>,
    /// Those of them that nobody uses any more, with room for all.
    retired: Vec<Range<u64>>,
}

static PLACES: SpinLock<Places> = SpinLock::new(Places { taken: Vec::new(), retired: Vec::new() });

/// A place for a module, where nothing is yet.
#[derive(Debug)]
pub struct Space(Range<u64>);

impl Space {
    /// Finds a place for so many bytes, which are whole pages.
    ///
    /// # Errors
    ///
    /// If there is none.
    ///
    /// # Panics
    ///
    /// If they are no whole pages.
    pub fn reserve(bytes: usize) -> Result<Self, OutOfFrames> {
        assert!(bytes != 0 && bytes.is_multiple_of(PAGE_BYTES), "whole pages");
        let mut places = PLACES.lock();
        let Places { taken, retired } = &mut *places;
        let (index, start) = module_map::place(taken, bytes as u64).ok_or(OutOfFrames)?;
        taken.try_reserve(1).map_err(|_| OutOfFrames)?;
        // As many may be retired as are taken, and whoever retires one cannot fail.
        retired.try_reserve(taken.len() + 1 - retired.len().min(taken.len())).map_err(|_| OutOfFrames)?;
        let place = start..start + bytes as u64;
        taken.insert(index, place.clone());
        Ok(Self(place))
    }

    /// Its first address.
    pub fn start(&self) -> u64 {
        self.0.start
    }

    /// Fills it with an image that was linked for it: code first, up to `code_end`, then what is only read, up to `read_only_end`, then data.
    ///
    /// # Errors
    ///
    /// If there is no memory; then nothing is there.
    ///
    /// # Panics
    ///
    /// If the image is not as long as the place, or its parts are no whole pages.
    pub fn fill(self, image: &[u8], code_end: usize, read_only_end: usize) -> Result<Code, OutOfFrames> {
        let Range { start, end } = self.0;
        assert!(
            image.len() as u64 == end - start && code_end <= read_only_end && read_only_end <= image.len()
        );
        assert!(code_end.is_multiple_of(PAGE_BYTES) && read_only_end.is_multiple_of(PAGE_BYTES));
        module_map::map(start, image, |at| match at {
            _ if at < code_end => Protection::Code,
            _ if at < read_only_end => Protection::ReadOnly,
            _ => Protection::Data,
        })?;
        core::mem::forget(self);
        Ok(Code(Some(Arc::new(Mapped { place: start..end, code: start..start + code_end as u64 }))))
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        PLACES.lock().taken.retain(|place| *place != self.0);
    }
}

/// A module's code and data, where they are; or those of a module that is a part of the kernel. It stays there until all copies of this, and what
/// was bound to them, are dropped.
#[derive(Clone, Debug)]
pub struct Code(Option<Arc<Mapped>>);

#[derive(Debug)]
struct Mapped {
    place: Range<u64>,
    code: Range<u64>,
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // There is room for all; see `reserve`.
        PLACES.lock().retired.push(self.place.clone());
    }
}

/// Takes the modules out of memory that nobody uses any more. Call with the address space locked, and no other lock.
///
/// It cannot be misused: only what all have let go of is unmapped, and its frames are free when no core remembers them.
pub fn free_retired() {
    loop {
        let Some(place) = PLACES.lock().retired.pop() else { return };
        // SAFETY: whoever could use it has dropped what it had of it.
        unsafe { module_map::unmap(place.start, place.end - place.start) };
        PLACES.lock().taken.retain(|taken| *taken != place);
    }
}

/// True if there is something for [`free_retired`] to do.
pub fn has_retired() -> bool {
    !PLACES.lock().retired.is_empty()
}

/// A module's descriptor says what cannot be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadDescriptor {
    /// It is for another version of the interface.
    OtherVersion(u32),
    /// Its addresses are not the module's.
    Damaged,
}

impl Code {
    /// The descriptor at this place of the image.
    ///
    /// # Errors
    ///
    /// If it is none, for all that can be seen.
    pub fn descriptor(&self, at: usize) -> Result<Loaded, BadDescriptor> {
        let mapped = self.0.as_ref().ok_or(BadDescriptor::Damaged)?;
        let address = mapped.place.start.checked_add(at as u64).ok_or(BadDescriptor::Damaged)?;
        let descriptor: &Descriptor =
            self.view(address, 1).and_then(<[_]>::first).ok_or(BadDescriptor::Damaged)?;
        let parts = descriptor.parts();
        if parts.abi != abi::VERSION {
            return Err(BadDescriptor::OtherVersion(parts.abi));
        }
        let functions = [parts.init as usize, parts.exit as usize];
        let loaded = Loaded { code: self.clone(), parts };
        let is_good = parts.bytes as usize >= size_of::<Descriptor>()
            && functions.iter().all(|&function| self.has_function(function))
            && loaded.text(parts.name).is_some()
            && loaded.raw_parameters().is_some_and(|list| list.iter().all(|raw| loaded.is_parameter(raw)))
            && loaded
                .raw_exports()
                .is_some_and(|list| list.iter().all(|export| loaded.text(export.name).is_some()));
        if is_good { Ok(loaded) } else { Err(BadDescriptor::Damaged) }
    }

    /// True if a function of this address is the module's: what is in its code, or, of a module in the kernel, any.
    fn has_function(&self, address: usize) -> bool {
        self.0.as_ref().is_none_or(|mapped| mapped.code.contains(&(address as u64)))
    }

    /// True for an address in its code.
    pub fn contains(&self, address: u64) -> bool {
        self.0.as_ref().is_some_and(|mapped| mapped.code.contains(&address))
    }

    /// Where it begins; none for a module in the kernel.
    pub fn start(&self) -> Option<u64> {
        self.0.as_ref().map(|mapped| mapped.place.start)
    }

    /// Bytes of memory it takes.
    pub fn bytes(&self) -> u64 {
        self.0.as_ref().map_or(0, |mapped| mapped.place.end - mapped.place.start)
    }

    /// So many values of the module's at an address, which are there as long as `self` is; `None` if they are not all in the module.
    fn view<T>(&self, address: u64, count: usize) -> Option<&[T]> {
        if count == 0 {
            return Some(&[]);
        }
        let bytes = (count as u64).checked_mul(size_of::<T>() as u64)?;
        let end = address.checked_add(bytes)?;
        let is_inside = |mapped: &Arc<Mapped>| mapped.place.start <= address && end <= mapped.place.end;
        let is_known = self.0.as_ref().is_none_or(is_inside);
        if !is_known || !address.is_multiple_of(align_of::<T>() as u64) {
            return None;
        }
        let first: *const T = ptr::with_exposed_provenance(address as usize);
        // SAFETY: the bytes are in the module's image, which is mapped while `self` is there, or in the kernel's; they are aligned, and a module does
        // not write what it describes itself by, which is all that is asked for: structures of integers and addresses.
        Some(unsafe { slice::from_raw_parts(first, count) })
    }
}

/// A module that can be started.
#[derive(Clone, Debug)]
pub struct Loaded {
    code: Code,
    parts: Parts,
}

// SAFETY: its addresses are those of what never changes, and of functions that may be called on any core.
unsafe impl Send for Loaded {}
// SAFETY: as above.
unsafe impl Sync for Loaded {}

impl Loaded {
    /// A module that is a part of the kernel.
    pub fn built_in(descriptor: &'static Descriptor) -> Self {
        Self { code: Code(None), parts: descriptor.parts() }
    }

    /// Where it is.
    pub fn code(&self) -> &Code {
        &self.code
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.text(self.parts.name).unwrap_or_default()
    }

    fn text(&self, text: abi::Text) -> Option<&str> {
        str::from_utf8(self.code.view(text.start as u64, text.bytes)?).ok()
    }

    /// Starts it, as number `module`: 0, or a negative error number. To be called once.
    pub fn init(&self, module: u64) -> i32 {
        (self.parts.init)(module)
    }

    /// Ends it, once.
    pub fn exit(&self, module: u64) {
        (self.parts.exit)(module);
    }

    fn raw_parameters(&self) -> Option<&[abi::Parameter]> {
        self.code.view(self.parts.parameters as u64, self.parts.parameter_count)
    }

    fn is_parameter(&self, raw: &abi::Parameter) -> bool {
        self.text(raw.name).is_some()
            && self.code.has_function(raw.get as usize)
            && self.code.has_function(raw.set as usize)
    }

    /// Its parameters.
    pub fn parameters(&self) -> impl Iterator<Item = Parameter> {
        let all = self.raw_parameters().unwrap_or_default();
        all.iter().map(|raw| Parameter::new(self.clone(), *raw))
    }

    fn raw_exports(&self) -> Option<&[abi::Export]> {
        self.code.view(self.parts.exports as u64, self.parts.export_count)
    }

    /// What others may use of it: names, versions and addresses.
    pub fn exports(&self) -> impl Iterator<Item = (&str, u32, u64)> {
        let all = self.raw_exports().unwrap_or_default();
        all.iter()
            .map(|export| (self.text(export.name).unwrap_or_default(), export.version, export.address as u64))
    }
}
