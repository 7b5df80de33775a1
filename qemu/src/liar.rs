//! Devices that lie: the other end of QEMU's `vhost-user` (QEMU, `docs/interop/vhost-user.rst`), with which the guest's
//! rings and buffers are at the mercy of a generator of random numbers. It keeps to the protocol with QEMU, and to little
//! else ([`queue`]).

mod card;
mod disk;
mod queue;

use std::fs::File;
use std::io::{ErrorKind, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

use crate::random::Random;
pub(crate) use card::{Card, GUEST};
pub(crate) use disk::Disk;
use queue::{Part, Queue};

/// Requests of the protocol.
mod request {
    pub(super) const GET_FEATURES: u32 = 1;
    pub(super) const SET_MEM_TABLE: u32 = 5;
    pub(super) const SET_VRING_NUM: u32 = 8;
    pub(super) const SET_VRING_ADDR: u32 = 9;
    pub(super) const SET_VRING_BASE: u32 = 10;
    pub(super) const GET_VRING_BASE: u32 = 11;
    pub(super) const SET_VRING_CALL: u32 = 13;
    pub(super) const GET_PROTOCOL_FEATURES: u32 = 15;
    pub(super) const GET_QUEUE_NUM: u32 = 17;
    pub(super) const SET_VRING_ENABLE: u32 = 18;
    pub(super) const GET_CONFIG: u32 = 24;
}
/// Flags of a message: the protocol's version; an answer.
const VERSION: u32 = 1;
const IS_ANSWER: u32 = 1 << 2;
/// Features of the protocol: the configuration is the device's.
const PROTOCOL_FEATURES: u64 = 1 << 9;
/// Bits of features that a device needs here: virtio 1, features of the protocol.
const NEEDED: u64 = 1 << 32 | 1 << 30;
const MAX_QUEUES: usize = 4;
/// Bytes of a message at most.
const MAX_PAYLOAD: usize = 4096;
/// How long it sleeps when there is nothing to do.
const PAUSE: Duration = Duration::from_micros(300);

/// A run of the guest's memory.
struct Region {
    guest: u64,
    len: u64,
    /// Where QEMU has it, which is how rings are named.
    user: u64,
    offset: u64,
    file: File,
}

/// The guest's memory.
#[derive(Default)]
pub(crate) struct Memory(Vec<Region>);

/// Whose address it is.
#[derive(Clone, Copy)]
enum Address {
    Guest(u64),
    User(u64),
}

impl Memory {
    fn find(&self, address: Address, len: usize) -> Option<(&File, u64)> {
        self.0.iter().find_map(|region| {
            let at = match address {
                Address::Guest(address) => address.checked_sub(region.guest)?,
                Address::User(address) => address.checked_sub(region.user)?,
            };
            (at.checked_add(len as u64)? <= region.len).then_some((&region.file, at + region.offset))
        })
    }

    fn read<const N: usize>(&self, address: Address) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.read_into(address, &mut bytes).then_some(bytes)
    }

    fn read_into(&self, address: Address, bytes: &mut [u8]) -> bool {
        self.find(address, bytes.len()).is_some_and(|(file, at)| file.read_exact_at(bytes, at).is_ok())
    }

    fn write(&self, address: Address, bytes: &[u8]) -> bool {
        self.find(address, bytes.len()).is_some_and(|(file, at)| file.write_all_at(bytes, at).is_ok())
    }
}

/// A kind of device: what it would do if it were honest, and what of it is lied about beyond its rings.
pub(crate) trait Device: Send {
    /// Numbers of the features that it may offer.
    fn features(&self) -> &'static [u64];

    /// What its configuration says; `None` where that is QEMU's own.
    fn configuration(&self, random: &mut Random) -> Option<[u8; 64]>;

    /// Whether it has something to do with a request of this queue.
    fn is_ready(&mut self, _queue: usize) -> bool {
        true
    }

    /// Does a request, or nearly; answers how many bytes were written to memory.
    fn perform(&mut self, queue: usize, memory: &Memory, parts: &[Part], random: &mut Random) -> u32;

    /// What it still does with the memory of a request that it has given back.
    fn meddle(&mut self, _queue: usize, _memory: &Memory, _parts: &[Part], _random: &mut Random) {}
}

/// A device and its connection with QEMU.
struct Liar {
    stream: UnixStream,
    features: u64,
    config: Option<[u8; 64]>,
    memory: Memory,
    queues: [Queue; MAX_QUEUES],
    random: Random,
    device: Box<dyn Device>,
}

