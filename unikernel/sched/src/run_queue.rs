//! Round robin: whoever has waited longest runs next. Equal slices and one queue bound the wait
//! of each thread by the number of others, which is all the fairness that one app needs.

use alloc::collections::VecDeque;

/// One core's threads that could run but do not.
#[derive(Debug)]
pub struct RunQueue<T> {
    waiting: VecDeque<T>,
}

impl<T> RunQueue<T> {
    /// Makes an empty queue.
    pub const fn new() -> Self {
        Self { waiting: VecDeque::new() }
    }

    /// Adds a thread that became able to run, or whose slice is over, behind all others.
    pub fn enqueue(&mut self, thread: T) {
        self.waiting.push_back(thread);
    }

    /// Takes the thread that has waited longest.
    pub fn pick_next(&mut self) -> Option<T> {
        self.waiting.pop_front()
    }

    /// Takes a thread out of its turn.
    pub fn remove(&mut self, is_it: impl FnMut(&T) -> bool) -> Option<T> {
        let index = self.waiting.iter().position(is_it)?;
        self.waiting.remove(index)
    }

    /// Takes the thread that would run last of those that `may_go`, for another core.
    pub fn steal(&mut self, may_go: impl FnMut(&T) -> bool) -> Option<T> {
        let index = self.waiting.iter().rposition(may_go)?;
        self.waiting.remove(index)
    }

    /// Everybody who waits, the next to run first.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.waiting.iter()
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// True if nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

impl<T> Default for RunQueue<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn removed_thread_is_not_picked() {
        let mut queue = RunQueue::new();
        (0..4).for_each(|thread| queue.enqueue(thread));
        assert_eq!(queue.remove(|&thread| thread == 2), Some(2));
        assert_eq!(queue.remove(|&thread| thread == 2), None);
        let order: Vec<_> = core::iter::from_fn(|| queue.pick_next()).collect();
        assert_eq!(order, [0, 1, 3]);
    }

    #[test]
    fn stolen_thread_is_the_one_that_would_wait_longest() {
        let mut queue = RunQueue::new();
        (0..3).for_each(|thread| queue.enqueue(thread));
        assert_eq!(queue.steal(|&thread| thread != 2), Some(1));
        assert_eq!(queue.steal(|_| true), Some(2));
        assert_eq!(queue.pick_next(), Some(0));
    }

    proptest! {
        /// However threads sleep and wake, nobody is overtaken by more turns than there are threads.
        #[test]
        fn nobody_starves(threads in 1..20usize, sleeps in prop::collection::vec(any::<bool>(), 200)) {
            let mut queue = RunQueue::new();
            let mut asleep = VecDeque::new();
            let mut waited = alloc::vec![0; threads];
            (0..threads).for_each(|thread| queue.enqueue(thread));
            for sleeps in sleeps {
                let Some(running) = queue.pick_next() else { break };
                prop_assert!(waited[running] < threads);
                waited[running] = 0;
                queue.waiting.iter().for_each(|&thread| waited[thread] += 1);
                if let Some(woken) = asleep.pop_front() {
                    queue.enqueue(woken);
                }
                if sleeps { asleep.push_back(running) } else { queue.enqueue(running) }
            }
        }
    }
}
