//! Linux's long form of `ip=` (admin-guide/nfs/nfsroot), which users of Firecracker and of boot loaders write:
//! `client:server:gateway:netmask:hostname:device:autoconf:dns:dns`.

use alloc::vec::Vec;
use core::net::{Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

use crate::card::Address;

/// Fields that are looked at; what follows is a time server's.
const FIELDS: usize = 9;

/// What such a word says about a card.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct LinuxAddress {
    pub(crate) address: Address,
    pub(crate) gateway: Option<Ipv4Addr>,
    pub(crate) dns_servers: Vec<Ipv4Addr>,
}

/// A field is no address, no netmask, or names another card.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BadField;

impl LinuxAddress {
    /// Reads the value; `None` if it has another form.
    pub(crate) fn parse(value: &str) -> Option<Result<Self, BadField>> {
        let (first, _) = value.split_once(':')?;
        let is_ours = value.contains('/') || Ipv6Addr::from_str(value).is_ok();
        let is_long = !is_ours && (first.is_empty() || Ipv4Addr::from_str(first).is_ok());
        is_long.then(|| Self::read(value))
    }

    fn read(value: &str) -> Result<Self, BadField> {
        let mut fields = [""; FIELDS];
        fields.iter_mut().zip(value.split(':')).for_each(|(field, text)| *field = text);
        let [client, _server, gateway, netmask, _host_name, device, autoconf, dns @ ..] = fields;
        // Other cards have words of their own: `eth1.ip=`.
        if !matches!(device, "" | "eth0") {
            return Err(BadField);
        }
        let address = match (ipv4(client)?, autoconf) {
            (Some(client), _) => Address::Static(client, prefix(client, ipv4(netmask)?)?),
            (None, "off" | "none") => Address::None,
            (None, "" | "on" | "any" | "dhcp") => Address::Dhcp,
            (None, _) => return Err(BadField),
        };
        let is_static = matches!(address, Address::Static(..));
        let mut dns_servers = Vec::new();
        for server in dns {
            dns_servers.extend(ipv4(server)?.filter(|_| is_static));
        }
        Ok(Self { address, gateway: ipv4(gateway)?.filter(|_| is_static), dns_servers })
    }
}

/// An address, or none in an empty field and where Linux writes `0.0.0.0` for none.
fn ipv4(field: &str) -> Result<Option<Ipv4Addr>, BadField> {
    if field.is_empty() {
        return Ok(None);
    }
    let address = Ipv4Addr::from_str(field).map_err(|_| BadField)?;
    Ok(Some(address).filter(|address| !address.is_unspecified()))
}

/// The length of a netmask; without one, that of the address's class, as Linux takes it.
fn prefix(address: Ipv4Addr, netmask: Option<Ipv4Addr>) -> Result<u8, BadField> {
    let Some(netmask) = netmask else {
        return Ok(match address.octets()[0] {
            ..128 => 8,
            128..192 => 16,
            192.. => 24,
        });
    };
    let bits = netmask.to_bits();
    let ones = bits.leading_ones();
    if bits.count_ones() == ones { Ok(ones as u8) } else { Err(BadField) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fields_are_read_as_linux_reads_them() {
        let read = |value| LinuxAddress::parse(value).unwrap().unwrap();
        let (client, gateway) = (Ipv4Addr::new(172, 16, 0, 2), Ipv4Addr::new(172, 16, 0, 1));
        let full = read("172.16.0.2::172.16.0.1:255.255.255.252:name:eth0:off:1.1.1.1:0.0.0.0:9.9.9.9");
        assert_eq!(full.address, Address::Static(client, 30));
        assert_eq!(full.gateway, Some(gateway));
        assert_eq!(full.dns_servers[..], [Ipv4Addr::new(1, 1, 1, 1)]);
        assert_eq!(read("172.16.0.2::172.16.0.1").address, Address::Static(client, 16));
        assert_eq!(read("10.1.2.3:").address, Address::Static(Ipv4Addr::new(10, 1, 2, 3), 8));
        assert_eq!(read(":::::eth0:dhcp").address, Address::Dhcp);
        assert_eq!(read("::10.0.0.1::::off").address, Address::None);
        // DHCP tells these itself, and without an address they lead nowhere.
        assert_eq!(read("::10.0.0.1::::dhcp:1.1.1.1"), read(":::::"));
    }

    #[test]
    fn other_forms_are_left_alone_and_bad_fields_refused() {
        for other in ["dhcp", "10.0.2.15/24", "2001:db8::15/64", "2001:db8::15", "::", "name:x"] {
            assert_eq!(LinuxAddress::parse(other), None, "{other}");
        }
        for bad in [
            "10.0.0.2::10.0.0:255.0.0.0",
            "10.0.0.2:::255.0.255.0",
            "10.0.0.2:::::eth1:off",
            ":::::eth0:bootp7",
            "10.0.0.2:::::::nobody",
        ] {
            assert_eq!(LinuxAddress::parse(bad), Some(Err(BadField)), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(value in "[0-9.:a-z/]{0,40}") {
            let _ = LinuxAddress::parse(&value);
        }
    }
}
