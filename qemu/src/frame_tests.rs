//! Tests below the level of a host's stack: frames that no stack would send, put onto the guest's wire
//! through a UDP socket of QEMU's.

use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::guest_tests::free_port;
use crate::http_tests::Server;
use crate::machine::{Kind, Net};

/// The guest's first network device in QEMU.
const GUEST_MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
const GUEST_IP: [u8; 4] = [10, 0, 2, 15];
const HOST_IP: [u8; 4] = [10, 0, 2, 99];
/// Frames sent; fixed, as is the seed, so that a failure can be repeated.
const FRAMES: usize = 20_000;
/// Frames between pauses: what a socket buffer holds.
const BATCH: usize = 200;

/// Sends damaged frames of every kind; then the server must still answer.
pub(crate) fn malformed_frames() -> Result<()> {
    let wire = (free_port()?, free_port()?);
    let socket = UdpSocket::bind(("127.0.0.1", wire.1)).context("cannot bind the wire's end")?;
    let port = free_port()?;
    let net = Net::UserAndFrames { ports: (port, 8080), wire };
    let server = Server::boot_on("http", Kind::Microvm, 64, net, port)?;
    let guest = SocketAddr::from(([127, 0, 0, 1], wire.0));
    let mut random = Random(0x5eed);
    for index in 0..FRAMES {
        // The guest may answer with frames that nobody reads; sending does not depend on that.
        let _ = socket.send_to(&random.frame(), guest);
        if index % BATCH == 0 {
            thread::sleep(Duration::from_millis(2));
        }
    }
    server.check_alive()?;
    let metrics = server.get("/metrics")?.body;
    let counted = |name: &str| metrics.lines().any(|line| line.contains(name) && !line.ends_with(" 0"));
    ensure!(counted("malformed") && counted("bad_checksum"), "the drops were not counted:\n{metrics}");
    Ok(())
}

/// A small generator (xorshift64*), since the frames need variety and repeatability, not quality.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: u64) -> usize {
        (self.next() % bound) as usize
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }

    /// A frame for the guest: noise, or a packet that is right but for a few bytes.
    fn frame(&mut self) -> Vec<u8> {
        let kind = self.below(4);
        let mut frame = GUEST_MAC.to_vec();
        frame.extend(self.bytes(6));
        match kind {
            0 => {
                let count = self.below(200);
                frame.extend(self.bytes(count));
            }
            1 => {
                frame.extend([0x08, 0x06]);
                frame.extend(self.bytes(28));
            }
            _ => {
                frame.extend([0x08, 0x00]);
                frame.extend(self.packet(kind == 2));
            }
        }
        let cut = if self.below(8) == 0 { self.below(frame.len() as u64) } else { frame.len() };
        frame.truncate(cut);
        frame
    }

    /// An IPv4 packet with a right header checksum and TCP, UDP, ICMP or nonsense inside.
    fn packet(&mut self, to_server: bool) -> Vec<u8> {
        let payload_len = 20 + self.below(60);
        let mut payload = self.bytes(payload_len);
        if to_server {
            payload[2..4].copy_from_slice(&8080u16.to_be_bytes());
        }
        let protocol = [6, 17, 1, 6, self.next() as u8][self.below(5)];
        let len = (20 + payload.len()) as u16;
        let mut header = [0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, protocol, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        header[2..4].copy_from_slice(&len.to_be_bytes());
        header[12..16].copy_from_slice(&HOST_IP);
        header[16..20].copy_from_slice(&GUEST_IP);
        let sum = header_checksum(&header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        // Some headers are damaged after the checksum was made.
        if self.below(4) == 0 {
            let at = self.below(20);
            header[at] = self.next() as u8;
        }
        [&header[..], &payload].concat()
    }
}

/// RFC 1071, over a header whose checksum field is zero.
fn header_checksum(header: &[u8; 20]) -> u16 {
    let sum: u32 = header.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    !((sum & 0xffff) + (sum >> 16)) as u16
}
