//! Options of UDP sockets (udp(7)), and what any socket's options say of datagrams (socket(7)).

use linux_raw_sys::net::{
    SO_PEEK_OFF, SO_RXQ_OVFL, SO_TIMESTAMP_NEW, SO_TIMESTAMP_OLD, SO_TIMESTAMPING_NEW, SO_TIMESTAMPING_OLD,
    SO_TIMESTAMPNS_NEW, SO_TIMESTAMPNS_OLD,
};

use super::sockopt::{Place, Value};
use crate::abi::{Errno, SysResult};
use crate::net::options::{SocketOptions, Told};
use crate::net::socket::{Kind, Socket, Timestamping};

/// Options that `linux-raw-sys` does not know (`linux/udp.h`).
pub(super) const UDP_CORK: u32 = 1;
pub(super) const UDP_SEGMENT: u32 = 103;
pub(super) const UDP_GRO: u32 = 104;

/// Sets an option of level `SOL_UDP`.
pub(super) fn set(socket: &Socket, name: u32, value: Value) -> Result<(), Errno> {
    let Kind::Datagram(datagram) = &socket.kind else { return Err(Errno::ENOPROTOOPT) };
    match name {
        UDP_CORK => datagram.set_corked(socket, value.int()? != 0)?,
        UDP_SEGMENT => {
            let bytes = u16::try_from(value.int()?).map_err(|_| Errno::EINVAL)?;
            socket.set_options(|options| options.datagram.segment = bytes);
        }
        UDP_GRO => {
            let is_on = value.is_on()?;
            socket.set_options(|options| options.datagram.coalesces = is_on);
        }
        _ => return Err(Errno::ENOPROTOOPT),
    }
    Ok(())
}

/// Tells one.
pub(super) fn get(socket: &Socket, name: u32, place: Place) -> SysResult {
    let Kind::Datagram(datagram) = &socket.kind else { return Err(Errno::EOPNOTSUPP) };
    let options = socket.options.lock().datagram;
    match name {
        UDP_CORK => place.flag(datagram.is_corked()),
        UDP_SEGMENT => place.int(options.segment.into()),
        UDP_GRO => place.flag(options.coalesces),
        _ => Err(Errno::ENOPROTOOPT),
    }
}

fn require_udp(socket: &Socket, otherwise: Errno) -> Result<(), Errno> {
    if matches!(socket.kind, Kind::Datagram(_)) { Ok(()) } else { Err(otherwise) }
}

/// Sets an option of level `SOL_SOCKET` that is about datagrams.
pub(super) fn set_socket(socket: &Socket, name: u32, value: Value) -> Result<(), Errno> {
    let number = value.int()?;
    match name {
        SO_RXQ_OVFL => socket.set_options(|options| options.datagram.told.set(Told::DROPS, number != 0)),
        // -1 lets peeking begin with what is next, each time.
        SO_PEEK_OFF => {
            socket.peek_offset().ok_or(Errno::EOPNOTSUPP)?.set(number);
        }
        SO_TIMESTAMPING_OLD | SO_TIMESTAMPING_NEW => {
            require_udp(socket, Errno::ENOPROTOOPT)?;
            let wanted = Timestamping::from_bits(number as u32).ok_or(Errno::EINVAL)?;
            socket.set_options(|SocketOptions { datagram, .. }| {
                // Counting begins anew when it is asked for.
                if !datagram.timestamping.contains(Timestamping::OPT_ID) {
                    datagram.sent_key = 0;
                }
                (datagram.timestamping, datagram.timestamping_name) = (wanted, name);
            });
        }
        // The times of what a stream is made up of are not kept.
        _ => {
            require_udp(socket, Errno::ENOPROTOOPT)?;
            socket.set_options(|options| options.datagram.timestamp = (number != 0).then_some(name));
        }
    }
    Ok(())
}

/// Tells one.
pub(super) fn get_socket(socket: &Socket, name: u32, place: Place) -> SysResult {
    let options = socket.options.lock().datagram;
    match name {
        SO_RXQ_OVFL => place.flag(options.told.contains(Told::DROPS)),
        SO_PEEK_OFF => place.int(socket.peek_offset().ok_or(Errno::EOPNOTSUPP)?.get()),
        SO_TIMESTAMP_OLD | SO_TIMESTAMP_NEW | SO_TIMESTAMPNS_OLD | SO_TIMESTAMPNS_NEW => {
            require_udp(socket, Errno::ENOPROTOOPT)?;
            place.flag(options.timestamp == Some(name))
        }
        SO_TIMESTAMPING_OLD | SO_TIMESTAMPING_NEW => {
            require_udp(socket, Errno::ENOPROTOOPT)?;
            // Behind the flags, the number of a card's clock (`struct so_timestamping`).
            place.write([options.timestamping.bits(), 0].map(u32::to_ne_bytes).as_flattened())
        }
        _ => Err(Errno::ENOPROTOOPT),
    }
}
