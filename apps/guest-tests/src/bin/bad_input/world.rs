//! What the calls are made with: a folder with files in it, buffers, descriptors of every kind. All is as
//! new before each call, for the one before may have changed anything.

use std::ffi::CString;
use std::fs;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use guest_tests::raw_syscall;

use crate::Bad;
use guest_tests::call_table::Kind;

/// Where everything happens.
/// On a file system in memory, whose limits are those of ours.
/// Several may run at once, so the process's number follows.
const FOLDER: &str = "/dev/shm/bad-input-";
const PAGE: u64 = 4096;
/// Where the buffers are: far from where anything else is mapped, so that what lies behind stays unmapped.
const BUFFERS: u64 = 0x1000_0000_0000;
/// As long as what a call could have mapped.
const LARGEST_MAPPING: u64 = PAGE;
/// A page for each argument, and one to stand before the unmapped one.
const PAGES: u64 = 7;
/// Descriptors of the test's own are below this one; what a call made is closed.
const FIRST_OF_CALLS: u64 = 40;
/// How soon a call that waits is interrupted.
const PATIENCE_MICROS: i64 = 20_000;

/// Kinds of descriptors.
pub(crate) const DESCRIPTORS: [&str; 16] = [
    "file",
    "directory",
    "name",
    "reader",
    "writer",
    "eventfd",
    "timerfd",
    "signalfd",
    "epoll",
    "tcp",
    "listener",
    "udp",
    "unix",
    "memfd",
    "null",
    "read-only",
];

/// See the module.
pub(crate) struct World {
    open: Vec<OwnedFd>,
    path: Option<CString>,
    timer: Option<u64>,
}

extern "C" fn on_alarm(_signal: libc::c_int) {}

