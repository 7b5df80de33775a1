//! [`Stack`]: every table in one place, and the calls that make it go.
//!
//! Ingress lives in `ingress` (frames, IP, UDP, ARP) and `tcp_in` (segments), egress in `egress`,
//! the sockets that an app sees in `tcp` and `udp_api`.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

use smoltcp::iface::{Config as InterfaceConfig, Interface, SocketSet};
use smoltcp::phy::{ChecksumCapabilities, Device, DeviceCapabilities, RxToken};
use smoltcp::time::Instant;
use smoltcp::wire::HardwareAddress;

use crate::config::{Config, NetConfig};
use crate::control::Control;
use crate::cookies::Cookies;
use crate::counters::{Counters, Traffic};
use crate::delayed_acks::DelayedAcks;
use crate::flow_table::FlowTable;
use crate::groups::Groups;
use crate::icmp_errors::PmtuCache;
use crate::id::{SocketId, TcpId, UdpId};
use crate::isn::Numbers;
use crate::key::Seed;
use crate::listener::Listeners;
use crate::neighbor::Neighbors;
use crate::observer::Observer;
use crate::phy::{Capabilities, Loopback, ip_capabilities, loopback_capabilities};
use crate::reassembly::Reassembly;
use crate::route::Addresses;
use crate::shard::Addressee;
use crate::slaac::Autoconf;
use crate::starved::Starved;
use crate::timeouts::Timeouts;
use crate::timers::Timers;
use crate::timewait::TimeWait;
use crate::tracer::Tracer;
use crate::udp::UdpTable;

/// Frames taken from the NIC in one [`Stack::poll`] at most, so that a flood cannot keep the app
/// from running: one receive ring's worth.
const RX_BATCH: usize = 256;
/// Packets taken from the loopback queue in one go at most, for the same reason.
const LOOPBACK_BATCH: usize = 1024;

/// Where unpredictable numbers come from: a cryptographically secure generator of the kernel's.
pub(crate) type Random = Box<dyn FnMut() -> u64 + Send>;

/// Which checksums this side must verify, because the device does not.
#[derive(Clone, Copy)]
pub(crate) struct Verify {
    pub(crate) ip: bool,
    pub(crate) tcp: bool,
    pub(crate) udp: bool,
}

impl Verify {
    /// No device has seen the checksum of a datagram that came in pieces.
    pub(crate) const ALL: Self = Self { ip: true, tcp: true, udp: true };
}

/// The two interfaces that flows run over. They have no addresses of their own: the front has
/// already decided what is for us.
pub(crate) struct Interfaces {
    pub(crate) link: Interface,
    pub(crate) loopback: Interface,
    link_capabilities: DeviceCapabilities,
}

impl Interfaces {
    fn new(link_capabilities: DeviceCapabilities, random: &mut Random, now: Instant) -> Self {
        let link = ip_interface(&link_capabilities, random(), now);
        let loopback = ip_interface(&loopback_capabilities(), random(), now);
        Self { link, loopback, link_capabilities }
    }

    /// An interface for the birth of one flow, which draws its sequence number from `seed`.
    pub(crate) fn for_new_connection(&self, is_loopback: bool, seed: u64, now: Instant) -> Interface {
        if is_loopback {
            ip_interface(&loopback_capabilities(), seed, now)
        } else {
            ip_interface(&self.link_capabilities, seed, now)
        }
    }
}

pub(crate) fn ip_interface(capabilities: &DeviceCapabilities, seed: u64, now: Instant) -> Interface {
    let mut config = InterfaceConfig::new(HardwareAddress::Ip);
    config.random_seed = seed;
    let mut interface = Interface::new(config, &mut Capabilities(capabilities.clone()), now);
    interface.set_any_ip(true);
    interface
}

/// The network stack of one machine, or of one core's share of the flows.
pub struct Stack {
    pub(crate) config: Config,
    pub(crate) timeouts: Timeouts,
    pub(crate) now: Instant,
    pub(crate) random: Random,
    pub(crate) seed: Seed,
    pub(crate) numbers: Numbers,
    pub(crate) verify: Verify,
    /// How checksums are written into packets that the stack itself builds for the NIC.
    pub(crate) checksums: ChecksumCapabilities,
    pub(crate) ip_mtu: usize,
    pub(crate) addresses: Addresses,

    /// Who sees frames that come in.
    pub(crate) observer: Option<Observer>,
    pub(crate) tracer: Option<Tracer>,

