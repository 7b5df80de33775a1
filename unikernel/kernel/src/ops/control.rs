//! Control messages that the app sends beside the bytes of a message (cmsg(3)): open files that travel (`SCM_RIGHTS`), and what one
//! datagram does otherwise than its socket (ip(7), ipv6(7), udp(7)). [`super::control_out`] writes those that it receives.

use alloc::sync::Arc;
use core::net::{IpAddr, Ipv6Addr};

use linux_raw_sys::net::{
    IP_PKTINFO, IP_RETOPTS, IP_TOS, IP_TTL, IPPROTO_IPV6, IPPROTO_UDP, IPV6_DONTFRAG, IPV6_HOPLIMIT,
    IPV6_PKTINFO, IPV6_TCLASS, SCM_RIGHTS, SO_MARK, SO_PRIORITY, SOL_IP, SOL_SOCKET, msghdr,
};

use unikernel_vfs::access::Ids;

use super::sockopt_udp::UDP_SEGMENT;
use crate::abi::Errno;
use crate::file::{self, OpenFile};
use crate::kmem::room;
use crate::mem::user::UserSlice;
use crate::net::socket::SendControl;
use crate::net::unix::Rights;
use crate::task::credentials::{self, Capability};
use crate::task::process::PROCESS_ID;

/// `SCM_CREDENTIALS`, which `linux-raw-sys` does not know (unix(7)).
pub(super) const SCM_CREDENTIALS: u32 = 2;
/// Bytes of a `struct ucred`.
const CREDENTIALS_BYTES: usize = 12;
/// `struct cmsghdr`: length with the header, level, type.
pub(super) const HEADER_BYTES: usize = 16;
const SOL_IPV6: u32 = IPPROTO_IPV6 as u32;
const SOL_UDP: u32 = IPPROTO_UDP as u32;
/// Places of the two protocols in what is kept for each.
const V4: usize = 0;
const V6: usize = 1;
/// Most files in one message (`SCM_MAX_FD`).
const MAX_RIGHTS: usize = 253;
/// More control bytes than that are refused (Linux: `net.core.optmem_max`).
const MAX_CONTROL_BYTES: usize = 65_536;

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes[at..].first_chunk().map_or(0, |word| u32::from_ne_bytes(*word))
}

/// The open file to send along. Rings are not for sending, as in Linux: they keep files open, sockets among them.
fn travelling(descriptor: i32) -> Result<Arc<OpenFile>, Errno> {
    let opened = file::get_any(descriptor)?;
    if opened.file.may_be_sent() { Ok(opened) } else { Err(Errno::EINVAL) }
}

/// Reads the open files that a message takes along, and what it asks for.
pub(super) fn read(header: &msghdr) -> Result<(Rights, SendControl), Errno> {
    let (mut rights, mut control) = (Rights::new(), SendControl::default());
    let len = header.msg_controllen;
    if len == 0 {
        return Ok((rights, control));
    }
    if len > MAX_CONTROL_BYTES {
        return Err(Errno::ENOBUFS);
    }
    let mut bytes = room::filled(0, len)?;
    UserSlice::new(header.msg_control.addr() as u64, len).read(&mut bytes)?;
    let mut rest = &bytes[..];
    while rest.len() >= HEADER_BYTES {
        let len = usize::from_ne_bytes(rest[..8].try_into().map_err(|_| Errno::EINVAL)?);
        if !(HEADER_BYTES..=rest.len()).contains(&len) {
            return Err(Errno::EINVAL);
        }
        let data = &rest[HEADER_BYTES..len];
        match (word(rest, 8), word(rest, 12)) {
            (SOL_SOCKET, SCM_RIGHTS) => {
                if rights.len() + data.len() / 4 > MAX_RIGHTS {
                    return Err(Errno::EINVAL);
                }
                for descriptor in data.chunks_exact(4) {
                    rights.push(travelling(word(descriptor, 0) as i32)?);
                }
            }
            // Nobody looks at marks and priorities.
            (SOL_SOCKET, SCM_CREDENTIALS) if data.len() == CREDENTIALS_BYTES => check_claim(data)?,
            (SOL_SOCKET, SO_MARK | SO_PRIORITY) if data.len() == size_of::<u32>() => {}
            (SOL_SOCKET, _) => return Err(Errno::EINVAL),
            (SOL_IP, kind) => control.is_bad[V4] |= read_ip(kind, data, &mut control).is_none(),
            (SOL_IPV6, kind) => control.is_bad[V6] |= read_ipv6(kind, data, &mut control).is_none(),
            (SOL_UDP, kind) => {
                control.segment = exact::<2>(data).filter(|_| kind == UDP_SEGMENT).map(u16::from_ne_bytes);
                let is_bad = control.segment.is_none();
                control.is_bad = control.is_bad.map(|bad| bad || is_bad);
            }
            _ => {}
        }
        rest = &rest[len.next_multiple_of(8).min(rest.len())..];
    }
    Ok((rights, control))
}

