//! On which core a thread should run.

use crate::{CoreSet, MAX_CORES};

/// The core for a thread that was woken: the one it last ran on if that is idle, since its data is
/// still in that core's caches; else any idle one; else the last one, where it waits its turn.
///
/// `None` if `allowed` names no core that there is.
pub(crate) fn for_woken(last: usize, allowed: CoreSet, idle: CoreSet) -> Option<usize> {
    let idle = idle.and(allowed);
    if idle.contains(last) || idle.is_empty() && allowed.contains(last) {
        return Some(last);
    }
    idle.lowest().or(allowed.lowest())
}

/// The core for a thread whose slice is over: the one where the fewest wait, the next one after its
/// own if several are as good. So an odd thread out moves around, and each gets its share of all
/// cores.
pub(crate) fn for_preempted(own: usize, allowed: CoreSet, waiting: impl Fn(usize) -> usize) -> Option<usize> {
    let distance = |core: usize| core.wrapping_sub(own + 1) % MAX_CORES;
    allowed.iter().min_by_key(|&core| (waiting(core), distance(core)))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn woken_thread_prefers_its_last_core() {
        assert_eq!(for_woken(1, CoreSet::first(4), CoreSet(0b1110)), Some(1));
        assert_eq!(for_woken(1, CoreSet::first(4), CoreSet(0)), Some(1));
    }

    #[test]
    fn woken_thread_goes_to_an_idle_core_that_is_allowed() {
        assert_eq!(for_woken(1, CoreSet::first(4), CoreSet(0b1000)), Some(3));
        assert_eq!(for_woken(1, CoreSet(0b0110), CoreSet(0b1000)), Some(1));
        assert_eq!(for_woken(0, CoreSet(0b0110), CoreSet(0b1000)), Some(1));
    }

    #[test]
    fn preempted_thread_goes_where_fewest_wait() {
        let waiting = [2, 1, 1, 0];
        assert_eq!(for_preempted(0, CoreSet::first(4), |core| waiting[core]), Some(3));
        assert_eq!(for_preempted(2, CoreSet::first(3), |core| waiting[core]), Some(1));
        assert_eq!(for_preempted(1, CoreSet::first(3), |core| waiting[core]), Some(2));
        assert_eq!(for_preempted(0, CoreSet::only(0), |core| waiting[core]), Some(0));
    }
}