    // Where packets go in and out.
    pub(crate) interfaces: Interfaces,
    pub(crate) control: Control,
    /// IPv6 addresses and routers; on the first shard, if there is a NIC.
    pub(crate) autoconf: Option<Autoconf>,
    pub(crate) loopback: Loopback,
    /// Something has come over it: there are, or were, connections of this machine to itself.
    pub(crate) has_looped: bool,
    pub(crate) neighbors: Neighbors,
    pub(crate) reassembly: Reassembly,
    pub(crate) groups: Groups,
    pub(crate) has_nic: bool,
    pub(crate) pmtu: PmtuCache,
    /// Frames of the stack's own, ready for the NIC.
    pub(crate) outbox: VecDeque<Vec<u8>>,
    pub(crate) traffic: Traffic,
    /// A set without sockets: what it is fed is answered with a reset or an unreachable.
    pub(crate) nobody: SocketSet<'static>,

    // Who talks.
    pub(crate) flows: FlowTable,
    /// Some connection has, or had, a mark for what was not sent yet.
    pub(crate) has_unsent_marks: bool,
    pub(crate) listeners: Listeners,
    pub(crate) half_open: usize,
    pub(crate) cookies: Cookies,
    pub(crate) time_wait: TimeWait,
    pub(crate) udp: UdpTable,
    /// UDP sockets that found the outbox full.
    pub(crate) udp_blocked: Vec<UdpId>,
    /// Counts the times that packets were taken in: those of one time may be given on as one.
    pub(crate) batch: u64,
    /// Where a frame from the NIC is looked at, and nobody else can change it.
    pub(crate) copy: Vec<u8>,

    // What is to be done.
    pub(crate) timers: Timers,
    pub(crate) dirty: Vec<TcpId>,
    /// Flows that owe an acknowledgement, which may wait for data to travel with.
    pub(crate) delayed_acks: DelayedAcks,
    pub(crate) starved: Starved,
    /// How many flows in `dirty` and frames in `outbox` found the device full.
    pub(crate) blocked: (usize, usize),
    pub(crate) events: Vec<SocketId>,
    /// How often the address has changed.
    pub(crate) address_changes: u64,
    /// Frames for other shards.
    pub(crate) handovers: Vec<(Addressee, Vec<u8>)>,
    /// The frame that is being handled was handed over.
    pub(crate) is_from_sibling: bool,
    pub(crate) counters: Counters,
}

impl Stack {
    /// Makes a stack for the NIC that `device` describes, or for loopback alone.
    ///
    /// `random` must be cryptographically secure: sequence numbers, ports and hash seeds come
    /// from it.
    pub fn new(
        config: Config,
        device: Option<DeviceCapabilities>,
        mut random: Box<dyn FnMut() -> u64 + Send>,
        now: Instant,
    ) -> Self {
        let has_nic = device.is_some();
        let device = device.unwrap_or_else(|| crate::phy::NoDevice.capabilities());
        let seed = Seed::new(&mut *random);
        let mut stack = Self {
            timeouts: Timeouts {
                half_open: config.half_open_timeout,
                connect: config.connect_timeout,
                retransmit: config.retransmit_timeout,
                linger: config.linger_timeout,
            },
            now,
            seed,
            numbers: Numbers::new(&mut *random),
            verify: Verify {
                ip: device.checksum.ipv4.rx(),
                tcp: device.checksum.tcp.rx(),
                udp: device.checksum.udp.rx(),
            },
            checksums: device.checksum.clone(),
            ip_mtu: device.ip_mtu(),
            addresses: Addresses::new(&config),
            interfaces: Interfaces::new(ip_capabilities(&device), &mut random, now),
            autoconf: None,
            control: Control::new(config.mac, device, random(), now),
            loopback: Loopback::new(config.queue_packets),
            has_looped: false,
            neighbors: Neighbors::new(config.max_neighbors),
            reassembly: Reassembly::default(),
            groups: Groups::default(),
            has_nic,
            pmtu: PmtuCache::default(),
            outbox: VecDeque::new(),
            traffic: Traffic::default(),
            nobody: SocketSet::new(Vec::new()),
            flows: FlowTable::new(&config),
            has_unsent_marks: false,
            listeners: Listeners::new(config.max_backlog),
            half_open: 0,
            cookies: Cookies::new(&mut *random),
            time_wait: TimeWait::new(config.time_wait_slots, config.time_wait),
            udp: UdpTable::new(),
            udp_blocked: Vec::new(),
            batch: 0,
            copy: Vec::new(),
            timers: Timers::default(),
            dirty: Vec::new(),
            delayed_acks: DelayedAcks::default(),
            starved: Starved::default(),
            blocked: (0, 0),
            events: Vec::new(),
            address_changes: 0,
            handovers: Vec::new(),
            is_from_sibling: false,
            counters: Counters::default(),
            observer: None,
            tracer: None,
            random,
            config,
        };
        stack.start(has_nic);
        stack
    }

