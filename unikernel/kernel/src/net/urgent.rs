//! Urgent data of connections (send(2), recv(2), `MSG_OOB`), and whom its arrival is told to (fcntl(2), `F_SETOWN`).

use core::sync::atomic::{AtomicI32, Ordering};

use linux_raw_sys::general::SIGURG;
use unikernel_net::{Stack, TcpId, UrgentError};

use super::message::{Beside, MessageFlags, Received};
use super::socket::Socket;
use super::stream::Stream;
use crate::abi::Errno;
use crate::mem::user::UserSlice;
use crate::process::signal;
use crate::task::process::{PROCESS_ID, process};
use crate::task::signal::SignalInfo;

/// Who gets `SIGURG`: the app or its process group, as positive or negative number; 0 for nobody.
#[derive(Default)]
pub(crate) struct Owner(AtomicI32);

impl Owner {
    /// Who it is.
    pub(crate) fn get(&self) -> i32 {
        self.0.load(Ordering::Relaxed)
    }

    /// Sets it. There is nobody else than the app and its threads.
    pub(crate) fn set(&self, id: i32) -> Result<(), Errno> {
        let is_known = id == 0 || id.unsigned_abs() == PROCESS_ID as u32 || process().thread(id).is_some();
        if !is_known {
            return Err(Errno::ESRCH);
        }
        self.0.store(id, Ordering::Relaxed);
        Ok(())
    }
}

impl Socket {
    /// Tells the owner that the peer has announced urgent data, if it has.
    pub(super) fn tell_owner(&self, stack: &mut Stack, id: TcpId) {
        if self.owner.get() != 0 && stack.tcp_take_urgent_news(id) {
            signal::send_to_process(SignalInfo::from_kernel(SIGURG));
        }
    }
}

impl Stream {
    /// Takes the urgent byte, or looks at it; does not wait for it.
    #[cold]
    pub(super) fn receive_urgent(&self, into: &[UserSlice], flags: MessageFlags) -> Result<Received, Errno> {
        let flow = self.flow().ok_or(Errno::ENOTCONN)?;
        // A later urgent byte takes the place of this one.
        Self::carry_over(flow);
        let outcome = flow.lock().stack.tcp_recv_urgent(flow.id, flags.contains(MessageFlags::PEEK));
        let byte = match outcome {
            Ok(byte) => byte,
            Err(UrgentError::None) => return Err(Errno::EINVAL),
            Err(UrgentError::WouldBlock) => return Err(Errno::EAGAIN),
            Err(UrgentError::Finished) => return Ok(Received::nothing()),
        };
        let place = into.iter().find(|buffer| !buffer.is_empty());
        if let Some(place) = place {
            place.truncate(1).write(&[byte])?;
        }
        Ok(Received { full_len: 1, beside: Beside::Urgent, ..Received::bytes(usize::from(place.is_some())) })
    }

    /// True if the urgent byte is the next one, after what was written on this machine has come (sockatmark(3)).
    pub(super) fn ask_mark(&self) -> bool {
        if let Some(flow) = self.flow() {
            Self::carry_over(flow);
        }
        self.is_at_mark()
    }

    /// True if the urgent byte is the next one.
    pub(super) fn is_at_mark(&self) -> bool {
        self.flow().is_some_and(|flow| flow.lock().stack.tcp_is_at_mark(flow.id))
    }
}
