//! The control plane: one smoltcp interface on the Ethernet medium that holds the DHCP client, and learns by ARP where
//! its server is. ARP requests of others are answered by `ingress`. No flow ever passes through it.

use alloc::boxed::Box;
use alloc::vec;
use core::net::{IpAddr, Ipv4Addr};

use smoltcp::iface::{Config as InterfaceConfig, Interface, SocketHandle, SocketSet, SocketStorage};
use smoltcp::phy::{Device, DeviceCapabilities, TxToken};
use smoltcp::socket::dhcpv4;
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{DhcpOption, EthernetAddress, HardwareAddress, IpCidr, Ipv4Cidr};

use crate::config::{Ipv4Config, NetConfig, RouteEntry};
use crate::counters::Traffic;
use crate::dhcp::{self, Message};
use crate::phy::{Capabilities, Inbound, Outbound};
use crate::timers::NEVER;

/// A boot should not wait ten seconds, smoltcp's default, for a DISCOVER that was lost.
const DISCOVER_TIMEOUT: Duration = Duration::from_secs(2);
/// How long an address is kept that a server has refused to lease again: mostly it gives the same one to who asks anew, and
/// connections go on (as on Linux, where they survive the loss of an address).
const PROBATION: Duration = Duration::from_secs(10);
/// The pause after a second refusal in a row, and how often it doubles at most.
const LEAST_PAUSE: Duration = Duration::from_secs(1);
const MOST_DOUBLINGS: u32 = 6;
/// The longest message of a server's that is looked at.
const LONGEST_MESSAGE: usize = 1500;

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
    /// The server's last message was a refusal.
    is_refused: bool,
    /// How many refusals have come since the last lease.
    refusals: u32,
    /// No server is asked before.
    quiet_until: Instant,
    /// When the address goes that a server has refused.
    lost_at: Option<Instant>,
    /// When the interface wants to be polled.
    pub(crate) next: Instant,
}

impl Control {
    pub(crate) fn new(mac: EthernetAddress, device: DeviceCapabilities, seed: u64, now: Instant) -> Self {
        let mut config = InterfaceConfig::new(HardwareAddress::Ethernet(mac));
        config.random_seed = seed;
        let interface = Interface::new(config, &mut Capabilities(device), now);
        let sockets = SocketSet::new(vec![SocketStorage::EMPTY]);
        Self {
            interface,
            sockets,
            dhcp: None,
            is_refused: false,
            refusals: 0,
            quiet_until: Instant::ZERO,
            lost_at: None,
            next: NEVER,
        }
    }

