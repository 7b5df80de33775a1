//! Network configuration, versions 1 and 2 (cloud-init, "Networking config"), as words of the command line for each card.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr};

use crate::yaml::Value;

/// What is said about one card.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Card {
    /// What it is called; `eth0` is the first.
    pub name: String,
    /// Its hardware address, which counts before the name.
    pub mac: Option<[u8; 6]>,
    /// Key and value of each word: `ip`, `gw`, `dns`, `route`, `slaac`.
    pub words: Vec<(&'static str, String)>,
}

/// What the whole says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Network {
    /// Cards, in order.
    pub cards: Vec<Card>,
    /// What is left undone, and why, in sentences.
    pub complaints: Vec<String>,
}

/// A card while it is read.
#[derive(Default)]
struct Reading {
    v4: Vec<String>,
    v6: Vec<String>,
    gateways: Vec<IpAddr>,
    servers: Vec<Ipv4Addr>,
    routes: Vec<String>,
    uses_dhcp: bool,
    ignores_advertisements: bool,
    complaints: Vec<String>,
}

/// Reads it; `network:` around it is optional.
pub fn read(value: &Value) -> Network {
    let inner = value.get("network");
    let value = if *inner == Value::Null { value } else { inner };
    let mut network = Network::default();
    match value.get("version").text() {
        Some("1") => version_1(value, &mut network),
        Some("2") => version_2(value, &mut network),
        _ => network.complaints.push("`version` is neither 1 nor 2".to_string()),
    }
    network
}

fn version_1(value: &Value, network: &mut Network) {
    let mut servers: Vec<Ipv4Addr> = Vec::new();
    for item in value.get("config").list() {
        match item.get("type").text().unwrap_or_default() {
            "physical" => {
                let mut reading = Reading::default();
                item.get("subnets").list().iter().for_each(|subnet| reading.subnet(subnet));
                network.add(item.get("name").text(), item.get("mac_address").text(), reading);
            }
            "nameserver" => servers.extend(addresses(item.get("address"))),
            other => network.complaints.push(format!("type `{}` is not understood", other.escape_debug())),
        }
    }
    // They are for all cards that have an address of their own.
    let has_address =
        |card: &&mut Card| card.words.iter().any(|(key, value)| *key == "ip" && value.contains('.'));
    for card in network.cards.iter_mut().filter(has_address) {
        card.words.extend(servers.iter().map(|server| ("dns", server.to_string())));
    }
}

fn version_2(value: &Value, network: &mut Network) {
    for (name, card) in value.get("ethernets").entries() {
        let matched = card.get("match");
        let mut reading = Reading {
            uses_dhcp: card.get("dhcp4").is_true(),
            ignores_advertisements: card.get("accept-ra").text().is_some()
                && !card.get("accept-ra").is_true(),
            ..Reading::default()
        };
        for address in card.get("addresses").list() {
            reading.address(address.text().unwrap_or_default());
        }
        for key in ["gateway4", "gateway6"] {
            reading.gateway(card.get(key));
        }
        reading.servers.extend(addresses(card.get("nameservers").get("addresses")));
        for route in card.get("routes").list() {
            reading.route(route.get("to").text(), route.get("via"), route.get("metric").text());
        }
        let own_name = card.get("set-name").text().or(matched.get("name").text());
        network.add(own_name.or(Some(name)), matched.get("macaddress").text(), reading);
    }
    let others = value.entries().iter().map(|(key, _)| key.as_str());
    let others = others.filter(|key| !["version", "ethernets", "renderer"].contains(key));
    network.complaints.extend(others.map(|key| format!("`{}` is not understood", key.escape_debug())));
}

impl Network {
    fn add(&mut self, name: Option<&str>, mac: Option<&str>, mut reading: Reading) {
        let name = name.unwrap_or_default().to_string();
        let words = reading.words();
        self.complaints
            .extend(reading.complaints.iter().map(|text| format!("{}: {text}", name.escape_debug())));
        match mac.map(hardware_address) {
            Some(None) => {
                self.complaints.push(format!("{}: its hardware address is none", name.escape_debug()));
            }
            mac => self.cards.push(Card { name, mac: mac.flatten(), words }),
        }
    }
}

