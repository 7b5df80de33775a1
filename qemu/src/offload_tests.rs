//! The same content arrives with every combination of what a card may do for the kernel: large transfers each way, of
//! which every byte is checked ([`crate::bulk`]).

use std::collections::BTreeSet;
use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::bulk::Bulk;
use crate::machine::{Kind, Machine, Net, Nic};
use crate::namespace::{self, GUEST, Queues, TAP, guest_address};
use crate::project;
use crate::vm::{Console, Vm};

const BOOT_TIME_OUT: Duration = Duration::from_secs(30);
/// More than a window, and more than all receive buffers several times over.
const BYTES: usize = 5_000_001;
/// The addresses of IPv6, for the combinations of one switch at most.
const HOST_V6: &str = "2001:db8:2::1/64";
const GUEST_V6: &str = "2001:db8:2::15";
/// The words that switch one off each.
const WORDS: [&str; 6] =
    ["no-csum", "no-guest-csum", "no-tso", "no-guest-tso", "no-mrg-rxbuf", "no-event-idx"];

/// Every combination of the switches that comes to something else, on q35 with a modern card; on microvm with a legacy one,
/// which takes the same ways from the ring on, each switch by itself.
pub(crate) fn every_combination(kind: Kind) -> Result<()> {
    namespace::set_up(Queues::One)?;
    namespace::add_address(HOST_V6, TAP)?;
    let mut seen = BTreeSet::new();
    for set in 0..1 << WORDS.len() {
        let off: Vec<&str> =
            WORDS.iter().enumerate().filter(|(bit, _)| set >> bit & 1 == 1).map(|(_, word)| *word).collect();
        let is_mixed = !matches!(off.len(), 0 | 1) && off.len() < WORDS.len();
        if kind == Kind::Microvm && is_mixed {
            continue;
        }
        if !seen.insert(expected(&off).map(|(_, is_off)| is_off)) {
            continue;
        }
        combination(kind, &off).with_context(|| format!("with {off:?}"))?;
    }
    Ok(())
}

fn combination(kind: Kind, off: &[&str]) -> Result<()> {
    let mut machine = Machine::new(kind, &project::built("micro")?);
    machine.net = Net::Tap { name: TAP.into(), queues: 1 };
    machine.nic = if kind == Kind::Q35 { Nic::Modern } else { Nic::Usual };
    let words = if off.is_empty() { String::new() } else { format!("offload={}", off.join(",")) };
    machine.append =
        format!("ip=10.0.2.15/24 ip={GUEST_V6}/64 log=drivers:debug {words} -- bulk {}", GUEST.1);
    let guest = Vm::start(&machine, Console::Recorded)?;
    // Over IPv6 the guest first asks for a second whether the address is another's.
    let is_simple = off.len() <= 1;
    let v6 = is_simple.then_some(SocketAddr::from((GUEST_V6.parse::<Ipv6Addr>()?, GUEST.1)));
    [Some(guest_address()), v6].into_iter().flatten().try_for_each(|address| {
        guest.wait_until(BOOT_TIME_OUT, || Bulk::connect(address).is_ok())?;
        carry(address).with_context(|| format!("{address}: {}", guest.console()))
    })?;
    is_agreed(&guest.console(), off)
}

/// Large transfers each way, then in turn, of sizes that fill no segment.
fn carry(address: SocketAddr) -> Result<()> {
    let mut connection = Bulk::connect(address)?;
    connection.give(BYTES)?;
    connection.take_checked(BYTES)?;
    [1, 1461, 65_537, 100_003].into_iter().try_for_each(|count| {
        connection.give(count)?;
        connection.take_checked(count).map(|_| ())
    })
}

/// Features, and whether they are switched off: those on which others rest take them along.
fn expected(off: &[&str]) -> [(&'static str, bool); 6] {
    let is_off = |words: &[&str]| words.iter().any(|word| off.contains(word));
    [
        ("CSUM", is_off(&["no-csum"])),
        ("GUEST_CSUM", is_off(&["no-guest-csum"])),
        ("HOST_TSO4", is_off(&["no-csum", "no-tso"])),
        ("GUEST_TSO6", is_off(&["no-guest-csum", "no-mrg-rxbuf", "no-guest-tso"])),
        ("MRG_RXBUF", is_off(&["no-mrg-rxbuf"])),
        ("EVENT_IDX", is_off(&["no-event-idx"])),
    ]
}

/// What was agreed on is what was not switched off.
fn is_agreed(console: &str, off: &[&str]) -> Result<()> {
    let line =
        console.lines().find(|line| line.contains("network, Features(")).context("no line of features")?;
    let has = |feature: &str| line.split(['(', ')', '|', ' ']).any(|word| word == feature);
    for (feature, is_off) in expected(off) {
        ensure!(has(feature) != is_off, "{feature} should be {}: {line}", if is_off { "off" } else { "on" });
    }
    Ok(())
}
