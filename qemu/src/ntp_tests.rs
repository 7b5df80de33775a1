//! Time servers, honest and not, and what becomes of a guest's clock.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};

use crate::guest_tests::NamedTest;
use crate::machine::{Kind, Machine, Net};
use crate::project::{self, Profile};
use crate::vm::{Console, Vm};

const TIME_OUT: Duration = Duration::from_secs(30);
/// Seconds between 1900 and 1970.
const UNIX_EPOCH_S: u64 = 2_208_988_800;
const HOUR_MS: i64 = 3_600_000;
/// How far the guest's clock may be off, with the time that its console takes.
const TOLERANCE_MS: i64 = 3_000;

/// What a server does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Server {
    /// Tells the time.
    Honest,
    /// The same, behind answers that a stranger would forge.
    Besieged,
    /// Is ahead by so many milliseconds.
    Ahead(i64),
    /// Wants not to be asked.
    Kiss,
    Unsynchronized,
    Dispersed,
    /// Sends back another mark than it was sent.
    Forger,
    Short,
    Silent,
}

/// All of them.
pub(crate) fn all() -> Vec<NamedTest> {
    vec![("ntp_honest_servers".into(), Box::new(honest)), ("ntp_lies".into(), Box::new(lies))]
}

/// A server that runs until it is dropped.
pub(crate) struct Running {
    port: u16,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    /// One that tells the time, at an address of this host.
    pub(crate) fn honest(address: &str) -> Result<Self> {
        Self::start_at(address, Server::Honest)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    fn start(server: Server) -> Result<Self> {
        Self::start_at("127.0.0.1", server)
    }

    fn start_at(address: &str, server: Server) -> Result<Self> {
        let socket = UdpSocket::bind((address, 0))?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        let port = socket.local_addr()?.port();
        let is_over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&is_over);
        let thread = thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                let mut request = [0; 128];
                if let Ok((len, from)) = socket.recv_from(&mut request) {
                    for answer in server.answers(&request[..len]) {
                        let _ = socket.send_to(&answer, from);
                    }
                }
            }
        });
        Ok(Self { port, is_over, thread: Some(thread) })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

fn ntp_time(unix_ms: i64) -> [u8; 8] {
    let (seconds, rest) = (unix_ms / 1000, unix_ms % 1000);
    let fraction = ((rest as u64) << 32) / 1000;
    (((seconds as u64 + UNIX_EPOCH_S) << 32) | fraction).to_be_bytes()
}

impl Server {
    fn answers(self, request: &[u8]) -> Vec<Vec<u8>> {
        let ahead_ms = if let Self::Ahead(ms) = self { ms } else { 0 };
        let Some(cookie) = request.get(40..48) else { return Vec::new() };
        let mut answer = vec![0; 48];
        answer[..4].copy_from_slice(&[4 << 3 | 4, 2, 6, 0xec]);
        answer[24..32].copy_from_slice(cookie);
        for at in [16, 32, 40] {
            answer[at..at + 8].copy_from_slice(&ntp_time(now_ms() + ahead_ms));
        }
        match self {
            Self::Honest | Self::Ahead(_) => vec![answer],
            Self::Besieged => {
                let mut forged = Self::Ahead(HOUR_MS).answers(request).concat();
                forged[24] ^= 1;
                vec![forged.clone(), vec![0; 47], Vec::new(), forged, request.to_vec(), answer]
            }
            Self::Kiss => {
                answer[1] = 0;
                answer[12..16].copy_from_slice(b"DENY");
                vec![answer]
            }
            Self::Unsynchronized => {
                answer[0] |= 3 << 6;
                vec![answer]
            }
            Self::Dispersed => {
                answer[8] = 1;
                vec![answer]
            }
            Self::Forger => {
                answer[31] ^= 1;
                vec![answer]
            }
            Self::Short => vec![answer[..40].to_vec()],
            Self::Silent => Vec::new(),
        }
    }
}

/// Boots with a clock that is an hour behind, until the log says `expected`; answers how far the clock is ahead then.
fn run(servers: &[Server], expected: &str) -> Result<i64> {
    let running = servers.iter().map(|server| Running::start(*server)).collect::<Result<Vec<_>>>()?;
    let ports: Vec<String> = running.iter().map(|server| format!("10.0.2.2:{}", server.port)).collect();
    let mut machine = Machine::new(Kind::Q35, &project::image("clock_watch"));
    machine.net = Net::Apart(2);
    machine.append = format!("log=service:debug,info ntp={} -- 60", ports.join(","));
    let base = u64::try_from(now_ms() - HOUR_MS)? / 1000;
    machine.extra = vec!["-rtc".into(), format!("base={}", calendar(base))];
    let guest = Vm::start(&machine, Console::Recorded)?;
    guest
        .wait_until(TIME_OUT, || guest.console().contains(expected))
        .context("while it waits for the log")?;
    let lines = guest.console().matches("at ").count();
    guest.wait_until(TIME_OUT, || guest.console().matches("at ").count() > lines + 3)?;
    let console = guest.console();
    let last = console
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix("at ")?.strip_suffix(" ms")?.parse::<i64>().ok());
    Ok(last.context("no time")? - now_ms())
}

/// A time as QEMU's `-rtc base=` takes it.
pub(crate) fn calendar(unix_s: u64) -> String {
    let (days, seconds) = (unix_s / 86_400, unix_s % 86_400);
    // Howard Hinnant's `civil_from_days`, for days after 1970.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

/// The clock is set by who is right, whatever strangers and a minority say.
fn honest() -> Result<()> {
    project::build("guest-tests", &["clock_watch"], Profile::Release)?;
    for servers in [
        &[Server::Honest][..],
        &[Server::Besieged],
        &[Server::Ahead(HOUR_MS), Server::Honest, Server::Besieged],
        &[Server::Silent, Server::Kiss, Server::Honest],
    ] {
        let ahead_ms = run(servers, "the clock was set by")?;
        ensure!(ahead_ms.abs() < TOLERANCE_MS, "the clock is ahead by {ahead_ms} ms");
    }
    Ok(())
}

/// The clock stays as it is, and the log says why.
fn lies() -> Result<()> {
    project::build("guest-tests", &["clock_watch"], Profile::Release)?;
    for (servers, expected) in [
        (&[Server::Ahead(48 * HOUR_MS)][..], "that is not believed"),
        (&[Server::Ahead(2 * HOUR_MS), Server::Honest], "time servers contradict each other"),
        (&[Server::Kiss], "does not want to be asked: DENY"),
        (&[Server::Unsynchronized], "is not synchronized"),
        (&[Server::Dispersed], "too far from its reference clock"),
        (&[Server::Forger], "answers no question of ours"),
        (&[Server::Short], "too short"),
    ] {
        let ahead_ms = run(servers, expected)?;
        ensure!((ahead_ms + HOUR_MS).abs() < TOLERANCE_MS, "the clock is ahead by {ahead_ms} ms");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calendar_is_that_of_date() {
        assert_eq!(calendar(0), "1970-01-01T00:00:00");
        assert_eq!(calendar(951_782_399), "2000-02-28T23:59:59");
        assert_eq!(calendar(1_709_208_000), "2024-02-29T12:00:00");
        assert_eq!(calendar(1_796_083_200), "2026-12-01T00:00:00");
    }
}
