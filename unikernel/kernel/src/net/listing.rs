//! The files of `/proc/net` (proc_net(5)): every shard adds its lines.

use alloc::format;
use alloc::string::String;
use core::fmt::{self, Write};

use unikernel_net::listing::{self, IpVersion, heading};
use unikernel_net::{Counters, Stack};

use super::cards::{self, InterfaceId};
use super::{shards, unix};
use crate::file::long_text::{List, LongText};

/// A path and what makes its text.
type Text = (&'static str, fn() -> String);

/// All files.
pub(crate) const TEXTS: &[Text] = &[
    ("/proc/net/dev", dev),
    ("/proc/net/route", || of_cards(heading::ROUTE, |stack, out, link| stack.list_routes(out, link.name()))),
    ("/proc/net/arp", || of_cards(heading::ARP, |stack, out, link| stack.list_neighbors(out, link.name()))),
    ("/proc/net/if_inet6", || {
        of_cards(listing::LOOPBACK_IPV6, |stack, out, link| {
            stack.list_ipv6_addresses(out, link.name(), link.number());
        })
    }),
    ("/proc/net/snmp", || listing::snmp(&super::counters())),
    ("/proc/net/netstat", || listing::netstat(&super::counters())),
    ("/proc/net/sockstat", sockstat),
];

/// Files that have a line for each socket of the app's.
pub(crate) const LISTS: &[List] = &[
    ("/proc/net/tcp", |out| tcp(out, heading::TCP, IpVersion::V4)),
    ("/proc/net/tcp6", |out| tcp(out, heading::TCP6, IpVersion::V6)),
    ("/proc/net/udp", |out| udp(out, heading::UDP, IpVersion::V4)),
    ("/proc/net/udp6", |out| udp(out, heading::UDP6, IpVersion::V6)),
    ("/proc/net/unix", unix::listing::list),
];

/// The lines of each card below a heading.
fn of_cards(heading: &str, write: impl Fn(&Stack, &mut String, InterfaceId)) -> String {
    let mut text = String::from(heading);
    for (number, card) in cards::all().iter().enumerate() {
        write(&shards::lock(card.shards.start).stack, &mut text, InterfaceId::Card(number));
    }
    text
}

fn tcp(out: &mut LongText, heading: &str, version: IpVersion) -> fmt::Result {
    out.write_str(heading)?;
    {
        let net = super::lock();
        net.stack.list_listeners(out, version, |id| net.routes.inode(id))?;
    }
    for shard in 0..shards::count() {
        let net = shards::lock(shard);
        net.stack.list_connections(out, version, |id| net.routes.inode(id))?;
    }
    Ok(())
}

/// Sockets are alike on every card; what waits, waits where it came in.
fn udp(out: &mut LongText, heading: &str, version: IpVersion) -> fmt::Result {
    out.write_str(heading)?;
    let net = super::lock();
    net.stack.list_udp(out, version, |id| net.routes.inode(id))
}

fn dev() -> String {
    let nothing = "0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0";
    let mut text = format!("{}    lo: {nothing}\n", heading::DEV);
    for card in cards::all() {
        let Some(nic) = super::sum_of(card.shards.clone()) else { continue };
        let mut counters = Counters::default();
        card.shards.clone().for_each(|shard| counters += shards::lock(shard).stack.counters());
        text += &format!(
            "{:>6}: {} {} 0 {} 0 0 0 0 {} {} 0 {} 0 0 0 0\n",
            card.name,
            nic.rx_bytes,
            nic.rx_frames,
            nic.rx_dropped + counters.malformed + counters.bad_checksum,
            nic.tx_bytes,
            nic.tx_frames,
            counters.queue_full,
        );
    }
    text
}

fn sockstat() -> String {
    let counters = super::counters();
    let (listeners, ports, fragment_bytes) = super::lock().stack.socket_counts();
    let connections = counters.active as usize;
    format!(
        "sockets: used {}\nTCP: inuse {} orphan 0 tw {} alloc {} mem 0\nUDP: inuse {ports} mem 0\nUDPLITE: inuse 0\nRAW: inuse 0\nFRAG: inuse {} memory {fragment_bytes}\n",
        listeners + connections + ports,
        listeners + connections,
        counters.time_wait,
        listeners + connections,
        u8::from(fragment_bytes > 0),
    )
}
