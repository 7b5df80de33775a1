//! A virtio device without a life of its own: what comes on its queues is kept for the test, which plays the other side. So are small
//! devices made: sockets, consoles, entropy, the balloon, shares.
//!
//! The test's app and the device are in one process. The app names devices by the order in which they were plugged in ([`Device`]).

use std::boxed::Box;
use std::collections::VecDeque;
use std::vec::Vec;

use super::app;
use super::engine::Single;
use super::virtio::{self, Chain, Model, Slot};

/// How long the device has a request.
const LATENCY_NS: u64 = 2_000;

/// What a server says to a request: bytes, and how many it claims to have written; none if it never answers.
pub type Answer = Option<(Vec<u8>, u32)>;

/// Answers a request.
pub type Serve = Box<dyn FnMut(&[u8]) -> Answer>;

/// What a queue is for.
pub enum Use {
    /// Takes what the driver sends.
    Sink,
    /// The same, but gives no buffer back before [`Device::release`].
    Held,
    /// Has the driver's buffers wait for [`Device::give`].
    Source,
    /// Answers each request.
    Server(Serve),
}

/// A device to be plugged in.
pub struct Plain {
    /// Its number (Virtio 1.2, section 5).
    pub device_type: u16,
    /// What it offers beside what the transport needs.
    pub features: u64,
    /// Its configuration at first.
    pub config: Vec<u8>,
    /// Its queues.
    pub queues: Vec<Use>,
}

/// What model and test share.
struct State {
    config: Vec<u8>,
    has_new_config: bool,
    /// What the driver has sent, by queue.
    sent: Vec<VecDeque<Vec<u8>>>,
    /// What the test has given.
    given: VecDeque<(u16, Vec<u8>)>,
}

static STATES: Single<Vec<State>> = Single::new(Vec::new());

fn with<R>(device: usize, work: impl FnOnce(&mut State) -> R) -> R {
    STATES.with(|states| work(&mut states[device]))
}

impl Plain {
    /// Plugs it into the machine that is about to boot.
    pub fn plug_in(self) {
        self.plug_into(Slot::Pci);
    }

    /// The same, there.
    pub fn plug_into(self, slot: Slot) {
        let Self { device_type, features, config, queues } = self;
        let sent = queues.iter().map(|_| VecDeque::new()).collect();
        let state = State { config, has_new_config: false, sent, given: VecDeque::new() };
        let number = STATES.with(|states| {
            states.push(state);
            states.len() - 1
        });
        virtio::add_to(slot, Box::new(Plugged { number, device_type, features, queues }));
    }
}

/// A device, by its row among those that were plugged in, as the test sees it.
#[derive(Clone, Copy, Debug)]
pub struct Device(pub usize);

impl Device {
    /// The next that the driver has sent on a queue.
    pub fn take(self, queue: u16) -> Option<Vec<u8>> {
        with(self.0, |state| state.sent[usize::from(queue)].pop_front())
    }

    /// Fills the driver's next buffer of a queue. It is lost if there is none.
    pub fn give(self, queue: u16, bytes: &[u8]) {
        with(self.0, |state| state.given.push_back((queue, bytes.to_vec())));
        look();
    }

    /// Gives the driver the buffer back that has been held for longest.
    pub fn release(self, queue: u16) {
        self.give(queue, &[]);
    }

    /// Changes the configuration, and tells the driver.
    pub fn set_config(self, at: usize, bytes: &[u8]) {
        with(self.0, |state| {
            state.config[at..at + bytes.len()].copy_from_slice(bytes);
            state.has_new_config = true;
        });
        look();
    }

    /// The configuration, in which the driver may have written.
    pub fn config(self) -> Vec<u8> {
        with(self.0, |state| state.config.clone())
    }
}

/// The devices look at what has changed, and the app takes their interrupts.
fn look() {
    virtio::poke();
    app::pause();
}

struct Plugged {
    number: usize,
    device_type: u16,
    features: u64,
    queues: Vec<Use>,
}

impl Model for Plugged {
    fn device_type(&self) -> u16 {
        self.device_type
    }

    fn features(&self) -> u64 {
        self.features
    }

    fn config(&self) -> Vec<u8> {
        Device(self.number).config()
    }

    fn write_config(&mut self, at: usize, bytes: &[u8]) {
        with(self.number, |state| {
            if let Some(place) = state.config.get_mut(at..at + bytes.len()) {
                place.copy_from_slice(bytes);
            }
        });
    }

    fn take_config_change(&mut self) -> bool {
        with(self.number, |state| core::mem::take(&mut state.has_new_config))
    }

    fn queues(&self) -> u16 {
        self.queues.len() as u16
    }

    fn accept(&mut self, queue: u16, chain: &Chain) -> Option<u64> {
        let queue = usize::from(queue);
        match self.queues[queue] {
            Use::Source => None,
            Use::Server(_) => Some(LATENCY_NS),
            Use::Sink | Use::Held => {
                with(self.number, |state| state.sent[queue].push_back(chain.read()));
                matches!(self.queues[queue], Use::Sink).then_some(LATENCY_NS)
            }
        }
    }

    fn finish(&mut self, queue: u16, chain: &Chain) -> Option<u32> {
        match &mut self.queues[usize::from(queue)] {
            Use::Server(serve) => {
                let (bytes, claimed) = serve(&chain.read())?;
                chain.write(&bytes);
                Some(claimed)
            }
            _ => Some(0),
        }
    }

    fn ready(&mut self) -> Option<(u16, Vec<u8>)> {
        with(self.number, |state| state.given.pop_front())
    }
}
