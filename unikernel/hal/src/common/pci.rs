//! The PCI bus: finding functions, reading their capabilities, and MSI-X.
//!
//! Configuration space is reached through the ports of PCI's first days where they exist, since
//! they need no mapping, else through ECAM (PCI Express on `microvm`). Address registers (BARs) are
//! taken as the firmware set them; they are not sized, because every write to one makes a
//! hypervisor rearrange its memory map. Where no firmware has set anything up,
//! [`unikernel_machine::pci_setup`] does.

use alloc::vec::Vec;

use pci_types::capability::PciCapability;
use pci_types::{CommandRegister, ConfigRegionAccess, EndpointHeader, HeaderType, PciAddress, PciHeader};
use spin::Once;
use unikernel_machine::pci_setup::{self, ConfigSpace, Place};
use x86_64::PhysAddr;

use crate::platform::acpi::{self, Ecam};
use crate::platform::interrupts::{self, Vector};
use crate::platform::io::{IoPort, Mmio};
use crate::sync::SpinLock;

const ADDRESS_PORT: u16 = 0xcf8;
const DATA_PORT: u16 = 0xcfc;
const ENABLE: u32 = 1 << 31;
const BUS_BYTES: u64 = 1 << 20;
/// Where a bridge keeps the numbers of its buses: primary, secondary, subordinate.
const BRIDGE_BUSES: u16 = 0x18;
/// A list of capabilities is not longer, unless it runs in a circle.
const MAX_CAPABILITIES: usize = 48;

/// The way to configuration space.
enum Access {
    /// Address and data are two ports, so two accesses belong together.
    Ports(SpinLock<()>),
    /// One mapping a bus, made when the bus is first looked at.
    Memory(Ecam, SpinLock<Vec<(u8, Mmio)>>),
}

static ACCESS: Once<Option<Access>> = Once::new();
/// Which functions the kernel drives itself.
static DRIVEN: SpinLock<Vec<PciAddress>> = SpinLock::new(Vec::new());

/// Notes that the kernel drives a function, so that no module gets it.
pub fn note_driven(address: PciAddress) {
    DRIVEN.lock().push(address);
}

/// True if the kernel does.
pub(crate) fn is_driven(address: PciAddress) -> bool {
    DRIVEN.lock().contains(&address)
}

impl Access {
    fn find() -> Option<Self> {
        let (address, _) = ports();
        address.write(ENABLE);
        if address.read() == ENABLE {
            return Some(Self::Ports(SpinLock::new(())));
        }
        acpi::machine().ecam.map(|ecam| Self::Memory(ecam, SpinLock::new(Vec::new())))
    }

    fn bus(&self, bus: u8) -> Option<Mmio> {
        let Self::Memory(ecam, mapped) = self else { return None };
        if !(ecam.first_bus..=ecam.last_bus).contains(&bus) {
            return None;
        }
        let mut mapped = mapped.lock();
        if let Some((_, shown)) = mapped.iter().find(|(number, _)| *number == bus) {
            return Some(*shown);
        }
        let start = ecam.address + u64::from(bus - ecam.first_bus) * BUS_BYTES;
        // SAFETY: the firmware says that configuration space is there; what it can do to memory
        // is to enable a device's DMA, which drivers do when the device has only good addresses.
        let shown = unsafe { Mmio::map(start, BUS_BYTES as usize) };
        mapped.push((bus, shown));
        Some(shown)
    }
}

const fn ports() -> (IoPort<u32>, IoPort<u32>) {
    // SAFETY: see `Access::bus` on what configuration space can do.
    unsafe { (IoPort::new(ADDRESS_PORT), IoPort::new(DATA_PORT)) }
}

fn port_address(address: PciAddress, offset: u16) -> u32 {
    let function =
        u32::from(address.bus()) << 8 | u32::from(address.device()) << 3 | u32::from(address.function());
    ENABLE | function << 8 | u32::from(offset & 0xfc)
}

fn memory_offset(address: PciAddress, offset: u16) -> usize {
    let function = usize::from(address.device()) << 3 | usize::from(address.function());
    function << 12 | usize::from(offset & 0xffc)
}

impl ConfigRegionAccess for Access {
    unsafe fn read(&self, address: PciAddress, offset: u16) -> u32 {
        match self {
            Self::Ports(turn) => {
                let _turn = turn.lock();
                let (select, data) = ports();
                select.write(port_address(address, offset));
                data.read()
            }
            Self::Memory(..) => {
                self.bus(address.bus()).map_or(u32::MAX, |bus| bus.read(memory_offset(address, offset)))
            }
        }
    }

    unsafe fn write(&self, address: PciAddress, offset: u16, value: u32) {
        match self {
            Self::Ports(turn) => {
                let _turn = turn.lock();
                let (select, data) = ports();
                select.write(port_address(address, offset));
                data.write(value);
            }
            Self::Memory(..) => {
                if let Some(bus) = self.bus(address.bus()) {
                    bus.write(memory_offset(address, offset), value);
                }
            }
        }
    }
}

