//! What `setsockopt` sets (socket(7), tcp(7), ip(7), ipv6(7)), kept per socket so that it can be
//! asked for, and applied when there is something to apply it to.

use linux_raw_sys::net::IP_PMTUDISC_WANT;
use unikernel_net::smoltcp::time::Duration;
use unikernel_net::{
    BindOptions, CongestionOptions, HeaderOptions, KeepAlive, LowWater, MulticastOptions, Stack, TcpId,
};

use super::address::Family;
use super::cards::InterfaceId;
use super::socket::Direction;
use crate::platform::time;

mod datagram;

pub(crate) use datagram::{DatagramOptions, Told, discovery};

/// What closing does with what was not sent yet (`SO_LINGER`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Linger {
    /// It is sent in the background.
    #[default]
    Background,
    /// It is thrown away and the connection reset (on, with a time of 0).
    Abort,
    /// Closing waits until the peer has it, or for so many seconds.
    Wait(u32),
}

/// Probing of silent connections (`SO_KEEPALIVE`, `TCP_KEEPIDLE`, ...); seconds and a count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct KeepAliveOptions {
    /// Whether to probe.
    pub is_on: bool,
    /// Silence before the first probe.
    pub idle_seconds: u32,
    /// Time between probes.
    pub interval_seconds: u32,
    /// Probes without an answer before the connection counts as dead.
    pub probes: u32,
}

/// What TCP does otherwise than usual; zero is the usual (tcp(7)).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct TcpOptions {
    /// `TCP_MAXSEG`, in bytes.
    pub max_segment: u16,
    /// `TCP_CORK`.
    pub is_corked: bool,
    /// `TCP_QUICKACK`, if the app has said anything.
    pub quick_ack: Option<bool>,
    /// `TCP_SYNCNT`.
    pub syn_retries: u8,
    /// `TCP_DEFER_ACCEPT`, in seconds.
    pub defer_seconds: u32,
    /// `SO_RCVBUF`, doubled as Linux does for its bookkeeping.
    pub receive_buffer: Option<i32>,
    /// `SO_SNDBUF`, doubled.
    pub send_buffer: Option<i32>,
    /// `SO_RCVLOWAT`; 0 for the usual.
    pub receive_low: u32,
    /// `TCP_NOTSENT_LOWAT`; 0 for none.
    pub unsent_low: u32,
    /// `TCP_WINDOW_CLAMP`, in bytes; 0 for none.
    pub window_clamp: u32,
    /// `TCP_FASTOPEN_CONNECT`. A peer's cookie is never asked for, so each connection begins as one to a peer that gives none.
    pub opens_fast: bool,
    /// `TCP_LINGER2`, in seconds; less than 0 for no time, 0 for the usual.
    pub end_seconds: i32,
    /// `TCP_CONGESTION`, `TCP_THIN_LINEAR_TIMEOUTS`.
    pub congestion: CongestionOptions,
}

impl TcpOptions {
    /// How long a connection may wait for its first data before it is accepted without.
    pub(super) fn defer(&self) -> Option<Duration> {
        (self.defer_seconds > 0).then(|| Duration::from_secs(self.defer_seconds.into()))
    }

    /// Sets a connection up as these options ask.
    fn apply(&self, stack: &mut Stack, id: TcpId) {
        let bytes = |doubled: i32| doubled as usize / 2;
        let clamp = (self.window_clamp > 0).then_some(self.window_clamp as usize);
        let receive = [self.receive_buffer.map(bytes), clamp].into_iter().flatten().min();
        stack.tcp_set_buffers(id, receive, self.send_buffer.map(bytes));
        stack.tcp_set_low_water(id, LowWater { received: self.receive_low, unsent: self.unsent_low });
        let end = (self.end_seconds != 0).then(|| u16::try_from(self.end_seconds.max(0)).unwrap_or(u16::MAX));
        stack.tcp_set_end_seconds(id, end);
        stack.tcp_set_quick_ack(id, self.quick_ack == Some(true));
        stack.tcp_set_cork(id, self.is_corked);
        stack.tcp_set_congestion(id, self.congestion);
        if self.max_segment > 0 {
            stack.tcp_set_max_segment(id, self.max_segment);
        }
        // The waits double, from a second on.
        let retries = (self.syn_retries > 0).then_some(u32::from(self.syn_retries).min(7));
        let timeout = retries.map(|retries| Duration::from_secs((1 << (retries + 1)) - 1));
        stack.tcp_set_connect_timeout(id, timeout);
    }
}

