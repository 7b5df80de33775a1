//! A controller that is simulated: it does what the specification says, or what a test has it do instead.

extern crate std;

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;
use std::collections::BTreeMap;

use super::*;
use crate::registers::Capabilities;

const RAM_BASE: u64 = 0x10_0000;
const RAM_BYTES: usize = 4 << 20;
/// 64 entries, contiguous queues, two units of half a second, the NVM command set.
const CAP: u64 = 63 | 1 << 16 | 2 << 24 | 1 << 37;

/// A queue as the controller has it.
#[derive(Clone, Copy, Default)]
struct Ring {
    address: u64,
    entries: u32,
    /// Where the controller is, and the phase that it writes.
    at: u32,
    phase: u32,
    /// Of a submission queue: where its answers go.
    answers: u16,
}

/// What a command led to: its status and its result; `None` for no answer.
type Outcome = Option<(u16, u32)>;
/// Writes an answer of 4 KiB, by `CNS` and namespace.
type Says = Box<dyn Fn(u32, u32, &mut [u8])>;
/// Judges a command before it is done: `Some` is what happens instead.
type Judge = Box<dyn Fn(u16, &[u32; 16]) -> Option<Outcome>>;

struct State {
    ram: Vec<u32>,
    allocated: usize,
    /// Bytes that may be allocated.
    room: usize,
    now_ns: u64,
    cap: u64,
    configuration: u32,
    is_ready: bool,
    never_ready: bool,
    never_stops: bool,
    is_gone: bool,
    has_failed: bool,
    is_cut_off: bool,
    admin: [u64; 2],
    admin_sizes: u32,
    submissions: BTreeMap<u16, Ring>,
    completions: BTreeMap<u16, Ring>,
    /// What it says of itself and of namespaces, by `CNS` and number.
    says: Says,
    judge: Judge,
    disk: Vec<u8>,
    flushes: usize,
    granted: u32,
    /// The queue and the number that answers carry, if not their own.
    lies_in_answers: Option<(u16, u16)>,
}

#[derive(Clone)]
struct Sim(Rc<RefCell<State>>);

struct Ram(Sim, u64);

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// What an honest controller says: 512-byte blocks, 8 MiB, a cache.
fn honest(what: u32, namespace: u32, answer: &mut [u8]) {
    match (what, namespace) {
        (1, _) => {
            put(answer, 24, b"Simulated \x1b[2Jcontroller                   ");
            answer[77] = 5;
            answer[512] = 0x66;
            answer[513] = 0x44;
            answer[525] = 1;
        }
        (2, _) => put(answer, 0, &1u32.to_le_bytes()),
        (0, 1) => {
            put(answer, 0, &((DISK_BYTES / 512) as u64).to_le_bytes());
            answer[128 + 2] = 9;
        }
        _ => {}
    }
}

const DISK_BYTES: usize = 8 << 20;

impl Sim {
    fn new() -> Self {
        Self(Rc::new(RefCell::new(State {
            ram: vec![0; RAM_BYTES / 4],
            allocated: 0,
            room: RAM_BYTES,
            now_ns: 0,
            cap: CAP,
            configuration: 0,
            is_ready: false,
            never_ready: false,
            never_stops: false,
            is_gone: false,
            has_failed: false,
            is_cut_off: false,
            admin: [0; 2],
            admin_sizes: 0,
            submissions: BTreeMap::new(),
            completions: BTreeMap::new(),
            says: Box::new(honest),
            judge: Box::new(|_, _| None),
            disk: vec![0; DISK_BYTES],
            flushes: 0,
            granted: 7 << 16 | 7,
            lies_in_answers: None,
        })))
    }

    fn with(change: impl FnOnce(&mut State)) -> Self {
        let sim = Self::new();
        change(&mut sim.0.borrow_mut());
        sim
    }