    /// Starts the DHCP client, which tells servers the machine's name unless that is empty.
    pub(crate) fn start_dhcp(&mut self, now: Instant, host_name: &[u8]) {
        let mut socket = dhcpv4::Socket::new();
        let mut retry = dhcpv4::RetryConfig::default();
        retry.discover_timeout = DISCOVER_TIMEOUT;
        retry.initial_request_timeout = DISCOVER_TIMEOUT;
        socket.set_retry_config(retry);
        socket.set_parameter_request_list(dhcp::REQUESTED);
        // What is leaked here is so once for each card, for as long as the machine runs.
        if !host_name.is_empty() {
            let name = DhcpOption { kind: dhcp::HOST_NAME, data: Box::leak(host_name.into()) };
            socket.set_outgoing_options(Box::leak(Box::new([name])));
        }
        // So the whole of what a server says comes to us.
        socket.set_receive_packet_buffer(Box::leak(vec![0; LONGEST_MESSAGE].into_boxed_slice()));
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

    /// Takes in a DHCP server's message, which the packet between `ends` carries in a frame that begins with `front`.
    pub(crate) fn dhcp_in(
        &mut self,
        now: Instant,
        (front, ends, payload): (&[u8], (Ipv4Addr, Ipv4Addr), &[u8]),
        lease: Option<&Ipv4Config>,
        token: impl TxToken,
        traffic: &Traffic,
    ) {
        let Some(message) = Message::parse(payload) else { return };
        let completed = message.completed(lease);
        let Some(frame) = dhcp::frame(front, ends, &completed) else { return };
        if completed.len() <= LONGEST_MESSAGE {
            self.is_refused = message.is_refusal();
            self.process(now, &frame, token, traffic);
        }
        if message.is_refusal() {
            self.refused(now);
        }
    }

    /// After a refusal another lease is asked for at once; after several in a row, at longer and longer intervals: a server
    /// may offer what it then refuses.
    fn refused(&mut self, now: Instant) {
        self.refusals = self.refusals.saturating_add(1);
        if let Some(doublings) = self.refusals.checked_sub(2) {
            self.quiet_until = now + LEAST_PAUSE * (1 << doublings.min(MOST_DOUBLINGS));
        }
    }

    /// Sends what is due. False if the device had no room.
    pub(crate) fn egress<D: Device + ?Sized>(
        &mut self,
        now: Instant,
        device: &mut D,
        traffic: &Traffic,
    ) -> bool {
        if now < self.quiet_until {
            self.next = self.quiet_until.min(self.lost_at.unwrap_or(NEVER));
            return true;
        }
        let mut outbound = Outbound::new(device, None, Some(traffic));
        self.interface.poll_egress(now, &mut outbound, &mut self.sockets);
        let has_room = !outbound.exhausted;
        if has_room {
            let next = self.interface.poll_at(now, &self.sockets).unwrap_or(NEVER);
            // Something that cannot be sent yet must not keep the machine awake.
            self.next = if next <= now { now + Duration::from_millis(100) } else { next };
            self.next = self.next.min(self.lost_at.unwrap_or(NEVER));
        }
        has_room
    }

    /// The change of lease since the last call.
    pub(crate) fn lease_change(&mut self, now: Instant) -> Option<Lease> {
        let socket = self.sockets.get_mut::<dhcpv4::Socket<'_>>(self.dhcp?);
        match socket.poll() {
            Some(dhcpv4::Event::Configured(config)) => {
                (self.lost_at, self.refusals) = (None, 0);
                Some(Lease::Gained(config_of(&config)))
            }
            Some(dhcpv4::Event::Deconfigured) if core::mem::take(&mut self.is_refused) => {
                self.lost_at = Some(now + PROBATION);
                None
            }
            Some(dhcpv4::Event::Deconfigured) => Some(Lease::Lost),
            None => self.lost_at.take_if(|at| *at <= now).map(|_| Lease::Lost),
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

/// What a lease brings.
fn config_of(config: &dhcpv4::Config<'_>) -> Ipv4Config {
    let message = config.packet.as_ref().and_then(|packet| Message::parse(packet.into_inner()));
    let is_default = |route: &RouteEntry| route.network.prefix_len() == 0;
    let (mut gateway, mut routes) = (config.router, vec![]);
    let time_servers = message.as_ref().map(Message::time_servers).unwrap_or_default();
    if let Some(classless) = message.and_then(|message| message.routes()) {
        // Then routers count for nothing (RFC 3442).
        let default = classless.iter().find(|route| is_default(route)).and_then(|route| route.gateway);
        gateway = default.and_then(|router| if let IpAddr::V4(v4) = router { Some(v4) } else { None });
        routes = classless;
        routes.retain(|route| !is_default(route) || route.gateway.is_none());
    }
    let dns = config.dns_servers.iter().copied().collect();
    Ipv4Config { address: config.address, gateway, dns, routes, time_servers }
}

/// True if `address` can be a station of its network at all.
pub(crate) fn is_usable(address: Ipv4Cidr) -> bool {
    let ip = address.address();
    !ip.is_unspecified() && !ip.is_multicast() && !ip.is_broadcast() && !ip.is_loopback()
}
