//! The network stack of the unikernel: pure logic around [`smoltcp`], for one machine's NIC, or one of several. It knows no kernel, no interrupt and no errno; time, randomness and the device
//! come in as arguments.
//!
//! smoltcp walks its whole socket set for each packet and each deadline. Here each TCP connection
//! (a *flow*) has a set of its own, and everything that chooses among flows is ours:
//!
//! ```text
//!   NIC ── frame ──> ingress: Ethernet, IP, ports
//!                      ├─ TCP: flow table (hash) ──> the flow's socket
//!                      │       listener table (SYN) ──> a new flow
//!                      │       TIME-WAIT records
//!                      ├─ UDP: port table ──> queue
//!                      ├─ ARP, NDP ──> neighbour table
//!                      └─ DHCP ──> control interface
//!   app ── Stack::tcp_send, ... ──> the flow's buffers, flow marked dirty
//!   flush: dirty flows ── segments framed in the device's own buffers ──> NIC
//! ```
//!
//! [`Stack::poll`] takes in what has arrived, [`Stack::flush`] lets out what is due; between the
//! two the app runs, so that the acknowledgement of a request travels with the response. Work is
//! proportional to the packets that come and go: deadlines wait in a heap ([`Stack::poll_at`]),
//! changes of readiness in a list ([`Stack::take_events`]), and nothing walks all flows.
//!
//! One [`Stack`] is one shard: all of its state hangs from one value, and a flow never needs
//! another. Several can share a machine ([`Shard`]), each with a queue pair of the NIC.
//!
//! Limits: a connection that is with its engine mends losses by NewReno, without the SACK that it receives ([`scoreboard`]); its own
//! timer is a second at least, and the front's is sooner.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod addressing;
mod config;
mod congestion;
mod control;
mod conversation;
mod cookies;
mod counters;
mod cubic;
mod delayed_acks;
mod dhcp;
mod echo;
mod egress;
mod engine;
mod error;
mod events;
mod filter;
mod flow;
mod flow_table;
mod fragments;
mod groups;
mod guard;
mod handshake;
mod header_prediction;
mod icmp_errors;
mod icmpv6;
mod id;
mod ingress;
mod isn;
mod keep_alive;
mod key;
mod listener;
pub mod listing;
mod low_water;
mod neighbor;
mod observer;
pub mod pcapng;
mod peek;
mod phy;
mod plain;
mod plain_out;
mod pool;
mod ports;
mod readiness;
mod reassembly;
mod recovery;
mod rings;
mod route;
mod rtt;
mod scoreboard;
mod segment;
mod segmenter;
mod sequence;
mod shard;

mod slaac;
mod slow_start;
pub mod socket_list;
mod stack;
mod starved;
mod tcp;
mod tcp_in;
mod tcp_options;
mod template;
mod timeouts;
mod timers;
mod timewait;
mod tracer;
mod track;
mod udp;
mod udp_api;
mod udp_control;
mod udp_send;
mod urgent;
pub mod vsock;
mod wire;

#[cfg(test)]
mod tests;

pub use config::{
    Addressing, Config, Ipv4Config, Ipv6Address, Ipv6Config, NetConfig, OpenLoopback, RouteEntry,
};
pub use congestion::CongestionOptions;
pub use counters::Counters;
pub use error::*;
pub use filter::{Action, Filter, Protocol, Rule};
pub use flow::KeepAlive;
pub use groups::GroupLink;
pub use id::{ListenerId, Readiness, SocketId, TcpId, UdpId};
pub use listener::BindOptions;
pub use low_water::LowWater;
pub use observer::{FramePlace, Observer};
pub use phy::NoDevice;
pub use segmenter::{Segmenter, TsoParams};
pub use shard::{Addressee, Shard};
pub use smoltcp;
pub use stack::Stack;
pub use tcp_options::TcpInfo;
pub use tracer::{Tracer, Turn};
pub use udp::MulticastOptions;
pub use udp_control::{
    Arrival, ErrorOrigin, HeaderOptions, PathDiscovery, QueuedError, SendOptions, SentNote,
};
pub use urgent::UrgentError;

/// The README's example compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