    fn saying(change: impl Fn(u32, u32, &mut [u8]) + 'static) -> Self {
        Self::with(|state| {
            state.says = Box::new(move |what, namespace, answer| {
                honest(what, namespace, answer);
                change(what, namespace, answer);
            });
        })
    }

    fn judging(judge: impl Fn(u16, &[u32; 16]) -> Option<Outcome> + 'static) -> Self {
        Self::with(|state| state.judge = Box::new(judge))
    }

    /// Does what was put into a queue.
    fn work(&self, queue: u16, tail: u32) {
        let state = &mut *self.0.borrow_mut();
        loop {
            let Some(ring) = state.submissions.get_mut(&queue) else { return };
            if ring.at == tail || tail >= ring.entries {
                return;
            }
            let at = ring.address + u64::from(ring.at) * 64;
            ring.at = (ring.at + 1) % ring.entries;
            let answers = ring.answers;
            let mut command = [0; 16];
            for (index, word) in command.iter_mut().enumerate() {
                *word = state.word(at + 4 * index as u64);
            }
            let judged = (state.judge)(queue, &command);
            if let Some((status, result)) = judged.unwrap_or_else(|| state.run(queue, &command)) {
                let number = (command[0] >> 16) as u16;
                let (queue, number) = state.lies_in_answers.unwrap_or((queue, number));
                state.answer(answers, queue, number, status, result);
            }
        }
    }
}

impl State {
    fn word(&self, address: u64) -> u32 {
        self.ram[((address - RAM_BASE) / 4) as usize]
    }

    fn set_word(&mut self, address: u64, value: u32) {
        self.ram[((address - RAM_BASE) / 4) as usize] = value;
    }

    fn answer(&mut self, answers: u16, queue: u16, number: u16, status: u16, result: u32) {
        let ring = self.completions[&answers];
        let at = ring.address + u64::from(ring.at) * 16;
        self.set_word(at, result);
        self.set_word(at + 8, u32::from(queue) << 16);
        self.set_word(at + 12, u32::from(number) | ring.phase << 16 | u32::from(status) << 17);
        let ring = self.completions.get_mut(&answers).unwrap();
        ring.at = (ring.at + 1) % ring.entries;
        if ring.at == 0 {
            ring.phase ^= 1;
        }
    }

    fn run(&mut self, queue: u16, command: &[u32; 16]) -> Outcome {
        let pointer = |at: usize| u64::from(command[at + 1]) << 32 | u64::from(command[at]);
        let (operation, words) = (command[0] as u8, &command[10..]);
        let created = (words[0] as u16, (words[0] >> 16) + 1);
        match (queue, operation) {
            (0, 0x06) => {
                let mut bytes = vec![0; 4096];
                (self.says)(words[0], command[1], &mut bytes);
                for (index, word) in bytes.chunks_exact(4).enumerate() {
                    let at = pointer(6) + 4 * index as u64;
                    self.set_word(at, u32::from_le_bytes(word.try_into().unwrap()));
                }
            }
            (0, 0x09) => return Some((0, self.granted)),
            (0, 0x05) => {
                let ring = Ring { address: pointer(6), entries: created.1, phase: 1, ..Ring::default() };
                self.completions.insert(created.0, ring);
            }
            (0, 0x01) => {
                let answers = (words[1] >> 16) as u16;
                assert!(self.completions.contains_key(&answers));
                let ring = Ring { address: pointer(6), entries: created.1, answers, ..Ring::default() };
                self.submissions.insert(created.0, ring);
            }
            (_, 0x00) => self.flushes += 1,
            (_, 0x01 | 0x02) => self.transfer(command, operation == 0x01),
            _ => return Some((1, 0)),
        }
        Some((0, 0))
    }

