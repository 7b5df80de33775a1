//! Looking at what a connection has received without taking it (recv(2), `MSG_PEEK`).

use crate::error::RecvError;
use crate::id::TcpId;
use crate::stack::Stack;
use crate::tcp::{nothing_more, nothing_to_read, recv_error};

impl Stack {
    /// Lends received bytes after the first `start` to `look` without taking them, as many as are in one piece.
    pub fn tcp_peek<R>(
        &mut self,
        id: TcpId,
        start: usize,
        look: impl FnOnce(&[u8]) -> R,
    ) -> Result<R, RecvError> {
        let flow = self.flows.app_mut(id).ok_or(RecvError::BadId)?;
        let (hidden, most) = flow.visible_to_mark();
        let visible = flow.recv_queue() - hidden;
        if visible <= start {
            // An error is for who finds nothing at all.
            return Err(if visible > 0 { nothing_more(flow) } else { nothing_to_read(flow) });
        }
        let (hidden, most) = (hidden + start, most.saturating_sub(start));
        match (&flow.plain, &mut flow.engine) {
            (Some(plain), _) => Ok(look(plain.received.part(hidden, most))),
            (None, Some(engine)) => {
                let visible = |bytes: &[u8]| {
                    let bytes = &bytes[hidden.min(bytes.len())..];
                    look(&bytes[..bytes.len().min(most)])
                };
                engine.socket_mut().peek(usize::MAX).map(visible).map_err(recv_error)
            }
            (None, None) => Err(RecvError::WouldBlock),
        }
    }
}
