extern crate std;

use proptest::prelude::*;
use std::vec::Vec;

use super::*;

fn leak<T: Default>(count: usize) -> &'static [T] {
    Vec::leak((0..count).map(|_| T::default()).collect())
}

fn full_fence() {
    core::sync::atomic::fence(Ordering::SeqCst);
}

fn leak_one() -> &'static AtomicU16 {
    &leak(1)[0]
}

/// The device's side of a ring, as the specification has it.
struct Device {
    descriptors: &'static [Descriptor],
    avail_flags: &'static AtomicU16,
    avail_index: &'static AtomicU16,
    avail: &'static [AtomicU16],
    used_flags: &'static AtomicU16,
    used_index: &'static AtomicU16,
    used: &'static [Used],
    used_event: &'static AtomicU16,
    avail_event: &'static AtomicU16,
    next_avail: u16,
}

impl Device {
    fn receive(&mut self) -> Option<u16> {
        if self.avail_index.load(Ordering::Acquire) == self.next_avail {
            return None;
        }
        let slot = usize::from(self.next_avail) % self.avail.len();
        self.next_avail = self.next_avail.wrapping_add(1);
        Some(self.avail[slot].load(Ordering::Relaxed))
    }

    fn complete(&mut self, id: u32, len: u32) {
        let index = self.used_index.load(Ordering::Relaxed);
        let slot = &self.used[usize::from(index) % self.used.len()];
        slot.write(id, len);
        self.used_index.store(index.wrapping_add(1), Ordering::Release);
    }
}

fn ring(size: usize, direction: Direction) -> (Ring, Device) {
    let device = Device {
        descriptors: leak(size),
        avail_flags: leak_one(),
        avail_index: leak_one(),
        avail: leak(size),
        used_flags: leak_one(),
        used_index: leak_one(),
        used: leak(size),
        used_event: leak_one(),
        avail_event: leak_one(),
        next_avail: 0,
    };
    let shared = Shared {
        descriptors: device.descriptors,
        avail_flags: device.avail_flags,
        avail_index: device.avail_index,
        avail: device.avail,
        used_flags: device.used_flags,
        used_index: device.used_index,
        used: device.used,
        used_event: device.used_event,
        avail_event: device.avail_event,
    };
    (Ring::new(shared, direction, |buffer| 0x1000 + u64::from(buffer) * 2048), device)
}

#[test]
fn posted_buffer_reaches_the_device_with_address_length_and_direction() {
    let (mut ring, mut device) = ring(8, Direction::ToDriver);
    ring.post(3, 2048);
    assert_eq!(device.receive(), Some(3));
    let descriptor = &device.descriptors[3];
    assert_eq!(descriptor.address.load(Ordering::Relaxed), 0x1000 + 3 * 2048);
    assert_eq!(descriptor.len.load(Ordering::Relaxed), 2048);
    assert_eq!(descriptor.flags.load(Ordering::Relaxed), WRITE);
    assert_eq!(device.receive(), None);
}

#[test]
fn completed_buffer_comes_back_once() {
    let (mut ring, mut device) = ring(8, Direction::ToDriver);
    ring.post(3, 2048);
    device.complete(3, 90);
    assert_eq!(ring.take(), Some(Completion { buffer: 3, len: 90 }));
    assert_eq!(ring.take(), None);
    assert!(!ring.is_posted(3));
}

#[test]
fn batch_is_announced_once_and_not_to_a_device_that_looks_anyway() {
    let (mut ring, device) = ring(8, Direction::ToDevice);
    assert!(!ring.announce(full_fence), "nothing to announce");
    ring.post(0, 60);
    ring.post(1, 60);
    assert!(ring.announce(full_fence));
    assert!(!ring.announce(full_fence), "announced already");
    device.used_flags.store(NO_CALL, Ordering::Relaxed);
    ring.post(2, 60);
    assert!(!ring.announce(full_fence));
}

#[test]
fn interrupts_are_asked_for_and_work_is_not_missed() {
    let (mut ring, mut device) = ring(8, Direction::ToDriver);
    ring.post(0, 60);
    ring.disable_interrupts();
    assert_eq!(device.avail_flags.load(Ordering::Relaxed), NO_CALL);
    assert!(!ring.enable_interrupts(full_fence));
    assert_eq!(device.avail_flags.load(Ordering::Relaxed), 0);
    device.complete(0, 1);
    assert!(ring.enable_interrupts(full_fence), "it came between the look and the sleep");
}

