//! What the firmware's tables say about the machine: processors, interrupt controllers, how to
//! switch it off, where its devices are. The tables are read once, by [`init`], into a plain
//! [`Machine`] that everybody can look at.
//!
//! The static tables are parsed by the `acpi` crate. AML, the bytecode of the DSDT, is not
//! interpreted: [`unikernel_machine::aml`] picks the few constant objects that we need out of its bytes.
//! A machine without ACPI gets [`Machine::default`]: what every PC has.

use core::ops::Range;
use core::pin::Pin;
use core::ptr::NonNull;

use acpi::address::{AddressSpace, GenericAddress};
use acpi::fadt::Fadt;
use acpi::madt::{Madt, MadtEntry};
use acpi::mcfg::Mcfg;
use acpi::sdt::{SdtHeader, Signature};
use acpi::{AcpiError, AcpiHandler, AcpiTable, AcpiTables, AmlTable, PhysicalMapping};
use arrayvec::ArrayVec;
use spin::Once;
use unikernel_machine::aml::{self, EventDevice};
use unikernel_machine::line::{Line, Trigger};
use x86_64::PhysAddr;

use super::io::{IoPort, Mmio};
pub use crate::common::firmware::{Ecam, MmioDevice};
use crate::kmem;

/// More than any machine has: QEMU's `microvm` has slots for 24.
const MAX_MMIO_DEVICES: usize = 32;

/// PCI roots, tables of bytecode and lines of an event device that are looked at.
const MAX_PCI_ROOTS: usize = 32;
const MAX_TABLES: usize = 16;
const MAX_EVENT_LINES: usize = 8;

/// An IO-APIC and the first of its lines in the machine's numbering.
#[derive(Clone, Copy, Debug)]
pub struct IoApicInfo {
    /// Its registers.
    pub address: PhysAddr,
    /// Global number of its line 0.
    pub first_gsi: u32,
}

/// A fixed ACPI register, in either address space.
#[derive(Clone, Copy, Debug)]
pub enum FixedRegister {
    /// A port.
    Port(u16),
    /// Memory.
    Memory(Mmio),
}

impl FixedRegister {
    fn from_generic(address: GenericAddress) -> Option<Self> {
        match address.address_space {
            _ if address.address == 0 => None,
            AddressSpace::SystemIo => u16::try_from(address.address).ok().map(Self::Port),
            AddressSpace::SystemMemory => {
                // SAFETY: the firmware names a power-management register; it does no DMA.
                Some(Self::Memory(unsafe { Mmio::map(PhysAddr::new_truncate(address.address), 4) }))
            }
            _ => None,
        }
    }

    /// The register `bytes` further on.
    pub fn offset(self, bytes: u16) -> Self {
        match self {
            Self::Port(port) => Self::Port(port + bytes),
            Self::Memory(_) => self,
        }
    }

    /// Reads 16 bits.
    pub fn read_u16(self) -> u16 {
        match self {
            // SAFETY: a power-management register cannot break memory safety.
            Self::Port(port) => unsafe { IoPort::<u16>::new(port) }.read(),
            Self::Memory(registers) => registers.read(0),
        }
    }

    /// Writes 16 bits.
    pub fn write_u16(self, value: u16) {
        match self {
            // SAFETY: as above.
            Self::Port(port) => unsafe { IoPort::<u16>::new(port) }.write(value),
            Self::Memory(registers) => registers.write(0, value),
        }
    }

    /// Writes 8 bits.
    pub fn write_u8(self, value: u8) {
        match self {
            // SAFETY: as above.
            Self::Port(port) => unsafe { IoPort::<u8>::new(port) }.write(value),
            Self::Memory(registers) => registers.write(0, value),
        }
    }
}

