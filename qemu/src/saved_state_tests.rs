//! Machines that go on from one saved state: each has random numbers and secrets of its own, and the right time.

use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};

use crate::guest_tests::free_port;
use crate::machine::{Kind, Machine, Net};
use crate::project::{self, Profile};
use crate::qmp;
use crate::vm::{Console, Vm};

const TIME_OUT: Duration = Duration::from_secs(30);
/// How old the state is when it is used.
const AGE: Duration = Duration::from_secs(4);
const GUEST_MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
const OUR_MAC: [u8; 6] = [0x52, 0x54, 0, 0, 0, 1];
const GUEST_IP: [u8; 4] = [10, 0, 2, 15];
const OUR_IP: [u8; 4] = [10, 0, 2, 99];
/// Where the guest listens.
const PORT: u16 = 8080;
/// Connections that are begun, each from a port of its own.
const CONNECTIONS: u16 = 8;
/// What the clock adds to sequence numbers each second (RFC 6528), times what the machines' clocks may be apart.
const CLOCK_DIFFERENCE: u32 = 16_000_000 * 12;

/// What a machine shows after it goes on.
struct Resumed {
    /// Random numbers.
    numbers: Vec<String>,
    /// What SYNs are answered with, in the order of their ports.
    sequence: Vec<u32>,
}

/// Two machines go on from one state.
pub(crate) fn twice() -> Result<()> {
    project::build("guest-tests", &["random_clock"], Profile::Release)?;
    let state = project::work_dir("boot")?.join("state");
    save(&state)?;
    thread::sleep(AGE);
    let (one, other) = (resume(&state)?, resume(&state)?);
    let is_there_twice = one.numbers.iter().any(|number| other.numbers.contains(number));
    ensure!(!is_there_twice, "the same numbers: {:?} and {:?}", one.numbers, other.numbers);
    // With the same secret, numbers of the same connection differ by what the clocks do.
    let apart = |(one, other): (&u32, &u32)| one.wrapping_sub(*other).min(other.wrapping_sub(*one));
    let mut distances = one.sequence.iter().zip(&other.sequence).map(apart);
    let is_secret = distances.any(|distance| distance > CLOCK_DIFFERENCE);
    ensure!(is_secret, "sequence numbers can be told: {:?} and {:?}", one.sequence, other.sequence);
    Ok(std::fs::remove_file(&state)?)
}

/// The app is told each time the machine goes on, with a number that grows.
pub(crate) fn generations() -> Result<()> {
    project::build("guest-tests", &["random_clock"], Profile::Release)?;
    let folder = project::work_dir("boot")?;
    let states = ["first", "second"].map(|name| folder.join(format!("state-{name}")));
    save(&states[0])?;
    let (mut machine, _end, _wire) = machine("auto")?;
    go_on_from(&mut machine, &states[0]);
    let control = control_path("again");
    machine.extra.extend(qmp::arguments(&control));
    let guest = Vm::start(&machine, Console::Recorded)?;
    guest.wait_until(TIME_OUT, || guest.console().contains("generation 1"))?;
    write_state(&guest, &control, &states[1])?;
    drop(guest);
    let (mut machine, _end, _wire) = self::machine("auto")?;
    go_on_from(&mut machine, &states[1]);
    let guest = Vm::start(&machine, Console::Recorded)?;
    guest.wait_until(TIME_OUT, || guest.console().contains("generation 2"))?;
    ensure!(!guest.console().contains("panicked"), "{}", guest.console());
    for state in states {
        std::fs::remove_file(state)?;
    }
    Ok(())
}

fn control_path(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("qmp-{name}-{}", std::process::id()))
}

fn go_on_from(machine: &mut Machine, state: &Path) {
    machine.extra.extend(["-incoming".to_owned(), format!("exec:cat {}", state.display())]);
}

/// The machine, with a wire whose other end is answered.
fn machine(generation: &str) -> Result<(Machine, UdpSocket, SocketAddr)> {
    let wire = (free_port()?, free_port()?);
    let end = UdpSocket::bind(("127.0.0.1", wire.1)).context("cannot bind the wire's end")?;
    end.set_read_timeout(Some(Duration::from_millis(200)))?;
    let mut machine = Machine::new(Kind::Q35, &project::image("random_clock"));
    machine.net = Net::Frames { wire };
    machine.append = "ip=10.0.2.15/24".into();
    machine.extra = ["-device".to_owned(), format!("vmgenid,guid={generation}")].into();
    Ok((machine, end, SocketAddr::from(([127, 0, 0, 1], wire.0))))
}