/// Waits at `socket` for QEMU and lies to its guest as `seed` says, until QEMU ends.
pub(crate) fn start(socket: &Path, seed: u64, device: Box<dyn Device>) -> Result<JoinHandle<Result<()>>> {
    let _ = std::fs::remove_file(socket);
    let listener = UnixListener::bind(socket).context("cannot make a socket")?;
    Ok(thread::spawn(move || {
        let (stream, _) = listener.accept()?;
        Liar::new(stream, seed, device).run()
    }))
}

impl Liar {
    fn new(stream: UnixStream, seed: u64, device: Box<dyn Device>) -> Self {
        let mut random = Random::new(seed);
        let offered = device
            .features()
            .iter()
            .filter(|_| random.below(3) > 0)
            .fold(NEEDED, |bits, bit| bits | 1 << bit);
        let config = device.configuration(&mut random);
        Self {
            stream,
            features: offered,
            config,
            memory: Memory::default(),
            queues: Default::default(),
            random,
            device,
        }
    }

    fn run(mut self) -> Result<()> {
        loop {
            match self.take_message()? {
                None => return Ok(()),
                Some(false) => thread::sleep(PAUSE),
                Some(true) => continue,
            }
            for (number, queue) in self.queues.iter_mut().enumerate() {
                queue.serve(number, &self.memory, &mut self.random, &mut *self.device);
            }
        }
    }

    /// Takes a message of QEMU's; false if there is none, `None` at its end.
    fn take_message(&mut self) -> Result<Option<bool>> {
        let mut header = [0; 12];
        let mut files = Vec::new();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut header)];
        match rustix::net::recvmsg(&self.stream, &mut parts, &mut control, RecvFlags::DONTWAIT) {
            Err(rustix::io::Errno::AGAIN) => return Ok(Some(false)),
            // QEMU is killed, or ends while it waits for an answer.
            Err(_) => return Ok(None),
            Ok(message) if message.bytes == 0 => return Ok(None),
            Ok(message) if message.bytes < header.len() => bail!("half a message"),
            Ok(_) => {}
        }
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                files.extend(descriptors.map(File::from));
            }
        }
        let word =
            |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let (number, len) = (word(0), word(8) as usize);
        if len > MAX_PAYLOAD {
            bail!("a message of {len} bytes");
        }
        let mut payload = vec![0; len];
        match self.stream.read_exact(&mut payload) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
            outcome => outcome?,
        }
        if let Some(answer) = self.handle(number, &mut payload, files) {
            let mut bytes = Vec::new();
            for word in [number, VERSION | IS_ANSWER, answer.len() as u32] {
                bytes.extend(word.to_le_bytes());
            }
            bytes.extend(answer);
            if self.stream.write_all(&bytes).is_err() {
                return Ok(None);
            }
        }
        Ok(Some(true))
    }

    /// Does what a message says; answers the answer, if it wants one.
    fn handle(&mut self, number: u32, payload: &mut [u8], mut files: Vec<File>) -> Option<Vec<u8>> {
        let word = |at: usize| {
            payload
                .get(at..at + 4)
                .map_or(0, |bytes| u32::from_le_bytes(bytes.try_into().unwrap_or_default()))
        };
        let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        let index = (word(0) & 0xff) as usize % MAX_QUEUES;
        let queue = &mut self.queues[index];
        match number {
            request::GET_FEATURES => return Some(self.features.to_le_bytes().to_vec()),
            request::GET_PROTOCOL_FEATURES => {
                let features = if self.config.is_some() { PROTOCOL_FEATURES } else { 0 };
                return Some(features.to_le_bytes().to_vec());
            }
            request::GET_QUEUE_NUM => return Some(1_u64.to_le_bytes().to_vec()),
            request::GET_CONFIG => {
                let config = self.config.as_ref()?;
                let len = payload.len().saturating_sub(12).min(config.len());
                payload.get_mut(12..12 + len)?.copy_from_slice(&config[..len]);
                return Some(payload.to_vec());
            }
            request::SET_MEM_TABLE => {
                let region = |(number, file)| {
                    let at = 8 + 32 * number;
                    let (guest, len) = (long(at), long(at + 8));
                    Region { guest, len, user: long(at + 16), offset: long(at + 24), file }
                };
                self.memory = Memory(files.into_iter().enumerate().map(region).collect());
            }
            request::SET_VRING_NUM => queue.size = word(4) as u16,
            request::SET_VRING_ADDR => {
                (queue.descriptors, queue.used, queue.available) = (long(8), long(16), long(24));
            }
            request::SET_VRING_BASE => queue.restart(word(4) as u16),
            request::GET_VRING_BASE => {
                queue.is_enabled = false;
                return Some([word(0).to_le_bytes(), u32::from(queue.next()).to_le_bytes()].concat());
            }
            request::SET_VRING_CALL => queue.call = files.pop(),
            request::SET_VRING_ENABLE => queue.is_enabled = word(4) != 0,
            _ => {}
        }
        None
    }
}
