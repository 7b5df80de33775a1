//! What `TCP_INFO` answers (tcp(7)): Linux's structure, as bytes, with what is known here; the rest is zero.

use core::mem::offset_of;

use linux_raw_sys::net::tcp_info;
use unikernel_net::TcpInfo;
use unikernel_net::listing::state_number;
use unikernel_net::smoltcp::socket::tcp::State;
use unikernel_net::smoltcp::time::Duration;

/// Bits of `tcpi_options` (Linux: `TCPI_OPT_SACK`, `TCPI_OPT_WSCALE`).
const SACK: u8 = 2;
const SCALED: u8 = 4;
/// `tcpi_ca_state` while a loss is being repaired (Linux: `TCP_CA_Recovery`).
const RECOVERY: u8 = 3;
/// What Linux calls "no threshold yet".
const INFINITE_THRESHOLD: u32 = 0x7fff_ffff;

/// The structure for a connection, or for a socket without one.
pub(super) fn bytes(info: Option<TcpInfo>, is_listening: bool) -> [u8; size_of::<tcp_info>()] {
    let mut bytes = [0; size_of::<tcp_info>()];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    let Some(info) = info else {
        let state = if is_listening { State::Listen } else { State::Closed };
        put(offset_of!(tcp_info, tcpi_state), &[state_number(state)]);
        return bytes;
    };
    put(offset_of!(tcp_info, tcpi_state), &[state_number(info.state)]);
    put(offset_of!(tcp_info, tcpi_ca_state), &[if info.is_recovering { RECOVERY } else { 0 }]);
    put(offset_of!(tcp_info, tcpi_probes), &[info.probes]);
    let scaled = if info.scales.is_some() { SCALED } else { 0 };
    put(offset_of!(tcp_info, tcpi_options), &[scaled | if info.has_sack { SACK } else { 0 }]);
    let (peer, ours) = info.scales.unwrap_or((0, 0));
    put(offset_of!(tcp_info, _bitfield_1), &[peer & 15 | ours << 4]);
    for (at, value) in words(&info) {
        put(at, &value.to_ne_bytes());
    }
    bytes
}

/// The fields of four bytes: where, and what. Times are in microseconds or milliseconds, sizes in bytes or
/// segments, as Linux has them.
fn words(info: &TcpInfo) -> [(usize, u32); 16] {
    let mss = info.mss.max(1);
    let segments = |bytes: usize| bytes.div_ceil(mss) as u32;
    let heard_ms = info.since_heard.total_millis() as u32;
    [
        (offset_of!(tcp_info, tcpi_rto), micros(info.timeout)),
        (offset_of!(tcp_info, tcpi_snd_mss), info.mss as u32),
        (offset_of!(tcp_info, tcpi_rcv_mss), info.mss as u32),
        (offset_of!(tcp_info, tcpi_unacked), segments(info.in_flight)),
        (offset_of!(tcp_info, tcpi_last_data_recv), heard_ms),
        (offset_of!(tcp_info, tcpi_last_ack_recv), heard_ms),
        (offset_of!(tcp_info, tcpi_pmtu), info.mss as u32 + 40),
        (offset_of!(tcp_info, tcpi_rtt), micros(info.rtt)),
        (offset_of!(tcp_info, tcpi_rttvar), micros(info.rtt_variation)),
        (offset_of!(tcp_info, tcpi_snd_ssthresh), info.threshold.map_or(INFINITE_THRESHOLD, segments)),
        (offset_of!(tcp_info, tcpi_snd_cwnd), segments(info.congestion_window)),
        (offset_of!(tcp_info, tcpi_advmss), info.mss as u32),
        (offset_of!(tcp_info, tcpi_total_retrans), info.retransmits),
        (offset_of!(tcp_info, tcpi_notsent_bytes), info.unsent as u32),
        (offset_of!(tcp_info, tcpi_snd_wnd), info.peer_window as u32),
        (offset_of!(tcp_info, tcpi_rcv_space), info.window as u32),
    ]
}

fn micros(time: Duration) -> u32 {
    time.total_micros().min(u32::MAX.into()) as u32
}
