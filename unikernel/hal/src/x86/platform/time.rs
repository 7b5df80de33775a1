//! Clocks. The monotonic one is the time-stamp counter, scaled to nanoseconds since boot; wall time
//! is an offset to it, from the hypervisor or the battery-backed clock.
//!
//! The counter's rate comes from whoever knows it exactly: KVM's paravirtual clock, a processor or
//! hypervisor leaf. Else it is measured against a timer of known rate for half a millisecond, which
//! is good to about 0.3 %, and improved while the machine runs: the same pair of counters is read
//! again after 20 ms, 200 ms, 2 s ..., when the error of reading weighs less and less.
//!
//! - `calibrate`: the timers of known rate; `pvclock`: KVM's
//!   clock; `rtc`: the battery-backed one; [`timer`](super::timer): interrupts at a time.

use core::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering, fence};

use spin::Once;
pub use unikernel_machine::calibration::NS_PER_SECOND;
use unikernel_machine::calibration::{self, Scale};

use super::calibrate::{Reference, Sample};
use super::{apic, pvclock, rtc};
use crate::sync::SpinLock;

/// How long the first measurement takes, and how often it is tried again if the host took the
/// processor away in between.
const FIRST_MEASUREMENT_NS: u64 = 500_000;
const FIRST_TRIES: usize = 8;
/// How long the measurement takes that cannot be improved upon.
const ONLY_MEASUREMENT_NS: u64 = 10_000_000;
/// What the first measurement may be off by.
const FIRST_ERROR_PPM: u64 = 20_000;
/// When the first measurement is improved upon; each further time, ten times later.
const FIRST_REFINEMENT_NS: u64 = 20_000_000;
/// The rate of the APIC's timer, after the divider, under every hypervisor: 1 GHz / 16. A measured
/// rate this close (in parts per thousand) to it is it.
pub(super) const HYPERVISOR_APIC_HZ: u64 = NS_PER_SECOND / 16;
const APIC_TOLERANCE_PER_MILLE: u64 = 20;

/// Counter to nanoseconds: `base_ns` plus the scaled steps since `base_tsc`. Readers never wait
/// for each other; the rare writer makes `version` odd meanwhile.
///
/// It has a page of its own, which the app may read: the vDSO does there what [`now_ns`] does here.
#[repr(C, align(4096))]
struct Clock {
    version: AtomicU32,
    /// 1 if `rdtscp` tells the core's number.
    has_core_number: AtomicU32,
    base_tsc: AtomicU64,
    base_ns: AtomicU64,
    scale: AtomicU64,
    /// Nanoseconds between 1970 and boot.
    boot_wall_ns: AtomicU64,
}

/// Offsets in the clock's page.
pub mod shared {
    use core::mem::offset_of;

    use super::Clock;

    /// Of the version.
    pub const VERSION: usize = offset_of!(Clock, version);
    /// Of the counter at the last change.
    pub const BASE_TSC: usize = offset_of!(Clock, base_tsc);
    /// Of the time at the last change.
    pub const BASE_NS: usize = offset_of!(Clock, base_ns);
    /// Of the nanoseconds a step.
    pub const SCALE: usize = offset_of!(Clock, scale);
    /// Of the time of boot.
    pub const BOOT_WALL_NS: usize = offset_of!(Clock, boot_wall_ns);
    /// Of the flag that `rdtscp` tells the core's number.
    pub const HAS_CORE_NUMBER: usize = offset_of!(Clock, has_core_number);
}

static CLOCK: Clock = Clock {
    version: AtomicU32::new(0),
    has_core_number: AtomicU32::new(0),
    base_tsc: AtomicU64::new(0),
    base_ns: AtomicU64::new(0),
    scale: AtomicU64::new(0),
    boot_wall_ns: AtomicU64::new(0),
};

/// The address of the clock's page, in the kernel's data.
pub fn shared_page() -> u64 {
    (&raw const CLOCK) as u64
}

