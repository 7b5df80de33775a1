//! How an interrupt line is wired.

/// When a line counts as raised.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trigger {
    /// When it changes.
    Edge,
    /// As long as it is held.
    Level,
}

/// Which level of a line is the raised one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Polarity {
    /// The high one.
    High,
    /// The low one.
    Low,
}

/// A line of the machine's interrupt controllers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Line {
    /// Its number, counted over all controllers (a "global system interrupt").
    pub gsi: u32,
    /// When it is raised.
    pub trigger: Trigger,
    /// Which level is raised.
    pub polarity: Polarity,
}

impl Line {
    /// A line of the ISA bus, where the firmware does not say otherwise.
    pub fn isa(irq: u8) -> Self {
        Self { gsi: u32::from(irq), trigger: Trigger::Edge, polarity: Polarity::High }
    }

    /// A line as an entry of ACPI's MADT describes it: the MPS INTI flags (ACPI 6.5, table 5.26),
    /// in which "as the bus has it" means ISA's wiring.
    pub fn from_mps_flags(gsi: u32, flags: u16) -> Self {
        let polarity = if flags & 0b11 == 0b11 { Polarity::Low } else { Polarity::High };
        let trigger = if flags >> 2 & 0b11 == 0b11 { Trigger::Level } else { Trigger::Edge };
        Self { gsi, trigger, polarity }
    }
}