    /// Takes in what the device has received and what has fallen due. True if there was anything.
    pub fn poll<D: Device + ?Sized>(&mut self, now: Instant, device: &mut D) -> bool {
        self.now = now;
        self.batch += 1;
        let mut received = 0;
        while received < RX_BATCH {
            let Some((rx, tx)) = device.receive(now) else { break };
            rx.consume(|frame| match self.observer {
                None => self.frame_from_nic(frame, tx),
                Some(observer) => self.observed_from_nic(observer, frame, tx),
            });
            received += 1;
        }
        let looped = self.loopback_in();
        let fired = self.run_timers();
        received > 0 || looped || fired
    }

    /// Handles the packets that were in the loopback queue at the start.
    #[inline]
    pub(crate) fn loopback_in(&mut self) -> bool {
        if self.loopback.is_empty() {
            return false;
        }
        self.batch += 1;
        self.has_looped = true;
        let mut handled = 0;
        while handled < LOOPBACK_BATCH {
            let Some(packet) = self.loopback.pop() else { break };
            self.looped_in(&packet);
            handled += 1;
        }
        handled > 0
    }

    fn run_timers(&mut self) -> bool {
        let now = self.now;
        let mut has_fired = self.control.next <= now;
        if self.autoconf.as_ref().is_some_and(|autoconf| autoconf.next() <= now) {
            self.run_autoconf();
            has_fired = true;
        }
        while let Some((at, id)) = self.timers.pop_due(now) {
            let Some(flow) = self.flows.get_mut(id).filter(|flow| flow.timer_at == at) else { continue };
            flow.timer_at = crate::timers::NEVER;
            flow.timer_fired = true;
            self.mark_dirty(id);
            has_fired = true;
        }
        has_fired |= self.look_after_late() | self.feed_starved();
        if self.groups.next().is_some_and(|at| at <= now) {
            self.run_groups();
            has_fired = true;
        }
        if self.reassembly.next().is_some_and(|at| at <= now) {
            self.counters.reassembly_timeouts += self.reassembly.expire(now);
            has_fired = true;
        }
        if self.neighbors.next().is_some_and(|at| at <= now) {
            self.retry_neighbors();
            has_fired = true;
        }
        has_fired
    }

    /// When [`poll`](Self::poll) or [`flush`](Self::flush) is next wanted without a packet; in
    /// the past if there is work at once, none if never.
    pub fn poll_at(&self) -> Option<Instant> {
        if self.has_work() {
            return Some(self.now);
        }
        let control = (self.control.next < crate::timers::NEVER).then_some(self.control.next);
        let autoconf = self.autoconf.as_ref().map(Autoconf::next);
        let autoconf = autoconf.filter(|at| *at < crate::timers::NEVER);
        [
            self.timers.next(),
            self.delayed_acks.next(),
            self.starved.next(),
            control,
            autoconf,
            self.reassembly.next(),
            self.groups.next(),
            self.neighbors.next(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// True if [`flush`](Self::flush) has something to try. What only waits for room in the device
    /// does not count: the device says when it has some.
    pub fn has_work(&self) -> bool {
        let (flows, frames) = self.blocked;
        self.dirty.len() > flows || self.outbox.len() > frames || !self.loopback.is_empty()
    }

    /// True if something waits that is from this machine to itself.
    pub fn has_loopback(&self) -> bool {
        !self.loopback.is_empty()
    }

    /// The addresses in force.
    pub fn config(&self) -> &NetConfig {
        &self.addresses.net
    }

    /// True for an address of this machine, loopback included.
    pub fn owns(&self, address: core::net::IpAddr) -> bool {
        self.addresses.owns(address)
    }

    /// Totals since the start.
    pub fn counters(&self) -> Counters {
        let (tx_packets, tx_bytes) = self.traffic.totals();
        Counters {
            tx_packets,
            tx_bytes,
            active: self.flows.len() as u64,
            half_open: self.half_open as u64,
            time_wait: self.time_wait.len() as u64,
            buffer_bytes: self.flows.buffer_bytes() as u64,
            ..self.counters
        }
    }

    /// Puts a flow on the list of those that may have something to send.
    #[inline]
    pub(crate) fn mark_dirty(&mut self, id: TcpId) {
        if let Some(flow) = self.flows.get_mut(id)
            && !flow.is_dirty
        {
            flow.is_dirty = true;
            self.dirty.push(id);
        }
    }
}