impl Reading {
    /// A `subnet` of version 1.
    fn subnet(&mut self, subnet: &Value) {
        match subnet.get("type").text().unwrap_or_default() {
            "dhcp" | "dhcp4" => self.uses_dhcp = true,
            "dhcp6" | "ipv6_slaac" | "manual" => {}
            "static" | "static6" => {
                let address = subnet.get("address").text().unwrap_or_default();
                match subnet.get("netmask").text() {
                    Some(mask) if !address.contains('/') => match prefix_len(mask) {
                        Some(len) => self.address(&format!("{address}/{len}")),
                        None => self.complain("netmask", mask),
                    },
                    _ => self.address(address),
                }
                self.gateway(subnet.get("gateway"));
            }
            other => self.complain("type", other),
        }
        self.servers.extend(addresses(subnet.get("dns_nameservers")));
        for route in subnet.get("routes").list() {
            let to = route.get("network").text().or(route.get("destination").text());
            let to = match (to, route.get("netmask").text()) {
                (Some(to), Some(mask)) if !to.contains('/') => {
                    prefix_len(mask).map(|len| format!("{to}/{len}"))
                }
                (to, _) => to.map(str::to_string),
            };
            self.route(to.as_deref(), route.get("gateway"), route.get("metric").text());
        }
    }

    fn complain(&mut self, key: &str, value: &str) {
        self.complaints.push(format!("{key} `{}` is not understood", value.escape_debug()));
    }

    fn address(&mut self, text: &str) {
        let address = text.split_once('/').and_then(|(address, _)| address.parse().ok());
        match address {
            Some(IpAddr::V4(_)) => self.v4.push(text.to_string()),
            Some(IpAddr::V6(_)) => self.v6.push(text.to_string()),
            None => self.complain("address", text),
        }
    }

    fn gateway(&mut self, value: &Value) {
        let Some(text) = value.text() else { return };
        match text.parse() {
            Ok(gateway) => self.gateways.push(gateway),
            Err(_) => self.complain("gateway", text),
        }
    }

    fn route(&mut self, to: Option<&str>, via: &Value, metric: Option<&str>) {
        let to = to.unwrap_or_default();
        if matches!(to, "default" | "0.0.0.0/0" | "::/0") {
            return self.gateway(via);
        }
        match via.text() {
            Some(via) if to.contains('/') => {
                let metric = metric.map_or(String::new(), |metric| format!("@{metric}"));
                self.routes.push(format!("{to}:{via}{metric}"));
            }
            _ => self.complain("route", to),
        }
    }

    /// The words, without those that do not go with each other.
    fn words(&mut self) -> Vec<(&'static str, String)> {
        if self.v4.len() > 1 || self.uses_dhcp && !self.v4.is_empty() {
            self.complaints.push("a card has one address of IPv4 here, or that of DHCP".to_string());
        }
        let address = self.v4.first().cloned().filter(|_| !self.uses_dhcp);
        let is_static = address.is_some();
        let otherwise = if self.uses_dhcp { "dhcp" } else { "none" };
        let mut words = Vec::from([("ip", address.unwrap_or_else(|| otherwise.to_string()))]);
        words.extend(self.v6.iter().map(|address| ("ip", address.clone())));
        let gateways = self.gateways.iter().filter(|gateway| is_static || gateway.is_ipv6());
        words.extend(gateways.map(|gateway| ("gw", gateway.to_string())));
        words.extend(self.servers.iter().filter(|_| is_static).map(|server| ("dns", server.to_string())));
        words.extend(self.routes.iter().map(|route| ("route", route.clone())));
        if self.ignores_advertisements {
            words.push(("slaac", "off".to_string()));
        }
        words
    }
}

/// Addresses of IPv4 in a sequence, or in a text of several.
fn addresses(value: &Value) -> impl Iterator<Item = Ipv4Addr> {
    let texts = value.list().iter().filter_map(Value::text);
    texts.flat_map(|text| text.split([' ', ','])).filter_map(|text| text.parse().ok())
}

/// The length of the prefix that a mask like 255.255.255.0 is.
fn prefix_len(mask: &str) -> Option<u32> {
    let bits = mask.parse::<Ipv4Addr>().ok()?.to_bits();
    (bits.leading_ones() + bits.trailing_zeros() == 32).then(|| bits.leading_ones())
}

fn hardware_address(text: &str) -> Option<[u8; 6]> {
    let mut bytes = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut bytes {
        let part = parts.next().filter(|part| part.len() == 2)?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(bytes)
}
