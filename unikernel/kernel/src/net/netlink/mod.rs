//! `AF_NETLINK` sockets of the routing family (netlink(7), rtnetlink(7)), as far as programs ask what interfaces, addresses and routes
//! there are: `getifaddrs` of every C library does. Changes are refused, and nobody is told of any.
//!
//! - here: the sockets; [`message`]: their language; [`route`]: the answers.

mod message;
mod route;

use alloc::boxed::Box;
use alloc::collections::{BTreeSet, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;

use linux_raw_sys::net::AF_NETLINK;
use linux_raw_sys::netlink::{NETLINK_ROUTE, NLM_F_ACK, NLM_F_REQUEST};

use super::address::{Address, Family};
use super::datagram::{try_gather, try_scatter};
use super::endpoint::{Endpoint, Name};
use super::options::SocketOptions;
use super::socket::{Beside, Direction, Kind, MessageFlags, Received, Socket};
use super::unix::Rights;
use crate::abi::{Errno, SysResult};
use crate::file::{Readiness, WaitMode};
use crate::kmem::room;
use crate::mem::fault::paging_in;
use crate::mem::user::UserSlice;
use crate::sync::SpinLock;
use crate::task::process::PROCESS_ID;
use message::Request;

/// Bytes of a `sockaddr_nl`.
pub(crate) const NAME_BYTES: usize = 12;
/// What a request may have, and an answer is cut into: any buffer for answers is larger.
const MAX_REQUEST_BYTES: usize = 32 * 1024;
const PART_BYTES: usize = 4096;
/// Parts that wait to be read at most.
const MAX_PARTS: usize = 64;
/// Requests have types from here on; below are those of the protocol itself.
const FIRST_REQUEST: u32 = 16;

/// Ports of sockets: the process's id for the first, others count down from where no id is.
static PORTS: SpinLock<BTreeSet<u32>> = SpinLock::new(BTreeSet::new());

/// A socket.
struct Netlink {
    /// Its type, which makes no difference.
    kind: u32,
    state: SpinLock<State>,
}

#[derive(Default)]
struct State {
    port: Option<u32>,
    groups: u32,
    answers: VecDeque<Vec<u8>>,
}

/// Makes a socket of type `kind`.
pub(crate) fn socket(kind: u32) -> Arc<Socket> {
    let netlink = Netlink { kind, state: SpinLock::new(State::default()) };
    Socket::new(Family::Netlink, Kind::Other(Box::new(netlink)), SocketOptions::default())
}

fn name(port: u32, groups: u32) -> Name {
    let mut name = Name::new();
    let family = (AF_NETLINK as u16).to_ne_bytes();
    name.extend(family.into_iter().chain([0; 2]));
    name.extend(port.to_ne_bytes().into_iter().chain(groups.to_ne_bytes()));
    name
}

/// Port and groups of a `sockaddr_nl`.
fn parse(name: &Name) -> Result<(u32, u32), Errno> {
    match name[..] {
        [_, _, _, _, a, b, c, d, e, f, g, h, ..] => {
            Ok((u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h])))
        }
        _ => Err(Errno::EINVAL),
    }
}

/// Takes a port: `wished`, or with 0 one that is free.
fn take_port(wished: u32) -> Result<u32, Errno> {
    let mut ports = PORTS.lock();
    let usual = core::iter::once(PROCESS_ID as u32).chain((0..u32::MAX - 4096).rev());
    let port = match wished {
        0 => usual.into_iter().find(|port| !ports.contains(port)).ok_or(Errno::EADDRINUSE)?,
        wished => wished,
    };
    if ports.insert(port) { Ok(port) } else { Err(Errno::EADDRINUSE) }
}

impl Netlink {
    fn port(&self) -> Result<u32, Errno> {
        let mut state = self.state.lock();
        match state.port {
            Some(port) => Ok(port),
            None => Ok(*state.port.insert(take_port(0)?)),
        }
    }

