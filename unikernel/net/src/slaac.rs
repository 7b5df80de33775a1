//! Which IPv6 addresses, on-link prefixes and routers this machine has: stateless address autoconfiguration
//! (RFC 4862) from router advertisements (RFC 4861), with duplicate address detection.
//!
//! [`Autoconf`] is told what routers say and what time it is, and says what to ask ([`Ask`]). Addresses are
//! *optimistic* (RFC 4429): they can be used while the link is asked whether somebody else has them, so that a
//! boot does not wait a second. An address that somebody else has is given up.
//!
//! Everything is bounded: a hostile router can fill the tables, not the memory.

use alloc::vec::Vec;
use core::net::{IpAddr, Ipv6Addr};

use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{IpCidr, Ipv6Cidr};

use crate::config::{Ipv6Address, Ipv6Config, RouteEntry};
use crate::timers::NEVER;

/// How long the link is asked about an address (RFC 4861 section 10, `RETRANS_TIMER`).
const PROBE_TIME: Duration = Duration::from_secs(1);
/// Questions for routers, and the time between them (`MAX_RTR_SOLICITATIONS`, `RTR_SOLICITATION_INTERVAL`).
const SOLICITATIONS: u8 = 3;
const SOLICITATION_INTERVAL: Duration = Duration::from_secs(4);
/// What a router cannot shorten a valid lifetime below (RFC 4862 section 5.5.3 e).
const SAFE_LIFETIME: Duration = Duration::from_secs(2 * 60 * 60);
/// A lifetime without end.
const INFINITE_SECONDS: u32 = u32::MAX;
/// Bounds of the tables.
const MAX_ADDRESSES: usize = 16;
const MAX_PREFIXES: usize = 16;
const MAX_ROUTERS: usize = 4;
/// Linux's metric for what router advertisements bring.
const METRIC: u32 = 1024;

/// What must be asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ask {
    /// Whether somebody has the address.
    Probe(Ipv6Addr),
    /// Which routers there are.
    Router,
}

/// A prefix as a router advertises it (RFC 4861 section 4.6.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Prefix {
    pub(crate) network: Ipv6Cidr,
    pub(crate) is_on_link: bool,
    pub(crate) is_autonomous: bool,
    pub(crate) valid_seconds: u32,
    pub(crate) preferred_seconds: u32,
}

struct Held {
    address: Ipv6Cidr,
    /// Until when the link is asked; none once it is ours alone.
    probe_until: Option<Instant>,
    preferred_until: Instant,
    valid_until: Instant,
}

/// The state of autoconfiguration.
pub(crate) struct Autoconf {
    config: Ipv6Config,
    link_local: Ipv6Addr,
    addresses: Vec<Held>,
    prefixes: Vec<(Ipv6Cidr, Instant)>,
    routers: Vec<(Ipv6Addr, Instant)>,
    /// Addresses that were added and not yet asked about.
    unasked: Vec<Ipv6Addr>,
    solicitations: u8,
    solicit_at: Instant,
    /// When [`run`](Self::run) was called last.
    ran: Instant,
    /// When it is wanted next: asked with every packet, and worked out when something changes.
    due: Instant,
}

impl Autoconf {
    /// Starts with the link-local address and those of the configuration.
    pub(crate) fn new(link_local: Ipv6Addr, config: Ipv6Config, now: Instant) -> Self {
        let has_solicitations = config.accepts_advertisements;
        let mut autoconf = Self {
            link_local,
            addresses: Vec::new(),
            prefixes: Vec::new(),
            routers: Vec::new(),
            unasked: Vec::new(),
            solicitations: if has_solicitations { SOLICITATIONS } else { 0 },
            solicit_at: if has_solicitations { now } else { NEVER },
            ran: now,
            due: NEVER,
            config,
        };
        autoconf.add(now, Ipv6Cidr::new(link_local, 64), (NEVER, NEVER));
        for address in autoconf.config.addresses.clone() {
            autoconf.add(now, address, (NEVER, NEVER));
        }
        autoconf.plan();
        autoconf
    }

    fn add(&mut self, now: Instant, address: Ipv6Cidr, (preferred_until, valid_until): (Instant, Instant)) {
        let is_known = self.addresses.iter().any(|held| held.address.address() == address.address());
        if is_known || self.addresses.len() >= MAX_ADDRESSES {
            return;
        }
        let probe_until = self.config.detects_duplicates.then_some(now + PROBE_TIME);
        if probe_until.is_some() {
            self.unasked.push(address.address());
        }
        self.addresses.push(Held { address, probe_until, preferred_until, valid_until });
    }

    /// Takes in a router advertisement: from whom, for how many seconds it is a default router, its prefixes.
    pub(crate) fn advertised(
        &mut self,
        now: Instant,
        router: Ipv6Addr,
        router_seconds: u16,
        prefixes: impl Iterator<Item = Prefix>,
    ) {
        if !self.config.accepts_advertisements {
            return;
        }
        self.solicitations = 0;
        self.solicit_at = NEVER;
        refresh(&mut self.routers, router, after(now, router_seconds.into()), now, MAX_ROUTERS);
        for prefix in prefixes {
            if prefix.network.address().is_unicast_link_local() || prefix.network.address().is_multicast() {
                continue;
            }
            if prefix.is_on_link {
                let until = after(now, prefix.valid_seconds);
                refresh(&mut self.prefixes, network_of(prefix.network), until, now, MAX_PREFIXES);
            }
            if prefix.is_autonomous && prefix.preferred_seconds <= prefix.valid_seconds {
                self.autonomous(now, &prefix);
            }
        }
        self.plan();
    }