/// Says that `rdtscp` tells the core's number on every core.
pub fn set_has_core_number() {
    CLOCK.has_core_number.store(1, Ordering::Relaxed);
}

/// How the counter's rate is being improved.
struct Refinement {
    reference: Reference,
    first: Sample,
    next_ns: u64,
    error_ppm: u64,
}

/// The counter's rate as it was told or measured, and how much faster the clock is to go, in millionths. Both are changed
/// with [`REFINEMENT`]'s lock held, or at boot.
static TRUE_SCALE: AtomicU64 = AtomicU64::new(0);
static RATE_PPM: AtomicI32 = AtomicI32::new(0);

static REFINEMENT: SpinLock<Option<Refinement>> = SpinLock::new(None);
/// When to look at [`REFINEMENT`] again; a plain load on the way of every timer interrupt.
static NEXT_REFINEMENT_NS: AtomicU64 = AtomicU64::new(u64::MAX);

/// What [`init`] found out about the local APIC's timer.
pub(crate) struct TimerRates {
    /// Steps of the timer in a second, with the divider that `apic` sets.
    pub(crate) apic_hz: u64,
    /// True if the processor compares deadlines with the counter.
    pub(crate) has_tsc_deadline: bool,
}

static TIMER_RATES: Once<TimerRates> = Once::new();

pub(crate) fn timer_rates() -> &'static TimerRates {
    TIMER_RATES.get().expect("clocks start before timers")
}

