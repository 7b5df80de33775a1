//! A virtqueue whose device writes anything: only what was given comes back, once, and no call goes on for long.

use std::sync::atomic::{AtomicU16, Ordering};

use unikernel_machine::ring::{Descriptor, Direction, Ring, Segment, Shared, Used};

use crate::input::Input;

const SIZE: u16 = 8;
/// Descriptors of a request that is a chain.
const PARTS: u16 = 2;

/// What both sides write.
#[derive(Default)]
struct Memory {
    descriptors: [Descriptor; SIZE as usize],
    avail: [AtomicU16; SIZE as usize],
    used: [Used; SIZE as usize],
    /// Flags, index and event of the driver's ring, then of the device's.
    words: [AtomicU16; 6],
}

thread_local! {
    /// A ring's memory is there for ever, so all inputs share one.
    static MEMORY: &'static Memory = Box::leak(Box::default());
}

impl Memory {
    /// As a driver finds it: zeros.
    fn clear(&self) {
        self.avail.iter().chain(&self.words).for_each(|word| word.store(0, Ordering::Relaxed));
        self.used.iter().for_each(|used| used.write(0, 0));
    }

    fn shared(&'static self) -> Shared {
        let [avail_flags, avail_index, used_event, used_flags, used_index, avail_event] = &self.words;
        Shared {
            descriptors: &self.descriptors,
            avail_flags,
            avail_index,
            avail: &self.avail,
            used_flags,
            used_index,
            used: &self.used,
            used_event,
            avail_event,
        }
    }
}

pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let memory = MEMORY.with(|memory| *memory);
    memory.clear();
    let direction = match input.below(4) {
        0 => Direction::ToDriver,
        1 => Direction::ToDevice,
        2 => Direction::Indirect,
        _ => Direction::Chained,
    };
    let is_chained = direction == Direction::Chained;
    let mut ring = Ring::new(memory.shared(), direction, |buffer| u64::from(buffer) << 12);
    if input.flag() {
        ring.use_event_index();
    }
    let step = if is_chained { PARTS } else { 1 };
    let mut posted = [false; SIZE as usize];
    while !input.is_over() {
        match input.below(8) {
            0 | 1 => {
                let buffer = u16::from(input.byte()) % (SIZE / step) * step;
                if core::mem::replace(&mut posted[usize::from(buffer)], true) {
                    continue;
                }
                let len = input.half().into();
                if is_chained {
                    let part = Segment { address: 0, len, is_written: true };
                    ring.post_chain(buffer, [part; PARTS as usize].into_iter());
                } else {
                    ring.post(buffer, len);
                }
            }
            2 => {
                let _ = ring.announce(|| {});
            }
            3 | 4 => {
                if let Some(completion) = ring.take() {
                    let was_posted = core::mem::take(&mut posted[usize::from(completion.buffer)]);
                    assert!(
                        was_posted,
                        "buffer {} came back, which the device did not have",
                        completion.buffer
                    );
                }
            }
            5 => {
                if input.flag() {
                    ring.disable_interrupts();
                } else {
                    // Whatever the device says, the two agree.
                    assert_eq!(ring.enable_interrupts(|| {}), ring.has_completions());
                }
            }
            // The device: an element, a word, or both as an honest one does.
            6 => {
                let index = memory.words[4].load(Ordering::Relaxed);
                memory.used[usize::from(index % SIZE)].write(input.byte().into(), input.word());
                memory.words[4].store(index.wrapping_add(1), Ordering::Relaxed);
            }
            _ => {
                memory.words[input.below(6)].store(input.half(), Ordering::Relaxed);
                memory.used[input.below(SIZE.into())].write(input.word(), input.word());
            }
        }
        for (buffer, is_posted) in (0..).zip(posted) {
            assert_eq!(ring.is_posted(buffer), is_posted);
        }
    }
}
