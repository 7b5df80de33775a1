//! A server for `stop_tests` in the runner: eight threads accept, append to a file on the disk, answer and close. With
//! `deaf` it does not hear SIGTERM.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

/// Long enough to be under way when the button is pressed.
const ANSWER: usize = 100_000;

fn main() {
    if std::env::args().nth(1).as_deref() == Some("deaf") {
        // SAFETY: to ignore a signal runs no handler.
        unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
    }
    let listener = TcpListener::bind("0.0.0.0:8080").unwrap();
    println!("ready");
    thread::scope(|scope| {
        for number in 0..8 {
            let listener = &listener;
            scope.spawn(move || {
                let path = format!("/data/log{number}");
                let mut log = OpenOptions::new().create(true).append(true).open(path).unwrap();
                let answer = vec![b'x'; ANSWER];
                for mut client in listener.incoming().flatten() {
                    let _ = client.read(&mut [0; 4096]);
                    let _ = log.write_all(b"a line for each one\n");
                    let _ = client.write_all(&answer);
                }
            });
        }
    });
}