impl ConfigSpace for Access {
    fn read(&self, place: Place, offset: u16) -> u32 {
        let address = PciAddress::new(0, place.bus, place.device, place.function);
        // SAFETY: reading the registers of `pci_setup` has no effect.
        unsafe { ConfigRegionAccess::read(self, address, offset) }
    }

    fn write(&self, place: Place, offset: u16, value: u32) {
        let address = PciAddress::new(0, place.bus, place.device, place.function);
        // SAFETY: it gives devices addresses that the firmware says are for them, where there is no RAM, and lets
        // bridges pass on what comes from behind; see `Access::bus` on the devices themselves.
        unsafe { ConfigRegionAccess::write(self, address, offset, value) }
    }
}

/// Gives numbers and addresses to what has none, where the firmware has left that to us.
fn set_up(access: &Access) {
    if let (Access::Memory(ecam, _), Some(window)) = (access, acpi::machine().pci_window.clone()) {
        let refused = pci_setup::set_up(access, ecam.first_bus..=ecam.last_bus, window);
        if refused > 0 {
            log::warn!("PCI: no room for {refused} runs of registers or buses: some devices are not used");
        }
    }
}

/// A PCI function that is a device.
pub struct Function {
    access: &'static Access,
    header: EndpointHeader,
    /// Who made it.
    pub vendor: u16,
    /// What it is, by the vendor's numbering.
    pub device: u16,
}

/// Finds all devices: those on bus 0 and other roots' buses, and behind bridges that the firmware gave a number.
pub fn scan() -> Vec<Function> {
    if let Some(access) = ACCESS.call_once(Access::find) {
        set_up(access);
    }
    find_all()
}

/// The same once more: what is there has been set up.
pub(crate) fn find_all() -> Vec<Function> {
    let mut found = Vec::new();
    if let Some(access) = ACCESS.get().and_then(Option::as_ref) {
        let mut buses = alloc::vec![0];
        for &root in &acpi::machine().pci_roots {
            if !buses.contains(&root) {
                buses.push(root);
            }
        }
        // A bus is visited once, however bridges are numbered.
        let mut next = 0;
        while let Some(&bus) = buses.get(next) {
            scan_bus(access, bus, &mut buses, &mut found);
            next += 1;
        }
    }
    found
}

fn scan_bus(access: &'static Access, bus: u8, buses: &mut Vec<u8>, found: &mut Vec<Function>) {
    for device in 0..32 {
        let first = PciHeader::new(PciAddress::new(0, bus, device, 0));
        if !pci_setup::is_vendor(first.id(access).0) {
            continue;
        }
        let functions = if first.has_multiple_functions(access) { 8 } else { 1 };
        for function in 0..functions {
            scan_function(access, PciAddress::new(0, bus, device, function), buses, found);
        }
    }
}

fn scan_function(
    access: &'static Access,
    address: PciAddress,
    buses: &mut Vec<u8>,
    found: &mut Vec<Function>,
) {
    let (vendor, device) = PciHeader::new(address).id(access);
    if !pci_setup::is_vendor(vendor) {
        return;
    }
    match PciHeader::new(address).header_type(access) {
        HeaderType::Endpoint => {
            if let Some(header) = EndpointHeader::from_header(PciHeader::new(address), access) {
                found.push(Function { access, header, vendor, device });
            }
        }
        HeaderType::PciPciBridge => {
            // SAFETY: a read of a bridge's header has no effect.
            let secondary =
                unsafe { ConfigRegionAccess::read(access, address, BRIDGE_BUSES) }.to_le_bytes()[1];
            if secondary != 0 && !buses.contains(&secondary) {
                buses.push(secondary);
            }
        }
        _ => {}
    }
}

impl Function {
    /// Where it sits.
    pub fn address(&self) -> PciAddress {
        self.header.header().address()
    }

    /// What it is, whoever made it: class and subclass (PCI code and ID assignment specification).
    pub fn class(&self) -> (u8, u8) {
        let [.., subclass, class] = self.read_config(0x08).to_le_bytes();
        (class, subclass)
    }

    /// Its capabilities.
    pub fn capabilities(&self) -> impl Iterator<Item = PciCapability> {
        self.header.capabilities(self.access).take(MAX_CAPABILITIES)
    }

    /// Reads configuration space at a multiple of 4.
    pub fn read_config(&self, offset: u16) -> u32 {
        // SAFETY: only drivers read, and only capabilities, which have no side effects.
        unsafe { ConfigRegionAccess::read(self.access, self.address(), offset) }
    }

    /// Reads `len` bytes (1, 2 or 4) of configuration space at a multiple of as many.
    pub(crate) fn read_config_part(&self, offset: u16, len: u32) -> u32 {
        let word = self.read_config(offset & !3);
        let shown = word >> (8 * u32::from(offset & 3));
        if len == 4 { word } else { shown & ((1 << (8 * len)) - 1) }
    }

