//! The other end of a card's cable: a host that is smoltcp's, with an echo server, a DHCP server if one is wanted, and a
//! record of what the machine has sent.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{RefCell, RefMut};
use core::net::{Ipv4Addr, Ipv6Addr};
use std::boxed::Box;
use std::collections::VecDeque;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::{tcp, udp};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpCidr, IpEndpoint, Ipv4Cidr, Ipv6Cidr};
use unikernel_hal::sim::card::{Card, Frame, Peer, Port};
use unikernel_hal::sim::virtio;

use super::frames;
use crate::workbench::app::files::sleep_ms;

/// Where the host is.
pub(super) const HOST: [u8; 4] = [10, 0, 2, 2];
pub(super) const HOST_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
pub(super) const HOST_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);
/// Where it has its echo servers, of UDP and TCP.
pub(super) const ECHO: u16 = 7;
/// How long a frame is under way.
const DELAY_NS: u64 = 100_000;
/// Connections to its echo server at a time.
const ECHOES: usize = 4;
const BUFFER_BYTES: usize = 64 << 10;

/// Something that the host does when its card looks.
type Act = Box<dyn FnOnce(&mut Port)>;

/// The host, as a test has it.
pub(super) struct Host {
    iface: Interface,
    wire: Wire,
    pub(super) sockets: SocketSet<'static>,
    tcp_echo: Vec<SocketHandle>,
    udp_echo: SocketHandle,
    /// The address that its DHCP server gives away.
    pub(super) lease: Option<Ipv4Addr>,
    /// What the machine has sent, as it was on the wire, and as the card got it.
    pub(super) seen: Vec<Vec<u8>>,
    pub(super) frames: Vec<Frame>,
    to_do: Vec<Act>,
}

/// A handle to it, shared by the card and the app of a machine.
#[derive(Clone)]
pub(super) struct Lan(Rc<RefCell<Host>>);

#[derive(Default)]
struct Wire {
    rx: VecDeque<Vec<u8>>,
    tx: Vec<Vec<u8>>,
}

struct Received(Vec<u8>);

struct Sending<'a>(&'a mut Vec<Vec<u8>>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = alloc::vec![0; len];
        let result = f(&mut frame);
        self.0.push(frame);
        result
    }
}

impl Device for Wire {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received, Sending<'_>)> {
        Some((Received(self.rx.pop_front()?), Sending(&mut self.tx)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sending<'_>> {
        Some(Sending(&mut self.tx))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        capabilities
    }
}

fn tcp_socket() -> tcp::Socket<'static> {
    let buffer = || tcp::SocketBuffer::new(alloc::vec![0; BUFFER_BYTES]);
    tcp::Socket::new(buffer(), buffer())
}

fn udp_socket() -> udp::Socket<'static> {
    let buffer = || {
        let slots = alloc::vec![udp::PacketMetadata::EMPTY; 64];
        udp::PacketBuffer::new(slots, alloc::vec![0; BUFFER_BYTES])
    };
    udp::Socket::new(buffer(), buffer())
}

/// Gives back what has come.
fn echo(socket: &mut tcp::Socket<'_>) {
    if socket.state() == tcp::State::TimeWait {
        socket.abort();
    }
    if !socket.is_open() {
        socket.listen(ECHO).expect("a port");
    }
    while socket.can_recv() && socket.can_send() {
        let room = socket.send_capacity() - socket.send_queue();
        let bytes = socket
            .recv(|bytes| {
                let count = bytes.len().min(room);
                (count, bytes[..count].to_vec())
            })
            .expect("it can be received from");
        socket.send_slice(&bytes).expect("it can be sent to");
    }
    if socket.state() == tcp::State::CloseWait && socket.recv_queue() == 0 {
        socket.close();
    }
}

impl Host {
    fn new(address: [u8; 4]) -> Self {
        let mut wire = Wire::default();
        let mac = HardwareAddress::Ethernet(EthernetAddress(HOST_MAC));
        let mut iface = Interface::new(Config::new(mac), &mut wire, Instant::ZERO);
        iface.update_ip_addrs(|addresses| {
            let all =
                [IpCidr::Ipv4(Ipv4Cidr::new(address.into(), 24)), IpCidr::Ipv6(Ipv6Cidr::new(HOST_V6, 64))];
            addresses.extend(all);
        });
        let mut sockets = SocketSet::new(Vec::new());
        let tcp_echo = (0..ECHOES).map(|_| sockets.add(tcp_socket())).collect();
        let udp_echo = sockets.add(udp_socket());
        sockets.get_mut::<udp::Socket<'_>>(udp_echo).bind(ECHO).expect("a port");
        Self {
            iface,
            wire,
            sockets,
            tcp_echo,
            udp_echo,
            lease: None,
            seen: Vec::new(),
            frames: Vec::new(),
            to_do: Vec::new(),
        }
    }

