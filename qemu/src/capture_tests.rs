//! `--pcap`: what a guest records of its own frames, read by a parser that others wrote, and by tshark where it is
//! installed.

use std::io::Read;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, bail, ensure};
use pcap_parser::traits::PcapReaderIterator;
use pcap_parser::{Block, PcapBlockOwned, PcapError, PcapNGReader};

use crate::guest_tests::{NamedTest, free_port};
use crate::http;
use crate::http_tests::Server;
use crate::machine::{Kind, Machine, Net};
use crate::project;

const REQUESTS: usize = 50;
/// What is kept of a frame in the test of that.
const SNAP_LEN: usize = 60;
/// Options and directions of a packet (draft-ietf-opsawg-pcapng, section 4.3.1).
const OF_FLAGS: u16 = 2;
const OF_DROPS: u16 = 4;
const INBOUND: u32 = 1;
/// The guest writes a batch when it has handled it.
const LAST_BATCH: Duration = Duration::from_millis(200);
/// How far the guest's clock may be from ours.
const CLOCK_DIFFERENCE: Duration = Duration::from_secs(5);

/// All of them.
pub(crate) fn all() -> Vec<NamedTest> {
    let whole = |kind: Kind| (format!("http_capture [{kind}]"), Box::new(move || whole_frames(kind)) as _);
    let mut tests: Vec<NamedTest> = [Kind::Q35, Kind::Microvm].map(whole).into();
    tests.push(("http_capture_cut".into(), Box::new(cut_frames)));
    tests.push(("http_capture_slow_host".into(), Box::new(slow_host)));
    tests.push(("http_capture_asked_for".into(), Box::new(asked_for)));
    tests
}

/// A frame of a capture.
struct Frame {
    time_ns: u64,
    is_inbound: bool,
    bytes: Vec<u8>,
    full_len: usize,
    lost: u64,
}

/// Serves some requests; answers what was recorded.
fn record(kind: Kind, words: &str) -> Result<(PathBuf, Vec<Frame>)> {
    let file = project::work_dir("captures")?.join(format!("http-{kind}-{}.pcapng", words.len()));
    let port = free_port()?;
    let mut machine = Machine::new(kind, &project::built("http")?);
    machine.net = Net::User(port, 8080);
    machine.capture_to(&file);
    machine.append = format!("{} {words}", machine.append);
    let server = Server::start(machine, "http", 64, port)?;
    for _ in 0..REQUESTS {
        server.check_alive()?;
    }
    let counted = server.metric("unikernel_pcap_frames_total")?;
    thread::sleep(LAST_BATCH);
    let bytes = std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let frames = parse(&bytes).with_context(|| format!("in {}", file.display()))?;
    ensure!(frames.len() as u64 >= counted, "{} frames in the file, {counted} counted", frames.len());
    Ok((file, frames))
}

/// Both directions, whole, in order, on a clock that is right.
fn whole_frames(kind: Kind) -> Result<()> {
    let (file, frames) = record(kind, "")?;
    let count = |is_inbound, text: &str| {
        let is_meant = |frame: &&Frame| frame.is_inbound == is_inbound && contains(&frame.bytes, text);
        frames.iter().filter(is_meant).count()
    };
    ensure!(count(true, "GET / HTTP/1.1") >= REQUESTS, "requests are missing");
    ensure!(count(false, "Hello, World!") >= REQUESTS, "responses are missing");
    ensure!(
        frames.iter().all(|frame| frame.lost == 0 && frame.bytes.len() == frame.full_len),
        "some are cut"
    );
    ensure!(frames.is_sorted_by_key(|frame| frame.time_ns), "time runs backwards");
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let last = Duration::from_nanos(frames.last().context("nothing was recorded")?.time_ns);
    ensure!(now.abs_diff(last) < CLOCK_DIFFERENCE, "the last frame was at {last:?}, it is {now:?}");
    tshark(&file)
}

/// Frames are cut to the length asked for, and tell how long they were.
fn cut_frames() -> Result<()> {
    let (file, frames) = record(Kind::Microvm, &format!("pcap={SNAP_LEN}"))?;
    ensure!(frames.iter().all(|frame| frame.bytes.len() == frame.full_len.min(SNAP_LEN)), "not cut");
    ensure!(frames.iter().any(|frame| frame.full_len > SNAP_LEN), "none was longer");
    tshark(&file)
}

/// A host that does not read: the guest serves on, counts what it loses, and tells of it when the host reads again.
fn slow_host() -> Result<()> {
    /// Each answers ten kilobytes; socket and guest together keep about a megabyte.
    const LARGE_REQUESTS: usize = 300;
    let path = project::work_dir("captures")?.join(format!("slow-{}", std::process::id()));
    let listener = UnixListener::bind(&path).with_context(|| format!("cannot bind {}", path.display()))?;
    let port = free_port()?;
    let mut machine = Machine::new(Kind::Q35, &project::built("http")?);
    machine.net = Net::User(port, 8080);
    machine.capture_into(&format!("socket,path={}", path.display()));
    let server = Server::start(machine, "http", 64, port)?;
    let (mut reader, _) = listener.accept().context("QEMU did not connect")?;
    std::fs::remove_file(&path)?;
    (0..LARGE_REQUESTS).try_for_each(|_| server.get("/metrics").map(drop))?;
    let lost = server.metric("unikernel_pcap_lost_total")?;
    ensure!(lost > 0, "nothing was lost");
    let collector = thread::spawn(move || {
        let mut file = Vec::new();
        reader.read_to_end(&mut file).map(|_| file)
    });
    (0..REQUESTS).try_for_each(|_| server.check_alive())?;
    thread::sleep(LAST_BATCH);
    drop(server);
    let file = collector.join().expect("reading does not panic").context("cannot read the capture")?;
    let told: u64 = parse(&file)?.iter().map(|frame| frame.lost).sum();
    ensure!(told >= lost, "{lost} frames were lost, {told} told in the file");
    Ok(())
}

