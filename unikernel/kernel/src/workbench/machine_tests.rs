//! The machine itself: it boots, ends, repeats.

use alloc::vec::Vec;

use linux_raw_sys::general as linux;

use super::app::{Machine, call, join, map, spawn, text, word};
use unikernel_hal::sim::app;

#[test]
fn app_ends_with_its_code() {
    let outcome = Machine::default().run(|| 7);
    assert_eq!(outcome.code, Some(7), "{outcome:?}");
}

#[test]
fn failed_assertion_of_the_app_is_told() {
    let outcome = Machine::default().run(|| panic!("on purpose"));
    assert_eq!(outcome.code, None);
}

#[test]
fn file_keeps_what_was_written() {
    let outcome = Machine::default().run(|| {
        let path = text("/tmp/file");
        let flags = linux::O_RDWR | linux::O_CREAT;
        let file = call(linux::__NR_open, &[path, flags.into(), 0o600]).unwrap();
        let bytes = super::app::put(b"hello");
        assert_eq!(call(linux::__NR_write, &[file, bytes, 5]), Ok(5));
        let into = map(16);
        assert_eq!(call(linux::__NR_pread64, &[file, into, 16, 1]), Ok(4));
        assert_eq!(super::app::get(into, 4), b"ello");
        0
    });
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
}

#[test]
fn threads_take_turns_at_a_futex() {
    for seed in 0..20 {
        let machine = Machine { seed, cores: 2, ..Machine::default() };
        let outcome = machine.run(|| {
            let turn = map(4096);
            let player = move |own: u32| {
                for _ in 0..20 {
                    while word(turn) != own {
                        let _ =
                            call(linux::__NR_futex, &[turn, linux::FUTEX_WAIT.into(), (1 - own).into(), 0]);
                    }
                    app::write(turn, &(1 - own).to_le_bytes());
                    call(linux::__NR_futex, &[turn, linux::FUTEX_WAKE.into(), 1]).unwrap();
                }
            };
            let other = spawn(move || player(1)).unwrap();
            player(0);
            join(other);
            0
        });
        assert_eq!(outcome.code, Some(0), "seed {seed}: {outcome:?}");
    }
}

#[test]
fn equal_seeds_make_equal_runs() {
    let run = || {
        Machine { seed: 42, cores: 2, ..Machine::default() }.run(|| {
            let yielding = || {
                let _ = call(linux::__NR_sched_yield, &[]);
            };
            let threads: Vec<_> = (0..4).map(|_| spawn(yielding).unwrap()).collect();
            threads.into_iter().for_each(join);
            0
        })
    };
    assert_eq!(run(), run());
}

#[test]
fn power_button_ends_the_app_as_sigterm_does() {
    for seed in 0..6 {
        let outcome = Machine { seed, cores: 2, ..Machine::default() }.run(|| {
            app::press_power_button();
            loop {
                let _ = call(linux::__NR_pause, &[]);
            }
        });
        assert_eq!(outcome.code, Some(128 + 15), "seed {seed}: {}", outcome.console);
    }
}
