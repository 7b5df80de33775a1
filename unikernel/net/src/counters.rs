//! What happened so far, for `/metrics` and the log. Every packet that is dropped is counted
//! under the reason it was dropped for.

use core::cell::Cell;

macro_rules! counters {
    ($($(#[doc = $text:literal])+ $name:ident,)*) => {
        /// Totals since boot, and the present sizes of the tables.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        pub struct Counters {
            $($(#[doc = $text])+ pub $name: u64,)*
        }

        impl core::ops::AddAssign for Counters {
            fn add_assign(&mut self, other: Self) {
                $(self.$name += other.$name;)*
            }
        }

        impl Counters {
            /// Every counter with its name and meaning, in a fixed order.
            pub fn entries(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
                const MEANINGS: &[(&str, &str)] =
                    &[$((stringify!($name), concat!($($text),+).trim_ascii())),*];
                let values = [$(self.$name),*];
                MEANINGS.iter().zip(values).map(|((name, text), value)| (*name, *text, value))
            }
        }
    };
}

counters! {
    /// Frames received from the NIC.
    rx_packets,
    /// Bytes received from the NIC.
    rx_bytes,
    /// Frames given to the NIC.
    tx_packets,
    /// Bytes given to the NIC.
    tx_bytes,
    /// Dropped: the frame, a header or an option makes no sense.
    malformed,
    /// Dropped: a checksum is wrong.
    bad_checksum,
    /// IP fragments received.
    fragments,
    /// Datagrams put together from fragments.
    reassembled,
    /// Dropped: a fragment that makes no sense, or overlaps another.
    reassembly_failed,
    /// Dropped: a datagram whose fragments did not all come in time.
    reassembly_timeouts,
    /// IP fragments sent.
    fragments_sent,
    /// ICMP errors about something that was sent.
    icmp_errors,
    /// Dropped: addressed to another machine, or from an impossible source.
    not_for_us,
    /// Dropped: a protocol that nobody here speaks.
    unknown_protocol,
    /// Dropped: a frame for which there was no memory.
    rx_no_memory,
    /// Dropped by the packet filter: TCP segments.
    filtered_tcp,
    /// Dropped by the packet filter: UDP datagrams.
    filtered_udp,
    /// Dropped by the packet filter: echo requests.
    filtered_icmp,
    /// Dropped by the packet filter: protocols that nobody here speaks.
    filtered_other,
    /// Dropped by the packet filter: fragments.
    filtered_fragments,
    /// Dropped by a module that sees frames before the packet filter.
    dropped_by_observer,
    /// Addresses given up because another station has them.
    duplicate_addresses,
    /// Answered with a reset: a segment for no connection and no listener.
    no_listener,
    /// Dropped: a connection attempt for a full accept queue.
    backlog_full,
    /// Dropped: a reset that is not within the window.
    out_of_window,
    /// Dropped, and the peer asked for proof: a segment that may be forged (RFC 5961).
    challenges,
    /// Times that the way to a peer turned out to take smaller packets only.
    path_mtu_changes,
    /// Dropped: data within the announced window for which no buffer could be had.
    no_buffer,
    /// Dropped: the bound on connections is reached, or memory is short.
    no_memory,
    /// Half-open connections given up.
    half_open_timeouts,
    /// Connection attempts answered with a SYN cookie, because too many were under way.
    cookies_given,
    /// SYN cookies that came back.
    cookies_taken,
    /// Dropped: what a peer sent that may go by a SYN cookie, but from too far into the conversation to bring it back.
    cookies_missed,
    /// Datagrams for a port nobody has bound.
    udp_no_port,
    /// Dropped: a datagram for a full receive queue.
    udp_full,
    /// Dropped: a packet that waited for a neighbour that never answered or for too long a queue.
    neighbor_dropped,
    /// Frames that belonged to another shard.
    handed_over,
    /// Dropped: the loopback queue or the egress queue was full.
    queue_full,
    /// Connections accepted by a listener.
    accepted,
    /// Connections begun from here.
    connects,
    /// Resets received.
    resets_received,
    /// Connections given up because the peer stopped answering.
    timeouts,
    /// Probes of silent peers.
    keep_alive_probes,
    /// Visits to connections that sent data again.
    retransmits,
    /// Times that an acknowledgement was overdue.
    retransmit_timeouts,
    /// Segments that had come before, of which the peer was told.
    duplicates,
    /// Segments sent to be told how things stand (tail loss probes).
    loss_probes,
    /// Connection records in TIME-WAIT pushed out early.
    time_wait_evicted,
    /// Connection records in TIME-WAIT recycled by a new connection.
    time_wait_recycled,
    /// Now: connections.
    active,
    /// Now: connections in the handshake.
    half_open,
    /// Now: records in TIME-WAIT.
    time_wait,
    /// Now: bytes in the buffers of connections.
    buffer_bytes,
}

/// Frames and bytes on their way out. Cells, because a transmit token counts while the stack is
/// borrowed by the flow that sends.
#[derive(Default)]
pub(crate) struct Traffic {
    packets: Cell<u64>,
    bytes: Cell<u64>,
}

impl Traffic {
    #[inline]
    pub(crate) fn count(&self, bytes: usize) {
        self.packets.set(self.packets.get() + 1);
        self.bytes.set(self.bytes.get() + bytes as u64);
    }

    pub(crate) fn totals(&self) -> (u64, u64) {
        (self.packets.get(), self.bytes.get())
    }
}
