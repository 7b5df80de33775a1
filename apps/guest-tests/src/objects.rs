//! Kernel objects made by plain system calls, for tests that make very many of them while memory is short: nothing here
//! takes memory of the app's own.

use std::fs::File;
use std::io::Read;

use crate::raw_syscall;

/// The arguments of a call.
pub type Args = [u64; 6];

/// A descriptor, or what a call answers.
pub fn call(number: i64, args: Args) -> Result<u64, i32> {
    let result = raw_syscall(number, args);
    u64::try_from(result).map_err(|_| -result as i32)
}

/// Calls what writes two descriptors to where the argument `at` points.
pub fn two(number: i64, args: Args, at: usize) -> Result<[u64; 2], i32> {
    let mut pair = [0_i32; 2];
    let mut args = args;
    args[at] = pair.as_mut_ptr() as u64;
    call(number, args)?;
    Ok(pair.map(|descriptor| descriptor as u64))
}

/// Reads without taking memory, of which there may be none.
pub fn meminfo_kib(name: &str) -> u64 {
    let mut bytes = [0; 2048];
    let count =
        File::open("/proc/meminfo").and_then(|mut file| file.read(&mut bytes)).expect("/proc/meminfo");
    let text = std::str::from_utf8(&bytes[..count]).expect("text");
    let line = text.lines().find(|line| line.starts_with(name)).expect("a line of this name");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

/// Memory that nobody uses.
pub fn free_kib() -> u64 {
    meminfo_kib("MemFree:")
}

/// All memory.
pub fn total_kib() -> u64 {
    meminfo_kib("MemTotal:")
}

/// The arguments of eventfd2(2).
pub const EVENTFD: Args = [0; 6];
/// A family of sockets.
pub const UNIX: u64 = libc::AF_UNIX as u64;

/// Sends a descriptor to a socket.
pub fn send(socket: u64, descriptor: u64) -> Result<(), i32> {
    let control = [20_u64, 1 | 1 << 32, descriptor];
    let byte = [1_u8];
    let buffer = [byte.as_ptr() as u64, 1];
    let header = [0, 0, buffer.as_ptr() as u64, 1, control.as_ptr() as u64, 24, 0];
    call(libc::SYS_sendmsg, [socket, header.as_ptr() as u64, libc::MSG_DONTWAIT as u64, 0, 0, 0]).map(drop)
}

/// The other.
pub const INET: u64 = libc::AF_INET as u64;

/// A socket of this type with a port of loopback's, and its `sockaddr_in`.
pub fn bound(kind: i32) -> Result<(u64, [u8; 16]), i32> {
    let socket = call(libc::SYS_socket, [INET, kind as u64, 0, 0, 0, 0])?;
    let mut address = [2_u8, 0, 0, 0, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    call(libc::SYS_bind, [socket, address.as_ptr() as u64, 16, 0, 0, 0])?;
    let mut len = 16_u32;
    call(libc::SYS_getsockname, [socket, address.as_mut_ptr() as u64, &raw mut len as u64, 0, 0, 0])?;
    Ok((socket, address))
}

/// What the app has taken for itself.
pub struct Ballast {
    first: *mut u8,
    taken: usize,
}

impl Ballast {
    /// Leaves so much above the kernel's reserve.
    pub fn take(left_kib: u64) -> Self {
        // The first line takes the memory of the output's buffer, which is not to be had later where promises are kept.
        println!("{} KiB free", free_kib());
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let mut len = 1 << 30;
        let first = loop {
            // SAFETY: a fresh mapping.
            let first = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, flags, -1, 0) };
            if first != libc::MAP_FAILED {
                break first.cast::<u8>();
            }
            // Where promises are kept, there is no more than there is memory.
            len -= 1 << 20;
        };
        let (mut taken, reserve_kib) = (0, total_kib() / 16);
        while taken < len && free_kib() > reserve_kib + left_kib {
            for _ in 0..16 {
                // SAFETY: within the mapping.
                unsafe { first.add(taken).write(1) };
                taken += 4096;
            }
        }
        println!("took {} KiB; {} KiB free", taken / 1024, free_kib());
        Self { first, taken }
    }

    /// Gives every second page of so many bytes back.
    pub fn give_back(&self, bytes: usize) {
        for page in (0..self.taken.min(bytes)).step_by(8192) {
            // SAFETY: within the mapping, which nobody else uses.
            unsafe { libc::madvise(self.first.add(page).cast(), 4096, libc::MADV_DONTNEED) };
        }
        println!("in pieces; {} KiB free", free_kib());
    }
}
