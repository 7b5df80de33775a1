//! Control messages that the app receives beside the bytes of a message, in Linux's order: what is known of a datagram and was asked
//! for, and open files.

use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr, SocketAddrV6};

use arrayvec::ArrayVec;
use linux_raw_sys::net::{
    IP_ORIGDSTADDR, IP_PKTINFO, IP_RECVERR, IP_TOS, IP_TTL, IPPROTO_IPV6, IPPROTO_UDP, IPV6_HOPLIMIT,
    IPV6_ORIGDSTADDR, IPV6_PKTINFO, IPV6_RECVERR, IPV6_TCLASS, MSG_CTRUNC, MSG_ERRQUEUE, SCM_RIGHTS,
    SO_RXQ_OVFL, SO_TIMESTAMP_NEW, SO_TIMESTAMP_OLD, SOL_IP, SOL_SOCKET, msghdr,
};
use unikernel_net::{Arrival, ErrorOrigin, QueuedError};

use super::control::{HEADER_BYTES, SCM_CREDENTIALS};
use super::sockopt_udp::UDP_GRO;
use crate::abi::Errno;
use crate::file;
use crate::file::table::{self, OnExec};
use crate::mem::user::UserSlice;
use crate::net::address::{self, Address, Family};
use crate::net::options::{DatagramOptions, Told};
use crate::net::socket::{Beside, Received, Socket, Timestamping};
use crate::net::unix::Rights;
use crate::platform::time;
use crate::task::credentials;
use crate::task::process::PROCESS_ID;

const SOL_IPV6: u32 = IPPROTO_IPV6 as u32;
const SOL_UDP: u32 = IPPROTO_UDP as u32;
/// Bytes of the largest message but for that of open files: three times.
const MAX_BYTES: usize = HEADER_BYTES + 48;
/// Origins of errors (`struct sock_extended_err`).
const SO_EE_ORIGIN_LOCAL: u8 = 1;
const SO_EE_ORIGIN_ICMP: u8 = 2;
const SO_EE_ORIGIN_ICMP6: u8 = 3;
const SO_EE_ORIGIN_TIMESTAMPING: u8 = 4;

/// Writes what came beside a message's bytes. Answers the length of it, and flags for the message.
pub(super) fn write(
    header: &msghdr,
    socket: &Socket,
    received: &mut Received,
    on_exec: OnExec,
) -> Result<(usize, u32), Errno> {
    let room = header.msg_controllen;
    let mut writer = Writer { address: header.msg_control.addr() as u64, room, used: 0, flags: 0 };
    match &received.beside {
        Beside::Nothing if socket.unix().is_some() => {
            if socket.options.lock().passes_credentials {
                // There is one process.
                let who = credentials::mine();
                let ids = [who.user.real as i32, who.group.real as i32];
                writer.put(SOL_SOCKET, SCM_CREDENTIALS, &bytes_of([PROCESS_ID, ids[0], ids[1]]))?;
            }
        }
        Beside::Nothing | Beside::Urgent => {}
        Beside::Arrival(arrival, interface) => {
            let options = socket.options.lock().datagram;
            writer.socket_level(arrival, &options)?;
            writer.ip_level(arrival, *interface, options.told, socket.family)?;
            writer.destination((arrival.to, *interface), options.told, socket)?;
        }
        Beside::Error(queued) => {
            if let ErrorOrigin::Sent(note) = queued.origin {
                let options = socket.options.lock().datagram;
                writer.times(note.wall_ns, &options)?;
            }
            writer.error(queued, socket.family)?;
        }
    }
    writer.rights(core::mem::take(&mut received.rights), on_exec)?;
    Ok((writer.used, writer.flags))
}

fn bytes_of<const COUNT: usize>(words: [i32; COUNT]) -> ArrayVec<u8, MAX_BYTES> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// The place for control messages.
struct Writer {
    address: u64,
    room: usize,
    used: usize,
    flags: u32,
}

