//! epoll(7) over pipes: level and edge, one-shot, removal by closing, nesting, sleeping threads.

use std::os::fd::{AsFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::{Errno, dup, read, write};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::time::Timespec;

fn main() {
    let tests: &[(&str, fn())] = &[
        ("level-triggered", level),
        ("edge-triggered and one-shot", edge_and_oneshot),
        ("edge-triggered writer", edge_writer),
        ("many ready files take turns", turns),
        ("closing removes, unless a duplicate lives", close_and_dup),
        ("refusals", refusals),
        ("nesting", nesting),
        ("depths and circles", depths),
        ("many that watch one", fans),
        ("edges through an instance that stays ready", nested_edges),
        ("an instance that others wait on stays ready", busy_inner),
        ("time-out", time_out),
        ("sleeping threads", sleepers),
        ("a sleeper gets what another thread left", left_over),
    ];
    for (name, test) in tests {
        println!("{name}");
        test();
    }
}

const IN: EventFlags = EventFlags::IN;
const OUT: EventFlags = EventFlags::OUT;

fn create() -> OwnedFd {
    epoll::create(CreateFlags::CLOEXEC).unwrap()
}

fn pipe() -> (OwnedFd, OwnedFd) {
    pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).unwrap()
}

fn add(epoll: &OwnedFd, file: &OwnedFd, data: u64, flags: EventFlags) -> Result<(), Errno> {
    epoll::add(epoll, file, EventData::new_u64(data), flags)
}

fn modify(epoll: &OwnedFd, file: &OwnedFd, data: u64, flags: EventFlags) -> Result<(), Errno> {
    epoll::modify(epoll, file, EventData::new_u64(data), flags)
}

fn wait(epoll: impl AsFd, max: usize, timeout_ms: i64) -> Vec<(EventFlags, u64)> {
    let timeout = Timespec { tv_sec: timeout_ms / 1000, tv_nsec: timeout_ms % 1000 * 1_000_000 };
    let mut events = vec![Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; max];
    let count = epoll::wait(epoll, &mut events[..], Some(&timeout)).unwrap();
    events[..count].iter().map(|event| ({ event.flags }, { event.data }.u64())).collect()
}

fn read_all(file: &OwnedFd) -> Vec<u8> {
    let mut bytes = vec![0; 65_536];
    let mut all = Vec::new();
    while let Ok(count @ 1..) = read(file, &mut bytes[..]) {
        all.extend_from_slice(&bytes[..count]);
    }
    all
}

fn level() {
    let (epoll, (reader, writer)) = (create(), pipe());
    add(&epoll, &reader, 7, IN).unwrap();
    assert_eq!(add(&epoll, &reader, 7, IN), Err(Errno::EXIST));
    assert_eq!(wait(&epoll, 4, 0), []);
    write(&writer, b"ab").unwrap();
    assert_eq!(wait(&epoll, 4, 1000), [(IN, 7)]);
    assert_eq!(wait(&epoll, 4, 0), [(IN, 7)]);
    assert_eq!(read_all(&reader), b"ab");
    assert_eq!(wait(&epoll, 4, 0), []);
    modify(&epoll, &reader, 9, IN).unwrap();
    write(&writer, b"x").unwrap();
    assert_eq!(wait(&epoll, 4, 0), [(IN, 9)]);
    drop(writer);
    assert_eq!(wait(&epoll, 4, 0), [(IN | EventFlags::HUP, 9)]);
    epoll::delete(&epoll, &reader).unwrap();
    assert_eq!(epoll::delete(&epoll, &reader), Err(Errno::NOENT));
    assert_eq!(modify(&epoll, &reader, 0, IN), Err(Errno::NOENT));
    assert_eq!(wait(&epoll, 4, 0), []);
}

