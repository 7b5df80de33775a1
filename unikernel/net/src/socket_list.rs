//! Connections as `ss -tni` shows them, for people who look for one that is slow.

use core::fmt::{self, Write};
use core::net::SocketAddr;

use smoltcp::socket::tcp::State;
use smoltcp::time::Duration;

use crate::id::SocketId;
use crate::stack::Stack;
use crate::tcp_options::TcpInfo;

/// What the columns of [`Stack::show_listeners`] and [`Stack::show_connections`] are.
pub const HEADING: &str = "State       Recv-Q Send-Q Local Address:Port  Peer Address:Port\n";

/// Milliseconds with three decimals, as `ss` has them.
struct Milliseconds(Duration);

impl fmt::Display for Milliseconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0.total_micros() / 1000, self.0.total_micros() % 1000)
    }
}

const fn name_of(state: State) -> &'static str {
    match state {
        State::Closed => "CLOSED",
        State::Listen => "LISTEN",
        State::SynSent => "SYN-SENT",
        State::SynReceived => "SYN-RECV",
        State::Established => "ESTAB",
        State::FinWait1 => "FIN-WAIT-1",
        State::FinWait2 => "FIN-WAIT-2",
        State::CloseWait => "CLOSE-WAIT",
        State::Closing => "CLOSING",
        State::LastAck => "LAST-ACK",
        State::TimeWait => "TIME-WAIT",
    }
}

fn write_line(
    out: &mut impl Write,
    state: State,
    queues: (usize, usize),
    addresses: (SocketAddr, Option<SocketAddr>),
    inode: u64,
) -> fmt::Result {
    let (local, remote) = addresses;
    write!(out, "{:<11} {:<6} {:<6} {local} ", name_of(state), queues.0, queues.1)?;
    match remote {
        Some(remote) => write!(out, "{remote}")?,
        None => out.write_str("*:*")?,
    }
    writeln!(out, " ino:{inode}")
}

fn write_info(out: &mut impl Write, info: &TcpInfo) -> fmt::Result {
    out.write_char('\t')?;
    if info.has_sack {
        out.write_str(" sack")?;
    }
    if let Some((theirs, ours)) = info.scales {
        write!(out, " wscale:{theirs},{ours}")?;
    }
    write!(out, " rto:{}", info.timeout.total_millis())?;
    if info.rtt != Duration::ZERO {
        write!(out, " rtt:{}/{}", Milliseconds(info.rtt), Milliseconds(info.rtt_variation))?;
    }
    let mss = info.mss.max(1);
    write!(out, " mss:{} cwnd:{}", info.mss, info.congestion_window / mss)?;
    if let Some(threshold) = info.threshold {
        write!(out, " ssthresh:{}", threshold / mss)?;
    }
    write!(out, " lastrcv:{}", info.since_heard.total_millis())?;
    for (name, value) in
        [("unacked", info.in_flight), ("notsent", info.unsent), ("retrans", info.retransmits as usize)]
    {
        if value > 0 {
            write!(out, " {name}:{value}")?;
        }
    }
    if info.is_recovering {
        out.write_str(" recovering")?;
    }
    writeln!(out, " rcv_wnd:{} snd_wnd:{}", info.window, info.peer_window)
}

impl Stack {
    /// Writes who listens. They are the same on every shard. `inode` numbers the app's sockets. An error is that of `out`.
    pub fn show_listeners(&self, out: &mut impl Write, inode: impl Fn(SocketId) -> u64) -> fmt::Result {
        for (id, local, waiting) in self.listeners.listening() {
            let inode = inode(SocketId::Listener(id));
            write_line(out, State::Listen, (waiting, 0), (local, None), inode)?;
        }
        Ok(())
    }

    /// Writes up to `most` connections behind the first `start`; answers how many it passed, which is less than `most` at the end.
    /// There may be very many, and whoever lists them does not keep the stack from its work.
    pub fn show_connections(
        &self,
        out: &mut impl Write,
        start: usize,
        most: usize,
        inode: impl Fn(SocketId) -> u64,
    ) -> Result<usize, fmt::Error> {
        let mut passed = 0;
        for (id, flow) in self.flows.all().skip(start).take(most) {
            passed += 1;
            let info = self.info_of(flow);
            if info.state == State::Closed {
                continue;
            }
            let queues = (flow.recv_queue(), flow.send_queue());
            let inode = inode(SocketId::Tcp(id));
            write_line(out, info.state, queues, (flow.local, Some(flow.remote)), inode)?;
            write_info(out, &info)?;
        }
        Ok(passed)
    }
}
