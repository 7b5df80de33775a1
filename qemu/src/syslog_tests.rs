//! A log server, and what guests send it.

use std::net::UdpSocket;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::socket::{setsockopt, sockopt};

use crate::guest_tests::NamedTest;
use crate::machine::{Kind, Machine, Net};
use crate::project::{self, Profile};
use crate::qmp;
use crate::vm::{Console, Vm};

const TIME_OUT: Duration = Duration::from_secs(60);
/// More than the guest's queue holds.
const MANY: usize = 4000;

/// All of them.
pub(crate) fn all() -> Vec<NamedTest> {
    vec![
        ("syslog_messages".into(), Box::new(messages)),
        ("syslog_crash".into(), Box::new(crash)),
        ("syslog_late_network".into(), Box::new(late_network)),
    ]
}

/// A message, taken apart.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Message {
    priority: u8,
    time: String,
    host: String,
    app: String,
    process: String,
    topic: String,
    sequence: u32,
    text: String,
}

/// Reads a message strictly (RFC 5424, section 6).
fn parse(datagram: &[u8]) -> Result<Message> {
    let text = std::str::from_utf8(datagram)?;
    let whole = || format!("in {text:?}");
    let (priority, rest) =
        text.strip_prefix('<').and_then(|rest| rest.split_once(">1 ")).with_context(whole)?;
    let [time, host, app, process, topic, rest] =
        rest.splitn(6, ' ').collect::<Vec<_>>().try_into().map_err(|_| anyhow::anyhow!(whole()))?;
    let data = rest.strip_prefix("[meta sequenceId=\"").and_then(|rest| rest.split_once("\"] "));
    let (sequence, text) = data.with_context(whole)?;
    Ok(Message {
        priority: priority.parse()?,
        time: time.into(),
        host: host.into(),
        app: app.into(),
        process: process.into(),
        topic: topic.into(),
        sequence: sequence.parse()?,
        text: text.into(),
    })
}

/// What a server's socket holds: each datagram counts for a kilobyte and more.
const SOCKET_BYTES: usize = 16 << 20;

/// A server.
struct Server(UdpSocket);

impl Server {
    fn new() -> Result<Self> {
        let socket = UdpSocket::bind(("127.0.0.1", 0))?;
        // What has waited in the guest comes all at once, and a datagram that finds no room here is lost. More room than users
        // may have is for root.
        let _ = setsockopt(&socket, sockopt::RcvBufForce, &SOCKET_BYTES);
        socket.set_read_timeout(Some(Duration::from_millis(500)))?;
        Ok(Self(socket))
    }

    /// A machine that sends to it.
    fn machine(&self, arguments: &str) -> Result<Machine> {
        let mut machine = Machine::new(Kind::Q35, &project::image("log_lines"));
        machine.net = Net::Apart(2);
        let port = self.0.local_addr()?.port();
        machine.append = format!("hostname=web-1 log=trace syslog=10.0.2.2:{port} -- {arguments}");
        Ok(machine)
    }

    /// Takes messages until one of them is the last.
    fn take(&self, is_last: impl Fn(&Message) -> bool) -> Result<Vec<Message>> {
        let (started, mut messages) = (Instant::now(), Vec::new());
        while started.elapsed() < TIME_OUT {
            let mut datagram = [0; 4096];
            let Ok(len) = self.0.recv(&mut datagram) else { continue };
            let message = parse(&datagram[..len])?;
            let is_last = is_last(&message);
            messages.push(message);
            if is_last {
                let numbers = messages.iter().map(|message| message.sequence);
                ensure!(numbers.eq(1..=messages.len() as u32), "messages are missing: {messages:?}");
                return Ok(messages);
            }
        }
        bail!("no last message in {messages:?}")
    }
}

fn told(messages: &[Message], text: &str) -> Result<Message> {
    let found = messages.iter().find(|message| message.text == text);
    found.cloned().with_context(|| format!("{text:?} is not in {messages:?}"))
}