fn edge_and_oneshot() {
    let (epoll, (reader, writer)) = (create(), pipe());
    add(&epoll, &reader, 1, IN | EventFlags::ET).unwrap();
    write(&writer, b"a").unwrap();
    assert_eq!(wait(&epoll, 4, 0), [(IN, 1)]);
    assert_eq!(wait(&epoll, 4, 0), []);
    // Each arrival is an edge, though the first byte is still there.
    write(&writer, b"b").unwrap();
    assert_eq!(wait(&epoll, 4, 0), [(IN, 1)]);
    modify(&epoll, &reader, 2, IN | EventFlags::ONESHOT).unwrap();
    assert_eq!(wait(&epoll, 4, 0), [(IN, 2)]);
    write(&writer, b"c").unwrap();
    assert_eq!(wait(&epoll, 4, 0), []);
    modify(&epoll, &reader, 3, IN | EventFlags::ONESHOT).unwrap();
    assert_eq!(wait(&epoll, 4, 0), [(IN, 3)]);
}

fn edge_writer() {
    let (epoll, (reader, writer)) = (create(), pipe());
    add(&epoll, &writer, 5, OUT | EventFlags::ET).unwrap();
    assert_eq!(wait(&epoll, 4, 0), [(OUT, 5)]);
    while write(&writer, &[0; 65_536]).is_ok() {}
    assert_eq!(wait(&epoll, 4, 0), []);
    read_all(&reader);
    assert_eq!(wait(&epoll, 4, 0), [(OUT, 5)]);
    drop(reader);
    assert!(matches!(wait(&epoll, 4, 0)[..], [(flags, 5)] if flags.contains(EventFlags::ERR)));
}

fn turns() {
    let epoll = create();
    let pipes: Vec<_> = (0..8).map(|_| pipe()).collect();
    for (index, (reader, writer)) in pipes.iter().enumerate() {
        add(&epoll, reader, index as u64, IN).unwrap();
        write(writer, b"x").unwrap();
    }
    let mut seen: Vec<u64> = (0..4).flat_map(|_| wait(&epoll, 2, 0)).map(|(_, data)| data).collect();
    seen.sort_unstable();
    assert!(seen.into_iter().eq(0..8));
    drop(pipes);
    assert_eq!(wait(&epoll, 8, 0), []);
}

fn close_and_dup() {
    let (epoll, (reader, writer)) = (create(), pipe());
    let duplicate = dup(&reader).unwrap();
    add(&epoll, &reader, 1, IN).unwrap();
    add(&epoll, &duplicate, 2, IN).unwrap();
    write(&writer, b"a").unwrap();
    assert_eq!(wait(&epoll, 4, 0).len(), 2);
    // The open file lives on, and with it what was added under the closed number.
    drop(reader);
    assert_eq!(wait(&epoll, 4, 0).len(), 2);
    drop(duplicate);
    assert_eq!(wait(&epoll, 4, 0), []);
}

fn refusals() {
    let (epoll, (reader, _writer)) = (create(), pipe());
    let null: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
    assert_eq!(add(&epoll, &epoll, 0, IN), Err(Errno::INVAL));
    assert_eq!(add(&epoll, &null, 0, IN), Err(Errno::PERM));
    assert_eq!(add(&reader, &epoll, 0, IN), Err(Errno::INVAL));
    let exclusive = EventFlags::EXCLUSIVE;
    assert_eq!(add(&epoll, &reader, 0, IN | exclusive | EventFlags::ONESHOT), Err(Errno::INVAL));
    add(&epoll, &reader, 0, IN | exclusive).unwrap();
    assert_eq!(modify(&epoll, &reader, 0, IN), Err(Errno::INVAL));
    let mut none: [Event; 0] = [];
    assert_eq!(epoll::wait(&epoll, &mut none[..], None), Err(Errno::INVAL));
}