/// The registers of power management.
#[derive(Clone, Default, Debug)]
pub struct PowerRegisters {
    /// PM1 event blocks: status, and half-way in, enable.
    pub pm1_event: [Option<FixedRegister>; 2],
    /// Bytes of an event block.
    pub pm1_event_bytes: u8,
    /// PM1 control blocks.
    pub pm1_control: [Option<FixedRegister>; 2],
    /// Sleep control of a hardware-reduced machine.
    pub sleep_control: Option<FixedRegister>,
    /// Sleep types of the state S5 (off) for the control blocks.
    pub s5_types: Option<[u8; 2]>,
    /// What resets the machine, and the value that does.
    pub reset: Option<(FixedRegister, u8)>,
    /// Port and value that hand power management over from the firmware.
    pub enable: Option<(u16, u8)>,
    /// The line of the system control interrupt.
    pub sci: Option<Line>,
    /// General-purpose events: status, and the bytes to enable, half of the block further on.
    pub gpe0: Option<(FixedRegister, u16)>,
    /// The generic event device of a hardware-reduced machine.
    pub event_device: Option<EventDevice>,
    /// The lines of one without a register.
    pub event_lines: ArrayVec<Line, MAX_EVENT_LINES>,
}

impl PowerRegisters {
    /// True if there is a register, and a value for it, that switches the machine off.
    pub fn can_switch_off(&self) -> bool {
        let has_register = self.sleep_control.is_some() || self.pm1_control.iter().any(Option::is_some);
        has_register && self.s5_types.is_some()
    }
}

/// What the firmware said.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The APIC ids of the processors that can be used.
    pub processors: ArrayVec<u32, 256>,
    /// Interrupt controllers.
    pub io_apics: ArrayVec<IoApicInfo, 8>,
    overrides: ArrayVec<(u8, Line), 16>,
    /// Power management.
    pub power: PowerRegisters,
    /// The port of the 3.58 MHz timer.
    pub pm_timer_port: Option<u16>,
    /// Which register of the battery-backed clock has the century.
    pub century_register: Option<u8>,
    /// Where the virtual machine's generation is.
    pub generation: Option<PhysAddr>,
    /// Where a hypervisor tells of breaks in the machine's life.
    pub clock_page: Option<PhysAddr>,
    /// Where a TPM's control area is, if it has a command response buffer.
    pub tpm_control_area: Option<PhysAddr>,
    /// PCI configuration space.
    pub ecam: Option<Ecam>,
    /// Addresses for the devices on it, which may have none.
    pub pci_window: Option<Range<u64>>,
    /// The first buses of PCI roots other than the one of bus 0.
    pub pci_roots: ArrayVec<u8, MAX_PCI_ROOTS>,
    /// Virtio devices that the DSDT lists.
    pub mmio_devices: ArrayVec<MmioDevice, MAX_MMIO_DEVICES>,
}

impl Default for Machine {
    fn default() -> Self {
        let io_apic = IoApicInfo { address: PhysAddr::new(0xfec0_0000), first_gsi: 0 };
        Self {
            processors: ArrayVec::new(),
            io_apics: core::iter::once(io_apic).collect(),
            overrides: ArrayVec::new(),
            power: PowerRegisters::default(),
            pm_timer_port: None,
            century_register: None,
            generation: None,
            clock_page: None,
            tpm_control_area: None,
            ecam: None,
            pci_window: None,
            pci_roots: ArrayVec::new(),
            mmio_devices: ArrayVec::new(),
        }
    }
}

impl Machine {
    /// Where a line of the ISA bus ended up. Without an override it keeps its number and ISA's
    /// wiring.
    pub fn isa_line(&self, irq: u8) -> Line {
        self.overrides.iter().find(|(source, _)| *source == irq).map_or(Line::isa(irq), |(_, line)| *line)
    }
}

static MACHINE: Once<Machine> = Once::new();

/// Reads the tables. `rsdp` is where the hypervisor said that they begin; without it, the places
/// of old are searched.
pub fn init(rsdp: Option<PhysAddr>) {
    MACHINE.call_once(|| {
        read_tables(rsdp).unwrap_or_else(|error| {
            log::debug!("no ACPI tables ({error:?}); assuming a plain PC");
            Machine::default()
        })
    });
}

/// What [`init`] found.
///
/// # Panics
///
/// Before [`init`].
pub fn machine() -> &'static Machine {
    machine_if_read().expect("ACPI tables are read first")
}

/// The same for who may come before [`init`]: the end of the machine.
pub fn machine_if_read() -> Option<&'static Machine> {
    MACHINE.get()
}

/// Shows the tables through the direct map.
#[derive(Clone)]
struct Mapper;

