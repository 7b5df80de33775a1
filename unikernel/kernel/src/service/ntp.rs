//! Keeps the wall clock right by time servers, those of the command line or those that DHCP tells of. What is believed of
//! their answers, and what it does to the clock, `unikernel_ntp` decides; here are the sockets and the clocks.
//!
//! The thread begins when there are servers. It asks all of them at once, from a new port each time.

use alloc::vec::Vec;
use core::net::{Ipv4Addr, SocketAddr};
use core::sync::atomic::{AtomicU64, Ordering};

use unikernel_cmdline::{SystemOptions, TimeServers};
use unikernel_ntp::{
    Correction, Discipline, Exchange, OutOfBounds, Refusal, Reply, SLEW_PPM, Sample, Schedule, agree, request,
};

use crate::net::datagram::own::Client;
use crate::platform::{random, time};
use crate::sync::SpinLock;
use crate::task::{WaitQueue, scheduler};

/// How long an answer is waited for.
const PATIENCE_NS: u64 = 1_500_000_000;
/// Servers at most.
const MOST_SERVERS: usize = 8;
/// A server that wants to be asked less often. Any other kiss of death is for good (RFC 5905, section 7.4).
const RATE: Refusal = Refusal::Kiss(*b"RATE");

#[derive(Default)]
struct Wanted {
    servers: Vec<SocketAddr>,
    /// The command line has decided.
    is_fixed: bool,
    has_thread: bool,
}

static WANTED: SpinLock<Wanted> =
    SpinLock::new(Wanted { servers: Vec::new(), is_fixed: false, has_thread: false });
static NEWS: WaitQueue = WaitQueue::new();
/// How often the machine's addresses have changed.
static CHANGES: AtomicU64 = AtomicU64::new(0);

/// Does as the command line says.
pub(super) fn init(options: &SystemOptions) {
    match &options.time_servers {
        TimeServers::OfNetwork => {}
        TimeServers::None => WANTED.lock().is_fixed = true,
        TimeServers::Given(servers) => {
            use_servers(servers.clone());
            WANTED.lock().is_fixed = true;
        }
    }
}

/// The machine's addresses have changed, and DHCP may have told of servers. No lock of the network may be held.
pub(super) fn addresses_changed(servers: &[Ipv4Addr]) {
    CHANGES.fetch_add(1, Ordering::Relaxed);
    NEWS.wake_all();
    use_servers(
        servers.iter().map(|server| SocketAddr::new((*server).into(), unikernel_ntp::PORT)).collect(),
    );
}

fn use_servers(mut servers: Vec<SocketAddr>) {
    servers.truncate(MOST_SERVERS);
    let has_thread = {
        let mut wanted = WANTED.lock();
        if wanted.is_fixed || servers.is_empty() || servers == wanted.servers {
            return;
        }
        wanted.servers = servers;
        core::mem::replace(&mut wanted.has_thread, true)
    };
    if !has_thread && scheduler::start_kernel_thread("ntp", main).is_err() {
        log::warn!("no memory for the clock's thread; it stays as it is");
    }
    NEWS.wake_all();
}

extern "C" fn main() -> ! {
    scheduler::finish_task_switch();
    Keeper::default().run();
    scheduler::exit_current()
}

/// A question that waits for its answer.
#[derive(Clone, Copy)]
struct Question {
    cookie: u64,
    /// When it left, by the wall clock and by the one that nobody sets.
    wall_ns: u64,
    at_ns: u64,
}

/// A server and what became of asking it.
struct Server {
    address: SocketAddr,
    asked: Option<Question>,
    /// Its last refusal, so that each is logged once.
    refusal: Option<Refusal>,
    has_given_up: bool,
}

/// The thread's state.
#[derive(Default)]
struct Keeper {
    servers: Vec<Server>,
    discipline: Discipline,
    schedule: Schedule,
    has_synchronized: bool,
    /// A server could not be reached, when the addresses had changed so often.
    cut_off_at: Option<u64>,
}

impl Keeper {
    fn run(&mut self) {
        loop {
            self.take_news();
            let samples = self.ask();
            let offset_ns = self.choose(&samples);
            let slewing_ns = offset_ns.map_or(0, |offset_ns| self.correct(offset_ns));
            let until_ns = time::now_ns() + self.schedule.after(offset_ns) * time::NS_PER_SECOND;
            self.sleep_until(until_ns.min(time::now_ns() + slewing_ns));
            time::set_rate_ppm(0);
            self.sleep_until(until_ns);
            if self.servers.iter().all(|server| server.has_given_up) {
                // Until DHCP tells of others.
                NEWS.wait_uninterrupted(None, || self.has_news().then_some(()));
            }
        }
    }

    fn has_new_servers(&self) -> bool {
        let wanted = WANTED.lock();
        !wanted.servers.iter().eq(self.servers.iter().map(|server| &server.address))
    }