/// Boots, and writes the state of the machine into a file when it runs.
fn save(state: &Path) -> Result<()> {
    let control = control_path("saved");
    let (mut machine, _end, _guest) = machine("324e6eaf-d1d1-4bf6-bf41-b9bb6c91fb87")?;
    machine.extra.extend(qmp::arguments(&control));
    let guest = Vm::start(&machine, Console::Recorded)?;
    guest.wait_until(TIME_OUT, || printed(&guest).len() > 2 && guest.console().contains("generation 0"))?;
    write_state(&guest, &control, state)
}

/// Writes a machine's state into a file; it does not run any more then.
fn write_state(guest: &Vm, control: &Path, state: &Path) -> Result<()> {
    let save =
        format!(r#"{{"execute": "migrate", "arguments": {{"uri": "exec:cat > {}"}}}}"#, state.display());
    qmp::execute(control, &[&save])?;
    guest.wait_until(TIME_OUT, || {
        let answer = qmp::execute(control, &[r#"{"execute": "query-migrate"}"#]);
        answer.is_ok_and(|answer| answer.contains("completed"))
    })?;
    Ok(())
}

fn resume(state: &Path) -> Result<Resumed> {
    let (mut machine, end, wire) = machine("auto")?;
    go_on_from(&mut machine, state);
    let guest = Vm::start(&machine, Console::Recorded)?;
    guest.wait_until(TIME_OUT, || printed(&guest).len() > 6)?;
    ensure!(!guest.console().contains("PANIC"), "{}", guest.console());
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let late = now.saturating_sub(printed(&guest).last().map_or(0, |(_, time)| *time));
    ensure!(late < 3, "its time is {late} s late: {}", guest.console());
    let mut sequence = Vec::new();
    for port in 5000..5000 + CONNECTIONS {
        let mut ask = || answer_to_syn(&end, wire, port).map(|number| sequence.push(number));
        guest.wait_until(TIME_OUT, || ask().is_some())?;
    }
    let numbers = printed(&guest).into_iter().map(|(number, _)| number).collect();
    Ok(Resumed { numbers, sequence })
}

/// What the random clock has printed: numbers and times.
pub(crate) fn printed(guest: &Vm) -> Vec<(String, u64)> {
    let console = guest.console();
    let words = |line: &str| -> Option<(String, u64)> {
        let (number, time) = line.trim().strip_prefix("random ")?.split_once(" at ")?;
        Some((number.to_owned(), time.parse().ok()?))
    };
    console.lines().filter_map(words).collect()
}

/// Sends a SYN over the wire; the number that comes back, if one does in time.
fn answer_to_syn(end: &UdpSocket, wire: SocketAddr, port: u16) -> Option<u32> {
    const SYN_ACK: u8 = 0x12;
    end.send_to(&syn(port), wire).ok()?;
    let mut frame = [0; 2048];
    // Other frames come between, but not for long.
    for _ in 0..32 {
        let len = end.recv(&mut frame).ok()?;
        let is_ours = len >= 54 && frame[12..14] == [8, 0] && frame[23] == 6 && frame[47] == SYN_ACK;
        if is_ours && frame[36..38] == port.to_be_bytes() {
            return Some(u32::from_be_bytes(frame[38..42].try_into().ok()?));
        }
    }
    None
}

/// A frame that begins a connection.
fn syn(port: u16) -> Vec<u8> {
    let mut ip = [0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    ip[12..16].copy_from_slice(&OUR_IP);
    ip[16..20].copy_from_slice(&GUEST_IP);
    let sum = checksum(&ip);
    ip[10..12].copy_from_slice(&sum);
    let mut tcp = [0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0x50, 2, 0x20, 0, 0, 0, 0, 0];
    tcp[..2].copy_from_slice(&port.to_be_bytes());
    tcp[2..4].copy_from_slice(&PORT.to_be_bytes());
    let sum = checksum(&[&OUR_IP[..], &GUEST_IP, &[0, 6, 0, 20], &tcp].concat());
    tcp[16..18].copy_from_slice(&sum);
    [&GUEST_MAC[..], &OUR_MAC, &[8, 0], &ip, &tcp].concat()
}

/// RFC 1071, of an even number of bytes.
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let words = bytes.chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    (!(folded as u16 + (folded >> 16) as u16)).to_be_bytes()
}