    /// Moves a request's bytes by its PRP entries, as a controller reads them.
    fn transfer(&mut self, command: &[u32; 16], writes: bool) {
        let pointer = |at: usize| u64::from(command[at + 1]) << 32 | u64::from(command[at]);
        let block = pointer(10) as usize;
        let bytes = (command[12] as usize + 1) * 512;
        let (first, second) = (pointer(6), pointer(8));
        let mut done = 0;
        let mut page = first;
        let mut index = 0;
        let pages_left = |done: usize| (bytes - done).div_ceil(4096);
        let in_first = (4096 - first % 4096) as usize;
        let is_list = bytes > in_first && pages_left(in_first) > 1;
        while done < bytes {
            let len = (bytes - done).min((4096 - page % 4096) as usize);
            for offset in (0..len).step_by(4) {
                let place = block * 512 + done + offset;
                let at = page + offset as u64;
                if writes {
                    let word = self.word(at).to_le_bytes();
                    put(&mut self.disk, place, &word);
                } else {
                    let word = self.disk[place..place + 4].try_into().unwrap();
                    self.set_word(at, u32::from_le_bytes(word));
                }
            }
            done += len;
            if done < bytes {
                page = if is_list {
                    let at = second + 8 * index;
                    u64::from(self.word(at + 4)) << 32 | u64::from(self.word(at))
                } else {
                    second
                };
                index += 1;
                assert!(page % 4096 == 0 && page != 0, "a page that does not begin as one");
            }
        }
    }
}

impl Memory for Ram {
    fn address(&self) -> u64 {
        self.1
    }
    fn load(&self, offset: usize) -> u32 {
        self.0.0.borrow().word(self.1 + offset as u64)
    }
    fn store(&self, offset: usize, value: u32) {
        self.0.0.borrow_mut().set_word(self.1 + offset as u64, value);
    }
}

impl Machine for Sim {
    type Memory = Ram;

    fn read(&self, offset: usize) -> u32 {
        assert!(offset < REGISTER_BYTES);
        let state = self.0.borrow();
        if state.is_gone {
            return u32::MAX;
        }
        match offset {
            0 => state.cap as u32,
            4 => (state.cap >> 32) as u32,
            8 => 0x1_0400,
            0x14 => state.configuration,
            0x1c => {
                let shut_down = if state.configuration >> 14 & 0b11 != 0 { 0b10 << 2 } else { 0 };
                u32::from(state.is_ready) | u32::from(state.has_failed) << 1 | shut_down
            }
            _ => 0,
        }
    }

    fn write(&self, offset: usize, value: u32) {
        assert!(offset < REGISTER_BYTES);
        let mut state = self.0.borrow_mut();
        if state.is_gone {
            return;
        }
        let half = |whole: &mut u64, is_high: bool| {
            let shift = if is_high { 32 } else { 0 };
            *whole = *whole & !(0xffff_ffff << shift) | u64::from(value) << shift;
        };
        match offset {
            0x14 => {
                state.configuration = value;
                let is_enabled = value & 1 != 0;
                if is_enabled && !state.is_ready {
                    assert_eq!(value >> 16 & 0xff, 0x46);
                    let [submissions, completions] = state.admin;
                    let (entries, answers) = ((state.admin_sizes & 0xfff) + 1, state.admin_sizes >> 16);
                    let ring = Ring { address: submissions, entries, ..Ring::default() };
                    state.submissions = [(0, ring)].into();
                    let ring =
                        Ring { address: completions, entries: answers + 1, phase: 1, ..Ring::default() };
                    state.completions = [(0, ring)].into();
                }
                state.is_ready = is_enabled && !state.never_ready || state.never_stops && state.is_ready;
            }
            0x24 => state.admin_sizes = value,
            0x28 | 0x2c => half(&mut state.admin[0], offset == 0x2c),
            0x30 | 0x34 => half(&mut state.admin[1], offset == 0x34),
            0x1000.. if (offset - 0x1000).is_multiple_of(8) => {
                drop(state);
                self.work(((offset - 0x1000) / 8) as u16, value);
            }
            _ => {}
        }
    }

