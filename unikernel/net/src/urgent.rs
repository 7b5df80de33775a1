//! Urgent data (RFC 9293 section 3.8.5, RFC 6093): a byte of the stream to which the peer points, and which an app reads
//! beside the stream (`MSG_OOB`), or in it (`SO_OOBINLINE`). As everywhere, the pointer is taken for that of the byte after
//! the urgent one.

use smoltcp::socket::tcp::State;
use smoltcp::wire::TcpSeqNumber;

use crate::flow::Flow;
use crate::guard::Judgement;
use crate::id::TcpId;
use crate::segment::Segment;
use crate::sequence::Distance;
use crate::stack::Stack;

/// What one connection knows of urgent data.
#[derive(Clone, Copy, Default)]
pub(crate) struct Urgent {
    /// So many bytes are to be read before the urgent one, which may not have come yet; none if there is no such byte, or
    /// reading has passed it.
    mark: Option<u32>,
    /// The app has it already.
    is_taken: bool,
    /// It is read where it stands in the stream.
    is_inline: bool,
    /// The peer has announced one since somebody last asked.
    is_news: bool,
    /// The number after the last urgent byte that the app has written, until it is acknowledged.
    sent: Option<TcpSeqNumber>,
}

/// Why there is no urgent byte to be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UrgentError {
    /// None was announced, it was taken, or it is to be read in the stream.
    None,
    /// It has not come yet.
    WouldBlock,
    /// It will not come.
    Finished,
}

impl Flow {
    /// Takes note of the byte that a segment points to, if that is a new one (Linux: `tcp_check_urg`).
    fn announce(&mut self, number: TcpSeqNumber) -> bool {
        let received = self.track.received;
        // It can be as far ahead as a pointer reaches from the end of the window.
        let furthest = received + self.rx_window + usize::from(u16::MAX);
        if number < received || number > furthest {
            return false;
        }
        let Ok(mut at) = u32::try_from(self.recv_queue() + number.since(received)) else { return false };
        if self.urgent.mark.is_some_and(|mark| at <= mark) {
            return false;
        }
        if self.urgent.mark == Some(0) && self.skip_urgent() {
            at -= 1;
        }
        self.urgent = Urgent { mark: Some(at), is_taken: false, is_news: true, ..self.urgent };
        true
    }

    /// Drops the urgent byte if it is the next one, and not to be read in the stream.
    fn skip_urgent(&mut self) -> bool {
        let is_next = self.hides_next();
        if is_next {
            match (&mut self.plain, &mut self.engine) {
                (Some(plain), _) => plain.received.discard(1),
                // There is a byte, or it would not be the next one.
                (None, Some(engine)) => _ = engine.socket_mut().recv(|bytes| (bytes.len().min(1), ())),
                (None, None) => {}
            }
        }
        is_next
    }

    /// True if the next byte is one that is not read in the stream.
    #[inline]
    pub(crate) fn hides_next(&self) -> bool {
        self.urgent.mark == Some(0) && !self.urgent.is_inline && self.recv_queue() > 0
    }

    /// Whether an urgent byte is there, and nobody has taken it.
    #[inline]
    pub(crate) fn has_urgent(&self) -> bool {
        self.urgent.mark.is_some_and(|mark| !self.urgent.is_taken && (mark as usize) < self.recv_queue())
    }

    /// True if something is known of urgent data, either way.
    #[inline]
    pub(crate) fn is_urgent(&self) -> bool {
        self.urgent.mark.is_some() || self.urgent.sent.is_some()
    }

    /// Passes an urgent byte that is next, and answers how many bytes may be read now: reading stops before the urgent byte, so
    /// that the app can ask where it is (`SIOCATMARK`).
    #[inline]
    pub(crate) fn readable_to_mark(&mut self) -> usize {
        if self.urgent.mark.is_none() { usize::MAX } else { self.pass_mark() }
    }

    #[cold]
    fn pass_mark(&mut self) -> usize {
        if self.skip_urgent() {
            self.urgent.mark = None;
        }
        self.bytes_to_mark()
    }

    fn bytes_to_mark(&self) -> usize {
        self.urgent.mark.filter(|mark| *mark > 0).map_or(usize::MAX, |mark| mark as usize)
    }

    /// What of the receive queue lies before the mark, for a look: bytes to leave out, and how many there are then.
    pub(crate) fn visible_to_mark(&self) -> (usize, usize) {
        (usize::from(self.hides_next()), self.bytes_to_mark())
    }

    /// `count` bytes were read. True if reading stops here.
    #[inline]
    pub(crate) fn note_read(&mut self, count: usize) -> bool {
        let Some(mark) = self.urgent.mark else { return false };
        self.urgent.mark = u32::try_from(count).ok().and_then(|count| mark.checked_sub(count));
        self.urgent.mark == Some(0)
    }