    fn connect(&mut self, to: impl Into<IpEndpoint>, from_port: u16) -> SocketHandle {
        let handle = self.sockets.add(tcp_socket());
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(handle);
        socket.connect(self.iface.context(), to, from_port).expect("a connection is begun");
        handle
    }

    /// One of its TCP sockets.
    pub(super) fn tcp(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// Has a frame sent with those that the host sends next.
    pub(super) fn queue(&mut self, frame: Vec<u8>) {
        self.wire.tx.push(frame);
    }

    fn serve(&mut self) {
        self.tcp_echo.iter().for_each(|handle| echo(self.sockets.get_mut(*handle)));
        let socket = self.sockets.get_mut::<udp::Socket<'_>>(self.udp_echo);
        while let Ok((bytes, from)) = socket.recv().map(|(bytes, from)| (bytes.to_vec(), from.endpoint)) {
            let _ = socket.send_slice(&bytes, from);
        }
    }

    fn run(&mut self, port: &mut Port) {
        for act in core::mem::take(&mut self.to_do) {
            act(port);
        }
        let now = Instant::from_micros((port.now_ns / 1000) as i64);
        self.serve();
        self.iface.poll(now, &mut self.wire, &mut self.sockets);
        self.serve();
        self.iface.poll(now, &mut self.wire, &mut self.sockets);
        for frame in self.wire.tx.drain(..) {
            port.send_after(DELAY_NS, frame);
        }
        if let Some(at) = self.iface.poll_at(now, &self.sockets) {
            port.wake_at(port.now_ns.max(at.total_micros().max(0) as u64 * 1000) + 1000);
        }
    }
}

impl Lan {
    /// A host at [`HOST`].
    pub(super) fn new() -> Self {
        Self::at(HOST)
    }

    /// A host at another address.
    pub(super) fn at(address: [u8; 4]) -> Self {
        Self(Rc::new(RefCell::new(Host::new(address))))
    }

    /// Plugs it into a card.
    pub(super) fn plug_in(&self, card: Card) {
        card.plug_in(Box::new(self.clone()));
    }

    /// The host; no system call is made meanwhile.
    pub(super) fn host(&self) -> RefMut<'_, Host> {
        self.0.borrow_mut()
    }

    /// Has the host do something, now.
    pub(super) fn with<R>(&self, act: impl FnOnce(&mut Host) -> R) -> R {
        let result = act(&mut self.host());
        virtio::poke();
        result
    }

    /// Has the host connect to the machine.
    pub(super) fn connect(&self, to: impl Into<IpEndpoint>, from_port: u16) -> SocketHandle {
        self.with(|host| host.connect(to, from_port))
    }

    /// Has the host do something with its end of the cable, now.
    pub(super) fn act(&self, act: impl FnOnce(&mut Port) + 'static) {
        self.host().to_do.push(Box::new(act));
        virtio::poke();
    }

    /// Sends the machine a frame, now.
    pub(super) fn send(&self, frame: Vec<u8>) {
        self.act(|port| port.send_after(0, frame));
    }

    /// Waits, two seconds at most, until something is true of the host.
    pub(super) fn wait(&self, what: &str, is_true: impl Fn(&mut Host) -> bool) {
        for _ in 0..2000 {
            if is_true(&mut self.host()) {
                return;
            }
            virtio::poke();
            sleep_ms(1);
        }
        panic!("never: {what}");
    }

    /// Waits for a frame.
    pub(super) fn wait_for_frame(&self, what: &str, is_it: impl Fn(&[u8]) -> bool) {
        self.wait(what, |host| host.seen.iter().any(|frame| is_it(frame)));
    }
}

impl Peer for Lan {
    fn take(&mut self, frame: Frame, port: &mut Port) {
        let mut host = self.host();
        host.frames.push(frame.clone());
        for frame in frame.on_wire() {
            host.seen.push(frame.clone());
            let lease = host.lease;
            if let Some(answer) = lease.and_then(|lease| frames::dhcp_answer(&frame, lease)) {
                port.send_after(DELAY_NS, answer);
            } else {
                host.wire.rx.push_back(frame);
            }
        }
    }

    fn wake(&mut self, port: &mut Port) {
        self.host().run(port);
    }
}
