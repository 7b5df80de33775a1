//! `AF_VSOCK` (vsock(7)): streams between the app and the machine's host, if the host offers a device for them.
//!
//! - here: the device and the protocol ([`unikernel_net::vsock`]), driven together with the network; [`stream`]: the sockets.

mod stream;

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicBool, Ordering};

use unikernel_net::vsock::{Vsock, VsockEvent, VsockId};

use super::routes::to_file;
use super::socket::Socket;
use crate::drivers::virtio::VirtioDevice;
use crate::drivers::virtio::vsock::SocketDevice;
use crate::kmem::room;
use crate::sync::{SpinLock, SpinLockGuard};
pub(crate) use stream::{NAME_BYTES, socket};

/// The device, the streams over it, and who waits for what.
struct Host {
    device: SocketDevice,
    streams: Vsock,
    connections: BTreeMap<VsockId, Weak<Socket>>,
    listeners: BTreeMap<u32, Weak<Socket>>,
}

static HOST: SpinLock<Option<Host>> = SpinLock::new(None);
/// Whether there is a device: asked often, and by most machines in vain.
static IS_PRESENT: AtomicBool = AtomicBool::new(false);

/// Takes the device into use.
pub(super) fn init(device: VirtioDevice, on_interrupt: fn()) {
    let place = device.place.clone();
    let device = match SocketDevice::start(device, on_interrupt) {
        Ok(device) => device,
        Err(error) => return log::warn!("{place}: not used: {error}"),
    };
    let Some(cid) = device.cid() else { return log::warn!("{place}: not used: it has no context id") };
    log::debug!("{place}: vsock, context id {cid}");
    let streams = Vsock::new(cid);
    *HOST.lock() = Some(Host { device, streams, connections: BTreeMap::new(), listeners: BTreeMap::new() });
    IS_PRESENT.store(true, Ordering::Release);
}

/// True if there is a device.
#[inline]
pub(crate) fn is_present() -> bool {
    IS_PRESENT.load(Ordering::Relaxed)
}

/// Takes in what has arrived, and sends what is to be sent. True if there was anything.
#[inline]
pub(super) fn poll() -> bool {
    is_present() && HOST.lock().as_mut().is_some_and(Host::poll)
}

/// True if the device has something for us.
#[inline]
pub(super) fn has_arrivals() -> bool {
    let look =
        |host: SpinLockGuard<'_, Option<Host>>| host.as_ref().is_some_and(|host| host.device.has_arrivals());
    is_present() && HOST.try_lock().is_some_and(look)
}

/// True if something was written and not yet sent.
pub(super) fn has_unsent() -> bool {
    is_present() && HOST.lock().as_ref().is_some_and(|host| host.streams.has_output())
}

/// Does something with the streams, and sends what comes of it. None where there is no device, where there is no socket either.
fn with<R>(act: impl FnOnce(&mut Host) -> R) -> Option<R> {
    let mut host = HOST.lock();
    let host = host.as_mut()?;
    let result = act(host);
    host.send();
    host.dispatch();
    Some(result)
}

impl Host {
    fn poll(&mut self) -> bool {
        if !self.device.has_arrivals() {
            return false;
        }
        if self.device.take_reset()
            && let Some(cid) = self.device.cid()
        {
            self.streams.reset(cid);
        }
        let streams = &mut self.streams;
        self.device.receive(|packet| streams.packet_in(packet, room::is_left()));
        self.send();
        self.dispatch();
        true
    }

    fn send(&mut self) {
        if self.streams.has_output() {
            let streams = &mut self.streams;
            self.device.send(|room| streams.packet_out(room));
        }
    }

    /// Tells the waiters of what has changed.
    fn dispatch(&mut self) {
        for event in self.streams.take_events() {
            let (socket, ready) = match event {
                VsockEvent::Connection(id) => (self.connections.get(&id), self.streams.readiness(id)),
                VsockEvent::Listener(port) => {
                    (self.listeners.get(&port), self.streams.listener_readiness(port))
                }
            };
            if let Some(socket) = socket.and_then(Weak::upgrade) {
                socket.source.notify(to_file(ready));
            }
        }
    }

    fn attach(&mut self, id: VsockId, socket: &Arc<Socket>) {
        self.connections.insert(id, Arc::downgrade(socket));
    }
}
