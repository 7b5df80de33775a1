//! An HTTP server that is slow, each way by its name, for `tail_tests` in the runner: a thread for each connection, and nothing but an
//! answer.

use std::fs::File;
use std::hint::black_box;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
/// How long the lock is held now and then, and once in how many requests.
const HELD: Duration = Duration::from_millis(40);
const HELD_EVERY: u64 = 200;
/// Once in how many requests the disk is written to, and how much.
const WRITTEN_EVERY: u64 = 25;
const WRITTEN_BYTES: usize = 128 << 10;

static LOCK: Mutex<()> = Mutex::new(());
static COUNT: AtomicU64 = AtomicU64::new(0);

fn main() -> io::Result<()> {
    let how = std::env::args().nth(1).unwrap_or_default();
    let work: fn() = match how.as_str() {
        "lock" => takes_the_lock,
        "disk" => writes_to_the_disk,
        "core" => {
            thread::Builder::new().name("burner".to_owned()).spawn(burns)?;
            || ()
        }
        "wire" => || (),
        other => panic!("no way to be slow: `{other}`"),
    };
    let listener = TcpListener::bind(("0.0.0.0", 8080))?;
    for connection in listener.incoming() {
        let connection = connection?;
        // That a client leaves is not this program's concern.
        thread::spawn(move || drop(serve(&connection, work)));
    }
    Ok(())
}

fn serve(connection: &TcpStream, work: fn()) -> io::Result<()> {
    connection.set_nodelay(true)?;
    let (mut reader, mut line) = (BufReader::new(connection), String::new());
    while reader.read_line(&mut line)? > 0 {
        if line == "\r\n" {
            work();
            (&mut &*connection).write_all(ANSWER)?;
        }
        line.clear();
    }
    Ok(())
}

/// Everybody does, and one in so many holds it for long.
fn takes_the_lock() {
    let _held = LOCK.lock().unwrap();
    if COUNT.fetch_add(1, Ordering::Relaxed) % HELD_EVERY == HELD_EVERY - 1 {
        thread::sleep(HELD);
    }
}

fn writes_to_the_disk() {
    if COUNT.fetch_add(1, Ordering::Relaxed) % WRITTEN_EVERY == WRITTEN_EVERY - 1 {
        let mut file = File::create("/journal").unwrap();
        file.write_all(&[0x5a; WRITTEN_BYTES]).unwrap();
        file.sync_all().unwrap();
    }
}

/// Has no time for anybody else.
#[inline(never)]
fn burns() {
    let mut count = 0_u64;
    loop {
        count = black_box(count.wrapping_add(1));
    }
}