    fn allocate(&self, bytes: usize) -> Option<Ram> {
        let mut state = self.0.borrow_mut();
        let at = state.allocated;
        let bytes = bytes.next_multiple_of(PAGE_BYTES);
        if at + bytes > state.room {
            return None;
        }
        state.allocated += bytes;
        Some(Ram(self.clone(), RAM_BASE + at as u64))
    }

    fn now_ns(&self) -> u64 {
        self.0.borrow().now_ns
    }

    fn pause(&self) {
        self.0.borrow_mut().now_ns += 1_000_000;
    }

    fn cut_off(&self) {
        self.0.borrow_mut().is_cut_off = true;
    }
}

fn start(sim: &Sim) -> Result<Controller<Sim>, StartError> {
    Controller::start(sim.clone())
}

fn open(sim: &Sim) -> Result<Namespace<Sim>, StartError> {
    let mut controller = start(sim)?;
    let ids = controller.namespaces()?;
    controller.open(*ids.first().ok_or(StartError::NoNamespace)?, 0)
}

/// Memory of the test's, filled with a pattern.
fn buffer(sim: &Sim, bytes: usize, seed: u32) -> Ram {
    let ram = sim.allocate(bytes).unwrap();
    (0..bytes / 4).for_each(|index| ram.store(4 * index, seed.wrapping_mul(index as u32 + 1)));
    ram
}

fn request(
    tag: u16,
    kind: Kind,
    sector: u64,
    parts: &[(u64, u32)],
) -> Request<impl Iterator<Item = Part> + use<>> {
    let parts: Vec<Part> = parts.iter().map(|&(address, bytes)| Part { address, bytes }).collect();
    Request { tag, kind, sector, parts: parts.into_iter() }
}

/// Has one request done.
fn run(namespace: &mut Namespace<Sim>, kind: Kind, sector: u64, parts: &[(u64, u32)]) -> Option<Status> {
    namespace.submit(request(3, kind, sector, parts)).unwrap();
    namespace.ring();
    let answer = namespace.poll()?;
    assert_eq!(answer.tag, 3);
    assert_eq!(namespace.poll(), None);
    Some(answer.status)
}

#[test]
fn controller_is_started_asked_and_shut_down() {
    let sim = Sim::new();
    let mut controller = start(&sim).unwrap();
    // What a terminal would take for a command is left out.
    assert_eq!(controller.model(), "Simulated [2Jcontroller");
    assert_eq!(controller.namespaces(), Ok(vec![1]));
    let namespace = controller.open(1, 0).unwrap();
    assert_eq!((namespace.sectors(), namespace.block_bytes()), (DISK_BYTES as u64 / 512, 512));
    assert_eq!((namespace.max_bytes(), namespace.requests()), (4096 << 5, 63));
    assert!(namespace.has_cache() && !namespace.is_read_only());
    controller.stop();
    let state = sim.0.borrow();
    assert!(!state.is_ready && !state.is_cut_off && state.configuration == 0);
}

#[test]
fn bytes_come_back_whatever_pages_they_lie_in() {
    let sim = Sim::new();
    let mut namespace = open(&sim).unwrap();
    // One page, two, many; from the middle of a page; parts that go on page by page.
    let (from, to) = (buffer(&sim, 0x30000, 0x9e37_79b9), buffer(&sim, 0x30000, 0));
    let shapes: [&[(u64, u32)]; 7] = [
        &[(0, 512)],
        &[(0, 4096)],
        &[(0x200, 4096)],
        &[(0, 8192)],
        &[(0xe00, 0x1_0200)],
        &[(0x1e00, 0x200), (0x4000, 0x1000), (0x8000, 0x3000), (0xc000, 0x200)],
        &[(0, 0x2_0000)],
    ];
    for (round, shape) in shapes.into_iter().enumerate() {
        let at = |base: u64| shape.iter().map(|&(offset, bytes)| (base + offset, bytes)).collect::<Vec<_>>();
        let sector = 1000 * round as u64;
        assert_eq!(run(&mut namespace, Kind::Write, sector, &at(from.1)), Some(Status::SUCCESS));
        assert_eq!(run(&mut namespace, Kind::Read, sector, &at(to.1)), Some(Status::SUCCESS));
        for &(offset, bytes) in shape {
            for place in (offset..offset + u64::from(bytes)).step_by(4) {
                assert_eq!(from.load(place as usize), to.load(place as usize), "shape {round} at {place}");
            }
        }
    }
    assert_eq!(run(&mut namespace, Kind::Flush, 0, &[]), Some(Status::SUCCESS));
    assert_eq!(sim.0.borrow().flushes, 1);
}

