//! The questions of rtnetlink(7) that have answers here: links, addresses, routes, all of them or one.

use alloc::vec;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use linux_raw_sys::errno::{ENETUNREACH, ENODEV, EOPNOTSUPP};
use linux_raw_sys::net::{AF_INET, AF_INET6, AF_UNSPEC};
use linux_raw_sys::netlink::{rtattr_type_t as rta, *};
use unikernel_net::RouteEntry;
use unikernel_net::smoltcp::wire::IpCidr;

use super::message::{Message, Request};
use crate::net::cards::{self, InterfaceId};
use crate::net::shards;

/// What Linux says of a card's queue, and of the state of a link (RFC 2863: up; loopback has none).
const QUEUE_LEN: u32 = 1000;
const STATE_UP: u8 = 6;
const STATE_UNKNOWN: u8 = 0;
/// Addresses of loopback are the machine's only.
const SCOPE_HOST: u8 = rt_scope_t::RT_SCOPE_HOST as u8;
const SCOPE_LINK: u8 = rt_scope_t::RT_SCOPE_LINK as u8;
const SCOPE_UNIVERSE: u8 = rt_scope_t::RT_SCOPE_UNIVERSE as u8;
const PERMANENT: u32 = IFA_F_PERMANENT;
const MAIN_TABLE: u8 = rt_class_t::RT_TABLE_MAIN as u8;

/// The messages that answer a request: several for a dump.
pub(super) fn answer(request: &Request<'_>) -> Vec<Vec<u8>> {
    let is_dump = request.flags & NLM_F_DUMP == NLM_F_DUMP;
    let kind = request.kind;
    let mut messages = match (kind, is_dump) {
        (kind, true) if kind == RTM_GETLINK as u32 => links(request),
        (kind, true) if kind == RTM_GETADDR as u32 => addresses(request),
        (kind, true) if kind == RTM_GETROUTE as u32 => routes(request),
        (kind, false) if kind == RTM_GETLINK as u32 => return vec![one_link(request)],
        (kind, false) if kind == RTM_GETROUTE as u32 => return vec![one_route(request)],
        _ => return vec![request.error(EOPNOTSUPP as i32)],
    };
    messages.push(request.done(NLM_F_MULTI));
    messages
}

/// The family that is asked for, which begins every fixed part.
fn is_wanted(request: &Request<'_>, address: IpAddr) -> bool {
    let family = u32::from(request.body.first().copied().unwrap_or(0));
    family == AF_UNSPEC || family == family_of(address)
}