    /// An address of the prefix (RFC 4862 section 5.5.3).
    fn autonomous(&mut self, now: Instant, prefix: &Prefix) {
        if prefix.network.prefix_len() != 64 {
            return;
        }
        let low = self.link_local.to_bits() & u128::from(u64::MAX);
        let high = prefix.network.address().to_bits() & !u128::from(u64::MAX);
        let address = Ipv6Addr::from_bits(high | low);
        let (preferred, valid) = (after(now, prefix.preferred_seconds), after(now, prefix.valid_seconds));
        match self.addresses.iter_mut().find(|held| held.address.address() == address) {
            // What the command line gave has no end.
            Some(held) if held.valid_until == NEVER && self.config.addresses.contains(&held.address) => {}
            Some(held) => {
                held.preferred_until = preferred;
                if valid > now + SAFE_LIFETIME || valid > held.valid_until {
                    held.valid_until = valid;
                } else if held.valid_until > now + SAFE_LIFETIME {
                    held.valid_until = now + SAFE_LIFETIME;
                }
            }
            None if prefix.valid_seconds > 0 => self.add(now, Ipv6Cidr::new(address, 64), (preferred, valid)),
            None => {}
        }
    }

    /// Somebody else has `address`. True if it was ours and is given up: a station that was asked about
    /// before loses, one that has an address keeps it.
    pub(crate) fn duplicate(&mut self, address: Ipv6Addr) -> bool {
        let count = self.addresses.len();
        self.addresses.retain(|held| held.address.address() != address || held.probe_until.is_none());
        self.plan();
        count != self.addresses.len()
    }

    /// True if the link is still being asked about `address`.
    pub(crate) fn is_optimistic(&self, address: Ipv6Addr) -> bool {
        self.addresses.iter().any(|held| held.address.address() == address && held.probe_until.is_some())
    }

    /// Lets time pass: what has run out goes, what is to be asked comes back.
    pub(crate) fn run(&mut self, now: Instant) -> Vec<Ask> {
        self.ran = now;
        self.addresses.retain(|held| held.valid_until > now);
        self.prefixes.retain(|(_, until)| *until > now);
        self.routers.retain(|(_, until)| *until > now);
        for held in &mut self.addresses {
            held.probe_until = held.probe_until.filter(|until| *until > now);
        }
        let mut asks: Vec<Ask> = self.unasked.drain(..).map(Ask::Probe).collect();
        if self.solicitations > 0 && self.solicit_at <= now {
            self.solicitations -= 1;
            self.solicit_at = if self.solicitations > 0 { now + SOLICITATION_INTERVAL } else { NEVER };
            asks.push(Ask::Router);
        }
        self.plan();
        asks
    }

    /// When [`run`](Self::run) is next wanted; the past if at once.
    #[inline]
    pub(crate) fn next(&self) -> Instant {
        self.due
    }

    fn plan(&mut self) {
        if !self.unasked.is_empty() {
            self.due = Instant::ZERO;
            return;
        }
        let held = self.addresses.iter().flat_map(|held| {
            let preferred = Some(held.preferred_until).filter(|until| *until > self.ran);
            [Some(held.valid_until), held.probe_until, preferred].into_iter().flatten()
        });
        let lists =
            self.prefixes.iter().map(|(_, until)| *until).chain(self.routers.iter().map(|(_, until)| *until));
        self.due = held.chain(lists).chain([self.solicit_at]).min().unwrap_or(NEVER);
    }

    /// The addresses in force.
    pub(crate) fn addresses(&self, now: Instant) -> Vec<Ipv6Address> {
        let own =
            |held: &Held| Ipv6Address { address: held.address, is_deprecated: held.preferred_until <= now };
        self.addresses.iter().map(own).collect()
    }

    /// The routes that follow from addresses and advertisements.
    pub(crate) fn routes(&self) -> Vec<RouteEntry> {
        let on_link = |network| RouteEntry { network: IpCidr::Ipv6(network), gateway: None, metric: 256 };
        let default = |gateway: Ipv6Addr, metric| RouteEntry {
            network: IpCidr::Ipv6(Ipv6Cidr::new(Ipv6Addr::UNSPECIFIED, 0)),
            gateway: Some(IpAddr::V6(gateway)),
            metric,
        };
        let link_local = Ipv6Cidr::new(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 64);
        let given = self.config.addresses.iter().map(|address| on_link(network_of(*address)));
        let learnt = self.prefixes.iter().map(|(network, _)| on_link(*network));
        let routers = self.routers.iter().map(|(router, _)| default(*router, METRIC));
        [on_link(link_local)]
            .into_iter()
            .chain(given)
            .chain(learnt)
            .chain(self.config.gateway.map(|gateway| default(gateway, 1)))
            .chain(routers)
            .collect()
    }
}

fn after(now: Instant, seconds: u32) -> Instant {
    if seconds == INFINITE_SECONDS { NEVER } else { now + Duration::from_secs(seconds.into()) }
}

/// Puts an entry into a bounded list, renews it, or, when its time is over at once, takes it out.
fn refresh<T: PartialEq>(list: &mut Vec<(T, Instant)>, item: T, until: Instant, now: Instant, most: usize) {
    let has_room = list.len() < most;
    match list.iter_mut().find(|(known, _)| *known == item) {
        Some((_, known_until)) => *known_until = until,
        None if has_room && until > now => list.push((item, until)),
        None => {}
    }
    list.retain(|(_, until)| *until > now);
}

/// The network that an address with its prefix is in.
fn network_of(address: Ipv6Cidr) -> Ipv6Cidr {
    let len = u32::from(address.prefix_len());
    let mask = u128::MAX.checked_shl(128 - len).unwrap_or(0);
    Ipv6Cidr::new(Ipv6Addr::from_bits(address.address().to_bits() & mask), address.prefix_len())
}