impl World {
    pub(crate) fn new() -> Self {
        // SAFETY: the handler does nothing.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_alarm as extern "C" fn(libc::c_int) as usize;
            assert_eq!(libc::sigaction(libc::SIGALRM, &raw const action, std::ptr::null_mut()), 0);
        }
        Self { open: Vec::new(), path: None, timer: None }
    }

    /// Makes everything as it was.
    pub(crate) fn renew(&mut self) {
        self.open.clear();
        if let Some(timer) = self.timer.take() {
            raw_syscall(libc::SYS_timer_delete, [timer, 0, 0, 0, 0, 0]);
        }
        raw_syscall(libc::SYS_close_range, [3, u64::from(u32::MAX), 0, 0, 0, 0]);
        raw_syscall(libc::SYS_umask, [0o022, 0, 0, 0, 0, 0]);
        // Where an earlier call has put the program, paths must still be what they were.
        let folder = PathBuf::from(format!("{FOLDER}{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("directory/inner")).expect("/dev/shm is writable");
        std::env::set_current_dir(&folder).expect("it was just made");
        fs::write("file", "six by").expect("the folder is writable");
        symlink("loop", "loop").expect("the folder is writable");
        symlink("nothing", "a-dangling-link").expect("the folder is writable");
        // SAFETY: these are our own addresses, and only calls that are over by now were told of them.
        unsafe {
            let address = BUFFERS as *mut libc::c_void;
            assert_eq!(libc::munmap(address, ((PAGES + 1) * PAGE) as usize), 0);
            let (protection, flags) =
                (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
            let len = (PAGES * PAGE) as usize;
            assert_eq!(libc::mmap(address, len, protection, flags | libc::MAP_FIXED, -1, 0), address);
        }
    }

    /// Leaves nothing behind.
    pub(crate) fn remove(&mut self) {
        let _ = fs::remove_dir_all(format!("{FOLDER}{}", std::process::id()));
    }

    /// What belongs at an argument's place.
    pub(crate) fn good(&mut self, kind: Kind, position: usize, paths: &mut usize) -> u64 {
        match kind {
            Kind::Fd => self.descriptor("file"),
            Kind::Pointer => BUFFERS + position as u64 * PAGE,
            Kind::Str => {
                *paths += 1;
                self.text(position, if *paths == 1 { "file" } else { "new" })
            }
            Kind::Size => 16,
            Kind::Number => 0,
            Kind::Clock => libc::CLOCK_MONOTONIC as u64,
        }
    }

    /// A timer that is never set.
    pub(crate) fn timer(&mut self) -> u64 {
        let (mut id, event) = (0_i32, [0_u32, 0, libc::SIGALRM as u32, libc::SIGEV_NONE as u32, 0, 0, 0, 0]);
        let arguments = [libc::CLOCK_MONOTONIC as u64, event.as_ptr() as u64, (&raw mut id) as u64, 0, 0, 0];
        assert_eq!(raw_syscall(libc::SYS_timer_create, arguments), 0);
        self.timer = Some(id as u64);
        id as u64
    }

    fn text(&mut self, position: usize, text: &str) -> u64 {
        let address = BUFFERS + position as u64 * PAGE;
        // SAFETY: a page of our own, and the text is shorter than that.
        unsafe { (address as *mut u8).copy_from_nonoverlapping(text.as_ptr(), text.len()) };
        address
    }

    /// What does not belong there.
    pub(crate) fn bad(&self, bad: Bad) -> u64 {
        match bad {
            Bad::Zero => 0,
            Bad::One => 1,
            Bad::AllOnes => u64::MAX,
            Bad::Kernel => 0xffff_8000_0000_0000,
            Bad::NonCanonical => 0x0000_8000_0000_0000,
            Bad::Unmapped => BUFFERS + PAGES * PAGE,
            Bad::Boundary => {
                let address = BUFFERS + PAGES * PAGE - 4;
                // SAFETY: the last four bytes of our own pages; no NUL, so that a text there does not end.
                unsafe { (address as *mut u8).write_bytes(b'x', 4) };
                address
            }
            Bad::Huge => 1 << 62,
            Bad::MaxInt => 0x7fff_ffff,
        }
    }

    /// The address of a path; the longest name is made longer than names can be.
    pub(crate) fn bad_path(&mut self, path: &str) -> u64 {
        let path = if path.starts_with("a-name") { "n".repeat(256) } else { path.to_owned() };
        let path = self.path.insert(CString::new(path).expect("there is no NUL in it"));
        path.as_ptr() as u64
    }

    /// A descriptor of some kind.
    pub(crate) fn descriptor(&mut self, kind: &str) -> u64 {
        let made = make(kind, &mut self.open);
        let number = made.as_raw_fd();
        assert!(u64::from(number.unsigned_abs()) < FIRST_OF_CALLS, "descriptors are given back");
        self.open.push(made);
        number as u64
    }

    /// From now on a call that waits is interrupted.
    pub(crate) fn arm(&self) {
        set_alarm(PATIENCE_MICROS);
    }

    /// Takes back what a call has made and nothing else would: a mapping.
    pub(crate) fn give_back(&self, call: &str, result: i64) {
        let is_address = !(-4096..PAGE as i64).contains(&result);
        if matches!(call, "mmap" | "mremap") && is_address && result as u64 != BUFFERS {
            raw_syscall(libc::SYS_munmap, [result as u64, LARGEST_MAPPING, 0, 0, 0, 0]);
        }
    }

    pub(crate) fn disarm(&mut self) {
        set_alarm(0);
        // The call may have closed them: their numbers are closed by `renew`, whoever has them now.
        for open in self.open.drain(..) {
            let _ = open.into_raw_fd();
        }
    }
}

fn set_alarm(micros: i64) {
    let span = libc::timeval { tv_sec: 0, tv_usec: micros };
    let timer = libc::itimerval { it_interval: span, it_value: span };
    raw_syscall(libc::SYS_setitimer, [0, (&raw const timer) as u64, 0, 0, 0, 0]);
}

/// Makes a descriptor; what it needs to exist goes into `others`.
fn make(kind: &str, others: &mut Vec<OwnedFd>) -> OwnedFd {
    use rustix::event::{EventfdFlags, eventfd};
    use rustix::fs::{MemfdFlags, Mode, OFlags, memfd_create, open};
    use rustix::net::{AddressFamily, SocketType, bind, listen, socket};
    use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};
    let open = |path, flags| open(path, flags, Mode::empty()).expect("it is there");
    let socket = |kind| socket(AddressFamily::INET, kind, None).expect("there are sockets");
    match kind {
        "file" => open("file", OFlags::RDWR),
        "read-only" => open("file", OFlags::RDONLY),
        "directory" => open("directory", OFlags::RDONLY),
        "name" => open("file", OFlags::PATH),
        "null" => open("/dev/null", OFlags::RDWR),
        "reader" | "writer" => {
            let (reader, writer) = rustix::pipe::pipe().expect("there are pipes");
            let (wanted, other) = if kind == "reader" { (reader, writer) } else { (writer, reader) };
            others.push(other);
            wanted
        }
        "unix" => {
            let (one, other) = UnixStream::pair().expect("there are pairs");
            others.push(other.into());
            one.into()
        }
        "eventfd" => eventfd(1, EventfdFlags::empty()).expect("there are counters"),
        "timerfd" => {
            timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::empty()).expect("there are timers")
        }
        "signalfd" => signalfd(),
        "epoll" => rustix::event::epoll::create(rustix::event::epoll::CreateFlags::empty()).expect("epoll"),
        "memfd" => memfd_create("memory", MemfdFlags::empty()).expect("there is memory"),
        "tcp" => socket(SocketType::STREAM),
        "udp" => socket(SocketType::DGRAM),
        "listener" => {
            let listener = socket(SocketType::STREAM);
            bind(&listener, &"127.0.0.1:0".parse::<std::net::SocketAddrV4>().expect("an address"))
                .and_then(|()| listen(&listener, 1))
                .expect("a free port");
            listener
        }
        other => panic!("nobody knows how to make {other}"),
    }
}

fn signalfd() -> OwnedFd {
    use std::os::fd::FromRawFd;
    let set = 0u64;
    let result = raw_syscall(libc::SYS_signalfd4, [u64::MAX, (&raw const set) as u64, 8, 0, 0, 0]);
    let number = i32::try_from(result).ok().filter(|number| *number >= 0).expect("there are signal files");
    // SAFETY: the number is new, and nobody else's.
    unsafe { OwnedFd::from_raw_fd(number) }
}
