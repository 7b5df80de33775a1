//! Bulk transfers over TCP, for a client on the host that takes the time.
//!
//! A connection carries requests of nine bytes: a letter and a number of bytes, little-endian. `g` has so many
//! bytes given to the client; `t` has them taken from it, `c` taken and checked, each answered by the number of those
//! that were wrong (8 bytes, little-endian; `t` looks at none). The bytes repeat with a prime period, so that one which
//! comes at a wrong place is a wrong one. `m` asks for our kernel's account of itself instead: its text, behind its length.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv6Addr, TcpListener, TcpStream};
use std::thread;

/// The period of the content.
const PERIOD: usize = 65_521;
/// Bytes handed to the kernel at once.
const CHUNK: usize = 256 * 1024;

/// Serves on a port, over both versions of IP, for ever.
pub(crate) fn serve(port: u16) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))?;
    let content: &'static [u8] = (0..PERIOD + CHUNK).map(byte).collect::<Vec<u8>>().leak();
    loop {
        let (stream, _) = listener.accept()?;
        thread::spawn(move || {
            // The end of a connection ends it, in whatever way.
            let _ = converse(stream, content);
        });
    }
}

fn byte(index: usize) -> u8 {
    ((index % PERIOD) as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0]
}

fn converse(mut stream: TcpStream, content: &[u8]) -> io::Result<()> {
    let mut request = [0; 9];
    loop {
        stream.read_exact(&mut request)?;
        let [letter, count @ ..] = request;
        let count = u64::from_le_bytes(count);
        match letter {
            b'g' => give(&mut stream, content, count)?,
            b't' => take(&mut stream, count, |_, _| 0)?,
            b'm' => account(&mut stream)?,
            b'c' => take(&mut stream, count, |at, bytes| wrong(at, bytes, content))?,
            _ => return Ok(()),
        }
    }
}

fn give(stream: &mut TcpStream, content: &[u8], count: u64) -> io::Result<()> {
    let mut at = 0;
    while at < count {
        let len = CHUNK.min((count - at) as usize);
        stream.write_all(&content[at as usize % PERIOD..][..len])?;
        at += len as u64;
    }
    Ok(())
}

fn take(stream: &mut TcpStream, count: u64, wrong: impl Fn(u64, &[u8]) -> u64) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    let (mut at, mut bad) = (0, 0);
    while at < count {
        let most = CHUNK.min((count - at) as usize);
        let len = stream.read(&mut buffer[..most])?;
        if len == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bad += wrong(at, &buffer[..len]);
        at += len as u64;
    }
    stream.write_all(&bad.to_le_bytes())
}

fn account(stream: &mut TcpStream) -> io::Result<()> {
    // Linux has no such file.
    let text = fs::read("/proc/unikernel/metrics").unwrap_or_default();
    stream.write_all(&(text.len() as u64).to_le_bytes())?;
    stream.write_all(&text)
}

fn wrong(at: u64, bytes: &[u8], content: &[u8]) -> u64 {
    let right = &content[at as usize % PERIOD..][..bytes.len()];
    if bytes == right {
        return 0;
    }
    bytes.iter().zip(right).filter(|(one, other)| one != other).count() as u64
}
