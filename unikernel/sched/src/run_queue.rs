//! Round robin, with a way past it for whoever has just been woken: a thread that slept has used less
//! than its share, and somebody waits for what it does next. But of four threads in a row, one is from
//! the others, so that they do not starve however often some wake.

use alloc::collections::VecDeque;

/// Woken threads that may run one after the other while others wait.
const MOST_WOKEN_IN_A_ROW: u8 = 3;

/// One core's threads that could run but do not.
#[derive(Debug)]
pub struct RunQueue<T> {
    /// They slept, and can go on.
    woken: VecDeque<T>,
    /// Their slices were over, or they gave way.
    waiting: VecDeque<T>,
    woken_in_a_row: u8,
}

impl<T> RunQueue<T> {
    /// Makes an empty queue.
    pub const fn new() -> Self {
        Self { woken: VecDeque::new(), waiting: VecDeque::new(), woken_in_a_row: 0 }
    }

    /// Adds a thread whose slice is over, behind all others.
    pub fn enqueue(&mut self, thread: T) {
        self.waiting.push_back(thread);
    }

    /// Adds a thread that slept, behind the others that did.
    pub fn enqueue_woken(&mut self, thread: T) {
        self.woken.push_back(thread);
    }

    /// Takes the thread whose turn it is.
    pub fn pick_next(&mut self) -> Option<T> {
        let is_their_turn = self.waiting.is_empty() || self.woken_in_a_row < MOST_WOKEN_IN_A_ROW;
        if is_their_turn && let Some(thread) = self.woken.pop_front() {
            self.woken_in_a_row = self.woken_in_a_row.saturating_add(1);
            return Some(thread);
        }
        self.woken_in_a_row = 0;
        self.waiting.pop_front()
    }

    /// Takes a thread out of its turn.
    pub fn remove(&mut self, mut is_it: impl FnMut(&T) -> bool) -> Option<T> {
        for queue in [&mut self.woken, &mut self.waiting] {
            if let Some(index) = queue.iter().position(&mut is_it) {
                return queue.remove(index);
            }
        }
        None
    }

    /// Takes the thread that would run last of those that `may_go`, for another core.
    pub fn steal(&mut self, mut may_go: impl FnMut(&T) -> bool) -> Option<T> {
        for queue in [&mut self.waiting, &mut self.woken] {
            if let Some(index) = queue.iter().rposition(&mut may_go) {
                return queue.remove(index);
            }
        }
        None
    }

    /// Everybody who waits.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.woken.iter().chain(&self.waiting)
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.woken.len() + self.waiting.len()
    }

    /// How many of those slept.
    pub fn woken_len(&self) -> usize {
        self.woken.len()
    }

    /// True if nobody waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
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

    #[test]
    fn woken_threads_pass_the_others_but_not_for_ever() {
        let mut queue = RunQueue::new();
        (0..2).for_each(|thread| queue.enqueue(thread));
        (10..15).for_each(|thread| queue.enqueue_woken(thread));
        let order: Vec<_> = core::iter::from_fn(|| queue.pick_next()).collect();
        assert_eq!(order, [10, 11, 12, 0, 13, 14, 1]);
    }

    proptest! {
        /// However threads sleep and wake, nobody is overtaken by more turns than four times as many as
        /// there are threads.
        #[test]
        fn nobody_starves(threads in 1..20usize, sleeps in prop::collection::vec(any::<bool>(), 200)) {
            let mut queue = RunQueue::new();
            let mut asleep = VecDeque::new();
            let mut waited = alloc::vec![0; threads];
            (0..threads).for_each(|thread| queue.enqueue(thread));
            for sleeps in sleeps {
                let Some(running) = queue.pick_next() else { break };
                prop_assert!(waited[running] < 4 * threads);
                waited[running] = 0;
                queue.iter().for_each(|&thread| waited[thread] += 1);
                if let Some(woken) = asleep.pop_front() {
                    queue.enqueue_woken(woken);
                }
                if sleeps { asleep.push_back(running) } else { queue.enqueue(running) }
            }
        }
    }
}