fn nesting() {
    let (outer, inner, (reader, writer)) = (create(), create(), pipe());
    add(&outer, &inner, 3, IN).unwrap();
    add(&inner, &reader, 4, IN).unwrap();
    assert_eq!(wait(&outer, 1, 0), []);
    write(&writer, b"x").unwrap();
    assert_eq!(wait(&outer, 1, 1000), [(IN, 3)]);
    assert_eq!(wait(&inner, 1, 0), [(IN, 4)]);
    read_all(&reader);
    assert_eq!(wait(&outer, 1, 0), []);
    assert_eq!(add(&inner, &outer, 0, IN), Err(Errno::LOOP));
}

/// Instances that watch each other, each the next one of the list.
fn chain(len: usize) -> Result<Vec<OwnedFd>, Errno> {
    let all: Vec<OwnedFd> = (0..len).map(|_| create()).collect();
    all.windows(2).try_for_each(|pair| add(&pair[0], &pair[1], 1, IN))?;
    Ok(all)
}

fn depths() {
    // News climb through five, whichever was added first; there are no six, and no circles of any length.
    let (reader, writer) = pipe();
    let five = chain(5).unwrap();
    add(&five[4], &reader, 9, IN).unwrap();
    assert_eq!(wait(&five[0], 1, 0), []);
    write(&writer, b"x").unwrap();
    for instance in &five {
        assert_eq!(wait(instance, 1, 1000).len(), 1);
    }
    read_all(&reader);
    assert_eq!(wait(&five[0], 1, 0), []);
    assert_eq!(chain(6).err(), Some(Errno::LOOP));
    assert_eq!(add(&create(), &five[0], 1, IN), Err(Errno::LOOP));
    assert_eq!(add(&five[4], &create(), 1, IN), Err(Errno::LOOP));
    let (low, high) = (chain(3).unwrap(), chain(3).unwrap());
    assert_eq!(add(&high[2], &low[0], 1, IN), Err(Errno::LOOP));
    for (from, to) in [(2, 0), (2, 1), (1, 0)] {
        assert_eq!(add(&low[from], &low[to], 1, IN), Err(Errno::LOOP));
    }
    // What is taken away, or closed, counts no more.
    epoll::delete(&low[0], &low[1]).unwrap();
    assert_eq!(add(&high[2], &low[0], 1, IN), Ok(()));
    assert_eq!(add(&low[2], &high[1], 1, IN), Ok(()));
    assert_eq!(add(&low[2], &low[1], 1, IN), Err(Errno::LOOP));
    let [_, _, last] = <[OwnedFd; 3]>::try_from(low).unwrap();
    drop(high);
    let other = chain(4).unwrap();
    assert_eq!(add(&last, &other[0], 1, IN), Ok(()));
    drop(other);
    let other = chain(4).unwrap();
    assert_eq!(add(&last, &other[0], 2, IN), Ok(()));
    // One that is closed while others watch it, and another in its place.
    for _ in 0..100 {
        let [top, middle, bottom] = <[OwnedFd; 3]>::try_from(chain(3).unwrap()).unwrap();
        drop(middle);
        assert_eq!(add(&bottom, &top, 1, IN), Ok(()));
    }
}

/// One instance can be watched by 500 others, if it has a file.
fn fans() {
    let (inner, (reader, writer)) = (create(), pipe());
    add(&inner, &reader, 1, IN).unwrap();
    let outer: Vec<OwnedFd> = (0..501).map(|_| create()).collect();
    outer[..500].iter().for_each(|outer| add(outer, &inner, 2, IN).unwrap());
    assert_eq!(add(&outer[500], &inner, 2, IN), Err(Errno::INVAL));
    write(&writer, b"x").unwrap();
    assert!(outer[..500].iter().all(|outer| wait(outer, 1, 1000) == [(IN, 2)]));
    epoll::delete(&outer[7], &inner).unwrap();
    assert_eq!(add(&outer[500], &inner, 2, IN), Ok(()));
    assert_eq!(wait(&outer[500], 1, 1000), [(IN, 2)]);
}

