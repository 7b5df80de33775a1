//! The control plane: one smoltcp interface on the Ethernet medium that answers ARP
//! questions and holds the DHCP client. No flow ever passes through it.

use alloc::vec;

use smoltcp::iface::{Config as InterfaceConfig, Interface, SocketHandle, SocketSet, SocketStorage};
use smoltcp::phy::{Device, DeviceCapabilities, TxToken};
use smoltcp::socket::dhcpv4;
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpCidr, Ipv4Cidr};

use crate::config::{Ipv4Config, NetConfig};
use crate::counters::Traffic;
use crate::phy::{Capabilities, Inbound, Outbound};
use crate::timers::NEVER;

/// A boot should not wait ten seconds, smoltcp's default, for a DISCOVER that was lost.
const DISCOVER_TIMEOUT: Duration = Duration::from_secs(2);

/// The name of the change that DHCP brings.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Lease {
    Gained(Ipv4Config),
    Lost,
}

pub(crate) struct Control {
    interface: Interface,
    sockets: SocketSet<'static>,
    dhcp: Option<SocketHandle>,
    /// When the interface wants to be polled.
    pub(crate) next: Instant,
}

impl Control {
    pub(crate) fn new(mac: EthernetAddress, device: DeviceCapabilities, seed: u64, now: Instant) -> Self {
        let mut config = InterfaceConfig::new(HardwareAddress::Ethernet(mac));
        config.random_seed = seed;
        let interface = Interface::new(config, &mut Capabilities(device), now);
        Self { interface, sockets: SocketSet::new(vec![SocketStorage::EMPTY]), dhcp: None, next: NEVER }
    }

    /// Starts the DHCP client.
    pub(crate) fn start_dhcp(&mut self, now: Instant) {
        let mut socket = dhcpv4::Socket::new();
        let mut retry = dhcpv4::RetryConfig::default();
        retry.discover_timeout = DISCOVER_TIMEOUT;
        retry.initial_request_timeout = DISCOVER_TIMEOUT;
        socket.set_retry_config(retry);
        self.dhcp = Some(self.sockets.add(socket));
        self.next = now;
    }

    /// Answers a frame. Questions for an address go back to the asker by the frame's own
    /// addresses, so nothing is sent that would need a neighbour.
    pub(crate) fn process(&mut self, now: Instant, frame: &[u8], token: impl TxToken, traffic: &Traffic) {
        let mut inbound = Inbound::new(frame, token, None, Some(traffic));
        self.interface.poll_ingress_single(now, &mut inbound, &mut self.sockets);
        self.next = now;
    }

    /// Sends what is due. False if the device had no room.
    pub(crate) fn egress<D: Device + ?Sized>(
        &mut self,
        now: Instant,
        device: &mut D,
        traffic: &Traffic,
    ) -> bool {
        let mut outbound = Outbound::new(device, None, Some(traffic));
        self.interface.poll_egress(now, &mut outbound, &mut self.sockets);
        let has_room = !outbound.exhausted;
        if has_room {
            let next = self.interface.poll_at(now, &self.sockets).unwrap_or(NEVER);
            // Something that cannot be sent yet must not keep the machine awake.
            self.next = if next <= now { now + Duration::from_millis(100) } else { next };
        }
        has_room
    }

    /// The change of lease since the last call.
    pub(crate) fn lease_change(&mut self) -> Option<Lease> {
        let socket = self.sockets.get_mut::<dhcpv4::Socket<'_>>(self.dhcp?);
        match socket.poll()? {
            dhcpv4::Event::Configured(config) => Some(Lease::Gained(Ipv4Config {
                address: config.address,
                gateway: config.router,
                dns: config.dns_servers.iter().copied().collect(),
            })),
            dhcpv4::Event::Deconfigured => Some(Lease::Lost),
        }
    }

    /// Tells the interface which addresses to answer for.
    pub(crate) fn set_addresses(&mut self, net: &NetConfig) {
        let ipv4 = net.ipv4.as_ref();
        self.interface.update_ip_addrs(|addresses| {
            addresses.clear();
            // There is room for two.
            let _ = ipv4.map(|config| addresses.push(IpCidr::Ipv4(config.address)));
        });
        let routes = self.interface.routes_mut();
        routes.remove_default_ipv4_route();
        if let Some(gateway) = ipv4.and_then(|config| config.gateway) {
            // There is room: the only other route was removed above.
            let _ = routes.add_default_ipv4_route(gateway);
        }
    }
}

/// True if `address` can be a station of its network at all.
pub(crate) fn is_usable(address: Ipv4Cidr) -> bool {
    let ip = address.address();
    !ip.is_unspecified() && !ip.is_multicast() && !ip.is_broadcast() && !ip.is_loopback()
}