#[test]
fn queues_wrap_and_phases_turn() {
    let sim = Sim::new();
    let mut namespace = open(&sim).unwrap();
    let page = buffer(&sim, 4096, 7);
    for round in 0..200u64 {
        // So many that no round of the queue begins where the one before did.
        let count = 1 + (round * 13 % 63) as u16;
        for tag in 0..count {
            let sector = (round + u64::from(tag)) % 100;
            namespace.submit(request(tag, Kind::Write, sector, &[(page.1, 512)])).unwrap();
        }
        assert_eq!(namespace.poll(), None, "nothing was told yet");
        namespace.ring();
        let mut tags: Vec<u16> = std::iter::from_fn(|| namespace.poll()).map(|answer| answer.tag).collect();
        tags.sort_unstable();
        assert_eq!(tags, (0..count).collect::<Vec<_>>());
    }
    assert_eq!(namespace.phantoms(), 0);
}

#[test]
fn requests_that_cannot_be_are_not_begun() {
    let sim = Sim::new();
    let mut namespace = open(&sim).unwrap();
    let last = DISK_BYTES as u64 / 512;
    let refused: [(u64, &[(u64, u32)]); 13] = [
        (0, &[]),
        (0, &[(0x20_0000, 0)]),
        (0, &[(0x20_0001, 512)]),
        (0, &[(0x20_0002, 512)]),
        (0, &[(0x20_0000, 511)]),
        (0, &[(0x20_0000, 0x800), (0x20_1000, 0x800)]),
        (0, &[(0x20_0000, 0x1000), (0x20_2200, 0x200)]),
        (0, &[(0x20_0000, 0x2_0200)]),
        (0, &[(u64::MAX - 3, 512)]),
        (last, &[(0x20_0000, 512)]),
        (last - 1, &[(0x20_0000, 1024)]),
        (u64::MAX, &[(0x20_0000, 512)]),
        (u64::MAX - 1, &[(0x20_0000, 4096)]),
    ];
    for (sector, parts) in refused {
        let outcome = namespace.submit(request(0, Kind::Read, sector, parts));
        assert_eq!(outcome, Err(Refused::BadRequest), "{sector} {parts:x?}");
    }
    let good = |tag| request(tag, Kind::Read, 0, &[(RAM_BASE + 0x20_0000, 512)]);
    assert_eq!(namespace.submit(good(63)), Err(Refused::BadTag));
    assert_eq!((namespace.submit(good(5)), namespace.submit(good(5))), (Ok(()), Err(Refused::BadTag)));
    namespace.ring();
    assert_eq!(namespace.poll(), Some(Answer { tag: 5, status: Status::SUCCESS }));
    assert_eq!(namespace.poll(), None);
}

