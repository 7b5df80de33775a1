//! Options of TCP sockets (tcp(7)).

use linux_raw_sys::net::*;
use unikernel_net::TcpInfo;

use super::sockopt::{NAME_BYTES, Place, Value, is_listening};
use super::tcp_info;
use crate::abi::{Errno, SysResult};
use crate::net::options::SocketOptions;
use crate::net::socket::{Kind, Socket};

/// Longest time that `TCP_KEEPIDLE` and `TCP_KEEPINTVL` take (tcp(7)).
const MAX_KEEP_SECONDS: i32 = 32767;
/// Most probes that `TCP_KEEPCNT` takes.
const MAX_KEEP_PROBES: i32 = 127;
/// Repetitions of a SYN when nothing was set, and at most (tcp(7)).
const SYN_RETRIES: i32 = 6;
const MAX_SYN_RETRIES: i32 = 127;
/// How long a peer may take to end its side after the app has left, and at most (tcp(7), `TCP_LINGER2`).
const END_SECONDS: i32 = 60;
const MAX_END_SECONDS: i32 = 120;
/// The narrowest window that can be asked for (Linux: half of `SOCK_MIN_RCVBUF`).
const LEAST_CLAMP: i32 = 1152;
/// The congestion controls that there are, as `TCP_CONGESTION` names them.
const CUBIC: &[u8] = b"cubic";
const RENO: &[u8] = b"reno";

fn require_tcp(socket: &Socket) -> Result<(), Errno> {
    if matches!(socket.kind, Kind::Stream(_)) { Ok(()) } else { Err(Errno::EOPNOTSUPP) }
}

/// setsockopt(2) at the level of TCP.
pub(super) fn set(socket: &Socket, name: u32, value: Value) -> Result<(), Errno> {
    require_tcp(socket)?;
    let within = |max: i32| {
        value
            .int()
            .and_then(|value| if (1..=max).contains(&value) { Ok(value as u32) } else { Err(Errno::EINVAL) })
    };
    match name {
        TCP_NODELAY => {
            let is_on = value.is_on()?;
            socket.set_options(|options| options.has_no_delay = is_on);
        }
        // Who asks for another is told that it is not there.
        TCP_CONGESTION => {
            let is_reno = match &value.name()?[..] {
                CUBIC => false,
                RENO => true,
                [] if value.len() == 0 => return Err(Errno::EINVAL),
                _ => return Err(Errno::ENOENT),
            };
            socket.set_options(|options| options.tcp.congestion.is_reno = is_reno);
        }
        TCP_THIN_LINEAR_TIMEOUTS => {
            let is_on = value.is_on()?;
            socket.set_options(|options| options.tcp.congestion.has_linear_timeouts = is_on);
        }
        TCP_KEEPIDLE => {
            let seconds = within(MAX_KEEP_SECONDS)?;
            socket.set_options(|options| options.keep_alive.idle_seconds = seconds);
        }
        TCP_KEEPINTVL => {
            let seconds = within(MAX_KEEP_SECONDS)?;
            socket.set_options(|options| options.keep_alive.interval_seconds = seconds);
        }
        TCP_KEEPCNT => {
            let probes = within(MAX_KEEP_PROBES)?;
            socket.set_options(|options| options.keep_alive.probes = probes);
        }
        TCP_USER_TIMEOUT => {
            let milliseconds = u32::try_from(value.int()?).map_err(|_| Errno::EINVAL)?;
            socket.set_options(|options| options.user_timeout_ms = milliseconds);
        }
        TCP_QUICKACK => {
            let is_on = value.is_on()?;
            socket.set_options(|options| options.tcp.quick_ack = Some(is_on));
        }
        TCP_CORK => {
            let is_on = value.is_on()?;
            socket.set_options(|options| options.tcp.is_corked = is_on);
        }
        TCP_MAXSEG => {
            let bytes = segment_bytes(value.int()?)?;
            socket.set_options(|options| options.tcp.max_segment = bytes);
        }
        TCP_SYNCNT => {
            let retries = within(MAX_SYN_RETRIES)? as u8;
            socket.set_options(|options| options.tcp.syn_retries = retries);
        }
        TCP_DEFER_ACCEPT => {
            let seconds = defer_seconds(value.int()?);
            socket.set_options(|options| options.tcp.defer_seconds = seconds);
        }
        TCP_LINGER2 => {
            let seconds = value.int()?.clamp(-1, MAX_END_SECONDS);
            socket.set_options(|options| options.tcp.end_seconds = seconds);
        }
        TCP_WINDOW_CLAMP => {
            let bytes = clamp_bytes(socket, value.int()?)?;
            socket.set_options(|options| options.tcp.window_clamp = bytes);
        }
        TCP_NOTSENT_LOWAT => {
            let bytes = value.int()? as u32;
            socket.set_options(|options| options.tcp.unsent_low = bytes);
        }
        TCP_FASTOPEN_CONNECT => {
            let is_on = match value.int()? {
                number @ 0..=1 if !is_begun(socket) => number == 1,
                _ => return Err(Errno::EINVAL),
            };
            socket.set_options(|options| options.tcp.opens_fast = is_on);
        }
        // Data in a SYN is not taken (RFC 7413): who wants that is told.
        TCP_FASTOPEN => return Err(Errno::ENOPROTOOPT),
        _ => return Err(Errno::ENOPROTOOPT),
    }
    Ok(())
}