/// What goes into headers, or is kept only to be told when the app asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hints {
    /// `IP_TOS`.
    pub type_of_service: u8,
    /// `IPV6_TCLASS`.
    pub traffic_class: u8,
    /// `IP_MULTICAST_TTL`.
    pub multicast_ttl: u8,
    /// `IP_MULTICAST_LOOP`.
    pub has_multicast_loop: bool,
    /// `IPV6_MULTICAST_LOOP`.
    pub has_multicast_loop_v6: bool,
    /// `IP_MULTICAST_ALL`.
    pub hears_all_groups: bool,
    /// `IPV6_MULTICAST_ALL`.
    pub hears_all_groups_v6: bool,
    /// `IP_BIND_ADDRESS_NO_PORT`: a port is never so short that it would have to be chosen late.
    pub binds_address_only: bool,
    /// `SO_INCOMING_CPU` as the app set it. It says where data is wanted; the card decides.
    pub incoming_core: Option<i32>,
    /// `IP_MULTICAST_IF`, `IPV6_MULTICAST_IF`.
    pub multicast_link: Option<InterfaceId>,
    /// `IP_MTU_DISCOVER`.
    pub path_discovery: u8,
    /// `IPV6_MTU_DISCOVER`.
    pub path_discovery_v6: u8,
    /// `SO_MARK`: there are no rules that would look at it.
    pub mark: u32,
    /// `SO_PRIORITY`: there is one queue, as in Linux without a queueing discipline.
    pub priority: i32,
    /// `SO_OOBINLINE`: urgent data is read in the stream.
    pub is_urgent_inline: bool,
}

impl Default for Hints {
    fn default() -> Self {
        Self {
            type_of_service: 0,
            traffic_class: 0,
            multicast_ttl: 1,
            has_multicast_loop: true,
            has_multicast_loop_v6: true,
            hears_all_groups: true,
            hears_all_groups_v6: true,
            binds_address_only: false,
            incoming_core: None,
            multicast_link: None,
            path_discovery: IP_PMTUDISC_WANT as u8,
            path_discovery_v6: IP_PMTUDISC_WANT as u8,
            mark: 0,
            priority: 0,
            is_urgent_inline: false,
        }
    }
}

/// All options of a socket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SocketOptions {
    /// `SO_REUSEADDR`.
    pub reuses_address: bool,
    /// `SO_REUSEPORT`.
    pub reuses_port: bool,
    /// `IPV6_V6ONLY`.
    pub is_v6_only: bool,
    /// `SO_BROADCAST`.
    pub may_broadcast: bool,
    /// `IP_RECVERR`, `IPV6_RECVERR`.
    pub receives_errors: bool,
    /// `TCP_NODELAY`.
    pub has_no_delay: bool,
    /// `SO_LINGER`.
    pub linger: Linger,
    /// `SO_LINGER` as the app set it, to be told when it asks.
    pub linger_seconds: Option<u32>,
    /// `SO_RCVTIMEO`.
    pub receive_timeout_ns: Option<u64>,
    /// `SO_SNDTIMEO`.
    pub send_timeout_ns: Option<u64>,
    /// `SO_KEEPALIVE` and its times.
    pub keep_alive: KeepAliveOptions,
    /// `TCP_USER_TIMEOUT`, 0 for the default.
    pub user_timeout_ms: u32,
    /// `IP_TTL`, `IPV6_UNICAST_HOPS`; 0 for the default.
    pub hop_limit: u8,
    /// What TCP does otherwise than usual.
    pub tcp: TcpOptions,
    /// What datagrams do otherwise than usual.
    pub datagram: DatagramOptions,
    /// `IP_FREEBIND`, `IPV6_FREEBIND`.
    pub is_free: bool,
    /// `IP_TRANSPARENT`, `IPV6_TRANSPARENT`: without rules that bring others' packets here, the same.
    pub is_transparent: bool,
    /// `SO_DONTROUTE`.
    pub is_direct: bool,
    /// `SO_BUSY_POLL`: how long a call looks at the network before it sleeps, in microseconds.
    pub busy_poll_us: u32,
    /// `SO_PASSCRED`.
    pub passes_credentials: bool,
    /// `SO_BINDTODEVICE`: the card that it uses, of several.
    pub card: Option<usize>,
    /// What is only told when asked.
    pub hints: Hints,
}