#[test]
fn event_is_passed_by_the_step_behind_it_only() {
    assert!(needs_event(4, 5, 4) && needs_event(4, 9, 3) && needs_event(4, 5, 0));
    assert!(!needs_event(4, 4, 0), "it is reached, not passed");
    assert!(!needs_event(4, 9, 5), "it was passed before");
    assert!(!needs_event(7, 7, 7), "nothing moved");
    // Around the end of the indices.
    assert!(needs_event(65_535, 0, 65_535) && needs_event(65_535, 3, 65_530) && needs_event(0, 1, 65_535));
    assert!(!needs_event(65_535, 65_535, 65_530) && !needs_event(0, 0, 65_530) && !needs_event(1, 1, 65_535));
    assert!(!needs_event(65_534, 2, 65_535), "behind where it began");
}

#[test]
fn indices_say_who_waits_for_what() {
    let (mut ring, mut device) = ring(8, Direction::ToDriver);
    ring.use_event_index();
    let interrupts =
        |device: &Device, new, old| needs_event(device.used_event.load(Ordering::Relaxed), new, old);
    assert!(!interrupts(&device, 5, 0), "it is told of no wish at first");
    (0..4).for_each(|buffer| ring.post(buffer, 60));
    device.avail_event.store(2, Ordering::Relaxed);
    assert!(ring.announce(full_fence), "the third is what it waits for");
    ring.post(4, 60);
    assert!(!ring.announce(full_fence), "it has not asked again");
    assert!(!ring.enable_interrupts(full_fence));
    assert!(interrupts(&device, 1, 0) && !interrupts(&device, 2, 1));
    device.complete(0, 1);
    assert!(ring.enable_interrupts(full_fence), "it came between the look and the sleep");
    ring.disable_interrupts();
    assert!(!interrupts(&device, 5, 1));
    assert_eq!(device.avail_flags.load(Ordering::Relaxed), 0, "flags stay what they were (section 2.7.10)");
}

#[test]
#[should_panic(expected = "the device has this buffer")]
fn posting_twice_panics() {
    let (mut ring, _) = ring(8, Direction::ToDriver);
    ring.post(0, 60);
    ring.post(0, 60);
}

#[test]
fn layout_is_the_legacy_one() {
    // Section 2.7.2 for 256 entries: 4096 + (2 * 3 + 512) up to a page, then 6 + 8 * 256.
    let large = Layout::new(256);
    assert_eq!((large.avail, large.used, large.size_bytes), (4096, 8192, 8192 + 6 + 2048));
    assert_eq!((large.used_event, large.avail_event), (4096 + 4 + 512, 8192 + 4 + 2048));
    let small = Layout::new(8);
    assert_eq!((small.avail, small.used, small.size_bytes), (128, 4096, 4096 + 6 + 64));
    assert_eq!((small.used_event, small.avail_event), (128 + 4 + 16, 4096 + 4 + 64));
}

#[derive(Clone, Debug)]
enum Step {
    Post(u16),
    Serve,
    Lie { id: u32, len: u32 },
    Jump(u16),
    Take,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0u16..8).prop_map(Step::Post),
        Just(Step::Serve),
        (prop_oneof![0u32..16, any::<u32>()], any::<u32>()).prop_map(|(id, len)| Step::Lie { id, len }),
        any::<u16>().prop_map(Step::Jump),
        Just(Step::Take),
    ];
    proptest::collection::vec(step, 0..200)
}

proptest! {
    /// However far the index moves at once, whoever waits for a position is called for exactly the move that
    /// passes it.
    #[test]
    fn every_position_is_called_for_once(start: u16, ahead in 0u16..500, moves in proptest::collection::vec(1u16..64, 1..40)) {
        let event = start.wrapping_add(ahead);
        let mut index = start;
        let mut calls = 0;
        let mut moved = 0;
        for step in moves {
            let next = index.wrapping_add(step);
            let is_passed = moved <= ahead && ahead < moved + step;
            prop_assert_eq!(needs_event(event, next, index), is_passed);
            calls += u32::from(is_passed);
            (index, moved) = (next, moved + step);
        }
        prop_assert!(calls <= 1);
    }

    /// An honest device, over several turns of both indices: every buffer comes back, in order.
    #[test]
    fn nothing_is_lost_over_the_wrap(batches in proptest::collection::vec(1u16..8, 1..400)) {
        let (mut ring, mut device) = ring(8, Direction::ToDriver);
        (ring.next_avail, ring.announced, ring.next_used) = (65_500, 65_500, 65_500);
        device.next_avail = 65_500;
        device.avail_index.store(65_500, Ordering::Relaxed);
        device.used_index.store(65_500, Ordering::Relaxed);
        for batch in batches {
            (0..batch).for_each(|buffer| ring.post(buffer, 2048));
            prop_assert!(ring.announce(full_fence));
            while let Some(buffer) = device.receive() {
                device.complete(u32::from(buffer), u32::from(buffer) + 1);
            }
            for buffer in 0..batch {
                prop_assert_eq!(ring.take(), Some(Completion { buffer, len: u32::from(buffer) + 1 }));
            }
            prop_assert_eq!(ring.take(), None);
        }
        prop_assert_eq!(ring.bad_completions(), 0);
    }

    /// A hostile device: nothing panics, and only buffers that were posted come back.
    #[test]
    fn lies_are_counted_and_do_no_harm(steps in steps()) {
        let (mut ring, mut device) = ring(8, Direction::ToDriver);
        let mut posted = [false; 8];
        for step in steps {
            match step {
                Step::Post(buffer) if !posted[usize::from(buffer)] => {
                    ring.post(buffer, 64);
                    posted[usize::from(buffer)] = true;
                    let _ = ring.announce(full_fence);
                }
                Step::Post(_) => {}
                Step::Serve => {
                    if let Some(buffer) = device.receive() {
                        device.complete(u32::from(buffer), 64);
                    }
                }
                Step::Lie { id, len } => device.complete(id, len),
                Step::Jump(index) => device.used_index.store(index, Ordering::Release),
                Step::Take => {
                    if let Some(completion) = ring.take() {
                        let was_posted = core::mem::take(&mut posted[usize::from(completion.buffer)]);
                        prop_assert!(was_posted);
                    }
                }
            }
        }
    }
}