    /// There is a reason to ask before it is time to.
    fn has_news(&self) -> bool {
        let is_back = |changes| CHANGES.load(Ordering::Relaxed) != changes;
        self.cut_off_at.is_some_and(is_back) || self.has_new_servers()
    }

    fn sleep_until(&self, deadline_ns: u64) {
        NEWS.wait_uninterrupted(Some(deadline_ns), || self.has_news().then_some(()));
    }

    fn take_news(&mut self) {
        self.cut_off_at = None;
        if self.has_new_servers() {
            let new = |address| Server { address, asked: None, refusal: None, has_given_up: false };
            self.servers = WANTED.lock().servers.iter().copied().map(new).collect();
            self.schedule = Schedule::default();
        }
    }

    /// Asks everybody; answers what they say.
    fn ask(&mut self) -> Vec<Sample> {
        let client = Client::default();
        let changes = CHANGES.load(Ordering::Relaxed);
        let deadline_ns = time::now_ns() + PATIENCE_NS;
        for server in self.servers.iter_mut().filter(|server| !server.has_given_up) {
            let cookie = random::next_u64();
            server.asked = Some(Question { cookie, wall_ns: time::wall_ns(), at_ns: time::now_ns() });
            if let Err(error) = client.send(server.address, &request(cookie)) {
                log::debug!("{}: cannot be asked: {error:?}", server.address);
                server.asked = None;
                self.cut_off_at = Some(changes);
            }
        }
        let mut samples = Vec::new();
        while self.servers.iter().any(|server| server.asked.is_some()) {
            let servers = &mut self.servers;
            let heard = client.receive(deadline_ns, |bytes, arrival| {
                let from = SocketAddr::new(arrival.from.ip().to_canonical(), arrival.from.port());
                let at_ns = arrival.at.total_micros().max(0) as u64 * 1000;
                let server = servers.iter_mut().find(|server| server.address == from)?;
                server.heard(bytes, at_ns)
            });
            match heard {
                Some(Ok(sample)) => samples.push(sample),
                Some(Err(RATE)) => self.schedule.slow_down(),
                Some(Err(_)) => {}
                None => break,
            }
        }
        self.servers.iter_mut().for_each(|server| server.asked = None);
        samples
    }

    /// The offset that most of those agree on who have answered.
    fn choose(&self, samples: &[Sample]) -> Option<i64> {
        let offset_ns = agree(samples);
        if offset_ns.is_none() && !samples.is_empty() {
            log::warn!("{} time servers contradict each other; the clock stays as it is", samples.len());
        }
        offset_ns
    }

    /// Brings the clock right, at once or slowly; answers how long that takes.
    fn correct(&mut self, offset_ns: i64) -> u64 {
        let now_ns = time::wall_ns() as i64;
        let milliseconds = offset_ns / 1_000_000;
        let is_first = !core::mem::replace(&mut self.has_synchronized, true);
        match self.discipline.correct(now_ns, offset_ns) {
            Ok(Correction::Step(by_ns)) => {
                time::set_wall_ns(now_ns.saturating_add(by_ns).max(0) as u64);
                log::info!("the clock was set by {milliseconds} ms");
                0
            }
            Ok(Correction::Slew(by_ns)) => {
                if is_first {
                    log::info!("the clock is off by {milliseconds} ms");
                } else {
                    log::debug!("the clock is off by {} us", by_ns / 1000);
                }
                let ppm = SLEW_PPM as i32;
                time::set_rate_ppm(if by_ns < 0 { -ppm } else { ppm });
                by_ns.unsigned_abs() * (1_000_000 / u64::from(SLEW_PPM))
            }
            Err(OutOfBounds(_)) => {
                self.has_synchronized = !is_first;
                log::warn!(
                    "the time servers say that the clock is off by {milliseconds} ms: that is not believed"
                );
                0
            }
        }
    }
}

impl Server {
    /// Takes in an answer; none if that is not for the question.
    fn heard(&mut self, bytes: &[u8], at_ns: u64) -> Option<Result<Sample, Refusal>> {
        let question = self.asked?;
        let exchange = Exchange {
            cookie: question.cookie,
            sent_ns: question.wall_ns as i64,
            elapsed_ns: at_ns.saturating_sub(question.at_ns),
        };
        let outcome = Reply::parse(bytes).and_then(|reply| reply.check(&exchange));
        // Whoever sends what answers no question cannot keep us from hearing what does.
        let is_answer = !matches!(outcome, Err(Refusal::NotOurs | Refusal::Short | Refusal::NotAServers));
        if is_answer {
            self.asked = None;
        }
        if let Err(refusal) = outcome {
            if self.refusal.replace(refusal) != Some(refusal) {
                log::warn!("time server {}: {refusal}", self.address);
            }
            self.has_given_up |= matches!(refusal, Refusal::Kiss(_)) && refusal != RATE;
        }
        is_answer.then_some(outcome)
    }
}