impl Default for SocketOptions {
    /// Linux's defaults.
    fn default() -> Self {
        let keep_alive =
            KeepAliveOptions { is_on: false, idle_seconds: 7200, interval_seconds: 75, probes: 9 };
        Self {
            reuses_address: false,
            reuses_port: false,
            is_v6_only: false,
            may_broadcast: false,
            receives_errors: false,
            has_no_delay: false,
            linger: Linger::default(),
            linger_seconds: None,
            receive_timeout_ns: None,
            send_timeout_ns: None,
            keep_alive,
            user_timeout_ms: 0,
            hop_limit: 0,
            tcp: TcpOptions::default(),
            datagram: DatagramOptions::default(),
            is_free: false,
            is_transparent: false,
            is_direct: false,
            busy_poll_us: 0,
            passes_credentials: false,
            card: None,
            hints: Hints::default(),
        }
    }
}

impl SocketOptions {
    /// Sets a new connection up as these options ask.
    pub(super) fn apply_to_new(&self, stack: &mut Stack, id: TcpId) {
        self.apply_common(stack, id);
        if self.tcp != TcpOptions::default() {
            self.tcp.apply(stack, id);
        }
    }

    /// Brings a connection in line with options that were changed, perhaps back to the usual.
    pub(super) fn apply(&self, stack: &mut Stack, id: TcpId) {
        self.apply_common(stack, id);
        self.tcp.apply(stack, id);
    }

    fn apply_common(&self, stack: &mut Stack, id: TcpId) {
        stack.tcp_set_nodelay(id, self.has_no_delay);
        stack.tcp_set_keep_alive(id, self.keep_alive());
        stack.tcp_set_hop_limit(id, self.hop_limit);
        stack.tcp_set_urgent_inline(id, self.hints.is_urgent_inline);
        let timeout = (self.user_timeout_ms > 0).then(|| Duration::from_millis(self.user_timeout_ms.into()));
        stack.tcp_set_user_timeout(id, timeout);
    }

    pub(super) fn bind_options(&self, family: Family) -> BindOptions {
        BindOptions {
            reuse_address: self.reuses_address,
            reuse_port: self.reuses_port,
            dual_stack: family == Family::V6 && !self.is_v6_only,
            is_free: self.is_free || self.is_transparent,
        }
    }

    /// What an accepted connection takes over from its listener: all, as in Linux.
    pub(crate) fn inherited(&self) -> Self {
        *self
    }

    /// Keep-alive in the stack's terms.
    pub(super) fn keep_alive(&self) -> Option<KeepAlive> {
        let options = self.keep_alive;
        let seconds = |seconds: u32| Duration::from_secs(seconds.into());
        options.is_on.then(|| KeepAlive {
            idle: seconds(options.idle_seconds),
            interval: seconds(options.interval_seconds),
            probes: options.probes as u8,
        })
    }

    /// How datagrams for groups are sent.
    pub(super) fn multicast(&self, is_v6: bool) -> MulticastOptions {
        let hints = &self.hints;
        let is_looped = if is_v6 { hints.has_multicast_loop_v6 } else { hints.has_multicast_loop };
        let link = hints.multicast_link.map(InterfaceId::in_stack);
        MulticastOptions {
            hop_limit: hints.multicast_ttl,
            is_looped,
            link,
            hears_all: hints.hears_all_groups,
            hears_all_v6: hints.hears_all_groups_v6,
        }
    }

    /// What the headers of IPv4 say.
    pub(super) fn headers_v4(&self) -> HeaderOptions {
        let discovery = discovery(self.hints.path_discovery).unwrap_or_default();
        HeaderOptions { traffic_class: self.hints.type_of_service, discovery }
    }

    /// What those of IPv6 say.
    pub(super) fn headers_v6(&self) -> HeaderOptions {
        let discovery = discovery(self.hints.path_discovery_v6).unwrap_or_default();
        HeaderOptions { traffic_class: self.hints.traffic_class, discovery }
    }

    /// When a call that starts now must end.
    pub(super) fn deadline(&self, direction: Direction) -> Option<u64> {
        let timeout_ns = match direction {
            Direction::Receive => self.receive_timeout_ns,
            Direction::Send => self.send_timeout_ns,
        };
        Some(time::now_ns().saturating_add(timeout_ns?))
    }
}

impl super::socket::Socket {
    /// Changes options, and brings what is already there in line with them.
    pub(crate) fn set_options(&self, change: impl FnOnce(&mut SocketOptions)) {
        let options = {
            let mut options = self.options.lock();
            change(&mut options);
            *options
        };
        // A bind looks at the options with the port's lock held, so that comes first.
        match &self.kind {
            super::socket::Kind::Stream(stream) => stream.apply(&options),
            super::socket::Kind::Datagram(datagram) => datagram.apply(&options, self.family),
            super::socket::Kind::Unix(_) | super::socket::Kind::Other(_) => {}
        }
    }
}