#[test]
fn blocks_of_4096_bytes_are_counted_in_sectors() {
    let sim = Sim::saying(|what, _, answer| {
        if what == 0 {
            put(answer, 0, &100u64.to_le_bytes());
            // The third of three formats.
            answer[25] = 2;
            answer[26] = 2;
            answer[128 + 8 + 2] = 12;
        }
    });
    let mut namespace = open(&sim).unwrap();
    assert_eq!((namespace.sectors(), namespace.block_bytes()), (800, 4096));
    let refused = |namespace: &mut Namespace<Sim>, sector, bytes| {
        namespace.submit(request(0, Kind::Read, sector, &[(RAM_BASE + 0x20_0000, bytes)])).is_err()
    };
    assert!(refused(&mut namespace, 1, 4096) && refused(&mut namespace, 0, 512));
    assert!(refused(&mut namespace, 796, 8192) && !refused(&mut namespace, 792, 4096));
}

#[test]
fn status_of_a_request_is_its_own() {
    // A write fails with a media error (type 2, code 80h), "do not retry".
    let sim =
        Sim::judging(|queue, command| (queue == 1 && command[0] as u8 == 1).then_some(Some((0x4280, 0))));
    let mut namespace = open(&sim).unwrap();
    let page = buffer(&sim, 4096, 1);
    let status = run(&mut namespace, Kind::Write, 0, &[(page.1, 512)]).unwrap();
    assert!(!status.is_success());
    assert_eq!(std::format!("{status}"), "status type 2, code 0x80");
    assert!(run(&mut namespace, Kind::Read, 0, &[(page.1, 512)]).unwrap().is_success());
}

#[test]
fn write_protected_namespace_is_not_written() {
    let sim = Sim::saying(|what, _, answer| answer[99] = u8::from(what == 0));
    let mut namespace = open(&sim).unwrap();
    assert!(namespace.is_read_only());
    let outcome = namespace.submit(request(0, Kind::Write, 0, &[(RAM_BASE + 0x20_0000, 512)]));
    assert_eq!(outcome, Err(Refused::BadRequest));
}

#[test]
fn answers_to_nobody_are_passed_over() {
    for lie in [(1, 9), (1, 4000), (7, 3), (0, 3), (u16::MAX, u16::MAX)] {
        let sim = Sim::new();
        let mut namespace = open(&sim).unwrap();
        sim.0.borrow_mut().lies_in_answers = Some(lie);
        let page = buffer(&sim, 4096, 1);
        for _ in 0..2 {
            let _ = namespace.submit(request(3, Kind::Write, 0, &[(page.1, 512)]));
        }
        namespace.ring();
        assert_eq!(namespace.poll(), None, "{lie:?}");
        assert_eq!(namespace.phantoms(), 1, "{lie:?}");
        // What was asked is still in flight, and its answer is taken when it comes.
        sim.0.borrow_mut().answer(1, 1, 3, 0, 0);
        assert_eq!(namespace.poll(), Some(Answer { tag: 3, status: Status::SUCCESS }), "{lie:?}");
    }
}

#[test]
fn second_answer_to_a_request_is_passed_over() {
    let sim = Sim::new();
    let mut namespace = open(&sim).unwrap();
    let page = buffer(&sim, 4096, 1);
    namespace.submit(request(3, Kind::Write, 0, &[(page.1, 512)])).unwrap();
    namespace.ring();
    sim.0.borrow_mut().answer(1, 1, 3, 0, 0);
    assert_eq!(namespace.poll(), Some(Answer { tag: 3, status: Status::SUCCESS }));
    assert_eq!((namespace.poll(), namespace.phantoms()), (None, 1));
    // More answers than the queue has entries end, too.
    for _ in 0..64 {
        sim.0.borrow_mut().answer(1, 1, 3, 0, 0);
    }
    while namespace.poll().is_some() {}
    assert!(namespace.phantoms() >= 1);
}

