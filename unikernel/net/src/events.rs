//! Which sockets may have become ready, each told once.

use alloc::vec::Vec;

use crate::id::{ListenerId, SocketId, TcpId, UdpId};
use crate::stack::Stack;

impl Stack {
    /// The sockets whose readiness may have changed since the last call, each once, in the order of their first change.
    /// They replace what is in `events`, whose memory is used for the next ones.
    pub fn take_events(&mut self, events: &mut Vec<SocketId>) {
        events.clear();
        core::mem::swap(events, &mut self.events);
        for id in events.iter() {
            match *id {
                SocketId::Tcp(id) => self.flows.get_mut(id).map(|flow| flow.has_event = false),
                SocketId::Listener(id) => {
                    self.listeners.get_mut(id).map(|listener| listener.has_event = false)
                }
                SocketId::Udp(id) => self.udp.get_mut(id).map(|socket| socket.has_event = false),
            };
        }
    }

    /// True if [`take_events`](Self::take_events) would give any.
    pub fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// Tells that a flow's readiness may have changed.
    #[inline]
    pub(crate) fn notify_tcp(&mut self, id: TcpId) {
        if let Some(flow) = self.flows.get_mut(id)
            && flow.is_app()
            && !flow.has_event
        {
            flow.has_event = true;
            self.events.push(SocketId::Tcp(id));
        }
    }

    pub(crate) fn notify_listener(&mut self, id: ListenerId) {
        if let Some(listener) = self.listeners.get_mut(id)
            && !listener.has_event
        {
            listener.has_event = true;
            self.events.push(SocketId::Listener(id));
        }
    }

    pub(crate) fn notify_udp(&mut self, id: UdpId) {
        if let Some(socket) = self.udp.get_mut(id)
            && !socket.has_event
        {
            socket.has_event = true;
            self.events.push(SocketId::Udp(id));
        }
    }
}
