//! What datagrams do otherwise than usual (ip(7), ipv6(7), udp(7)).

use bitflags::bitflags;
use linux_raw_sys::net::{
    IP_PMTUDISC_DO, IP_PMTUDISC_DONT, IP_PMTUDISC_INTERFACE, IP_PMTUDISC_OMIT, IP_PMTUDISC_PROBE,
    IP_PMTUDISC_WANT,
};
use unikernel_net::PathDiscovery;

use crate::net::message::Timestamping;

bitflags! {
    /// What is told beside a datagram's bytes.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Told: u16 {
        /// `SO_RXQ_OVFL`.
        const DROPS = 1;
        /// `IP_PKTINFO`.
        const INFO_V4 = 1 << 1;
        /// `IP_RECVTTL`.
        const HOPS_V4 = 1 << 2;
        /// `IP_RECVTOS`.
        const CLASS_V4 = 1 << 3;
        /// `IPV6_RECVPKTINFO`.
        const INFO_V6 = 1 << 4;
        /// `IPV6_RECVHOPLIMIT`.
        const HOPS_V6 = 1 << 5;
        /// `IPV6_RECVTCLASS`.
        const CLASS_V6 = 1 << 6;
        /// `IP_RECVORIGDSTADDR`.
        const DESTINATION_V4 = 1 << 7;
        /// `IPV6_RECVORIGDSTADDR`.
        const DESTINATION_V6 = 1 << 8;
    }
}

/// What datagrams do otherwise than usual (udp(7)).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct DatagramOptions {
    /// What is told of those received.
    pub told: Told,
    /// The option that asked for their time: `SO_TIMESTAMP`, `SO_TIMESTAMPNS` or one of their twins.
    pub timestamp: Option<u32>,
    /// What `SO_TIMESTAMPING` asked for.
    pub timestamping: Timestamping,
    /// The option that did.
    pub timestamping_name: u32,
    /// Datagrams that were counted since.
    pub sent_key: u32,
    /// `UDP_SEGMENT`; 0 for none.
    pub segment: u16,
    /// `UDP_GRO`.
    pub coalesces: bool,
    /// `IPV6_DONTFRAG`.
    pub is_unsplit_v6: bool,
}

/// How a path's width is minded, by Linux's number.
pub(crate) fn discovery(number: u8) -> Option<PathDiscovery> {
    Some(match u32::from(number) {
        IP_PMTUDISC_DONT => PathDiscovery::Never,
        IP_PMTUDISC_WANT => PathDiscovery::Want,
        IP_PMTUDISC_DO => PathDiscovery::Always,
        IP_PMTUDISC_PROBE => PathDiscovery::Probe,
        IP_PMTUDISC_INTERFACE => PathDiscovery::Interface,
        IP_PMTUDISC_OMIT => PathDiscovery::Omit,
        _ => return None,
    })
}
