//! Those whom a server on the internet meets: forged SYNs from a raw socket, a thousand clients that never finish their
//! request, connections that are reset in the middle, first fragments without a second, clients that ask and do not listen; and good clients beside them, who connect anew for each request.

use std::io::Write;
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, setsockopt, socket,
    sockopt,
};
use serde::Serialize;

use crate::http;
use crate::namespace::{GUEST, guest_address};

/// Good clients at once.
const CLIENTS: usize = 8;
/// Clients that send a byte of their request now and then.
pub(crate) const SLOW_CLIENTS: usize = 1000;
/// Clients that ask without end and read no answer, and what each would like to ask: the answers are more than memory.
pub(crate) const DEAF_CLIENTS: usize = 500;
const DEAF_REQUESTS: usize = 3000;
/// How long an attack goes on before good clients come.
const LEAD: Duration = Duration::from_secs(1);
/// Forged SYNs in a burst, and the pause after it: 20,000 a second.
const FLOOD: (u32, Duration) = (100, Duration::from_millis(5));

/// Goes on until it is told that it is over.
pub(crate) type Attack = fn(&AtomicBool) -> Result<()>;

/// What the good clients found.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Service {
    pub(crate) answered: usize,
    pub(crate) failed: usize,
    pub(crate) p99_us: u64,
}

/// Good clients at work during an attack.
pub(crate) fn serve_during(attack: Attack, time: Duration) -> Result<Service> {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let attacker = scope.spawn(|| attack(&is_over));
        thread::sleep(LEAD);
        let service = serve(time);
        is_over.store(true, Ordering::Relaxed);
        attacker.join().expect("the attacker does not panic").map(|()| service)
    })
}

/// Good clients at work.
pub(crate) fn serve(time: Duration) -> Service {
    let until = Instant::now() + time;
    let client = || {
        let (mut times_us, mut failed) = (Vec::new(), 0);
        while Instant::now() < until {
            let started = Instant::now();
            match http::get(guest_address(), "/") {
                Ok(answer) if answer.status == 200 => times_us.push(started.elapsed().as_micros() as u64),
                _ => failed += 1,
            }
        }
        (times_us, failed)
    };
    let outcomes: Vec<_> = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        clients.into_iter().map(|client| client.join().expect("a client does not panic")).collect()
    });
    let failed = outcomes.iter().map(|(_, failed)| failed).sum();
    let times_us: Vec<u64> = outcomes.into_iter().flat_map(|(times_us, _)| times_us).collect();
    Service { answered: times_us.len(), failed, p99_us: percentile(times_us, 99) }
}

fn percentile(mut values: Vec<u64>, percent: usize) -> u64 {
    values.sort_unstable();
    let index = (values.len() * percent / 100).min(values.len().saturating_sub(1));
    values.get(index).copied().unwrap_or(u64::MAX)
}

/// SYNs from addresses that nobody has.
pub(crate) fn flood(is_over: &AtomicBool) -> Result<()> {
    send_bursts(is_over, |serial| {
        syn(Ipv4Addr::new(10, 0, 2, 20 + (serial % 200) as u8), Ipv4Addr::from(GUEST.0), serial).to_vec()
    })
}

/// First fragments of datagrams of which nothing else comes, each of another one.
pub(crate) fn fragments(is_over: &AtomicBool) -> Result<()> {
    send_bursts(is_over, |serial| {
        let mut packet = vec![7; 1400];
        packet[..20].fill(0);
        (packet[0], packet[8], packet[9]) = (0x45, 64, 17);
        packet[4..6].copy_from_slice(&(serial as u16).to_be_bytes());
        // More fragments follow; every second is not even the first.
        packet[6..8].copy_from_slice(&(0x2000 | (serial % 2 * 100) as u16).to_be_bytes());
        packet[12..16].copy_from_slice(&[10, 0, 2, 20 + (serial / 65_536 % 200) as u8]);
        packet[16..20].copy_from_slice(&GUEST.0);
        packet
    })
}

fn send_bursts(is_over: &AtomicBool, packet: impl Fn(u32) -> Vec<u8>) -> Result<()> {
    let raw = socket(AddressFamily::Inet, SockType::Raw, SockFlag::empty(), SockProtocol::Raw)
        .context("a raw socket needs root")?;
    let mut serial = 0u32;
    while !is_over.load(Ordering::Relaxed) {
        for _ in 0..FLOOD.0 {
            serial = serial.wrapping_add(1);
            send_raw(&raw, &packet(serial))?;
        }
        thread::sleep(FLOOD.1);
    }
    Ok(())
}