#[test]
fn index_that_jumps_is_skipped_at_once() {
    let (mut ring, mut device) = ring(8, Direction::ToDriver);
    (0..8).for_each(|buffer| ring.post(buffer, 64));
    device.used_index.store(9, Ordering::Relaxed);
    assert_eq!((ring.take(), ring.bad_completions()), (None, 9));
    assert!(!ring.has_completions(), "nothing is left to look at");
    device.used_index.store(8, Ordering::Relaxed);
    assert_eq!((ring.take(), ring.bad_completions()), (None, 9 + 65_535), "backwards is a long way forward");
    // It can find its way back.
    device.complete(3, 64);
    assert_eq!(ring.take(), Some(Completion { buffer: 3, len: 64 }));
}

/// A device that never stops giving back what it does not have.
#[test]
fn nonsense_without_end_ends_each_call() {
    let (mut ring, device) = ring(8, Direction::ToDriver);
    ring.post(0, 64);
    for slot in device.used {
        slot.write(7, 0);
    }
    let (used_index, is_over) = (device.used_index, std::sync::atomic::AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                used_index.fetch_add(1, Ordering::Release);
            }
        });
        for _ in 0..10_000 {
            assert_eq!(ring.take(), None);
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert!(ring.is_posted(0));
}

#[test]
fn table_chains_the_parts_of_a_request() {
    let parts = [(0x1000, 16, false), (0x2_0000_0000, 4096, true), (0x1010, 1, true)];
    let segments = parts.map(|(address, len, is_written)| Segment { address, len, is_written });
    let mut table = [0xaa; 64];
    assert_eq!(Segment::write_table(segments.into_iter(), &mut table), 48);
    assert_eq!(table[..16], *b"\x00\x10\0\0\0\0\0\0\x10\0\0\0\x01\0\x01\0");
    assert_eq!(table[16..32], *b"\0\0\0\0\x02\0\0\0\0\x10\0\0\x03\0\x02\0");
    assert_eq!(table[32..48], *b"\x10\x10\0\0\0\0\0\0\x01\0\0\0\x02\0\0\0");
    assert_eq!(table[48..], [0xaa; 16]);
}

#[test]
fn chain_names_the_parts_of_a_request_and_comes_back_by_its_head() {
    let (mut ring, mut device) = ring(8, Direction::Chained);
    let parts = [(0x1000, 16, false), (0x2_0000_0000, 4096, true), (0x1010, 1, true)];
    ring.post_chain(
        4,
        parts.map(|(address, len, is_written)| Segment { address, len, is_written }).into_iter(),
    );
    assert_eq!(device.receive(), Some(4));
    for (index, ((address, len, _), flags)) in parts.into_iter().zip([NEXT, NEXT | WRITE, WRITE]).enumerate()
    {
        let descriptor = &device.descriptors[4 + index];
        assert_eq!(descriptor.address.load(Ordering::Relaxed), address);
        assert_eq!(descriptor.len.load(Ordering::Relaxed), len);
        assert_eq!(descriptor.flags.load(Ordering::Relaxed), flags);
        let next = if index < 2 { 5 + index as u16 } else { 0 };
        assert_eq!(descriptor.next.load(Ordering::Relaxed), next);
    }
    // Only the head comes back, whatever the device says.
    for part in [5, 6, 7, 0] {
        device.complete(part, 1);
    }
    device.complete(4, 4097);
    assert_eq!(ring.take(), Some(Completion { buffer: 4, len: 4097 }));
    assert_eq!((ring.take(), ring.bad_completions()), (None, 4));
}
