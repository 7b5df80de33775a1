//! Accesses that the kernel answers with a signal.

use core::sync::atomic::{AtomicU64, Ordering};

use linux_raw_sys::errno::EFAULT;
use linux_raw_sys::general::*;
use unikernel_hal::sim::app;

use super::super::app::Machine;
use super::super::app::calls::{Room, sys};
use super::super::app::run::run;
use super::{PAGE, READ, WRITE, file_of, map, map_file};

/// The page that a handler mends, and how often it was called.
static PLACE: AtomicU64 = AtomicU64::new(0);
static COUNT: AtomicU64 = AtomicU64::new(0);

fn catch(signal: u32, handler: fn(i32)) {
    let action = Room::of_longs(&[app::handler(handler), SA_RESTORER.into(), app::RESTORER, 0]);
    sys!(rt_sigaction, signal, &action, 0, 8).unwrap();
}

#[test]
fn handler_makes_the_page_writable() {
    run(|| {
        let place = map(0, PAGE, READ, 0).unwrap();
        PLACE.store(place, Ordering::Relaxed);
        catch(SIGSEGV, |signal| {
            assert_eq!(signal as u32, SIGSEGV);
            COUNT.fetch_add(1, Ordering::Relaxed);
            sys!(mprotect, PLACE.load(Ordering::Relaxed), PAGE, WRITE).unwrap();
        });
        Room(place).put(8, b"written");
        assert_eq!((Room(place).bytes(8, 7), COUNT.load(Ordering::Relaxed)), (b"written".to_vec(), 1));
    });
}

#[test]
fn handler_maps_what_is_not_there() {
    run(|| {
        let place = map(0, PAGE, WRITE, 0).unwrap();
        PLACE.store(place, Ordering::Relaxed);
        catch(SIGSEGV, |_| {
            COUNT.fetch_add(1, Ordering::Relaxed);
            map(PLACE.load(Ordering::Relaxed), PAGE, WRITE, MAP_FIXED).unwrap();
        });
        sys!(munmap, place, PAGE).unwrap();
        // A call is told by an error, and no signal is sent.
        assert_eq!(sys!(write, 1, place, 1), Err(EFAULT));
        assert_eq!(COUNT.load(Ordering::Relaxed), 0);
        assert_eq!((Room(place).byte(0), COUNT.load(Ordering::Relaxed)), (0, 1));
    });
}

#[test]
fn access_behind_the_end_of_a_file_is_a_bus_error() {
    run(|| {
        let file = file_of(b"x");
        let place = Room(map_file(file, 2 * PAGE, WRITE, MAP_SHARED).unwrap());
        assert_eq!((place.byte(0), place.byte(PAGE - 1)), (b'x', 0));
        PLACE.store(file, Ordering::Relaxed);
        catch(SIGBUS, |_| {
            COUNT.fetch_add(1, Ordering::Relaxed);
            sys!(ftruncate, PLACE.load(Ordering::Relaxed), 2 * PAGE).unwrap();
        });
        place.put(PAGE, b"y");
        assert_eq!(COUNT.load(Ordering::Relaxed), 1);
        assert_eq!(super::byte_of(file, PAGE), b'y');
    });
}

#[test]
fn truncation_takes_mapped_pages_away() {
    run(|| {
        let file = file_of(&[7; 2 * PAGE]);
        let place = Room(map_file(file, 2 * PAGE, WRITE, MAP_SHARED).unwrap());
        assert_eq!(place.byte(PAGE), 7);
        sys!(ftruncate, file, PAGE).unwrap();
        let sink = sys!(open, "/tmp/sink", O_WRONLY | O_CREAT, 0o600).unwrap();
        assert_eq!(sys!(write, sink, place.at(PAGE), 1), Err(EFAULT));
        assert_eq!(sys!(write, sink, place.0, 1), Ok(1));
        sys!(ftruncate, file, 2 * PAGE).unwrap();
        assert_eq!(place.byte(PAGE), 0);
    });
}

#[test]
fn access_without_a_handler_ends_the_app() {
    let outcome = Machine::default().run(|| {
        Room(8).put(0, b"x");
        0
    });
    assert_ne!(outcome.code, Some(0));
    assert!(outcome.console.contains("SIGSEGV"), "{outcome:?}");
}

#[test]
fn blocked_fault_ends_the_app() {
    let outcome = Machine::default().run(|| {
        catch(SIGSEGV, |_| ());
        let mask = Room::of_longs(&[1 << (SIGSEGV - 1)]);
        sys!(rt_sigprocmask, SIG_BLOCK, &mask, 0, 8).unwrap();
        Room(8).put(0, b"x");
        0
    });
    assert_ne!(outcome.code, Some(0));
    assert!(outcome.console.contains("SIGSEGV"), "{outcome:?}");
}
