//! Power cuts. A session of random operations is recorded; at many points of it the power is cut, the disk that
//! is left is mounted (which replays the journal), and three things are asked:
//!
//! - is it whole? (our own check for all, `e2fsck` for a sample)
//! - is everything there that was made durable before the cut?
//! - is nothing torn visible? The names are those after one of the operations since the last sync, and each
//!   block of a file is as it was then, or as a later operation has overwritten it in its place.
//!
//! `POWERCUT_POINTS=1000000 cargo test --release powercut` for a long run: `make powercut`.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::string::{String, ToString};
use std::vec::Vec;

use super::check::check;
use super::found::{Found, content_of};
use super::recorder::{CrashDevice, Event, Recorder, apply, memory};
use super::workload::{Model, Node, Random, Workload};
use super::*;

/// Cut points of a normal run.
const DEFAULT_POINTS: u64 = 10_000;
/// Cut points of one session.
const POINTS_PER_SESSION: u64 = 600;
/// One of so many cuts is shown to `e2fsck` too.
const FSCK_SAMPLE: u64 = 300;

/// The state after an operation.
struct Step {
    /// Events before the operation began.
    begin: usize,
    model: Model,
}

/// A promise: what was durable when this many events had happened.
struct Promise {
    events: usize,
    step: usize,
    /// Only this file's content, or everything.
    file: Option<u32>,
}

struct Session {
    base: Vec<u8>,
    events: Vec<Event>,
    steps: Vec<Step>,
    promises: Vec<Promise>,
}

/// Random operations on a fresh filesystem, recorded.
fn record(seed: u64) -> Session {
    let block_bytes = if seed.is_multiple_of(3) { 4096 } else { 1024 };
    let device = formatted(if block_bytes == 4096 { 9 << 10 } else { 2300 }, block_bytes);
    let base = device.image();
    let recorder = Recorder::new(device, block_bytes as usize);
    let mut workload = Workload::new(seed);
    // Small files and many syncs cut more often where it matters; long ones fill the journal.
    workload.max_bytes = [3_000, 12_000, 60_000][(seed % 7 % 3) as usize];
    let mut steps = std::vec![Step { begin: 0, model: Model::default() }];
    let mut promises = std::vec![Promise { events: 0, step: 0, file: None }];
    let mut fs = mounted(&recorder);
    let sync_every = 2 + seed % 9;
    for _ in 0..250 + 100 * (seed % 5) {
        let begin = recorder.count();
        workload.step(&mut fs);
        steps.push(Step { begin, model: workload.model.clone() });
        if workload.random.below(sync_every) == 0 {
            let file = workload.sync(&mut fs);
            let file = if fs.has_uncommitted() { file } else { None };
            if file.is_some() || !fs.has_uncommitted() {
                promises.push(Promise { events: recorder.count(), step: steps.len() - 1, file });
            }
        }
    }
    if seed.is_multiple_of(2) {
        workload.let_all_go(&mut fs);
        fs.unmount(at(workload.now)).expect("unmount");
        promises.push(Promise { events: recorder.count(), step: steps.len() - 1, file: None });
    }
    Session { base, events: recorder.events(), steps, promises }
}

/// The names of a state, without contents but with the sizes of files.
fn shape_of_model(model: &Model) -> Vec<String> {
    let line = |(path, node): (&String, &Node)| match node {
        Node::Directory => std::format!("{path} d"),
        Node::Symlink(target) => std::format!("{path} l {target:?}"),
        Node::File(number) => std::format!("{path} f {}", model.content[number].len()),
    };
    model.paths.iter().map(line).collect()
}

fn shape_of_found(found: &BTreeMap<String, Found>) -> Vec<String> {
    let line = |(path, node): (&String, &Found)| match node {
        Found::Directory => std::format!("{path} d"),
        Found::Symlink(target) => std::format!("{path} l {target:?}"),
        Found::File(_, bytes) => std::format!("{path} f {}", bytes.len()),
    };
    found.iter().map(line).collect()
}

/// True if a block of a file is as one of its versions has it. Past that version's end it may hold zeros or what
/// others had there: cutting a file off does not touch its last block, and an uncommitted cut never happened.
fn is_known_block(versions: &[Rc<Vec<u8>>], at: usize, block: &[u8]) -> bool {
    versions.iter().any(|version| {
        let begin = version.get(at..version.len().min(at + block.len())).unwrap_or(&[]);
        let is_from_another =
            |index: usize, byte: u8| versions.iter().any(|other| other.get(at + index) == Some(&byte));
        let mut rest = block.iter().enumerate().skip(begin.len());
        block.starts_with(begin) && rest.all(|(index, byte)| *byte == 0 || is_from_another(index, *byte))
    })
}