    /// Answers every request of a message.
    fn take_in(&self, bytes: &[u8]) -> Result<(), Errno> {
        let port = self.port()?;
        let mut rest = bytes;
        while let Some(request) = Request::take(&mut rest, port) {
            if request.flags & NLM_F_REQUEST == 0 || request.kind < FIRST_REQUEST {
                continue;
            }
            let mut messages = route::answer(&request);
            if request.flags & NLM_F_ACK != 0 {
                messages.push(request.error(0));
            }
            self.queue(messages)?;
        }
        Ok(())
    }

    /// Puts messages into as few parts as their size allows.
    fn queue(&self, messages: Vec<Vec<u8>>) -> Result<(), Errno> {
        let mut state = self.state.lock();
        let mut part = Vec::new();
        for message in messages {
            if part.len() + message.len() > PART_BYTES && !part.is_empty() {
                state.answers.push_back(core::mem::take(&mut part));
            }
            part.extend(message);
        }
        state.answers.push_back(part);
        if state.answers.len() > MAX_PARTS { Err(Errno::ENOBUFS) } else { Ok(()) }
    }
}

impl Endpoint for Netlink {
    fn kind(&self) -> (u32, u32) {
        (self.kind, NETLINK_ROUTE)
    }

    fn bind(&self, _: &Socket, name: &Name) -> Result<(), Errno> {
        let (wished, groups) = parse(name)?;
        let mut state = self.state.lock();
        match state.port {
            Some(port) if wished != port => return Err(Errno::EINVAL),
            Some(_) => {}
            None => state.port = Some(take_port(wished)?),
        }
        state.groups = groups;
        Ok(())
    }

    fn connect(&self, _: &Socket, name: Option<&Name>, _: WaitMode) -> Result<(), Errno> {
        // The kernel is the peer anyway, and there is no other.
        match name.map(parse).transpose()? {
            None | Some((0, _)) => self.port().map(drop),
            Some(_) => Err(Errno::ECONNREFUSED),
        }
    }

    fn local(&self) -> Name {
        let state = self.state.lock();
        name(state.port.unwrap_or(0), state.groups)
    }

    fn peer(&self) -> Result<Name, Errno> {
        Ok(name(0, 0))
    }

    fn receive(
        &self,
        socket: &Socket,
        into: &[UserSlice],
        flags: MessageFlags,
        mode: WaitMode,
    ) -> Result<Received, Errno> {
        let part = socket.block_on(mode, Direction::Receive, || {
            let answers = &mut self.state.lock().answers;
            let part = match flags.contains(MessageFlags::PEEK) {
                true => answers.front().cloned(),
                false => answers.pop_front(),
            };
            part.ok_or(Errno::EAGAIN)
        })?;
        let len = paging_in(|| try_scatter(&part, into))?;
        let from = Some(Address::Other(name(0, 0)));
        Ok(Received { len, full_len: part.len(), from, rights: Rights::new(), beside: Beside::Nothing })
    }

    fn send(&self, socket: &Socket, from: &[UserSlice], to: Option<&Name>, _: WaitMode) -> SysResult {
        if to.map(parse).transpose()?.is_some_and(|(port, _)| port != 0) {
            return Err(Errno::ECONNREFUSED);
        }
        let len: usize = from.iter().map(UserSlice::len).sum();
        if len > MAX_REQUEST_BYTES {
            return Err(Errno::EMSGSIZE);
        }
        let mut bytes = room::filled(0, len)?;
        paging_in(|| try_gather(from, &mut bytes))?;
        self.take_in(&bytes)?;
        socket.source.notify(self.readiness());
        Ok(len)
    }

    fn push(&self, socket: &Socket, bytes: &[u8]) -> Result<(), Errno> {
        let mut state = self.state.lock();
        if state.answers.len() >= MAX_PARTS {
            return Err(Errno::ENOBUFS);
        }
        state.answers.push_back(bytes.to_vec());
        drop(state);
        socket.source.notify(self.readiness());
        Ok(())
    }

    fn readiness(&self) -> Readiness {
        let has_answers = !self.state.lock().answers.is_empty();
        Readiness::SOCKET_WRITABLE | if has_answers { Readiness::READABLE } else { Readiness::empty() }
    }

    fn close(&self, _: &Socket) {
        if let Some(port) = self.state.lock().port.take() {
            PORTS.lock().remove(&port);
        }
    }
}