/// Whether the running thread may say that it is this process, user and group (unix(7), `SCM_CREDENTIALS`).
fn check_claim(data: &[u8]) -> Result<(), Errno> {
    let who = credentials::mine();
    let [process, user, group] = [0, 4, 8].map(|at| word(data, at));
    let is = |ids: Ids, id| [ids.real, ids.effective, ids.saved].contains(&id);
    let may = (process == PROCESS_ID as u32 || who.has(Capability::SysAdmin))
        && (is(who.user, user) || who.has(Capability::SetUid))
        && (is(who.group, group) || who.has(Capability::SetGid));
    match may {
        false => Err(Errno::EPERM),
        true if process != PROCESS_ID as u32 => Err(Errno::ESRCH),
        true => Ok(()),
    }
}

/// A value of just so many bytes.
fn exact<const LEN: usize>(data: &[u8]) -> Option<[u8; LEN]> {
    data.try_into().ok()
}

fn int(data: &[u8]) -> Option<i32> {
    exact(data).map(i32::from_ne_bytes)
}

/// Takes note of a message of IPv4; none if it makes no sense (Linux: `ip_cmsg_send`).
fn read_ip(kind: u32, data: &[u8], control: &mut SendControl) -> Option<()> {
    let header = &mut control.headers[V4];
    match kind {
        // A `struct in_pktinfo`: the interface, our address, and that of the header, which does not count.
        IP_PKTINFO => {
            let info: [u8; 12] = exact(data)?;
            header.interface = word(&info, 0);
            header.source = Some(IpAddr::from([info[4], info[5], info[6], info[7]]));
        }
        IP_TTL => {
            let hops = u8::try_from(int(data)?).ok().filter(|hops| *hops > 0)?;
            header.hop_limit = Some(hops);
        }
        IP_TOS => {
            let class = exact::<1>(data).map(|[class]| i32::from(class)).or_else(|| int(data))?;
            header.traffic_class = Some(u8::try_from(class).ok()?);
        }
        IP_RETOPTS if data.is_empty() => {}
        _ => return None,
    }
    Some(())
}

/// Takes note of a message of IPv6; none if it makes no sense (Linux: `ip6_datagram_send_ctl`).
fn read_ipv6(kind: u32, data: &[u8], control: &mut SendControl) -> Option<()> {
    // -1 asks for the usual.
    let byte_or_usual =
        |number: i32| if number == -1 { Some(None) } else { Some(Some(u8::try_from(number).ok()?)) };
    match kind {
        IPV6_PKTINFO => {
            let info: [u8; 20] = exact(data)?;
            let (source, interface) = (Ipv6Addr::from(*info.first_chunk::<16>()?), word(&info, 16));
            control.headers[V6].source = Some(source.into());
            control.headers[V6].interface = interface;
            // Where the destination is one of IPv4 in its mapped form, so must the source be.
            let mapped = source.to_ipv4_mapped();
            control.is_bad[V4] |= mapped.is_none();
            control.headers[V4].source = mapped.map(IpAddr::V4).or(control.headers[V4].source);
            control.headers[V4].interface = interface;
        }
        IPV6_HOPLIMIT => control.headers[V6].hop_limit = byte_or_usual(int(data)?)?,
        IPV6_TCLASS => control.headers[V6].traffic_class = byte_or_usual(int(data)?)?,
        IPV6_DONTFRAG => control.is_unsplit = Some(int(data).filter(|value| (0..=1).contains(value))? == 1),
        _ => return None,
    }
    Some(())
}
