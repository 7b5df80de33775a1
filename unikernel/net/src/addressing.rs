//! How the stack comes to its addresses, and what a change of them means to connections.

use alloc::format;
use alloc::string::String;
use core::fmt::Display;

use crate::config::{Addressing, Ipv4Config, NetConfig};
use crate::control::{Lease, is_usable};
use crate::error::SocketError;
use crate::route::link_local;
use crate::slaac::Autoconf;
use crate::stack::Stack;

impl Stack {
    /// Takes the addresses of the configuration, or begins to ask for some.
    pub(crate) fn start(&mut self, has_nic: bool) {
        if has_nic {
            let autoconf = Autoconf::new(link_local(self.config.mac), self.config.ipv6.clone(), self.now);
            self.autoconf = Some(autoconf);
            self.renew_ipv6();
        }
        match &self.config.addressing {
            Addressing::Static(config) if has_nic && is_usable(config.address) => {
                let config = config.clone();
                self.set_ipv4(Some(config));
            }
            Addressing::Dhcp if has_nic => {
                self.set_ipv4(None);
                self.control.start_dhcp(self.now, &self.config.host_name);
            }
            _ => self.set_ipv4(None),
        }
        // The others adopt what the first learns.
        self.autoconf = self.autoconf.take().filter(|_| self.config.shard.is_first());
        self.address_changes = 0;
    }

    /// Takes over what the DHCP client has learnt.
    pub(crate) fn apply_lease(&mut self) {
        match self.control.lease_change(self.now) {
            // A renewal mostly brings nothing new.
            Some(Lease::Gained(config)) if self.addresses.net.ipv4.as_ref() == Some(&config) => {}
            Some(Lease::Gained(config)) if is_usable(config.address) => {
                log::info!("lease of {}", told(config.address, config.gateway, &config.dns));
                self.set_ipv4(Some(config));
            }
            Some(_) => self.set_ipv4(None),
            None => {}
        }
    }

    /// Changes the IPv4 address.
    pub(crate) fn set_ipv4(&mut self, config: Option<Ipv4Config>) {
        self.set_net(NetConfig { ipv4: config, ..self.addresses.net.clone() });
    }

    /// Changes addresses; connections that used one that is gone end.
    pub(crate) fn set_net(&mut self, net: NetConfig) {
        let learnt = self.autoconf.as_ref().map(Autoconf::routes);
        if !self.addresses.change(net, learnt) {
            return;
        }
        self.address_changes += 1;
        self.control.set_addresses(&self.addresses.net);
        self.drop_strangers();
    }

    /// Ends the connections whose address is not ours any more.
    pub(crate) fn drop_strangers(&mut self) {
        let addresses = &self.addresses;
        for id in self.flows.with_address(|address| !addresses.owns(address)) {
            self.fail_flow(id, SocketError::AddressLost);
        }
    }
}

/// A lease in words: an address, then what came with it.
fn told(address: impl Display, gateway: Option<impl Display>, dns: &[impl Display]) -> String {
    let mut text = format!("{address}");
    if let Some(gateway) = gateway {
        text += &format!(" via {gateway}");
    }
    for (index, server) in dns.iter().enumerate() {
        text += &format!("{}{server}", if index == 0 { ", name servers " } else { " and " });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::told;

    #[test]
    fn lease_is_told_in_words() {
        assert_eq!(
            told("10.0.2.15/24", Some("10.0.2.2"), &["10.0.2.3"]),
            "10.0.2.15/24 via 10.0.2.2, name servers 10.0.2.3"
        );
        assert_eq!(told("10.0.2.15/24", None::<&str>, &["1", "2"]), "10.0.2.15/24, name servers 1 and 2");
        assert_eq!(told("10.0.2.15/24", None::<&str>, &[] as &[&str]), "10.0.2.15/24");
    }
}