impl AcpiHandler for Mapper {
    unsafe fn map_physical_region<T>(&self, physical: usize, size: usize) -> PhysicalMapping<Self, T> {
        let address = PhysAddr::new_truncate(physical as u64);
        let mut shown = kmem::phys_to_virt(address);
        if kmem::page_table::lookup(shown + (size as u64).saturating_sub(1)).is_none() {
            shown = kmem::map_mmio(address, size);
        }
        let start = NonNull::new(shown.as_mut_ptr()).expect("nothing is mapped at zero");
        // SAFETY: the caller says that a `T` is there; both mappings last for ever.
        unsafe { PhysicalMapping::new(physical, start, size, size, Self) }
    }

    fn unmap_physical_region<T>(_: &PhysicalMapping<Self, T>) {}
}

fn read_tables(rsdp: Option<PhysAddr>) -> Result<Machine, AcpiError> {
    let tables = match rsdp {
        // SAFETY: the hypervisor's start info points to the RSDP; its checksum is verified.
        Some(rsdp) => unsafe { AcpiTables::from_rsdp(Mapper, rsdp.as_u64() as usize)? },
        // SAFETY: reads the first MiB, which is RAM or ROM on every PC.
        None => unsafe { AcpiTables::search_for_rsdp_bios(Mapper)? },
    };
    let mut machine = Machine::default();
    if let Ok(madt) = tables.find_table::<Madt>() {
        read_madt(&mut machine, madt.get());
    }
    if let Ok(mcfg) = tables.find_table::<Mcfg>() {
        machine.ecam = mcfg.entries().iter().find(|entry| entry.pci_segment_group == 0).map(|entry| Ecam {
            address: PhysAddr::new_truncate(entry.base_address),
            first_bus: entry.bus_number_start,
            last_bus: entry.bus_number_end,
        });
    }
    if let Ok(fadt) = tables.find_table::<Fadt>() {
        read_fadt(&mut machine, &fadt);
    }
    if let Ok(tpm) = tables.find_table::<Tpm2>() {
        machine.tpm_control_area = tpm.get().control_area();
    }
    let dsdt = tables.dsdt().ok().map(|table| code(&table));
    if let Some(code) = dsdt {
        read_dsdt(&mut machine, code);
    }
    let codes: ArrayVec<&[u8], MAX_TABLES> =
        dsdt.into_iter().chain(tables.ssdts().map(|table| code(&table))).take(MAX_TABLES).collect();
    let find = |look: fn(&[u8]) -> Option<u64>| {
        codes.iter().find_map(|code| look(code)).and_then(|address| PhysAddr::try_new(address).ok())
    };
    machine.generation = find(aml::generation);
    machine.clock_page = find(aml::clock_page);
    Ok(machine)
}

/// The table about a TPM (TCG ACPI Specification 1.3, section 8).
#[repr(C, packed)]
struct Tpm2 {
    header: SdtHeader,
    platform_class: u16,
    reserved: u16,
    control_area: u64,
    start_method: u32,
}

// SAFETY: the table begins with its header, and any bytes are one.
unsafe impl AcpiTable for Tpm2 {
    const SIGNATURE: Signature = Signature::TPM2;

    fn header(&self) -> &SdtHeader {
        &self.header
    }
}

impl Tpm2 {
    fn control_area(&self) -> Option<PhysAddr> {
        /// A command response buffer that needs nothing else.
        const COMMAND_RESPONSE_BUFFER: u32 = 7;
        let is_whole = self.header.length as usize >= size_of::<Self>();
        let is_known = is_whole && { self.start_method } == COMMAND_RESPONSE_BUFFER;
        PhysAddr::try_new(self.control_area).ok().filter(|_| is_known)
    }
}

