//! What `kv` does when there is no more room: on the disk, or for what clients send.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use super::client::{Client, Reply};
use super::{Booted, new_disk_of};
use crate::disk;
use crate::machine::Kind;

const KEYS: usize = 10;
const VALUE_BYTES: usize = 50_000;

/// A full disk: changes are refused, reading goes on, and nothing acknowledged is lost.
pub(super) fn full_disk() -> Result<()> {
    let disk = new_disk_of("kv-full", "16M")?;
    let kv = Booted::start(Kind::Q35, &disk, "--auto-aof-rewrite-min-size 1gb")?;
    let mut client = Client::connect(kv.address)?;
    let value = |number: usize| format!("{number} {}", "f".repeat(VALUE_BYTES)).into_bytes();
    let key = |number: usize| format!("key{}", number % KEYS).into_bytes();
    let mut last = 0;
    let refused = loop {
        ensure!(last < 1000, "the disk does not fill");
        match client.ask(&[b"SET", &key(last)[..], &value(last)])? {
            Reply::Simple(_) => last += 1,
            Reply::Error(error) => break error,
            other => bail!("SET is answered by {other:?}"),
        }
    };
    ensure!(refused == "MISCONF Errors writing to the AOF file: No space left on device", "{refused}");
    let mut client = Client::connect(kv.address)?;
    for number in last - KEYS + 1..last {
        ensure!(
            client.ask(&[b"GET", &key(number)[..]])? == Reply::Bulk(Some(value(number))),
            "key of {number}"
        );
    }
    let refused = client.ask(&["SET", "other", "1"])?;
    ensure!(matches!(&refused, Reply::Error(error) if error.starts_with("MISCONF")), "{refused:?}");
    drop((client, kv));
    let kv = Booted::start(Kind::Q35, &disk, "")?;
    let mut client = Client::connect(kv.address)?;
    for number in last - KEYS + 1..last {
        ensure!(
            client.ask(&[b"GET", &key(number)[..]])? == Reply::Bulk(Some(value(number))),
            "key of {number}"
        );
    }
    ensure!(client.ask(&["EXISTS", "other"])? == Reply::Integer(0), "what was refused is there");
    kv.end()?;
    disk::check(&disk.path)?;
    Ok(std::fs::remove_file(&disk.path)?)
}

/// Clients that announce much, send without end, or do not take what they asked for: the others are served, and
/// memory does not run out.
pub(super) fn hostile_clients() -> Result<()> {
    const ATTACKERS: usize = 24;
    let disk = new_disk_of("kv-hostile", "64M")?;
    let kv = Booted::start(Kind::Q35, &disk, "--appendfsync no")?;
    let mut client = Client::connect(kv.address)?;
    client.ask(&[b"SET", b"big", &[b'b'; 500_000][..]])?;
    let attacks: [&[u8]; 5] = [
        b"*1048576\r\n$1000000\r\n",
        b"*1048576\r\n",
        b"*2\r\n$3\r\nGET\r\n$9999999999\r\n",
        b"SET a \"",
        b"",
    ];
    let mut held = Vec::new();
    for number in 0..ATTACKERS {
        let mut stream = TcpStream::connect(kv.address)?;
        stream.set_nonblocking(true)?;
        let attack = attacks[number % attacks.len()];
        let _ = stream.write(attack);
        let more: Vec<u8> = match number % attacks.len() {
            1 => b"$0\r\n\r\n".repeat(200_000),
            4 => b"*2\r\n$3\r\nGET\r\n$3\r\nbig\r\n".repeat(50_000),
            _ => vec![b'x'; 4 << 20],
        };
        held.push((stream, more, 0));
    }
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(3) {
        for (stream, more, sent) in &mut held {
            *sent += stream.write(&more[*sent..]).unwrap_or(0);
        }
        ensure!(client.ask(&["PING"])? == Reply::Simple("PONG".into()), "PING is not answered");
    }
    ensure!(client.ask(&["INCR", "counter"])? == Reply::Integer(1), "INCR is not answered");
    // The one that was refused was told why.
    let mut told = [0; 100];
    let count = held[2].0.read(&mut told)?;
    ensure!(told[..count].starts_with(b"-ERR Protocol error: invalid bulk length"), "{:?}", &told[..count]);
    drop((held, client));
    kv.end()?;
    Ok(std::fs::remove_file(&disk.path)?)
}
