//! `kv` and the real Redis, both as Linux programs, are asked the same at random; what they answer must be the
//! same, errors word for word.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::client::{Client, Reply};
use crate::guest_tests::free_port;
use crate::process::{Console, Process};
use crate::project;
use crate::random::Random;

const STEPS: usize = 4000;
const START_TIME_OUT: Duration = Duration::from_secs(20);

/// A server that runs on this host.
struct Server {
    _process: Process,
    address: SocketAddr,
}

impl Server {
    fn start(program: &Path, arguments: &[&str], folder: &Path) -> Result<Self> {
        let port = free_port()?;
        let mut command = Command::new(program);
        command.args(["--port", &port.to_string(), "--dir"]).arg(folder).args(arguments);
        let process = Process::start(command, Console::Recorded)
            .with_context(|| format!("cannot run {}: `make setup` installs it", program.display()))?;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let started = Instant::now();
        while Client::connect(address).is_err() {
            ensure!(started.elapsed() < START_TIME_OUT, "{}: {}", program.display(), process.output());
            thread::sleep(Duration::from_millis(10));
        }
        Ok(Self { _process: process, address })
    }
}

pub(super) fn run() -> Result<()> {
    let folder = project::work_dir("kv-compare")?;
    std::fs::remove_dir_all(&folder)?;
    std::fs::create_dir_all(&folder)?;
    let kv = Server::start(&project::built("kv")?, &["--appendfsync", "no"], &folder)?;
    // Debian's `redis-tools` has the server, under a name by which it would be another tool; the package that has
    // it by its own name would start it as a service.
    let program = folder.join("redis-server");
    std::os::unix::fs::symlink(super::REDIS, &program)?;
    let redis = Server::start(&program, &["--save", "", "--bind", "127.0.0.1"], &folder)?;
    requests(&kv, &redis)?;
    bytes(&kv, &redis)?;
    log_is_understood(&kv, &redis, &folder)
}

fn requests(kv: &Server, redis: &Server) -> Result<()> {
    let mut random = Random::new(1);
    let (mut ours, mut theirs) = (Client::connect(kv.address)?, Client::connect(redis.address)?);
    for step in 0..STEPS {
        let words = request(&mut random);
        // Of two deadlines that are as far away, the later one is later by a millisecond, on both servers.
        if words.iter().any(|word| ["gt", "lt"].contains(&word.to_ascii_lowercase().as_str())) {
            thread::sleep(DEADLINE_STEP);
        }
        let (our, their) = (ours.ask(&words)?, theirs.ask(&words)?);
        let name = words[0].to_ascii_lowercase();
        ensure!(
            are_same(&name, &our, &their),
            "step {step}, {}: {our:?}, but Redis {their:?}",
            words.join(" ")
        );
    }
    Ok(())
}

/// Orders that are free, and times, may differ.
fn are_same(name: &str, ours: &Reply, theirs: &Reply) -> bool {
    match (ours, theirs) {
        (Reply::Integer(ours), Reply::Integer(theirs)) if name.ends_with("ttl") => {
            *ours == *theirs || ours.abs_diff(*theirs) < 1000 && *ours > 0 && *theirs > 0
        }
        (Reply::Array(ours), Reply::Array(theirs)) if matches!(name, "keys" | "scan") => {
            sorted(ours) == sorted(theirs)
        }
        _ => ours == theirs,
    }
}

fn sorted(replies: &[Reply]) -> Vec<String> {
    let mut shown: Vec<String> = replies
        .iter()
        .map(|reply| match reply {
            Reply::Array(inner) => format!("{:?}", sorted(inner)),
            other => format!("{other:?}"),
        })
        .collect();
    shown.sort();
    shown
}

/// More than the unit in which servers keep deadlines.
const DEADLINE_STEP: Duration = Duration::from_millis(2);

/// Requests, with letters in place of what is drawn: a key, a value, a number, a word, a pattern.
const FORMS: [&str; 52] = [
    "SET K V",
    "SET K N",
    "SET K V NX",
    "SET K V XX",
    "SET K V EX 1000",
    "SET K V PX 2000000 GET",
    "SET K V KEEPTTL",
    "SET K V NX GET",
    "SET K V XX GET KEEPTTL",
    "SET K V EX N",
    "SET K V W W",
    "SET K V EXAT 99999999999",
    "GET K",
    "GETSET K V",
    "GETDEL K",
    "GETEX K",
    "GETEX K EX 5000",
    "GETEX K PERSIST",
    "GETEX K W N",
    "DEL K K",
    "UNLINK K",
    "EXISTS K K K",
    "TOUCH K K",
    "INCR K",
    "DECR K",
    "INCRBY K N",
    "DECRBY K N",
    "APPEND K V",
    "STRLEN K",
    "GETRANGE K N N",
    "SETNX K V",
    "SETEX K N V",
    "PSETEX K 1000000 V",
    "MGET K K K",
    "MSET K V K V",
    "MSET K V K",
    "MSETNX K V K V",
    "EXPIRE K 5000",
    "EXPIRE K N",
    "EXPIRE K 5000 W",
    "PEXPIRE K 7000000 W W",
    "PEXPIREAT K 99999999999999",
    "EXPIREAT K N",
    "TTL K",
    "PTTL K",
    "PERSIST K",
    "TYPE K",
    "KEYS P",
    "SCAN 0 COUNT 1000 MATCH P",
    "SCAN 0 W N COUNT 1000",
    "ECHO V",
    "DBSIZE",
];
const VALUES: [&str; 12] =
    ["a", "hello world", "", "12", "-3", "9223372036854775807", "007", "+1", "1.5", "\r\n", "ä", "0"];