/// `pcap` of a guest that runs: the frames of its server, while events are recorded as well, and none of the channel's.
fn asked_for() -> Result<()> {
    let file = project::work_dir("captures")?.join(format!("asked-for-{}.pcapng", std::process::id()));
    let (port, at) = (free_port()?, free_port()?);
    let mut machine = Machine::new(Kind::Q35, &project::built("http")?);
    machine.net = Net::User(port, 8080);
    machine.observe_at(at)?;
    let server = Server::start(machine, "http", 64, port)?;
    let address = format!("127.0.0.1:{at}");
    let me = std::env::current_exe()?;
    let mut pcap = Command::new(&me);
    pcap.args(["pcap", "--seconds", "2", "--filter", "tcp and not port 1", "--at", &address, "-o"])
        .arg(&file);
    let mut trace = Command::new(&me);
    trace.args(["trace", "--text", "--seconds", "1", "--at", &address]);
    let (written, traced) = thread::scope(|scope| -> Result<_> {
        let both = [pcap, trace].map(|mut command| scope.spawn(move || command.output()));
        while both.iter().any(|one| !one.is_finished()) {
            server.check_alive()?;
            thread::sleep(Duration::from_millis(5));
        }
        let [written, traced] = both.map(|one| one.join().expect("it does not panic"));
        Ok((written?, traced?))
    })?;
    ensure!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
    ensure!(String::from_utf8_lossy(&traced.stdout).contains("frame in"), "{traced:?}");
    let bytes = std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let frames = parse(&bytes)?;
    let count = |is_inbound, text: &str| {
        let is_meant = |frame: &&Frame| frame.is_inbound == is_inbound && contains(&frame.bytes, text);
        frames.iter().filter(is_meant).count()
    };
    ensure!(count(true, "GET / HTTP/1.1") >= REQUESTS, "requests are missing");
    ensure!(count(false, "Hello, World!") >= REQUESTS, "responses are missing");
    ensure!(count(true, "GET /trace") == 0 && count(false, "uktrace") == 0, "the channel's own are there");
    ensure!(frames.iter().all(|frame| frame.lost == 0), "some are lost");
    let refused = http::get(address.parse()?, "/pcap?filter=tcp+or+udp")?;
    ensure!(refused.status == 400 && refused.body.contains("host ADDRESS"), "{refused:?}");
    tshark(&file)
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// The frames of a capture, of which the guest may have been writing the last.
fn parse(file: &[u8]) -> Result<Vec<Frame>> {
    let mut reader = PcapNGReader::new(1 << 20, file).map_err(|error| anyhow!("{error:?}"))?;
    let (mut frames, mut names) = (Vec::new(), Vec::new());
    loop {
        match reader.next() {
            Ok((len, PcapBlockOwned::NG(block))) => {
                match &block {
                    Block::InterfaceDescription(card) => {
                        names.push(card.options.iter().any(|option| option.value.starts_with(b"eth0")));
                        ensure!(card.ts_resolution() == Some(1_000_000_000), "times are not in nanoseconds");
                    }
                    Block::EnhancedPacket(packet) => frames.push(frame(packet)?),
                    _ => {}
                }
                reader.consume(len);
            }
            Ok(_) => bail!("a block of the older format"),
            Err(PcapError::Eof | PcapError::UnexpectedEof) => break,
            Err(PcapError::Incomplete(_)) => reader.refill().map_err(|error| anyhow!("{error:?}"))?,
            Err(error) => bail!("{error:?}"),
        }
    }
    ensure!(names == [true], "the card is not called eth0");
    Ok(frames)
}

fn frame(packet: &pcap_parser::EnhancedPacketBlock<'_>) -> Result<Frame> {
    let option =
        |code| packet.options.iter().find(|option| option.code.0 == code).map(|option| &*option.value);
    let flags = u32::from_le_bytes(option(OF_FLAGS).context("no direction")?.try_into()?);
    let lost = option(OF_DROPS).map_or(Ok([0; 8]), <[u8; 8]>::try_from)?;
    Ok(Frame {
        time_ns: u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low),
        is_inbound: flags & 3 == INBOUND,
        bytes: packet.data[..packet.caplen as usize].to_vec(),
        full_len: packet.origlen as usize,
        lost: u64::from_le_bytes(lost),
    })
}

/// Has tshark decode a capture, if it is installed: nothing may be malformed, and it must see HTTP. A frame that was
/// cut is not malformed.
fn tshark(file: &Path) -> Result<()> {
    let run = |filter: &str| {
        let mut command = Command::new("tshark");
        command.arg("-r").arg(file).args(["-Y", filter, "-T", "fields", "-e", "frame.number"]);
        command.output()
    };
    let Ok(malformed) = run("_ws.malformed or _ws.expert.severity == error") else {
        println!("left out: tshark is not installed");
        return Ok(());
    };
    let errors = String::from_utf8_lossy(&malformed.stderr);
    ensure!(malformed.status.success() && !errors.contains("cut short"), "tshark: {errors}");
    ensure!(malformed.stdout.is_empty(), "malformed: {}", String::from_utf8_lossy(&malformed.stdout));
    let tcp = run("tcp.port == 8080").context("tshark ran a moment ago")?;
    ensure!(
        tcp.stdout.iter().filter(|&&byte| byte == b'\n').count() >= REQUESTS,
        "tshark sees no connections"
    );
    Ok(())
}