    /// Writes as many: the width is the access's own, as there are devices that heed no other.
    ///
    /// # Safety
    ///
    /// The value is right for the device: it may be told to answer where RAM is, or to use memory on its own.
    pub(crate) unsafe fn write_config_part(&self, offset: u16, len: u32, value: u32) {
        let address = self.address();
        match self.access {
            Access::Ports(turn) => {
                let _turn = turn.lock();
                ports().0.write(port_address(address, offset));
                let port = DATA_PORT + (offset & 3);
                match len {
                    // SAFETY: by the caller; see `Access::bus` on what configuration space can do.
                    1 => unsafe { IoPort::<u8>::new(port) }.write(value as u8),
                    // SAFETY: as above.
                    2 => unsafe { IoPort::<u16>::new(port) }.write(value as u16),
                    // SAFETY: as above.
                    _ => unsafe { IoPort::<u32>::new(port) }.write(value),
                }
            }
            Access::Memory(..) => {
                let Some(bus) = self.access.bus(address.bus()) else { return };
                let at = memory_offset(address, offset) + usize::from(offset & 3);
                match len {
                    1 => bus.write(at, value as u8),
                    2 => bus.write(at, value as u16),
                    _ => bus.write(at, value),
                }
            }
        }
    }

    /// The memory address `offset` bytes into what a BAR shows; `None` for ports, for what the firmware left unset, and
    /// for what is no address.
    pub fn memory_bar(&self, slot: u8, offset: u32) -> Option<PhysAddr> {
        const IS_PORTS: u32 = 1;
        const IS_64_BITS: u32 = 0b100;
        if slot >= 6 {
            return None;
        }
        let bar = 0x10 + 4 * u16::from(slot);
        let low = self.read_config(bar);
        if low & IS_PORTS != 0 {
            return None;
        }
        let high = if low & IS_64_BITS != 0 && slot < 5 { self.read_config(bar + 4) } else { 0 };
        let base = u64::from(high) << 32 | u64::from(low & !0xf);
        let address = base.checked_add(offset.into()).filter(|_| base != 0)?;
        PhysAddr::try_new(address).ok()
    }

    /// Lets the function answer accesses to its memory.
    pub fn enable_memory(&mut self) {
        self.header.update_command(self.access, |command| command | CommandRegister::MEMORY_ENABLE);
    }

    /// Lets the function raise its line (INTx); answers the number among ISA's that the firmware gave it, or `None`
    /// if it has none.
    pub fn enable_line(&mut self) -> Option<u8> {
        /// Line and pin are the low bytes of this word. Pin 0 is none; lines above the ISA's are "unknown".
        const INTERRUPT: u16 = 0x3c;
        const LINES: u8 = 16;
        let [line, pin, ..] = self.read_config(INTERRUPT).to_le_bytes();
        if pin == 0 || line == 0 || line >= LINES {
            return None;
        }
        self.header.update_command(self.access, |command| command & !CommandRegister::INTERRUPT_DISABLE);
        Some(line)
    }

    /// Lets the function use memory on its own. Its line interrupt stays off until [`Self::enable_line`]: MSI-X takes its
    /// place where there is any.
    pub fn enable_bus_master(&mut self) {
        self.header.update_command(self.access, |command| {
            command | CommandRegister::BUS_MASTER_ENABLE | CommandRegister::INTERRUPT_DISABLE
        });
    }

    /// Keeps the function from memory.
    pub(crate) fn disable_bus_master(&mut self) {
        self.header.update_command(self.access, |command| command & !CommandRegister::BUS_MASTER_ENABLE);
    }

    /// Turns MSI-X on, with all entries masked; `None` if the function has none.
    pub fn enable_msix(&mut self) -> Option<MsixTable> {
        let capability = self.capabilities().find_map(|capability| match capability {
            PciCapability::MsiX(msix) => Some(msix),
            _ => None,
        });
        let mut msix = capability?;
        let start = self.memory_bar(msix.table_bar(), msix.table_offset())?;
        let count = usize::from(msix.table_size());
        // SAFETY: the capability says that the MSI-X table is there. A message written by the
        // device raises an interrupt; `interrupts::message` gives no other address.
        let entries = unsafe { Mmio::map(start, count * MSIX_ENTRY_BYTES) };
        let table = MsixTable { entries, count };
        (0..count).for_each(|index| table.mask(index));
        msix.set_enabled(true, self.access);
        Some(table)
    }
}

/// Bytes of an entry: address, data, control.
const MSIX_ENTRY_BYTES: usize = 16;

/// Where a function's interrupts go (PCI specification, section 6.8.2).
#[derive(Clone, Copy)]
pub struct MsixTable {
    entries: Mmio,
    count: usize,
}

impl MsixTable {
    /// How many entries there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Keeps entry `index` from raising anything.
    pub(crate) fn mask(&self, index: usize) {
        self.entries.write(index * MSIX_ENTRY_BYTES + 12, 1u32);
    }

    /// Lets entry `index` raise `vector` on a core that runs.
    pub fn set(&self, index: usize, vector: Vector, core: usize) {
        let (address, data) = interrupts::message(vector, core);
        let at = index * MSIX_ENTRY_BYTES;
        // A masked entry may be changed; what is pending meanwhile is raised when it is unmasked.
        self.mask(index);
        self.entries.write(at, address as u32);
        self.entries.write(at + 4, (address >> 32) as u32);
        self.entries.write(at + 8, data);
        self.entries.write(at + 12, 0u32);
    }
}