/// The time-stamp counter.
#[inline]
pub fn tsc() -> u64 {
    // SAFETY: every 64-bit processor has the instruction, and ring 0 may always use it.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Starts the clocks. Needs the ACPI tables and the local APIC.
pub fn init() {
    let start_tsc = tsc();
    let has_tsc_deadline =
        raw_cpuid::CpuId::new().get_feature_info().is_some_and(|features| features.has_tsc_deadline());
    let kvm = pvclock::detect();
    let known_scale = kvm.as_ref().map(pvclock::Clock::scale).or_else(known_rate_scale);
    let mut apic_hz = 0;
    if known_scale.is_none() || !has_tsc_deadline {
        apic_hz = measure(start_tsc, known_scale);
    }
    if let Some(scale) = known_scale {
        set_scale(start_tsc, 0, scale);
    }
    TIMER_RATES.call_once(|| TimerRates { apic_hz, has_tsc_deadline });
    let wall_ns = kvm.map(|clock| clock.wall_ns()).or_else(rtc::read_ns);
    if wall_ns.is_none() {
        log::warn!("no wall clock: time begins in 1970");
    }
    CLOCK.boot_wall_ns.store(wall_ns.unwrap_or(0).saturating_sub(now_ns()), Ordering::Relaxed);
}

/// Nanoseconds since boot. Never goes back.
#[inline]
pub fn now_ns() -> u64 {
    CLOCK.to_ns(tsc())
}

/// Nanoseconds since 1970.
#[inline]
pub fn wall_ns() -> u64 {
    CLOCK.boot_wall_ns.load(Ordering::Relaxed) + now_ns()
}

/// Sets the wall clock; the monotonic one is not touched.
pub fn set_wall_ns(wall_ns: u64) {
    CLOCK.boot_wall_ns.store(wall_ns.saturating_sub(now_ns()), Ordering::Relaxed);
}

/// Has the clocks go so many millionths faster, or slower if negative, until this is called again. As on Linux, the
/// monotonic one is corrected along with the wall clock (adjtimex(2)).
pub fn set_rate_ppm(ppm: i32) {
    let _writer = REFINEMENT.lock();
    if RATE_PPM.swap(ppm, Ordering::Relaxed) != ppm {
        let base_tsc = tsc();
        set_scale(base_tsc, CLOCK.to_ns(base_tsc), Scale(TRUE_SCALE.load(Ordering::Relaxed)));
    }
}

/// Goes on from a time with a rate; see [`TRUE_SCALE`].
fn set_scale(base_tsc: u64, base_ns: u64, scale: Scale) {
    TRUE_SCALE.store(scale.0, Ordering::Relaxed);
    CLOCK.set(base_tsc, base_ns, scale.faster_by_ppm(RATE_PPM.load(Ordering::Relaxed)));
}

/// Reads the wall clock once more: the machine may have slept in a file meanwhile. The battery-backed clock counts
/// whole seconds, so that a small difference says nothing.
pub(super) fn read_wall_clock_again() {
    const MEANINGFUL_NS: u64 = 2 * NS_PER_SECOND;
    let read_ns = pvclock::detect().map(|clock| clock.wall_ns()).or_else(rtc::read_ns);
    if let Some(read_ns) = read_ns.filter(|read_ns| read_ns.abs_diff(wall_ns()) >= MEANINGFUL_NS) {
        set_wall_ns(read_ns);
    }
}

/// Steps of the counter in a second, as well as it is known.
pub fn tsc_hz() -> u64 {
    CLOCK.scale().hz()
}

/// So many steps of the counter, in nanoseconds.
pub fn span_ns(steps: u64) -> u64 {
    CLOCK.scale().ticks_to_ns(steps)
}

/// Steps of the counter in `ns`.
pub(crate) fn ns_to_tsc(ns: u64) -> u64 {
    CLOCK.scale().ns_to_ticks(ns)
}

/// The exact rate, from the processor (CPUID leaf 0x15) or the hypervisor (0x40000010).
fn known_rate_scale() -> Option<Scale> {
    let cpuid = raw_cpuid::CpuId::new();
    let from_processor = cpuid.get_tsc_info().and_then(|info| info.tsc_frequency());
    let from_hypervisor = || cpuid.get_hypervisor_info()?.tsc_frequency().map(|khz| u64::from(khz) * 1000);
    from_processor.or_else(from_hypervisor).filter(|&hz| hz > 0).map(Scale::from_hz)
}

/// Measures the counter's rate (unless known) and the APIC timer's; answers the latter.
fn measure(start_tsc: u64, known_scale: Option<Scale>) -> u64 {
    apic::start_measured_timer(u32::MAX);
    if let Some(scale) = known_scale {
        return measure_apic_by_tsc(scale);
    }
    let reference = Reference::find();
    let span_ns = if reference.can_go_on() { FIRST_MEASUREMENT_NS } else { ONLY_MEASUREMENT_NS };
    let mut refinement = Refinement { reference, first: reference.sample(), next_ns: 0, error_ppm: u64::MAX };
    let mut apic_hz = 0;
    for _ in 0..FIRST_TRIES {
        refinement.first = reference.sample();
        let first_count = apic::timer_count();
        reference.wait(span_ns);
        let elapsed_ns = refinement.measure(start_tsc, 0, span_ns);
        apic_hz = calibration::rate(u64::from(first_count - apic::timer_count()), elapsed_ns);
        // An odd rate of the APIC may mean that the host took the processor away for so long that
        // the reference began again.
        if refinement.error_ppm <= FIRST_ERROR_PPM && is_hypervisor_rate(apic_hz) {
            break;
        }
    }
    if reference.can_go_on() {
        refinement.next_ns = FIRST_REFINEMENT_NS;
        *REFINEMENT.lock() = Some(refinement);
        NEXT_REFINEMENT_NS.store(FIRST_REFINEMENT_NS, Ordering::Relaxed);
    }
    plausible_apic_rate(apic_hz)
}

fn is_hypervisor_rate(apic_hz: u64) -> bool {
    apic_hz.abs_diff(HYPERVISOR_APIC_HZ) * 1000 <= HYPERVISOR_APIC_HZ * APIC_TOLERANCE_PER_MILLE
}

fn plausible_apic_rate(measured_hz: u64) -> u64 {
    if is_hypervisor_rate(measured_hz) { HYPERVISOR_APIC_HZ } else { measured_hz }
}

fn measure_apic_by_tsc(scale: Scale) -> u64 {
    let (first, first_count) = (tsc(), apic::timer_count());
    while scale.ticks_to_ns(tsc() - first) < FIRST_MEASUREMENT_NS {
        core::hint::spin_loop();
    }
    let (last, last_count) = (tsc(), apic::timer_count());
    plausible_apic_rate(calibration::rate(
        u64::from(first_count - last_count),
        scale.ticks_to_ns(last - first),
    ))
}

/// Improves the counter's rate when it is time to. Called with every timer interrupt.
pub(crate) fn refine_if_due(now_ns: u64) {
    if now_ns >= NEXT_REFINEMENT_NS.load(Ordering::Relaxed)
        && let Some(refinement) = REFINEMENT.lock().as_mut()
    {
        refinement.step(now_ns);
        NEXT_REFINEMENT_NS.store(refinement.next_ns, Ordering::Relaxed);
    }
}

impl Refinement {
    fn step(&mut self, now_ns: u64) {
        let ticks = tsc() - self.first.tsc;
        let estimate_ns = CLOCK.scale().ticks_to_ns(ticks);
        if estimate_ns / 1_000_000 * self.error_ppm > self.reference.timer().wrap_ns() / 4 {
            // Too long ago to know how often the reference has wrapped: start over.
            self.first = self.reference.sample();
            self.next_ns = now_ns + FIRST_REFINEMENT_NS;
            return;
        }
        // The clock stays where it is and goes on at the better rate.
        let base_tsc = tsc();
        let elapsed_ns = self.measure(base_tsc, CLOCK.to_ns(base_tsc), estimate_ns);
        self.next_ns = now_ns + elapsed_ns * 10;
        log::debug!("time-stamp counter: {} Hz, good to {} ppm", tsc_hz(), self.error_ppm);
    }

    /// Measures the rate from the first sample, about `estimate_ns` ago, to now, and sets the
    /// scale from `base` on. Answers the time since the first sample.
    fn measure(&mut self, base_tsc: u64, base_ns: u64, estimate_ns: u64) -> u64 {
        let last = self.reference.sample();
        let ticks = last.tsc - self.first.tsc;
        let elapsed_ns = self.reference.ns_between(self.first, last, estimate_ns);
        let scale = Scale::from_span(ticks, elapsed_ns);
        set_scale(base_tsc, base_ns, scale);
        let error_ns = scale.ticks_to_ns(self.first.error_tsc(last)) + 2 * self.reference.timer().step_ns();
        self.error_ppm = (error_ns * 1_000_000).div_ceil(elapsed_ns);
        elapsed_ns
    }
}

impl Clock {
    #[inline]
    fn to_ns(&self, tsc: u64) -> u64 {
        loop {
            let version = self.version.load(Ordering::Acquire);
            let base_tsc = self.base_tsc.load(Ordering::Relaxed);
            let base_ns = self.base_ns.load(Ordering::Relaxed);
            let scale = self.scale();
            fence(Ordering::Acquire);
            if version & 1 == 0 && self.version.load(Ordering::Relaxed) == version {
                // Another core's counter may be a few steps behind the base.
                let ticks = tsc.saturating_sub(base_tsc);
                return base_ns + scale.ticks_to_ns(ticks);
            }
            core::hint::spin_loop();
        }
    }

    #[inline]
    fn scale(&self) -> Scale {
        Scale(self.scale.load(Ordering::Relaxed))
    }

    /// Writers take turns: at boot there is one, later [`REFINEMENT`]'s lock is held.
    fn set(&self, base_tsc: u64, base_ns: u64, scale: Scale) {
        self.version.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::Release);
        self.base_tsc.store(base_tsc, Ordering::Relaxed);
        self.base_ns.store(base_ns, Ordering::Relaxed);
        self.scale.store(scale.0, Ordering::Relaxed);
        self.version.fetch_add(1, Ordering::Release);
    }
}