/// Who watches an instance for edges hears of each event in it, though it is ready all the time; but not twice of one.
fn nested_edges() {
    for inner_bits in [IN, IN | EventFlags::ET] {
        let (outer, inner, (reader, writer), (second, second_writer)) = (create(), create(), pipe(), pipe());
        add(&outer, &inner, 3, IN | EventFlags::ET).unwrap();
        add(&inner, &reader, 4, inner_bits).unwrap();
        for _ in 0..3 {
            write(&writer, b"x").unwrap();
            assert_eq!(wait(&outer, 1, 1000), [(IN, 3)]);
            assert_eq!(wait(&outer, 1, 0), []);
        }
        // Another file becomes ready in it; one that is there already changes nothing.
        write(&second_writer, b"x").unwrap();
        add(&inner, &second, 5, IN).unwrap();
        assert_eq!(wait(&outer, 1, 1000), [(IN, 3)]);
        modify(&inner, &second, 5, IN).unwrap();
        assert_eq!(wait(&outer, 1, 0), []);
        assert_eq!(wait(&inner, 4, 0).len(), 2);
        assert_eq!(wait(&outer, 1, 0), []);
        // Who sleeps is woken by the next event.
        let woken = thread::scope(|scope| {
            let sleeper = scope.spawn(|| wait(&outer, 1, 5000));
            thread::sleep(Duration::from_millis(50));
            write(&second_writer, b"x").unwrap();
            sleeper.join().unwrap()
        });
        assert_eq!(woken, [(IN, 3)]);
    }
}

/// While another thread has the ready files in its hands, who watches the instance must not miss them.
fn busy_inner() {
    let (outer, inner, (reader, writer)) = (create(), create(), pipe());
    add(&inner, &reader, 1, IN).unwrap();
    add(&outer, &inner, 2, IN).unwrap();
    write(&writer, b"stays").unwrap();
    thread::scope(|scope| {
        let other = scope.spawn(|| (0..20_000).for_each(|_| _ = wait(&inner, 4, 0)));
        while !other.is_finished() {
            assert_eq!(wait(&outer, 4, 2000), [(IN, 2)]);
        }
    });
}

fn time_out() {
    let (epoll, (reader, _writer)) = (create(), pipe());
    add(&epoll, &reader, 1, IN).unwrap();
    let begin = Instant::now();
    assert_eq!(wait(&epoll, 1, 30), []);
    assert!(begin.elapsed() >= Duration::from_millis(30), "{:?}", begin.elapsed());
}

fn sleepers() {
    let (epoll, (first, first_writer), (second, second_writer)) = (create(), pipe(), pipe());
    add(&epoll, &first, 1, IN | EventFlags::ET).unwrap();
    add(&epoll, &second, 2, IN | EventFlags::ET).unwrap();
    let mut woken = thread::scope(|scope| {
        let sleepers = [(); 2].map(|()| scope.spawn(|| wait(&epoll, 1, 5000)));
        thread::sleep(Duration::from_millis(20));
        write(&first_writer, b"x").unwrap();
        write(&second_writer, b"x").unwrap();
        sleepers.map(|sleeper| sleeper.join().unwrap()[0].1)
    });
    woken.sort_unstable();
    assert_eq!(woken, [1, 2]);
}

fn left_over() {
    let (epoll, (first, first_writer), (second, second_writer)) = (create(), pipe(), pipe());
    add(&epoll, &first, 1, IN).unwrap();
    add(&epoll, &second, 2, IN).unwrap();
    thread::scope(|scope| {
        let sleeper = scope.spawn(|| wait(&epoll, 4, 5000));
        thread::sleep(Duration::from_millis(20));
        write(&first_writer, b"x").unwrap();
        write(&second_writer, b"x").unwrap();
        // This thread takes one event and does not come back for the other.
        assert_eq!(wait(&epoll, 1, 5000).len(), 1);
        assert!(!sleeper.join().unwrap().is_empty());
    });
}