#[test]
fn capabilities_that_cannot_be_are_refused() {
    let refused = |cap: u64| start(&Sim::with(|state| state.cap = cap)).err();
    assert_eq!(refused(u64::MAX), Some(StartError::Gone));
    assert_eq!(refused(CAP & !(1 << 37)), Some(StartError::NoNvm));
    assert_eq!(refused(CAP | 1 << 48), Some(StartError::LargePages(13)));
    assert_eq!(refused(CAP & !0xffff), Some(StartError::ShortQueues(1)));
    assert_eq!(refused(CAP | 10 << 32), Some(StartError::FarDoorbells(12)));
    assert_eq!(refused(CAP | 0xf << 32), Some(StartError::FarDoorbells(17)));
    // What is never used may be anything.
    let small = Capabilities::check(1 | 1 << 37 | 9 << 32).unwrap();
    assert_eq!((small.queue_entries, small.timeout_ns), (2, 500_000_000));
    assert_eq!((small.doorbells(1), small.doorbells(2)), (Some([0x2000, 0x2800]), Some([0x3000, 0x3800])));
    assert_eq!(small.doorbells(3), None);
    assert_eq!(small.doorbells(u16::MAX), None);
    assert_eq!(Capabilities::check(CAP | 0xff << 24).unwrap().timeout_ns, 30_000_000_000);
}

#[test]
fn queue_of_two_entries_has_one_request_in_flight() {
    let sim = Sim::with(|state| state.cap = CAP & !0xffff | 1);
    let mut namespace = open(&sim).unwrap();
    assert_eq!(namespace.requests(), 1);
    let page = buffer(&sim, 4096, 1);
    for _ in 0..5 {
        namespace.submit(request(0, Kind::Write, 0, &[(page.1, 512)])).unwrap();
        namespace.ring();
        assert_eq!(namespace.poll().map(|answer| answer.tag), Some(0));
        assert_eq!(namespace.poll(), None);
    }
}

#[test]
fn controller_that_never_becomes_ready_is_given_up_in_time() {
    let sim = Sim::with(|state| state.never_ready = true);
    assert_eq!(start(&sim).err(), Some(StartError::NotReady));
    // Two units for that; then a shutdown that it does not even begin.
    assert!(sim.0.borrow().now_ns < 10_000_000_000);
    assert!(!sim.0.borrow().is_cut_off, "it is disabled, and says so");
}

#[test]
fn controller_that_does_not_stop_is_cut_off() {
    let sim = Sim::new();
    let mut controller = start(&sim).unwrap();
    sim.0.borrow_mut().never_stops = true;
    controller.stop();
    assert!(sim.0.borrow().is_cut_off);
    // One that is in such a state from before cannot be started.
    let sim = Sim::with(|state| (state.never_stops, state.is_ready) = (true, true));
    assert_eq!(start(&sim).err(), Some(StartError::NotReady));
}

#[test]
fn controller_that_fails_or_goes_is_noticed() {
    let failed = Sim::with(|state| state.has_failed = true);
    assert_eq!(start(&failed).err(), Some(StartError::Failed));
    let sim = Sim::new();
    let mut controller = start(&sim).unwrap();
    sim.0.borrow_mut().is_gone = true;
    assert_eq!(controller.namespaces(), Err(StartError::Gone));
    controller.stop();
    assert!(sim.0.borrow().is_cut_off);
}

#[test]
fn silence_is_no_answer() {
    let sim = Sim::judging(|queue, _| (queue == 0).then_some(None));
    assert_eq!(start(&sim).err(), Some(StartError::NoAnswer));
    assert!(sim.0.borrow().now_ns < 20_000_000_000 && !sim.0.borrow().is_ready);
}

#[test]
fn refused_commands_are_told() {
    // IDENTIFY, SET FEATURES, and the two that make queues.
    for operation in [0x06, 0x09, 0x05, 0x01u8] {
        let sim = Sim::judging(move |queue, command| {
            (queue == 0 && command[0] as u8 == operation).then_some(Some((2, 0)))
        });
        assert_eq!(open(&sim).err(), Some(StartError::Refused(Status(2))), "{operation:#x}");
    }
}

