//! The words about one network card. Without a prefix they are about the first, `eth0`.
//!
//! ```text
//! ip=10.0.2.15/24 gw=10.0.2.2  eth1.ip=192.168.7.2/24 eth1.route=192.168.8.0/24:192.168.7.1
//! ```

use alloc::borrow::ToOwned;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

use crate::error::ParseError;
use crate::filter;
use crate::linux_ip::LinuxAddress;
use crate::options::is_on;
use crate::route::{self, Route};

/// Cards at most.
pub const MAX_CARDS: usize = 8;

/// Every key about a card.
pub(crate) const KEYS: [&str; 5] = ["ip", "gw", "dns", "route", "slaac"];

/// Where a card's address comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Address {
    /// Asked from the network.
    #[default]
    Dhcp,
    /// None: IPv6 alone, or loopback.
    None,
    /// Given, with the length of the network's prefix.
    Static(Ipv4Addr, u8),
}

/// What the command line says about a card.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CardOptions {
    /// `ip=dhcp`, `ip=none` or `ip=address/prefix`; or Linux's long form, with gateway and name servers.
    pub address: Address,
    /// `gw=`, the default route of a static address.
    pub gateway: Option<Ipv4Addr>,
    /// `ip=` with addresses of IPv6, and the lengths of their prefixes.
    pub ipv6_addresses: Vec<(Ipv6Addr, u8)>,
    /// `gw=` with an address of IPv6.
    pub ipv6_gateway: Option<Ipv6Addr>,
    /// `slaac=off`: routers' advertisements are not believed.
    pub ignores_advertisements: bool,
    /// `route=`, in order.
    pub routes: Vec<Route>,
    /// `dns=`, several separated by commas or given in turn.
    pub dns_servers: Vec<Ipv4Addr>,
}

/// The card that a key's prefix names, and the rest of the key: `eth1.ip` is `ip` of card 1.
pub(crate) fn split(key: &str) -> Option<(usize, &str)> {
    let (number, key) = key.strip_prefix("eth")?.split_once('.')?;
    let number = number.parse().ok().filter(|number| *number < MAX_CARDS)?;
    Some((number, key))
}

impl CardOptions {
    /// Takes the word of one of [`KEYS`].
    pub(crate) fn take(&mut self, key: &'static str, value: &str) -> Result<(), ParseError> {
        match key {
            "ip" => self.take_address(value)?,
            "gw" => match value.parse() {
                Ok(IpAddr::V4(v4)) => self.gateway = Some(v4),
                Ok(IpAddr::V6(v6)) => self.ipv6_gateway = Some(v6),
                Err(_) => return Err(ParseError::BadValue("gw", value.to_owned(), "an IP address")),
            },
            "dns" => {
                for server in value.split(',') {
                    self.dns_servers.push(ipv4("dns", server)?);
                }
            }
            "route" => self.routes.push(route(value)?),
            _ => self.ignores_advertisements = !is_on("slaac", value)?,
        }
        Ok(())
    }

    fn take_address(&mut self, value: &str) -> Result<(), ParseError> {
        if let Some(long) = LinuxAddress::parse(value) {
            let expected = "addresses in Linux's form, such as `10.0.2.15::10.0.2.2:255.255.255.0::eth0:off`";
            let long = long.map_err(|_| ParseError::BadValue("ip", value.to_owned(), expected))?;
            self.address = long.address;
            self.gateway = long.gateway;
            self.dns_servers.extend(long.dns_servers);
            return Ok(());
        }
        match filter::parse_network(value) {
            Some((IpAddr::V6(address), len)) if value.contains('/') && len > 0 => {
                self.ipv6_addresses.push((address, len));
            }
            _ => self.address = address(value)?,
        }
        Ok(())
    }

    /// What DHCP tells is not to be told again: one of the two would have no effect.
    pub(crate) fn check(&self) -> Result<(), ParseError> {
        match (self.address, self.gateway, &self.dns_servers[..]) {
            (Address::Dhcp | Address::None, Some(_), _) => Err(ParseError::NeedsStaticAddress("gw")),
            (Address::Dhcp, None, [_, ..]) => Err(ParseError::NeedsStaticAddress("dns")),
            _ => Ok(()),
        }
    }
}

fn ipv4(key: &'static str, value: &str) -> Result<Ipv4Addr, ParseError> {
    Ipv4Addr::from_str(value).map_err(|_| ParseError::BadValue(key, value.to_owned(), "an IPv4 address"))
}

fn address(value: &str) -> Result<Address, ParseError> {
    if value == "dhcp" {
        return Ok(Address::Dhcp);
    }
    if value == "none" {
        return Ok(Address::None);
    }
    let bad = || {
        ParseError::BadValue(
            "ip",
            value.to_owned(),
            "`dhcp`, `none` or an address such as `10.0.2.15/24` or `2001:db8::15/64`",
        )
    };
    let (address, prefix) = value.split_once('/').ok_or_else(bad)?;
    let prefix = prefix.parse().ok().filter(|prefix| (1..=32).contains(prefix)).ok_or_else(bad)?;
    Ok(Address::Static(Ipv4Addr::from_str(address).map_err(|_| bad())?, prefix))
}

fn route(value: &str) -> Result<Route, ParseError> {
    Route::parse(value).ok_or_else(|| ParseError::BadValue("route", value.to_owned(), route::EXPECTED))
}
