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
        slot.id.store(id, Ordering::Relaxed);
        slot.len.store(len, Ordering::Relaxed);
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
#[should_panic(expected = "the device has this buffer")]
fn posting_twice_panics() {
    let (mut ring, _) = ring(8, Direction::ToDriver);
    ring.post(0, 60);
    ring.post(0, 60);
}

#[test]
fn layout_is_the_legacy_one() {
    // Section 2.7.2 for 256 entries: 4096 + (2 * 3 + 512) up to a page, then 6 + 8 * 256.
    assert_eq!(Layout::new(256), Layout { avail: 4096, used: 8192, size_bytes: 8192 + 6 + 2048 });
    assert_eq!(Layout::new(8), Layout { avail: 128, used: 4096, size_bytes: 4096 + 6 + 64 });
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
