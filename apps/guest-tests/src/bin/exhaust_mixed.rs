//! One thread makes kernel objects of all kinds, in any order, until there is no memory, and closes them; over and over. Another
//! serves a socket meanwhile, which a third asks. The kernel must live, and the service be there when memory is.
//!
//! Not for Linux, where the test would take the memory of the machine that it runs on.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use guest_tests::check;
use guest_tests::objects::{Ballast, EVENTFD, UNIX, bound, call, send, two};
use guest_tests::random::{Random, number_from_environment};

const LONG_ENOUGH: Duration = Duration::from_secs(8);
const MOST: usize = 1 << 15;

static IS_OVER: AtomicBool = AtomicBool::new(false);
static ANSWERS: AtomicU32 = AtomicU32::new(0);

/// Descriptors to be closed.
struct Made {
    list: Box<[u64; MOST]>,
    count: usize,
}

impl Made {
    fn keep(&mut self, descriptor: u64) {
        self.list[self.count] = descriptor;
        self.count += 1;
    }

    fn close(&mut self, count: usize) {
        for _ in 0..count {
            self.count -= 1;
            check!(call(libc::SYS_close, [self.list[self.count], 0, 0, 0, 0, 0]).is_ok());
        }
    }

    fn keep_two(&mut self, [first, second]: [u64; 2]) {
        self.keep(first);
        self.keep(second);
    }

    /// Makes something; what is made before a refusal is kept.
    fn make(&mut self, kind: usize) -> Result<(), i32> {
        let page = [1_u8; 4096];
        match kind {
            0 => self.keep(call(libc::SYS_eventfd2, EVENTFD)?),
            1 => {
                let ends = two(libc::SYS_pipe2, [0, libc::O_NONBLOCK as u64, 0, 0, 0, 0], 0)?;
                self.keep_two(ends);
                call(libc::SYS_write, [ends[1], page.as_ptr() as u64, 4096, 0, 0, 0])?;
            }
            2 => {
                let pair = two(libc::SYS_socketpair, [UNIX, libc::SOCK_STREAM as u64, 0, 0, 0, 0], 3)?;
                self.keep_two(pair);
                send(pair[0], pair[1])?;
                send(pair[1], pair[0])?;
            }
            3 => {
                let epoll = call(libc::SYS_epoll_create1, [0; 6])?;
                self.keep(epoll);
                let (event, add) = ([1_u32, 0, 0], libc::EPOLL_CTL_ADD as u64);
                let watched = self.list[0];
                call(libc::SYS_epoll_ctl, [epoll, add, watched, event.as_ptr() as u64, 0, 0])?;
            }
            4 => {
                let (socket, address) = bound(libc::SOCK_DGRAM)?;
                self.keep(socket);
                let to = &raw const address as u64;
                let wait = libc::MSG_DONTWAIT as u64;
                call(libc::SYS_sendto, [socket, page.as_ptr() as u64, 4096, wait, to, 16])?;
            }
            5 => {
                let file = call(libc::SYS_memfd_create, [c"m".as_ptr() as u64, 0, 0, 0, 0, 0])?;
                self.keep(file);
                call(libc::SYS_write, [file, page.as_ptr() as u64, 64, 0, 0, 0])?;
            }
            6 => {
                let mut params = [0_u64; 15];
                self.keep(call(libc::SYS_io_uring_setup, [8, params.as_mut_ptr() as u64, 0, 0, 0, 0])?);
            }
            7 => {
                let flags = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64;
                let length = 64 << 12;
                let at = call(libc::SYS_mmap, [0, length, libc::PROT_NONE as u64, flags, u64::MAX, 0])?;
                for page in (0..length).step_by(8192) {
                    call(libc::SYS_munmap, [at + page, 4096, 0, 0, 0, 0])?;
                }
                call(libc::SYS_munmap, [at, length, 0, 0, 0, 0])?;
            }
            8 => {
                let text = *Random::new(self.count as u64).pick(&[
                    c"/proc/self/maps",
                    c"/proc/net/unix",
                    c"/proc/net/udp",
                ]);
                let flags = libc::O_RDONLY as u64;
                self.keep(call(libc::SYS_open, [text.as_ptr() as u64, flags, 0, 0, 0, 0])?);
            }
            _ => {
                let (socket, _) = bound(libc::SOCK_STREAM)?;
                self.keep(socket);
                call(libc::SYS_listen, [socket, 16, 0, 0, 0, 0])?;
            }
        }
        Ok(())
    }
}

fn serve(listener: &TcpListener) {
    while !IS_OVER.load(Ordering::Relaxed) {
        let Ok((mut stream, _)) = listener.accept() else { continue };
        let mut byte = [0];
        let _ = stream.set_read_timeout(Some(Duration::from_millis(500)));
        let _ = stream.read_exact(&mut byte).and_then(|()| stream.write_all(&byte));
    }
}

fn ask(address: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_millis(500)))?;
    stream.write_all(b"?")?;
    stream.read_exact(&mut [0])
}

fn ask_on(address: SocketAddr) {
    while !IS_OVER.load(Ordering::Relaxed) {
        match ask(address) {
            Ok(()) => _ = ANSWERS.fetch_add(1, Ordering::Relaxed),
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

fn main() {
    let mut random = Random::new(number_from_environment("SEED", 13));
    let mut made = Made { list: Box::new([0; MOST]), count: 0 };
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = listener.local_addr().expect("its address");
    let server = std::thread::spawn(move || serve(&listener));
    let client = std::thread::spawn(move || ask_on(address));
    // The first is what is watched, and stays.
    made.list.fill(1);
    made.keep(call(libc::SYS_eventfd2, EVENTFD).expect("an eventfd"));
    std::thread::sleep(Duration::from_millis(200));
    let ballast = Ballast::take(2 << 10);
    let (start, mut rounds, mut refusals) = (Instant::now(), 0, 0);
    while start.elapsed() < LONG_ENOUGH {
        let mut refused = 0;
        while refused < 100 && made.count + 4 < MOST && start.elapsed() < LONG_ENOUGH {
            if made.make(random.below(10)).is_err() {
                refused += 1;
                let some = random.below(1 + made.count / 8).min(made.count - 1);
                made.close(some);
            }
        }
        refusals += refused;
        rounds += 1;
        if rounds == 2 {
            ballast.give_back(4 << 20);
        }
        let all = made.count - 1;
        made.close(all);
    }
    let before = ANSWERS.load(Ordering::Relaxed);
    println!("{rounds} rounds, {refusals} refusals, {before} answers");
    check!(refusals > 0);
    // What was lost for want of memory is sent again, after a time that doubles.
    let over = Instant::now();
    while ANSWERS.load(Ordering::Relaxed) == before {
        check!(over.elapsed() < Duration::from_secs(40));
        std::thread::sleep(Duration::from_millis(10));
    }
    IS_OVER.store(true, Ordering::Relaxed);
    let _ = ask(address);
    check!(client.join().is_ok());
    let _ = ask(address);
    check!(server.join().is_ok());
}