fn family_of(address: IpAddr) -> u32 {
    if address.is_ipv4() { AF_INET } else { AF_INET6 }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn links(request: &Request<'_>) -> Vec<Vec<u8>> {
    InterfaceId::all().map(|link| new_link(request, link, NLM_F_MULTI)).collect()
}

/// By its number, or else by its name.
fn one_link(request: &Request<'_>) -> Vec<u8> {
    let name = request.attribute(size_of::<ifinfomsg>(), IFLA_IFNAME as u32);
    let name = name.map(|name| name.split(|&byte| byte == 0).next().unwrap_or_default());
    let link = InterfaceId::by_number(request.word(4)).or_else(|| InterfaceId::by_name(name?));
    link.map_or_else(|| request.error(ENODEV as i32), |link| new_link(request, link, 0))
}

fn new_link(request: &Request<'_>, link: InterfaceId, flags: u32) -> Vec<u8> {
    let (hardware, mac) = link.hardware();
    let is_loopback = link == InterfaceId::Loopback;
    let mut message = request.answer(RTM_NEWLINK as u32, flags);
    let [low, high] = hardware.to_ne_bytes();
    message.put(&[AF_UNSPEC as u8, 0, low, high]);
    message.put(&link.number().to_ne_bytes());
    message.put(&link.flags().to_ne_bytes());
    // What has changed: nothing.
    message.put(&[0; 4]);
    message.attribute(IFLA_IFNAME as u32, &[link.name().as_bytes(), &[0]].concat());
    message.number(IFLA_TXQLEN as u32, QUEUE_LEN);
    message.attribute(IFLA_OPERSTATE as u32, &[if is_loopback { STATE_UNKNOWN } else { STATE_UP }]);
    message.number(IFLA_MTU as u32, link.mtu());
    message.attribute(IFLA_ADDRESS as u32, &mac);
    message.attribute(IFLA_BROADCAST as u32, &if is_loopback { [0; 6] } else { [0xff; 6] });
    message.finish()
}

/// An address of ours.
struct Own {
    address: IpAddr,
    prefix_len: u8,
    flags: u32,
    broadcast: Option<Ipv4Addr>,
}

fn addresses(request: &Request<'_>) -> Vec<Vec<u8>> {
    let of_link = |link| own_addresses(link).into_iter().map(move |own| (link, own));
    let wanted = InterfaceId::all().flat_map(of_link).filter(|(_, own)| is_wanted(request, own.address));
    wanted.map(|(link, own)| new_address(request, link, &own)).collect()
}

fn own_addresses(link: InterfaceId) -> Vec<Own> {
    let v4 = link.ipv4().map(|own| Own {
        address: own.address().into(),
        prefix_len: own.prefix_len(),
        flags: PERMANENT,
        broadcast: own.broadcast().filter(|_| link != InterfaceId::Loopback),
    });
    let v6 = match link {
        InterfaceId::Loopback => {
            vec![Own {
                address: Ipv6Addr::LOCALHOST.into(),
                prefix_len: 128,
                flags: PERMANENT,
                broadcast: None,
            }]
        }
        InterfaceId::Card(card) => {
            let net = shards::lock(cards::first_of(card));
            let own = net.stack.ipv6_addresses().map(|(address, flags)| Own {
                address: address.address().into(),
                prefix_len: address.prefix_len(),
                flags: flags.into(),
                broadcast: None,
            });
            own.collect()
        }
    };
    v4.into_iter().chain(v6).collect()
}

fn new_address(request: &Request<'_>, link: InterfaceId, own: &Own) -> Vec<u8> {
    let scope = match own.address {
        address if address.is_loopback() => SCOPE_HOST,
        IpAddr::V6(v6) if v6.is_unicast_link_local() => SCOPE_LINK,
        _ => SCOPE_UNIVERSE,
    };
    let mut message = request.answer(RTM_NEWADDR as u32, NLM_F_MULTI);
    message.put(&[family_of(own.address) as u8, own.prefix_len, own.flags as u8, scope]);
    message.put(&link.number().to_ne_bytes());
    message.attribute(IFA_ADDRESS as u32, &octets(own.address));
    if own.address.is_ipv4() {
        message.attribute(IFA_LOCAL as u32, &octets(own.address));
        message.attribute(IFA_LABEL as u32, &[link.name().as_bytes(), &[0]].concat());
    }
    if let Some(broadcast) = own.broadcast {
        message.attribute(IFA_BROADCAST as u32, &broadcast.octets());
    }
    message.number(IFA_FLAGS as u32, own.flags);
    message.finish()
}

fn routes(request: &Request<'_>) -> Vec<Vec<u8>> {
    let of_card = |card| {
        let net = shards::lock(cards::first_of(card));
        let entries = net.stack.config().routes.clone();
        entries.into_iter().map(move |entry| (card, entry))
    };
    let all = (0..cards::all().len()).flat_map(of_card);
    let wanted = all.filter(|(_, entry)| is_wanted(request, entry.network.address().into()));
    wanted.map(|(card, entry)| new_route(request, card, &entry, NLM_F_MULTI)).collect()
}

fn new_route(request: &Request<'_>, card: usize, entry: &RouteEntry, flags: u32) -> Vec<u8> {
    let (network, len) = match entry.network {
        IpCidr::Ipv4(v4) => (IpAddr::V4(v4.network().address()), v4.prefix_len()),
        IpCidr::Ipv6(v6) => (IpAddr::V6(v6.address()), v6.prefix_len()),
    };
    let (protocol, scope) = match entry.gateway {
        Some(_) => (RTPROT_BOOT, SCOPE_UNIVERSE),
        None if network.is_ipv4() => (RTPROT_KERNEL, SCOPE_LINK),
        None => (RTPROT_KERNEL, SCOPE_UNIVERSE),
    };
    let mut message = request.answer(RTM_NEWROUTE as u32, flags);
    put_route(&mut message, (network, len), protocol as u8, scope);
    if len > 0 {
        message.attribute(rta::RTA_DST as u32, &octets(network));
    }
    if let Some(gateway) = entry.gateway {
        message.attribute(rta::RTA_GATEWAY as u32, &octets(gateway));
    }
    message.number(rta::RTA_OIF as u32, InterfaceId::Card(card).number());
    if entry.metric > 0 {
        message.number(rta::RTA_PRIORITY as u32, entry.metric);
    }
    if let Some(own) = InterfaceId::Card(card).ipv4().filter(|_| entry.gateway.is_none() && network.is_ipv4())
    {
        message.attribute(rta::RTA_PREFSRC as u32, &own.address().octets());
    }
    message.finish()
}

/// The fixed part of a route.
fn put_route(message: &mut Message, (network, len): (IpAddr, u8), protocol: u8, scope: u8) {
    message.put(&[family_of(network) as u8, len, 0, 0, MAIN_TABLE, protocol, scope, RTN_UNICAST as u8]);
    // No flags.
    message.put(&[0; 4]);
    message.number(rta::RTA_TABLE as u32, MAIN_TABLE.into());
}

/// The way to one destination, with the address that we would have.
fn one_route(request: &Request<'_>) -> Vec<u8> {
    let unreachable = || request.error(ENETUNREACH as i32);
    let Some(to) = request.attribute(size_of::<rtmsg>(), rta::RTA_DST as u32).and_then(address_in) else {
        return unreachable();
    };
    let card = cards::towards(to, None, None);
    let (route, source) = {
        let net = shards::lock(cards::first_of(card));
        (net.stack.route_to(to), net.stack.source_to(to))
    };
    let (Some(route), Some(source)) = (route, source) else { return unreachable() };
    let len = if to.is_ipv4() { 32 } else { 128 };
    let mut message = request.answer(RTM_NEWROUTE as u32, 0);
    put_route(&mut message, (to, len), 0, SCOPE_UNIVERSE);
    message.attribute(rta::RTA_DST as u32, &octets(to));
    message.number(rta::RTA_OIF as u32, InterfaceId::Card(card).number());
    message.attribute(rta::RTA_PREFSRC as u32, &octets(source));
    if let Some(gateway) = route.gateway {
        message.attribute(rta::RTA_GATEWAY as u32, &octets(gateway));
    }
    message.finish()
}

fn address_in(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(v4.into());
    }
    Some(<[u8; 16]>::try_from(bytes).ok()?.into())
}