fn send_raw(raw: &OwnedFd, packet: &[u8]) -> Result<()> {
    use std::os::fd::AsRawFd;
    let place = SockaddrIn::new(GUEST.0[0], GUEST.0[1], GUEST.0[2], GUEST.0[3], 0);
    match sendto(raw.as_raw_fd(), packet, &place, MsgFlags::empty()) {
        // The device is full: as good as sent.
        Ok(_) | Err(nix::errno::Errno::ENOBUFS) => Ok(()),
        Err(error) => Err(error).context("cannot send a raw packet"),
    }
}

/// An IPv4 packet with a SYN; the kernel fills in the length and the checksum of its own header.
fn syn(from: Ipv4Addr, to: Ipv4Addr, serial: u32) -> [u8; 40] {
    let mut packet = [0; 40];
    (packet[0], packet[8], packet[9]) = (0x45, 64, 6);
    packet[12..16].copy_from_slice(&from.octets());
    packet[16..20].copy_from_slice(&to.octets());
    let port = 1024 + (serial / 200 % 60_000) as u16;
    packet[20..22].copy_from_slice(&port.to_be_bytes());
    packet[22..24].copy_from_slice(&GUEST.1.to_be_bytes());
    packet[24..28].copy_from_slice(&serial.wrapping_mul(0x9e37_79b9).to_be_bytes());
    (packet[32], packet[33]) = (0x50, 2);
    packet[34..36].copy_from_slice(&u16::MAX.to_be_bytes());
    let words = packet[12..].chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    // The pseudo header has the protocol and the segment's length, too (RFC 9293 section 3.1).
    let sum = words.sum::<u32>() + 6 + 20;
    let sum = (sum & 0xffff) + (sum >> 16);
    let checksum = !((sum & 0xffff) + (sum >> 16)) as u16;
    packet[36..38].copy_from_slice(&checksum.to_be_bytes());
    packet
}

/// Clients that send their request a byte a second (slowloris).
pub(crate) fn slow_clients(is_over: &AtomicBool) -> Result<()> {
    let connect = |_| TcpStream::connect(guest_address()).context("a slow client cannot connect");
    let mut clients: Vec<TcpStream> = (0..SLOW_CLIENTS).map(connect).collect::<Result<_>>()?;
    let request = b"GET / HTTP/1.1\r\nHost: a-name-that-takes-its-time\r\n";
    for byte in request {
        for client in &mut clients {
            if is_over.load(Ordering::Relaxed) {
                return Ok(());
            }
            client.write_all(&[*byte]).context("a slow client was let go")?;
        }
        thread::sleep(Duration::from_millis(500));
    }
    Ok(())
}

/// Clients that ask as fast as they are let, and read nothing of what is answered.
pub(crate) fn deaf_clients(is_over: &AtomicBool) -> Result<()> {
    let requests = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(DEAF_REQUESTS);
    let connect = |_| -> Result<(TcpStream, usize)> {
        let client = TcpStream::connect(guest_address()).context("a deaf client cannot connect")?;
        client.set_nonblocking(true)?;
        Ok((client, 0))
    };
    let mut clients: Vec<_> = (0..DEAF_CLIENTS).map(connect).collect::<Result<_>>()?;
    while !is_over.load(Ordering::Relaxed) {
        for (client, sent) in &mut clients {
            // Who is let go, because memory is short, has no right to complain.
            *sent += client.write(&requests[*sent..]).unwrap_or(0);
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Connections that are reset when their request is out.
pub(crate) fn resets(is_over: &AtomicBool) -> Result<()> {
    let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
    while !is_over.load(Ordering::Relaxed) {
        let mut stream = TcpStream::connect(guest_address()).context("cannot connect to reset")?;
        setsockopt(&stream, sockopt::Linger, &linger)?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syn_has_the_right_checksum() {
        let packet = syn(Ipv4Addr::new(10, 0, 2, 20), Ipv4Addr::new(10, 0, 2, 15), 7);
        let words =
            packet[12..].chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
        let sum = words.sum::<u32>() + 26;
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
    }

    #[test]
    fn percentile_of_few_is_the_largest() {
        assert_eq!(percentile(vec![3, 1, 2], 99), 3);
        assert_eq!(percentile((1..=200).collect(), 99), 199);
    }
}