#[test]
fn controller_that_gives_few_queues_has_few_namespaces() {
    let sim = Sim::saying(|what, namespace, answer| match (what, namespace) {
        (2, _) => (0..20u32).for_each(|index| put(answer, 4 * index as usize, &(index + 1).to_le_bytes())),
        (0, 2..) => honest(0, 1, answer),
        _ => {}
    });
    sim.0.borrow_mut().granted = 1 << 16 | 200;
    let mut controller = start(&sim).unwrap();
    assert_eq!(controller.namespaces(), Ok((1..=8).collect()));
    let first = controller.open(1, 0).unwrap();
    let second = controller.open(2, 0).unwrap();
    assert_eq!((first.id(), second.id()), (1, 2));
    assert_eq!(controller.open(3, 0).err(), Some(StartError::NoQueue));
}

#[test]
fn namespaces_that_cannot_be_are_refused() {
    let opened = |change: fn(&mut [u8])| {
        open(&Sim::saying(move |what, _, answer| {
            if what == 0 {
                change(answer);
            }
        }))
        .err()
    };
    assert_eq!(opened(|_| {}), None);
    assert_eq!(opened(|answer| answer[..8].fill(0)), Some(StartError::NoNamespace));
    assert_eq!(opened(|answer| answer[26] = 1), Some(StartError::NoNamespace));
    for power in [0, 8, 13, 63, 64, 255] {
        let sim = Sim::saying(move |what, _, answer| {
            if what == 0 {
                answer[128 + 2] = power;
            }
        });
        assert_eq!(open(&sim).err(), Some(StartError::BadBlocks(power)));
    }
    assert_eq!(opened(|answer| answer[128] = 8), Some(StartError::HasMetadata(8)));
    // As many blocks as a number holds are more than can be counted in bytes.
    let sim = Sim::saying(|what, _, answer| {
        if what == 0 {
            answer[..8].fill(0xff);
        }
    });
    assert!(open(&sim).unwrap().sectors().checked_mul(512).is_some());
}

#[test]
fn lists_of_namespaces_end() {
    let listed = |ids: &'static [u32]| {
        let sim = Sim::saying(move |what, _, answer| {
            if what == 2 {
                answer[..4].fill(0);
                ids.iter().enumerate().for_each(|(at, id)| put(answer, 4 * at, &id.to_le_bytes()));
            }
        });
        start(&sim).unwrap().namespaces().unwrap()
    };
    assert_eq!(listed(&[3, 9, 0, 12]), [3, 9]);
    assert_eq!(listed(&[3, 3, 3, 3]), [3]);
    assert_eq!(listed(&[0]), []);
    assert_eq!(listed(&[5, u32::MAX]), [5]);
}

#[test]
fn other_sizes_of_entries_are_refused() {
    for (place, sizes) in [(512, 0x77), (512, 0x55), (513, 0x33), (513, 0)] {
        let sim = Sim::saying(move |what, _, answer| {
            if what == 1 {
                answer[place] = sizes;
            }
        });
        assert!(matches!(start(&sim).err(), Some(StartError::BadEntries(..))), "{place} {sizes:#x}");
    }
    // MDTS: none, one page, more than there is room for.
    for (power, bytes) in [(0, 1 << 18), (1, 8192), (200, 1 << 18)] {
        let sim = Sim::saying(move |what, _, answer| answer[77] = if what == 1 { power } else { 0 });
        assert_eq!(open(&sim).unwrap().max_bytes(), bytes);
    }
}

#[test]
fn memory_may_be_missing_at_any_step() {
    let needed = {
        let sim = Sim::new();
        open(&sim).unwrap();
        sim.0.borrow().allocated
    };
    for room in (0..needed).step_by(PAGE_BYTES) {
        let sim = Sim::with(|state| state.room = room);
        assert_eq!(open(&sim).err(), Some(StartError::OutOfMemory), "{room} bytes");
    }
    assert!(open(&Sim::with(|state| state.room = needed)).is_ok());
}
