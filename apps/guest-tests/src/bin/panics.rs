//! A handler that panics ends its connection, and the server goes on; who panicked can be told from the
//! program's own file.

use std::backtrace::Backtrace;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;
use std::{env, fs, panic, thread};

use guest_tests::{check, check_eq};

fn main() {
    knows_its_program();
    is_caught();
    names_the_panicking_function();
    let server = serve();
    for round in 0..20 {
        check_eq!(ask(server, &format!("{round}")), format!("answer {round}"));
        // The connection is closed by the unwinding: its owner is dropped.
        check_eq!(ask(server, "panic"), "");
    }
    check!(thread::spawn(|| handler("panic")).join().is_err());
}

fn is_caught() {
    let caught = panic::catch_unwind(|| handler("panic"));
    check_eq!(caught.unwrap_err().downcast_ref::<String>().map(String::as_str), Some("a request of panic"));
}

/// `/proc/self/exe` leads to the program, under its name.
fn knows_its_program() {
    let path = env::current_exe().unwrap();
    check_eq!(path.file_name().unwrap(), "panics");
    check_eq!(Path::new(&env::args_os().next().unwrap()).file_name().unwrap(), "panics");
    check_eq!(fs::read_to_string("/proc/self/comm").unwrap(), "panics\n");
    check_eq!(fs::metadata(&path).unwrap().len(), fs::read(&path).unwrap().len() as u64);
    let file = fs::File::open("/proc/self/exe").unwrap();
    check_eq!(file.metadata().unwrap().len(), fs::metadata(&path).unwrap().len());
    let mut start = [0; 4];
    file.read_exact_at(&mut start, 0).unwrap();
    check_eq!(&start, b"\x7fELF");
    // Its text is in it as it is in memory.
    let code = handler as *const u8;
    // SAFETY: the code of a function can be read, and is longer than this.
    let code = unsafe { std::slice::from_raw_parts(code, 16) };
    check!(fs::read(&path).unwrap().windows(16).any(|bytes| bytes == code));
    check_eq!(
        fs::OpenOptions::new().write(true).open(&path).unwrap_err().raw_os_error(),
        Some(libc::ETXTBSY)
    );
}

fn names_the_panicking_function() {
    static SEEN: Mutex<String> = Mutex::new(String::new());
    let before = panic::take_hook();
    panic::set_hook(Box::new(|_| *SEEN.lock().unwrap() = Backtrace::force_capture().to_string()));
    check!(panic::catch_unwind(|| handler("panic")).is_err());
    panic::set_hook(before);
    let seen = SEEN.lock().unwrap();
    check!(seen.contains("handler"));
    check!(seen.contains("names_the_panicking_function"));
}

/// A server with a thread for each connection.
fn serve() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            thread::spawn(move || {
                let mut request = String::new();
                connection.read_to_string(&mut request).unwrap();
                connection.write_all(handler(&request).as_bytes()).unwrap();
            });
        }
    });
    address
}

#[inline(never)]
fn handler(request: &str) -> String {
    assert!(request != "panic", "a request of {request}");
    format!("answer {request}")
}

fn ask(server: SocketAddr, request: &str) -> String {
    let mut connection = TcpStream::connect(server).unwrap();
    connection.write_all(request.as_bytes()).unwrap();
    connection.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    answer
}