/// Lines of the kernel and of the app, with their severities and times; the last words of both.
fn messages() -> Result<()> {
    project::build("guest-tests", &["log_lines"], Profile::Release)?;
    let server = Server::new()?;
    let mut guest = Vm::start(&server.machine("few")?, Console::Recorded)?;
    let messages = server.take(|message| message.text.contains("exited with code 3"))?;
    ensure!(guest.wait(Some(TIME_OUT))?.and_then(|ending| ending.code) == Some(3), "{}", guest.console());
    let plain = told(&messages, "plain")?;
    let header = [&plain.host, &plain.app, &plain.process, &plain.topic].map(String::as_str);
    ensure!((plain.priority, header) == (30, ["web-1", "log_lines", "1", "-"]), "{plain:?}");
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let minutes = [now - 60, now].map(|at| crate::ntp_tests::calendar(at)[..16].to_owned());
    ensure!(minutes.iter().any(|minute| plain.time.starts_with(minute.as_str())), "{plain:?}");
    ensure!(plain.time.len() == 27 && plain.time.ends_with('Z'), "{plain:?}");
    ensure!(told(&messages, "an error")?.priority == 3 * 8 + 3);
    for text in ["green\ttab #007bell", "Größe", "no end"] {
        told(&messages, text)?;
    }
    let long: String = messages
        .iter()
        .filter(|message| message.text.starts_with("long"))
        .map(|message| &*message.text)
        .collect();
    ensure!(long == "long".repeat(1000), "{long}");
    let last = messages.last().context("none")?;
    ensure!((last.priority, last.app.as_str()) == (6, "kernel"), "{last:?}");
    // No line makes another.
    ensure!(messages.len() < 200, "{} messages", messages.len());
    Ok(())
}

/// What the kernel reports of a crash.
fn crash() -> Result<()> {
    project::build("guest-tests", &["log_lines"], Profile::Release)?;
    let server = Server::new()?;
    let guest = Vm::start(&server.machine("crash")?, Console::Recorded)?;
    let messages = server.take(|message| message.text.contains("exited with code 139"))?;
    told(&messages, "about to crash")?;
    let report = messages.iter().find(|message| message.text.starts_with("the app was killed by SIGSEGV"));
    let report = report.with_context(|| format!("no report: {}", guest.console()))?;
    ensure!((report.priority, report.topic.as_str()) == (2, "crash"), "{report:?}");
    Ok(())
}

/// The network comes when the queue is full: the first lines are there, and how many are not.
fn late_network() -> Result<()> {
    project::build("guest-tests", &["log_lines"], Profile::Release)?;
    let server = Server::new()?;
    let control = std::env::temp_dir().join(format!("qmp-syslog-{}", std::process::id()));
    let mut machine = server.machine(&format!("many {MANY}"))?;
    machine.extra.extend(qmp::arguments(&control));
    machine.extra.push("-S".into());
    let guest = Vm::start(&machine, Console::Recorded)?;
    guest.wait_until(TIME_OUT, || control.exists())?;
    let link =
        |is_up: bool| format!(r#"{{"execute": "set_link", "arguments": {{"name": "net0", "up": {is_up}}}}}"#);
    qmp::execute(&control, &[&link(false), r#"{"execute": "cont"}"#])?;
    // The app is not held up by it.
    guest.wait_until(TIME_OUT, || guest.console().contains("second 0"))?;
    qmp::execute(&control, &[&link(true)])?;
    let messages = server.take(|message| message.text.contains("lines were lost"))?;
    told(&messages, "line 0 with some words that make it as long as such lines are")?;
    let lost = messages.last().and_then(|message| message.text.split(' ').next()?.parse::<usize>().ok());
    let lost = lost.context("no number")?;
    let lines = messages.iter().filter(|message| message.text.starts_with("line ")).count();
    // Beside these, `written` and a few seconds, and what the kernel had to say.
    let missing = MANY - lines;
    ensure!(lines > 500 && (missing..missing + 60).contains(&lost), "{lines} of {MANY}, {lost} lost");
    Ok(())
}