const NUMBERS: [&str; 12] = [
    "0",
    "1",
    "-1",
    "5",
    "-7",
    "100",
    "9223372036854775807",
    "-9223372036854775808",
    "x",
    "",
    "1e3",
    "9223372036854775808",
];
const WORDS: [&str; 14] = [
    "NX", "xx", "GT", "lt", "EX", "PX", "GET", "KEEPTTL", "PERSIST", "COUNT", "MATCH", "SOON", "EXAT", "TYPE",
];
const PATTERNS: [&str; 6] = ["*", "k[12]", "k?", "*3", "[^k]*", "k\\1"];

/// A request about a few keys, sometimes with a word too many or too few, or in nonsense.
fn request(random: &mut Random) -> Vec<String> {
    let form = if random.below(60) == 0 { "NOSUCH V V" } else { *random.pick(&FORMS) };
    let mut words: Vec<String> = form
        .split(' ')
        .map(|word| match word {
            "K" => format!("k{}", random.below(5)),
            "V" => (*random.pick(&VALUES)).to_owned(),
            "N" => (*random.pick(&NUMBERS)).to_owned(),
            "W" => (*random.pick(&WORDS)).to_owned(),
            "P" => (*random.pick(&PATTERNS)).to_owned(),
            other => other.to_owned(),
        })
        .collect();
    match random.below(40) {
        0 if words.len() > 1 => drop(words.pop()),
        1 => words.push("more".to_owned()),
        _ => {}
    }
    words
}

/// What is no request, or one as a line.
fn bytes(kv: &Server, redis: &Server) -> Result<()> {
    let long = [b"GET ".as_slice(), &[b'x'; 70_000]].concat();
    let many = b"PING\r\n".repeat(1000);
    let cases: [&[u8]; 22] = [
        b"PING\r\n",
        b"ping\n",
        b"\r\nPING\r\n",
        b"SET 'a b' \"c\\x41\\n\"\r\nGET 'a b'\r\n",
        b"GET \"a\r\n",
        b"*0\r\nPING\r\n",
        b"*-1\r\nPING\r\n",
        b"*x\r\n",
        b"*1\r\n+PING\r\n",
        b"*1\r\n$-1\r\n",
        b"*1\r\n$x\r\n",
        b"*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nPING\r\n",
        b"*2\r\n$4\r\nECHO\r\n$0\r\n\r\n",
        b"*1\r\n$4\r\nQUIT\r\nPING\r\n",
        b"QUIT\r\n",
        b"PING",
        b"ECHO a b\r\n",
        b"SELECT 0\r\nSELECT 1000\r\n",
        b"SELECT x\r\n",
        b"CONFIG NOPE\r\n",
        &long,
        &many,
    ];
    for case in cases {
        let (ours, theirs) =
            (Client::connect(kv.address)?.raw(case)?, Client::connect(redis.address)?.raw(case)?);
        let show = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
        ensure!(ours == theirs, "{:?}: {:?}, but Redis {:?}", show(case), show(&ours), show(&theirs));
    }
    Ok(())
}

/// The real Redis makes the same keys of the log.
fn log_is_understood(kv: &Server, redis: &Server, folder: &Path) -> Result<()> {
    let everything = |server: &Server| -> Result<Vec<String>> {
        let mut client = Client::connect(server.address)?;
        let Reply::Array(keys) = client.ask(&["KEYS", "*"])? else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for key in keys {
            let Reply::Bulk(Some(key)) = key else { continue };
            let (value, ends) =
                (client.ask(&[b"GET".as_slice(), &key])?, client.ask(&[b"PEXPIRETIME".as_slice(), &key])?);
            found.push(format!("{key:?} {value:?} {ends:?}"));
        }
        found.sort();
        Ok(found)
    };
    let mut client = Client::connect(kv.address)?;
    for number in 0..50 {
        client.ask(&["SET", &format!("last{number}"), "x", "PX", "900000"])?;
        client.ask(&["APPEND", &format!("last{number}"), "y"])?;
    }
    Client::connect(redis.address)?.ask(&["FLUSHALL"])?;
    let log = std::fs::read(folder.join("appendonly.aof"))?;
    let mut pipe = Client::connect(redis.address)?;
    let answers = String::from_utf8_lossy(&pipe.raw(&log)?).into_owned();
    ensure!(!answers.contains('-'), "Redis refuses a part of the log: {answers}");
    let (ours, theirs) = (everything(kv)?, everything(redis)?);
    ensure!(ours == theirs && ours.len() >= 50, "{ours:?}, but Redis {theirs:?}");
    Ok(())
}