impl Session {
    /// The first and the last operation whose state may be what a cut at `cut` events has left.
    fn window(&self, cut: usize) -> (usize, usize) {
        let kept = |promise: &&Promise| promise.events <= cut && promise.file.is_none();
        let first = self.promises.iter().rfind(kept).map_or(0, |promise| promise.step);
        let last = self.steps.partition_point(|step| step.begin <= cut) - 1;
        (first, last.max(first))
    }

    /// The operation since which a file's content was promised.
    fn promised(&self, cut: usize, file: u32) -> usize {
        let kept = |promise: &&Promise| {
            promise.events <= cut && promise.file.is_none_or(|promised| promised == file)
        };
        self.promises.iter().rfind(kept).map_or(0, |promise| promise.step)
    }

    /// Fails unless `found` is a state that a cut at `cut` may leave.
    fn assert_allowed(&self, cut: usize, found: &BTreeMap<String, Found>, label: &str) {
        let (first, last) = self.window(cut);
        let shape = shape_of_found(found);
        let mut reason = "no state since the last sync has these names and sizes".to_string();
        for step in first..=last {
            if shape_of_model(&self.steps[step].model) != shape {
                continue;
            }
            match self.compare(cut, step, last, found) {
                Ok(()) => return,
                Err(why) => reason = why,
            }
        }
        panic!("{label}: {reason} (operations {first} to {last})\n{shape:#?}");
    }

    fn compare(
        &self,
        cut: usize,
        step: usize,
        last: usize,
        found: &BTreeMap<String, Found>,
    ) -> Result<(), String> {
        let model = &self.steps[step].model;
        for (path, node) in &model.paths {
            let (Node::File(number), Found::File(_, bytes)) = (node, &found[path]) else { continue };
            let versions = self.versions(*number, step.max(self.promised(cut, *number)).min(last), last);
            for (index, block) in bytes.chunks(1024).enumerate() {
                let is_known = is_known_block(&versions, index * 1024, block);
                if !is_known {
                    return Err(std::format!(
                        "{path}: torn or old at {}, after operation {step}",
                        index * 1024
                    ));
                }
            }
        }
        Ok(())
    }

    /// The contents that a file had from one operation to another.
    fn versions(&self, number: u32, first: usize, last: usize) -> Vec<Rc<Vec<u8>>> {
        let mut versions: Vec<Rc<Vec<u8>>> = Vec::new();
        for step in &self.steps[first..=last] {
            if let Some(content) = step.model.content.get(&number)
                && versions.last().is_none_or(|before| !Rc::ptr_eq(before, content))
            {
                versions.push(content.clone());
            }
        }
        versions
    }
}

/// Mounts what a cut has left and asks the three questions. Then cuts the recovery too.
fn examine(session: &Session, cut: usize, device: &CrashDevice<'_>, random: &mut Random, label: &str) {
    let block_bytes = if session.base[1024 + 24] == 2 { 4096 } else { 1024 };
    let before = (random.below(FSCK_SAMPLE) == 0).then(|| device.image());
    let cuts_recovery = random.below(4) == 0;
    let recorder = Recorder::new(device, block_bytes);
    let start = cuts_recovery.then(|| device.image());
    recover_and_check(session, cut, &recorder, label);
    if let Some(image) = before {
        judge(image, device.image(), label);
    }
    if let Some(image) = start {
        let events = recorder.events();
        let stop = random.below(events.len() as u64 + 1) as usize;
        let (durable, in_flight) = split_at_flush(&events[..stop], 0);
        let mut image = image;
        apply(&mut image, durable);
        let survived: Vec<Event> = in_flight.iter().filter(|_| random.below(2) == 0).cloned().collect();
        let second = CrashDevice::new(&image, survived.iter());
        recover_and_check(session, cut, &second, &std::format!("{label}, recovery cut at {stop}"));
    }
}