impl Writer {
    /// Writes a message, cut to the room that there is (Linux: `put_cmsg`).
    fn put(&mut self, level: u32, kind: u32, data: &[u8]) -> Result<(), Errno> {
        let left = self.room - self.used;
        let len = HEADER_BYTES + data.len();
        if left < len {
            self.flags |= MSG_CTRUNC;
        }
        if left < HEADER_BYTES {
            return Ok(());
        }
        let shown = len.min(left);
        let mut bytes: ArrayVec<u8, MAX_BYTES> = shown.to_ne_bytes().into_iter().collect();
        bytes.extend([level, kind].iter().flat_map(|word| word.to_ne_bytes()));
        bytes.extend(data.iter().copied().take(MAX_BYTES - HEADER_BYTES));
        UserSlice::new(self.address + self.used as u64, shown).write(&bytes[..shown])?;
        self.used += len.next_multiple_of(8).min(left);
        Ok(())
    }

    fn int(&mut self, level: u32, kind: u32, value: i32) -> Result<(), Errno> {
        self.put(level, kind, &value.to_ne_bytes())
    }

    /// When a datagram came, how many were lost before, and of how many it is made up.
    fn socket_level(&mut self, arrival: &Arrival, options: &DatagramOptions) -> Result<(), Errno> {
        let at_ns = (arrival.at.total_micros().max(0) as u64).saturating_mul(1000);
        let age_ns = time::now_ns().saturating_sub(at_ns);
        let wall_ns = time::wall_ns().saturating_sub(age_ns);
        if let Some(kind) = options.timestamp {
            let part_ns = wall_ns % 1_000_000_000;
            let is_in_micros = matches!(kind, SO_TIMESTAMP_OLD | SO_TIMESTAMP_NEW);
            let part = if is_in_micros { part_ns / 1000 } else { part_ns };
            self.put(SOL_SOCKET, kind, [wall_ns / 1_000_000_000, part].map(u64::to_ne_bytes).as_flattened())?;
        }
        if options.timestamping.contains(Timestamping::RX_SOFTWARE) {
            self.times(wall_ns, options)?;
        }
        if options.told.contains(Told::DROPS) && arrival.drops > 0 {
            self.put(SOL_SOCKET, SO_RXQ_OVFL, &arrival.drops.to_ne_bytes())?;
        }
        match arrival.segment {
            Some(bytes) => self.int(SOL_UDP, UDP_GRO, bytes.into()),
            None => Ok(()),
        }
    }

    /// The time of our clock, and two of the card's that are not known (`struct scm_timestamping`).
    fn times(&mut self, wall_ns: u64, options: &DatagramOptions) -> Result<(), Errno> {
        if !options.timestamping.contains(Timestamping::SOFTWARE) {
            return Ok(());
        }
        let times = [wall_ns / 1_000_000_000, wall_ns % 1_000_000_000, 0, 0, 0, 0];
        self.put(SOL_SOCKET, options.timestamping_name, times.map(u64::to_ne_bytes).as_flattened())
    }

    /// What the datagram's header said. A socket of IPv6 is told of datagrams of IPv4 by both kinds of messages.
    fn ip_level(
        &mut self,
        arrival: &Arrival,
        interface: u32,
        told: Told,
        family: Family,
    ) -> Result<(), Errno> {
        let (class, hops) = (i32::from(arrival.traffic_class), i32::from(arrival.hop_limit));
        if family == Family::V6 && told.contains(Told::INFO_V6) {
            let mut info: ArrayVec<u8, MAX_BYTES> = address::octets_v6(arrival.to).into_iter().collect();
            info.extend(interface.to_ne_bytes());
            self.put(SOL_IPV6, IPV6_PKTINFO, &info)?;
        }
        match (arrival.to, arrival.local) {
            (IpAddr::V4(to), IpAddr::V4(local)) => {
                if told.contains(Told::INFO_V4) {
                    let info = [interface.to_ne_bytes(), local.octets(), to.octets()];
                    self.put(SOL_IP, IP_PKTINFO, info.as_flattened())?;
                }
                if told.contains(Told::HOPS_V4) {
                    self.int(SOL_IP, IP_TTL, hops)?;
                }
                if told.contains(Told::CLASS_V4) {
                    self.put(SOL_IP, IP_TOS, &[arrival.traffic_class])?;
                }
            }
            _ => {
                if told.contains(Told::HOPS_V6) {
                    self.int(SOL_IPV6, IPV6_HOPLIMIT, hops)?;
                }
                if told.contains(Told::CLASS_V6) {
                    self.int(SOL_IPV6, IPV6_TCLASS, class)?;
                }
            }
        }
        Ok(())
    }