    /// Forgets urgent data that the peer has acknowledged.
    #[inline]
    pub(crate) fn forget_urgent(&mut self) {
        if self.urgent.sent.is_some_and(|end| end <= self.track.una) {
            self.urgent.sent = None;
        }
    }

    /// The urgent pointer of a segment that begins with `start`; 0 for none (Linux: `tcp_transmit_skb`).
    #[inline]
    pub(crate) fn urgent_pointer(&self, start: TcpSeqNumber) -> u16 {
        self.urgent.sent.map_or(0, |end| pointer(start, end))
    }

    /// Where the urgent data ends that the peer has to be told of.
    #[inline]
    pub(crate) fn urgent_end(&self) -> Option<TcpSeqNumber> {
        self.urgent.sent.filter(|end| *end > self.track.una)
    }
}

/// How far behind `start` the urgent data ends; 0 if it ends before, or further away than can be said: then a later segment
/// will say it.
pub(crate) fn pointer(start: TcpSeqNumber, end: TcpSeqNumber) -> u16 {
    if end <= start { 0 } else { u16::try_from(end.since(start)).unwrap_or(0) }
}

impl Stack {
    /// Looks at a segment with an urgent pointer before its data is taken in.
    #[cold]
    pub(crate) fn urgent_in(&mut self, id: TcpId, segment: &Segment<'_>) {
        let Some(flow) = self.flows.get_mut(id) else { return };
        let is_receiving = matches!(flow.state(), State::Established | State::FinWait1 | State::FinWait2);
        let Some(number) = segment.urgent_number().filter(|_| is_receiving && segment.is_plain_ack()) else {
            return;
        };
        if flow.judge(segment) == Judgement::Pass && flow.announce(number) {
            self.notify_tcp(id);
        }
    }

    /// Marks the last byte that was written as urgent.
    pub fn tcp_mark_urgent(&mut self, id: TcpId) {
        if let Some(flow) = self.flows.app_mut(id) {
            flow.urgent.sent = Some(flow.track.una + flow.send_queue());
            self.mark_dirty(id);
        }
    }

    /// Reads the urgent byte in the stream, or beside it (`SO_OOBINLINE`).
    pub fn tcp_set_urgent_inline(&mut self, id: TcpId, is_inline: bool) {
        if let Some(flow) = self.flows.app_mut(id).filter(|flow| flow.urgent.is_inline != is_inline) {
            flow.urgent.is_inline = is_inline;
            self.notify_tcp(id);
        }
    }

    /// The urgent byte, which then is taken unless this is only a look (Linux: `tcp_recv_urg`).
    pub fn tcp_recv_urgent(&mut self, id: TcpId, is_look: bool) -> Result<u8, UrgentError> {
        let flow = self.flows.app_mut(id).ok_or(UrgentError::None)?;
        let Urgent { mark, is_taken, is_inline, .. } = flow.urgent;
        let mark = mark.filter(|_| !is_taken && !is_inline);
        let Some(mark) = mark.map(|mark| mark as usize) else { return Err(UrgentError::None) };
        if mark >= flow.recv_queue() {
            let may_come = matches!(flow.state(), State::Established | State::FinWait1 | State::FinWait2);
            return Err(if may_come && !flow.is_read_shut {
                UrgentError::WouldBlock
            } else {
                UrgentError::Finished
            });
        }
        let byte = match (&flow.plain, &mut flow.engine) {
            (Some(plain), _) => plain.received.part(mark, 1).first().copied(),
            (None, Some(engine)) => {
                let mut bytes = alloc::vec![0; mark + 1];
                let count = engine.socket_mut().peek_slice(&mut bytes);
                bytes.last().copied().filter(|_| count == Ok(mark + 1))
            }
            (None, None) => None,
        };
        flow.urgent.is_taken |= !is_look && byte.is_some();
        byte.ok_or(UrgentError::WouldBlock)
    }

    /// True if the next byte is the urgent one (sockatmark(3)).
    pub fn tcp_is_at_mark(&self, id: TcpId) -> bool {
        self.flows.app(id).is_some_and(|flow| flow.urgent.mark == Some(0))
    }

    /// True if the peer has announced urgent data since the last call.
    pub fn tcp_take_urgent_news(&mut self, id: TcpId) -> bool {
        self.flows.app_mut(id).is_some_and(|flow| core::mem::take(&mut flow.urgent.is_news))
    }

    /// Bytes that can be read before the urgent byte (Linux: `tcp_inq`).
    pub fn tcp_recv_queue(&self, id: TcpId) -> usize {
        let Some(flow) = self.flows.app(id) else { return 0 };
        let queue = flow.recv_queue();
        let mark = flow.urgent.mark.map(|mark| mark as usize);
        mark.filter(|mark| !flow.urgent.is_inline && *mark < queue).unwrap_or(queue)
    }
}
