//! Timers of known rate, to measure the time-stamp counter by: the ACPI power-management timer,
//! channel 2 of the 8254, or, where there is neither, the APIC's own at the rate that every
//! hypervisor gives it.

use unikernel_machine::calibration::Timer;

use super::acpi;
use super::apic;
use super::io::IoPort;
use super::time::{self, HYPERVISOR_APIC_HZ};

/// ACPI 6.5, section 4.8.3.3. Some implementations have 32 bits; all have 24.
const PM_TIMER: Timer = Timer { hz: 3_579_545, bits: 24 };
/// The 8254 in every PC: 105/88 MHz.
const PIT: Timer = Timer { hz: 1_193_182, bits: 16 };
/// Readings of a pair of counters; the quickest counts.
const TRIES: usize = 3;

/// A timer of known rate.
#[derive(Clone, Copy)]
pub(super) enum Reference {
    PmTimer(IoPort<u32>),
    Pit,
    /// Runs down while it is being measured; afterwards it is the timer.
    Apic,
}

/// The reference and the time-stamp counter, read at the same time.
#[derive(Clone, Copy)]
pub(super) struct Sample {
    pub(super) tsc: u64,
    reference: u64,
    /// How far apart in time the two readings may lie.
    took_tsc: u64,
}

impl Sample {
    /// Steps of the counter that a span between two samples may be off by.
    pub(super) fn error_tsc(self, last: Self) -> u64 {
        (self.took_tsc + last.took_tsc) / 2
    }
}

impl Reference {
    /// The best timer that this machine has and that runs.
    pub(super) fn find() -> Self {
        // SAFETY: the FADT names the port; a timer cannot break memory safety.
        let pm_timer = acpi::machine().pm_timer_port.map(|port| Self::PmTimer(unsafe { IoPort::new(port) }));
        if let Some(pm_timer) = pm_timer.filter(Self::runs) {
            return pm_timer;
        }
        start_pit();
        if Self::Pit.runs() {
            return Self::Pit;
        }
        log::warn!("no timer of known rate; clocks assume that the APIC runs at 1 GHz");
        Self::Apic
    }

    /// True if the timer will be there for more measurements.
    pub(super) fn can_go_on(self) -> bool {
        !matches!(self, Self::Apic)
    }

    /// A missing timer reads as all ones for ever.
    fn runs(&self) -> bool {
        let first = self.read();
        (0..100).any(|_| self.read() != first)
    }

    /// Its rate.
    pub(super) fn timer(self) -> Timer {
        match self {
            Self::PmTimer(_) => PM_TIMER,
            Self::Pit => PIT,
            Self::Apic => Timer { hz: HYPERVISOR_APIC_HZ, bits: u32::BITS },
        }
    }

    /// The count, upwards.
    fn read(&self) -> u64 {
        match self {
            Self::PmTimer(port) => PM_TIMER.wrapped(u64::from(port.read())),
            Self::Pit => u64::from(!read_pit()),
            Self::Apic => u64::from(!apic::timer_count()),
        }
    }

    /// Reads both counters; of a few tries, the one in which they lie closest together.
    pub(super) fn sample(&self) -> Sample {
        let mut best = self.sample_once();
        for _ in 1..TRIES {
            let another = self.sample_once();
            if another.took_tsc < best.took_tsc {
                best = another;
            }
        }
        best
    }

    fn sample_once(&self) -> Sample {
        let before = time::tsc();
        let reference = self.read();
        let took_tsc = time::tsc() - before;
        Sample { tsc: before + took_tsc / 2, reference, took_tsc }
    }

    /// Spins for `ns`, which must be less than the timer's wrap.
    pub(super) fn wait(&self, ns: u64) {
        let timer = self.timer();
        let first = self.read();
        while timer.wrapped(self.read().wrapping_sub(first)) < timer.ns_to_ticks(ns) {
            core::hint::spin_loop();
        }
    }

    /// Nanoseconds between samples about `estimate_ns` apart.
    pub(super) fn ns_between(&self, first: Sample, last: Sample, estimate_ns: u64) -> u64 {
        let ticks = self.timer().ticks_between(first.reference, last.reference, estimate_ns);
        self.timer().ticks_to_ns(ticks).max(1)
    }
}

/// The 8254's ports, and the one whose low bits gate its channel 2.
const fn pit_ports() -> (IoPort<u8>, IoPort<u8>, IoPort<u8>) {
    // SAFETY: a timer and the loudspeaker's gate cannot break memory safety.
    unsafe { (IoPort::new(0x42), IoPort::new(0x43), IoPort::new(0x61)) }
}

/// Lets channel 2 count down from 65,536 again and again (mode 2), with the loudspeaker off.
fn start_pit() {
    let (channel, command, gate) = pit_ports();
    gate.write(gate.read() & !0b10 | 0b01);
    command.write(0b1011_0100);
    channel.write(0);
    channel.write(0);
}

fn read_pit() -> u16 {
    let (channel, command, _) = pit_ports();
    command.write(0b1000_0000);
    u16::from_le_bytes([channel.read(), channel.read()])
}