    /// Where the datagram was sent to, with the port; a rule of a firewall that changes it is not there.
    fn destination(
        &mut self,
        (to, interface): (IpAddr, u32),
        told: Told,
        socket: &Socket,
    ) -> Result<(), Errno> {
        let (level, kind, family) = match to {
            IpAddr::V4(_) if told.contains(Told::DESTINATION_V4) => (SOL_IP, IP_ORIGDSTADDR, Family::V4),
            IpAddr::V6(_) if told.contains(Told::DESTINATION_V6) => (SOL_IPV6, IPV6_ORIGDSTADDR, Family::V6),
            _ => return Ok(()),
        };
        // The port is the socket's own, or the datagram would not have come to it.
        let Address::Internet(local) = socket.local() else { return Ok(()) };
        let to = match to {
            IpAddr::V6(v6) if v6.is_unicast_link_local() => {
                SocketAddrV6::new(v6, local.port(), 0, interface).into()
            }
            to => SocketAddr::new(to, local.port()),
        };
        let (address, len) = address::encode(to, family);
        self.put(level, kind, &address[..len])
    }

    /// An error as a `struct sock_extended_err`, with the address of who sent it behind.
    fn error(&mut self, queued: &QueuedError, family: Family) -> Result<(), Errno> {
        let (origin, kind, code, offender) = match queued.origin {
            ErrorOrigin::Local => (SO_EE_ORIGIN_LOCAL, 0, 0, None),
            ErrorOrigin::Icmp(kind, code, from) if from.is_ipv4() => {
                (SO_EE_ORIGIN_ICMP, kind, code, Some(from))
            }
            ErrorOrigin::Icmp(kind, code, from) => (SO_EE_ORIGIN_ICMP6, kind, code, Some(from)),
            ErrorOrigin::Sent(_) => (SO_EE_ORIGIN_TIMESTAMPING, 0, 0, None),
        };
        let (number, words) = match queued.origin {
            ErrorOrigin::Sent(note) => (Errno::ENOMSG, [note.is_scheduled.into(), note.key]),
            _ => (Errno::from(queued.error), [queued.mtu, 0]),
        };
        let mut bytes: ArrayVec<u8, MAX_BYTES> = ArrayVec::new();
        bytes.extend(number.number().to_ne_bytes());
        bytes.extend([origin, kind, code, 0]);
        bytes.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
        let (mut address, len) =
            address::encode(SocketAddr::new(offender.unwrap_or(queued.to.ip()), 0), family);
        if offender.is_none() {
            // Nobody, of no family.
            address.fill(0);
        }
        bytes.extend(address[..len].iter().copied());
        match family {
            Family::V6 => self.put(SOL_IPV6, IPV6_RECVERR, &bytes)?,
            _ => self.put(SOL_IP, IP_RECVERR, &bytes)?,
        }
        self.flags |= MSG_ERRQUEUE;
        Ok(())
    }

    /// Gives received files descriptors and writes the message that names them; what does not fit is closed, as Linux does.
    fn rights(&mut self, rights: Rights, on_exec: OnExec) -> Result<(), Errno> {
        if rights.is_empty() {
            return Ok(());
        }
        let left = self.room - self.used;
        let room = left.saturating_sub(HEADER_BYTES) / 4;
        if rights.len() > room {
            self.flags |= MSG_CTRUNC;
        }
        let mut descriptors = Vec::new();
        for opened in rights.into_iter().take(room) {
            match file::install(opened, on_exec) {
                Ok(descriptor) => descriptors.push(descriptor as i32),
                Err(_) => self.flags |= MSG_CTRUNC,
            }
        }
        if descriptors.is_empty() {
            return Ok(());
        }
        let len = HEADER_BYTES + 4 * descriptors.len();
        let mut bytes = len.to_ne_bytes().to_vec();
        bytes.extend([SOL_SOCKET, SCM_RIGHTS].iter().flat_map(|word| word.to_ne_bytes()));
        bytes.extend(descriptors.iter().flat_map(|descriptor| descriptor.to_ne_bytes()));
        if let Err(fault) = UserSlice::new(self.address + self.used as u64, len).write(&bytes) {
            for descriptor in descriptors {
                // Nobody was told of it; if it is gone, another thread has guessed it.
                let _ = table::close(descriptor);
            }
            return Err(fault.into());
        }
        self.used += len.next_multiple_of(8).min(left);
        Ok(())
    }
}