/// A largest segment; 0 asks for the default (Linux: `TCP_MIN_MSS`, `MAX_TCP_WINDOW`).
fn segment_bytes(wished: i32) -> Result<u16, Errno> {
    match wished {
        0 | 88..=32767 => Ok(wished as u16),
        _ => Err(Errno::EINVAL),
    }
}

/// A bound on the window; none only before there is a connection (Linux: `tcp_set_window_clamp`).
fn clamp_bytes(socket: &Socket, wished: i32) -> Result<u32, Errno> {
    match wished {
        0 if is_begun(socket) => Err(Errno::EINVAL),
        0 => Ok(0),
        wished => Ok(wished.max(LEAST_CLAMP) as u32),
    }
}

/// What Linux makes of a time to wait for data: it counts in repetitions of its answer to the SYN, whose
/// waits double.
fn defer_seconds(wished: i32) -> u32 {
    let wished = wished.clamp(0, 120) as u32;
    if wished == 0 { 0 } else { (wished + 1).next_power_of_two() - 1 }
}

fn stream_info(socket: &Socket) -> Option<TcpInfo> {
    match &socket.kind {
        Kind::Stream(stream) => stream.info(),
        _ => None,
    }
}

/// True for a connection, an attempt at one, or a listener.
fn is_begun(socket: &Socket) -> bool {
    stream_info(socket).is_some() || is_listening(socket)
}

/// What a full segment carries, or would.
fn segment_size(socket: &Socket, options: &SocketOptions) -> i32 {
    match (stream_info(socket), options.tcp.max_segment) {
        (Some(info), _) => info.mss as i32,
        (None, 0) => TCP_MSS_DEFAULT as i32,
        (None, bytes) => bytes.into(),
    }
}

/// getsockopt(2) at the level of TCP.
pub(super) fn get(socket: &Socket, name: u32, place: Place) -> SysResult {
    require_tcp(socket)?;
    let options = *socket.options.lock();
    match name {
        TCP_NODELAY => place.flag(options.has_no_delay),
        TCP_KEEPIDLE => place.int(options.keep_alive.idle_seconds as i32),
        TCP_KEEPINTVL => place.int(options.keep_alive.interval_seconds as i32),
        TCP_KEEPCNT => place.int(options.keep_alive.probes as i32),
        TCP_USER_TIMEOUT => place.int(options.user_timeout_ms as i32),
        TCP_QUICKACK => place.flag(options.tcp.quick_ack.unwrap_or(true)),
        TCP_CORK => place.flag(options.tcp.is_corked),
        TCP_DEFER_ACCEPT => place.int(options.tcp.defer_seconds as i32),
        TCP_SYNCNT => {
            place.int(if options.tcp.syn_retries > 0 { options.tcp.syn_retries.into() } else { SYN_RETRIES })
        }
        TCP_LINGER2 if options.tcp.end_seconds == 0 => place.int(END_SECONDS),
        TCP_LINGER2 => place.int(options.tcp.end_seconds),
        TCP_WINDOW_CLAMP => place.int(options.tcp.window_clamp as i32),
        TCP_NOTSENT_LOWAT => place.int(options.tcp.unsent_low as i32),
        TCP_THIN_LINEAR_TIMEOUTS => place.flag(options.tcp.congestion.has_linear_timeouts),
        TCP_FASTOPEN_CONNECT => place.flag(options.tcp.opens_fast),
        TCP_MAXSEG => place.int(segment_size(socket, &options)),
        TCP_INFO => place.write(&tcp_info::bytes(stream_info(socket), is_listening(socket))),
        TCP_CONGESTION => {
            let mut name = [0; NAME_BYTES];
            let chosen = if options.tcp.congestion.is_reno { RENO } else { CUBIC };
            name[..chosen.len()].copy_from_slice(chosen);
            place.write(&name)
        }
        _ => Err(Errno::ENOPROTOOPT),
    }
}