fn read_madt(machine: &mut Machine, madt: Pin<&Madt>) {
    const ENABLED: u32 = 1;
    machine.io_apics.clear();
    for entry in madt.entries() {
        match entry {
            MadtEntry::LocalApic(cpu) if cpu.flags & ENABLED != 0 => {
                let _ = machine.processors.try_push(u32::from(cpu.apic_id));
            }
            MadtEntry::LocalX2Apic(cpu) if cpu.flags & ENABLED != 0 => {
                let _ = machine.processors.try_push(cpu.x2apic_id);
            }
            MadtEntry::IoApic(entry) => {
                let address = PhysAddr::new(u64::from(entry.io_apic_address));
                let first_gsi = entry.global_system_interrupt_base;
                let _ = machine.io_apics.try_push(IoApicInfo { address, first_gsi });
            }
            MadtEntry::InterruptSourceOverride(entry) => {
                let line = Line::from_mps_flags(entry.global_system_interrupt, entry.flags);
                let _ = machine.overrides.try_push((entry.irq, line));
            }
            _ => {}
        }
    }
}

fn read_fadt(machine: &mut Machine, fadt: &Fadt) {
    let fixed =
        |address: Result<GenericAddress, AcpiError>| address.ok().and_then(FixedRegister::from_generic);
    let maybe = |address: Result<Option<GenericAddress>, AcpiError>| {
        address.ok().flatten().and_then(FixedRegister::from_generic)
    };
    let flags = fadt.flags;
    let sci = machine.isa_line(fadt.sci_interrupt as u8);
    // ACPI 6.5, section 5.2.9: 0 if the clock has no such register.
    machine.century_register = Some(fadt.century).filter(|&register| register != 0);
    let power = &mut machine.power;
    if !flags.system_is_hw_reduced_acpi() {
        power.pm1_event = [fixed(fadt.pm1a_event_block()), maybe(fadt.pm1b_event_block())];
        power.pm1_event_bytes = fadt.pm1a_event_block().map_or(0, |block| block.bit_width / 8);
        power.pm1_control = [fixed(fadt.pm1a_control_block()), maybe(fadt.pm1b_control_block())];
        power.sci = Some(Line { trigger: Trigger::Level, ..sci });
        let gpe0 = fadt.gpe0_block().ok().flatten();
        power.gpe0 = gpe0.and_then(|block| {
            let half = u16::from(block.bit_width / 16);
            Some((FixedRegister::from_generic(block)?, half)).filter(|_| half >= 2)
        });
        let port = u16::try_from(fadt.smi_cmd_port).unwrap_or(0);
        power.enable = (port != 0 && fadt.acpi_enable != 0).then_some((port, fadt.acpi_enable));
        if let Some(FixedRegister::Port(port)) = maybe(fadt.pm_timer_block()) {
            machine.pm_timer_port = Some(port);
        }
    } else {
        power.sleep_control = maybe(fadt.sleep_control_register());
    }
    if flags.supports_system_reset_via_fadt() {
        power.reset = fixed(fadt.reset_register()).map(|register| (register, fadt.reset_value));
    }
}

/// A table's bytecode.
fn code(table: &AmlTable) -> &'static [u8] {
    let len = table.length as usize;
    // SAFETY: the firmware lists the table with this length, so it is there; it is never written.
    let mapping = unsafe { Mapper.map_physical_region::<u8>(table.address, len) };
    // SAFETY: as above; the mapping is for ever.
    unsafe { core::slice::from_raw_parts(mapping.virtual_start().as_ptr(), len) }
}

fn read_dsdt(machine: &mut Machine, code: &[u8]) {
    // Only where nothing else says where configuration space is, nobody has set it up.
    if let (None, Some(bridge)) = (machine.ecam, aml::host_bridge(code)) {
        machine.ecam = PhysAddr::try_new(bridge.ecam).ok().map(|address| Ecam {
            address,
            first_bus: bridge.first_bus,
            last_bus: bridge.last_bus,
        });
        machine.pci_window = Some(bridge.window_start..bridge.window_end);
    }
    machine.power.s5_types = aml::s5_sleep_types(code);
    if machine.power.sleep_control.is_some() {
        machine.power.event_device = aml::event_device(code);
    }
    if machine.power.event_device.is_none() {
        machine.power.event_lines = aml::event_lines(code).take(MAX_EVENT_LINES).collect();
    }
    machine.pci_roots = aml::root_buses(code).take(MAX_PCI_ROOTS).collect();
    machine.mmio_devices = aml::virtio_devices(code)
        .map(|device| MmioDevice {
            address: PhysAddr::new(device.address),
            len: device.len as usize,
            line: device.line,
        })
        .take(MAX_MMIO_DEVICES)
        .collect();
}
