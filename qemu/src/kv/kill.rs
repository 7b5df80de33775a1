//! QEMU is killed at random moments while clients write; what they were told is done must be there after the
//! next boot, and the disk must be one that `e2fsck` finds good.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::client::{Client, Reply};
use super::{Booted, Bus, new_disk};
use crate::disk::{self, Disk};
use crate::machine::Kind;
use crate::random::Random;

/// Kills in `make test`; `KILLS` in the environment asks for more, `SEED` for other moments.
const KILLS: u64 = 3;
const CLIENTS: u64 = 4;
/// The log is made anew again and again: that is killed, too.
const ARGUMENTS: &str = "--appendfsync always --auto-aof-rewrite-min-size 100kb";
/// From the first write to the kill, at most, in milliseconds.
const LONGEST_LIFE: u64 = 1500;
/// Keys asked for at a time.
const BATCH: usize = 100;

/// What one client knows.
#[derive(Default)]
struct Memory {
    /// Keys whose write was acknowledged.
    acknowledged: Vec<u64>,
    /// The first number that was not tried.
    next: u64,
    /// The last acknowledged value of the client's counter, and whether one more was asked for.
    counter: i64,
    is_counting: bool,
}

pub(super) fn run(kind: Kind, bus: Bus) -> Result<()> {
    let number = |name: &str, default| -> Result<u64> {
        std::env::var(name).map_or(Ok(default), |text| text.parse().with_context(|| format!("{name}={text}")))
    };
    let (kills, seed) = (number("KILLS", KILLS)?, number("SEED", 1)?);
    let mut random = Random::new(seed);
    let disk = new_disk(&format!("kv-killed-{kind}-{bus:?}"))?;
    let mut memories: Vec<Memory> = (0..CLIENTS).map(|_| Memory::default()).collect();
    for round in 1..=kills {
        let life = Duration::from_millis(random.below(LONGEST_LIFE));
        let kv = Booted::start_on(kind, bus, &disk, ARGUMENTS)?;
        let what = || format!("round {round} of {kills}, seed {seed}, {}", kv.guest.console());
        check(kv.address, &mut memories).with_context(what)?;
        write_until_killed(kv, life, &mut memories)?;
        judge(&disk).with_context(|| format!("after kill {round}, seed {seed}"))?;
    }
    let kv = Booted::start_on(kind, bus, &disk, ARGUMENTS)?;
    let acknowledged = check(kv.address, &mut memories)?;
    drop(kv);
    println!("        {acknowledged} acknowledged writes survived {kills} kills on {kind} ({bus:?})");
    ensure!(acknowledged > 0, "nothing was written");
    Ok(std::fs::remove_file(&disk.path)?)
}

/// All clients write until the machine is gone.
fn write_until_killed(kv: Booted, life: Duration, memories: &mut [Memory]) -> Result<()> {
    let (start, address) = (Barrier::new(memories.len() + 1), kv.address);
    thread::scope(|scope| {
        let start = &start;
        let clients: Vec<_> = memories
            .iter_mut()
            .enumerate()
            .map(|(id, memory)| scope.spawn(move || write(address, id, memory, start)))
            .collect();
        start.wait();
        thread::sleep(life);
        // Its process is killed with SIGKILL.
        drop(kv);
        clients.into_iter().try_for_each(|client| client.join().expect("a client does not panic"))
    })
}

fn key(id: usize, number: u64) -> String {
    format!("client{id}:{number}")
}

/// From a few bytes to some blocks, told by the key.
fn value(id: usize, number: u64) -> String {
    let len =
        Random::new(number * CLIENTS + id as u64).below(if number.is_multiple_of(20) { 9000 } else { 300 });
    format!("{id} {number} {}", "v".repeat(len as usize))
}

/// Writes until the connection ends. Errors are the server's, which must not answer any.
fn write(address: SocketAddr, id: usize, memory: &mut Memory, start: &Barrier) -> Result<()> {
    let connected = Client::connect(address);
    start.wait();
    let mut client = connected?;
    loop {
        let number = memory.next;
        memory.next += 1;
        match client.ask(&["SET", &key(id, number), &value(id, number)]) {
            Ok(Reply::Simple(_)) => memory.acknowledged.push(number),
            Ok(other) => bail!("SET is answered by {other:?}"),
            Err(_) => return Ok(()),
        }
        if number.is_multiple_of(5) {
            memory.is_counting = true;
            match client.ask(&["INCR", &format!("counter{id}")]) {
                Ok(Reply::Integer(counter)) => {
                    ensure!(
                        counter == memory.counter + 1,
                        "the counter is {counter} after {}",
                        memory.counter
                    );
                    (memory.counter, memory.is_counting) = (counter, false);
                }
                Ok(other) => bail!("INCR is answered by {other:?}"),
                Err(_) => return Ok(()),
            }
        }
    }
}

/// Compares the keys with what the clients know; answers how many were acknowledged.
fn check(address: SocketAddr, memories: &mut [Memory]) -> Result<usize> {
    let mut client = Client::connect(address)?;
    for (id, memory) in memories.iter_mut().enumerate() {
        check_keys(&mut client, id, memory)?;
        check_counter(&mut client, id, memory)?;
    }
    Ok(memories.iter().map(|memory| memory.acknowledged.len()).sum())
}

/// Every acknowledged key is there; one that was tried is there whole or not at all.
fn check_keys(client: &mut Client, id: usize, memory: &Memory) -> Result<()> {
    let mut found = BTreeMap::new();
    let numbers: Vec<u64> = (0..memory.next).collect();
    for batch in numbers.chunks(BATCH) {
        let words: Vec<String> =
            ["MGET".to_owned()].into_iter().chain(batch.iter().map(|&number| key(id, number))).collect();
        let Reply::Array(values) = client.ask(&words)? else { bail!("MGET is refused") };
        found.extend(batch.iter().copied().zip(values));
    }
    for number in &memory.acknowledged {
        let is_there = matches!(found.get(number), Some(Reply::Bulk(Some(_))));
        ensure!(is_there, "LOST: {}, which was acknowledged", key(id, *number));
    }
    for (number, reply) in found {
        let Reply::Bulk(Some(bytes)) = reply else { continue };
        ensure!(bytes == value(id, number).as_bytes(), "TORN: {}", key(id, number));
    }
    Ok(())
}

fn check_counter(client: &mut Client, id: usize, memory: &mut Memory) -> Result<()> {
    let counter = match client.ask(&["GET", &format!("counter{id}")])? {
        Reply::Bulk(Some(text)) => String::from_utf8_lossy(&text).parse()?,
        _ => 0,
    };
    let most = memory.counter + i64::from(memory.is_counting);
    ensure!(
        (memory.counter..=most).contains(&counter),
        "counter{id} is {counter}, not {} to {most}",
        memory.counter
    );
    (memory.counter, memory.is_counting) = (counter, false);
    Ok(())
}

/// The journal is replayed by e2fsprogs, on a copy; then nothing may be wrong.
fn judge(disk: &Disk) -> Result<()> {
    let copy: &Path = &disk.path.with_extension("copy");
    std::fs::copy(&disk.path, copy)?;
    disk::replay(copy)?;
    disk::check(copy)?;
    Ok(std::fs::remove_file(copy)?)
}
