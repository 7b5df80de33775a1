//! How the machine stops.

use linux_raw_sys::general::*;
use linux_raw_sys::net::AF_INET;
use unikernel_hal::sim::app;

use super::super::app::calls::{Room, sys};
use super::super::app::net::{self, STREAM};
use super::super::app::{files, spawn};
use super::machine;

/// Has SIGTERM do nothing.
fn ignore_term() {
    sys!(rt_sigaction, SIGTERM, &Room::of_longs(&[1, 0x0400_0000, app::RESTORER, 0]), 0, 8).unwrap();
}

#[test]
fn app_that_does_not_listen_is_killed_in_the_end() {
    let outcome = machine("stop=3").run(|| {
        ignore_term();
        app::press_power_button();
        loop {
            files::sleep_ms(100);
            assert!(files::now_ms() < 4000, "it has three seconds");
        }
    });
    assert_eq!(outcome.code, Some(128 + SIGKILL as i32), "{}", outcome.console);
    assert!((3_000_000_000..4_500_000_000).contains(&outcome.now_ns), "{} ns", outcome.now_ns);
}

#[test]
fn button_can_be_pressed_again_without_harm() {
    let outcome = machine("").run(|| {
        ignore_term();
        app::press_power_button();
        files::sleep_ms(10);
        app::press_power_button();
        9
    });
    assert_eq!(outcome.code, Some(9), "{}", outcome.console);
}

#[test]
fn parts_of_the_app_still_connect_to_each_other_during_the_stop() {
    let outcome = machine("").run(|| {
        ignore_term();
        let (listener, address) = net::listener();
        app::press_power_button();
        files::sleep_ms(10);
        let client = net::socket(AF_INET, STREAM);
        assert_eq!(net::connect(client, &address), Ok(0));
        let server = net::accept(listener).unwrap();
        assert_eq!((files::write(server, b"bye"), files::read(client, 8)), (Ok(3), Ok(b"bye".to_vec())));
        0
    });
    assert_eq!(outcome.code, Some(0), "{}", outcome.console);
}

#[test]
fn end_is_what_the_command_line_says() {
    // The simulated machine tells the code only where it was offered to its host.
    for (line, code) in [("exit=poweroff", 7), ("exit=debug-exit", 7), ("exit=halt", 0), ("exit=reboot", 0)] {
        let outcome = machine(line).run(|| 7);
        assert_eq!(outcome.code, Some(code), "{line}: {}", outcome.console);
        assert!(outcome.console.contains("the app exited with code 7"), "{}", outcome.console);
    }
}

#[test]
fn threads_of_the_app_come_to_rest() {
    for seed in 0..6 {
        let machine = super::Machine { seed, cores: 2, ..super::Machine::default() };
        let outcome = machine.run(|| {
            for _ in 0..3 {
                spawn(|| {
                    loop {
                        app::compute_ns(10_000);
                        let _ = sys!(getpid);
                    }
                })
                .unwrap();
            }
            spawn(|| {
                let _ = sys!(pause);
            })
            .unwrap();
            files::sleep_ms(1);
            4
        });
        assert_eq!(outcome.code, Some(4), "seed {seed}: {}", outcome.console);
    }
}
