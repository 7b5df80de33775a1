//! Many connections that say nothing: what they take, and whether those that are busy notice. The host's own rate varies by
//! more than what is looked for, from one half minute to the next: so there are several rounds, in each of which all numbers
//! of idle connections take turns, and they are compared within a round.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use super::measure::{Guest, System, median};
use crate::http::{self, Client};
use crate::machine::Kind;
use crate::namespace::guest_address;

/// Idle connections that are held, in turn.
const IDLE: [usize; 3] = [0, 1_000, 10_000];
/// Connections that are busy meanwhile.
const BUSY: u32 = 256;
/// All that the guest has, in MiB: the mark.
const MEMORY_MIB: u64 = 64;
const ROUNDS: usize = 5;
/// The stack takes an idle connection's buffers back after two seconds.
const SETTLE: Duration = Duration::from_secs(3);

/// What was found with so many idle connections.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Crowd {
    pub(crate) idle: usize,
    /// Memory in use before anybody is busy, of the guest's 64 MiB.
    pub(crate) used_mib: f64,
    /// Of 256 busy connections.
    pub(crate) requests_per_second: f64,
    /// That against the mean of the round.
    pub(crate) share: f64,
    pub(crate) errors: u64,
}

/// Holds more and more keep-alive connections to a guest of 64 MiB and loads it.
pub(super) fn measure(seconds: u64) -> Result<Vec<Crowd>> {
    let guest = Guest::boot(System::Unikernel, "http", Kind::Q35, MEMORY_MIB)?;
    let rounds: Vec<Vec<Crowd>> = (0..ROUNDS).map(|_| round(&guest, seconds)).collect::<Result<_>>()?;
    Ok((0..IDLE.len()).map(|place| median_of(&rounds, place)).collect())
}

/// Each number of idle connections once, the least first.
fn round(guest: &Guest, seconds: u64) -> Result<Vec<Crowd>> {
    let mut held = Vec::new();
    let with = |&idle: &usize| {
        hold(&mut held, idle)?;
        thread::sleep(SETTLE);
        let metric = |name| http::metric(guest_address(), name);
        let used = metric("unikernel_memory_total_bytes")? - http::free_memory(guest_address())?;
        let load = guest.load(BUSY, seconds)?;
        Ok(Crowd {
            idle,
            used_mib: used as f64 / f64::from(1 << 20),
            requests_per_second: load.requests_per_second,
            share: 1.0,
            errors: load.errors.total(),
        })
    };
    let mut round: Vec<Crowd> = IDLE.iter().map(with).collect::<Result<_>>()?;
    let mean = round.iter().map(|crowd| crowd.requests_per_second).sum::<f64>() / round.len() as f64;
    round.iter_mut().for_each(|crowd| crowd.share = crowd.requests_per_second / mean);
    Ok(round)
}

/// The medians of all rounds; memory as the first found it, for what was used once is kept; the sum of errors.
fn median_of(rounds: &[Vec<Crowd>], place: usize) -> Crowd {
    let each = || rounds.iter().map(|round| &round[place]);
    let of = |figure: fn(&Crowd) -> f64| median(each().map(figure).collect()).unwrap_or(0.0);
    Crowd {
        requests_per_second: of(|crowd| crowd.requests_per_second),
        share: of(|crowd| crowd.share),
        errors: each().map(|crowd| crowd.errors).sum(),
        ..rounds[0][place].clone()
    }
}

/// Adds connections that have had one answer until there are `count`.
pub(super) fn hold(held: &mut Vec<Client>, count: usize) -> Result<()> {
    while held.len() < count {
        let greeted = || -> Result<Client> {
            let mut client = Client::connect(guest_address())?;
            client.get("/")?;
            Ok(client)
        };
        held.push(greeted().with_context(|| format!("connection {}", held.len()))?);
    }
    Ok(())
}

/// The least throughput against the most, in a round.
pub(super) fn steadiness(crowds: &[Crowd]) -> Option<f64> {
    let shares = || crowds.iter().map(|crowd| crowd.share);
    let (least, most) = (shares().reduce(f64::min)?, shares().reduce(f64::max)?);
    Some(least / most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_give_the_median_rate_and_all_errors() {
        let crowd = |requests_per_second, used_mib| Crowd {
            idle: 0,
            used_mib,
            requests_per_second,
            share: 1.0,
            errors: 1,
        };
        let median = median_of(&[vec![crowd(80.0, 1.0)], vec![crowd(100.0, 9.0)], vec![crowd(90.0, 9.0)]], 0);
        assert_eq!((median.requests_per_second, median.used_mib, median.errors), (90.0, 1.0, 3));
    }

    #[test]
    fn steadiness_is_the_worst_against_the_best() {
        let crowd = |share| Crowd { idle: 0, used_mib: 1.0, requests_per_second: 1.0, share, errors: 0 };
        assert_eq!(steadiness(&[crowd(1.0), crowd(1.25), crowd(1.1)]), Some(0.8));
        assert_eq!(steadiness(&[]), None);
    }
}