fn recover_and_check<D: crate::BlockDevice>(session: &Session, cut: usize, device: &D, label: &str) {
    let mut fs = Ext4::mount(device, MountMode::ReadWrite, at(1_000_000))
        .unwrap_or_else(|error| panic!("{label}: mount: {error:?}"));
    fs.commit(at(1_000_000)).expect("commit");
    check(&mut fs);
    let found = content_of(&mut fs);
    session.assert_allowed(cut, &found, label);
    fs.unmount(at(1_000_001)).expect("unmount");
}

/// Asks `e2fsck`: about what we have recovered, and whether its own recovery finds something to repair.
fn judge(cut: Vec<u8>, recovered: Vec<u8>, label: &str) {
    assert_clean(&recovered);
    let path = TempPath::new("cut");
    std::fs::write(&path.0, cut).expect("the image can be written");
    let (code, text) = run("e2fsck", &["-fy", &path.text()]);
    // The superblock's totals are brought up to date at a mount, as Linux does; the groups' counts are right.
    let is_total = |line: &&str| {
        line.starts_with("Free blocks count wrong (") || line.starts_with("Free inodes count wrong (")
    };
    let repairs = text.matches("? yes").count();
    let is_fine = code <= 1 && repairs == text.lines().filter(is_total).count();
    assert!(is_fine, "{label}: e2fsck -fy: {code}\n{text}");
}

/// What was durable, and what was in flight, if the disk did nothing at the last `ignored` flushes.
fn split_at_flush(events: &[Event], ignored: usize) -> (&[Event], &[Event]) {
    let flushes = events.iter().enumerate().rev().filter(|(_, event)| matches!(event, Event::Flush));
    let flushed = flushes.map(|(at, _)| at + 1).nth(ignored).unwrap_or(0);
    events.split_at(flushed)
}

/// Cuts one session's power at many points; returns how many. The disk forgets its last `ignored` flushes.
fn cut_session(seed: u64, ignored: usize) -> u64 {
    let session = record(seed);
    let mut random = Random::new(seed ^ 0x5555);
    let (mut durable, mut durable_events) = (session.base.clone(), 0);
    let per_event = POINTS_PER_SESSION as f64 / session.events.len() as f64;
    let (mut owed, mut points) = (0.0, 0);
    for cut in 0..=session.events.len() {
        owed += per_event;
        let (flushed, in_flight) = split_at_flush(&session.events[..cut], ignored);
        let flushed = flushed.len();
        apply(&mut durable, &session.events[durable_events..flushed]);
        durable_events = flushed;
        while owed >= 1.0 {
            owed -= 1.0;
            points += 1;
            // All that was written so far, or a subset, from nearly all to nearly nothing.
            let keep = [16, 15, 8, 1][random.below(4) as usize];
            let survived: Vec<&Event> = in_flight.iter().filter(|_| random.below(16) < keep).collect();
            let device = CrashDevice::new(&durable, survived.iter().copied());
            let label =
                std::format!("seed {seed}, cut at {cut}, kept {}/{}", survived.len(), in_flight.len());
            examine(&session, cut, &device, &mut random, &label);
        }
    }
    points
}

#[test]
fn nothing_durable_is_lost_and_nothing_torn_is_seen() {
    let wanted = std::env::var("POWERCUT_POINTS").ok().and_then(|text| text.parse().ok());
    let wanted = wanted.unwrap_or(DEFAULT_POINTS);
    let first: u64 = std::env::var("POWERCUT_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let (mut points, mut seed) = (0, first);
    while points < wanted {
        points += cut_session(seed, 0);
        seed += 1;
        if (seed - first).is_multiple_of(100) {
            std::println!("{points} power cuts, sessions {first} to {}", seed - 1);
        }
    }
    std::println!("{points} power cuts in {} sessions", seed - first);
    assert!(points >= wanted);
}

#[test]
fn a_disk_that_ignores_flushes_is_found_out() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(std::boxed::Box::new(|_| {}));
    let caught = (1..4).any(|seed| std::panic::catch_unwind(|| cut_session(seed, 1)).is_err());
    std::panic::set_hook(hook);
    assert!(caught, "the test above would not see a missing flush");
}

#[test]
fn recorded_session_ends_as_the_model_says() {
    let session = record(2);
    let mut image = session.base.clone();
    apply(&mut image, &session.events);
    let mut fs = mounted(memory(&image));
    let model = &session.steps[session.steps.len() - 1].model;
    super::found::assert_same(&mut fs, model);
}
