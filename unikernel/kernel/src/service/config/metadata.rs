//! Metadata services at 169.254.169.254: Firecracker's MMDS, and those that speak as Amazon's does. A token is asked for first
//! (version 2); a service that has none is asked without (version 1).
//!
//! The service may come late, as the network may. It is waited for, but not for ever: the app starts without it then.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};

use unikernel_cmdline::{ConfigSource, Options};
use unikernel_config::http::{Answer, HttpError, request};

use super::{META_DATA_PATH, Told, meta_data_text, take_host_name, take_user_data};
use crate::abi::Errno;
use crate::net::stream::own::Connection;
use crate::platform::time;
use crate::sync::SpinLock;
use crate::task::{WaitQueue, scheduler};

const SERVICE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)), 80);
const HOST: &str = "169.254.169.254";
/// How long the app waits for the service, how long an answer may take, and the time between attempts.
const PATIENCE_NS: u64 = 60 * time::NS_PER_SECOND;
const ANSWER_NS: u64 = 10 * time::NS_PER_SECOND;
const PAUSE_NS: u64 = 250_000_000;
const TOKEN_PATH: &str = "/latest/api/token";
/// Seconds that a token is good for.
const TOKEN_TTL: &str = "300";
const MAX_TOKEN_BYTES: usize = 1024;
/// The longest name that is taken from a service.
const MAX_NAME_BYTES: usize = 256;

/// Why there is no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum NoAnswer {
    Network(Errno),
    Http(HttpError),
    /// Another status than those that mean something here.
    Status(u16),
}

/// Who speaks, and by which headers.
struct Service {
    ttl_header: &'static str,
    token_header: &'static str,
    token: Option<String>,
    deadline_ns: u64,
}

/// What starts the app, with what it was told.
pub(crate) type Start = fn(&str, &Options, Told);

static WAITING: SpinLock<Option<(String, Box<Options>, Start)>> = SpinLock::new(None);

/// True if the app has to wait for a service.
pub(crate) fn is_wanted(options: &Options) -> bool {
    matches!(options.system.config, ConfigSource::Mmds | ConfigSource::Ec2)
}

/// Asks the service, and has the app start then. False if there is no memory for a thread that does.
pub(crate) fn start_after(line: &str, options: &Options, start: Start) -> bool {
    *WAITING.lock() = Some((line.to_string(), Box::new(options.clone()), start));
    scheduler::start_kernel_thread("config", main).is_ok()
}

extern "C" fn main() -> ! {
    scheduler::finish_task_switch();
    let waiting = WAITING.lock().take();
    if let Some((line, mut options, start)) = waiting {
        let mut told = Told::default();
        if let Err(error) = Service::new(options.system.config).ask_all(&mut options, &mut told) {
            log::error!("{HOST}: the machine's configuration cannot be had: {error:?}");
        }
        start(&line, &options, told);
    }
    scheduler::exit_current()
}

impl Service {
    fn new(source: ConfigSource) -> Self {
        let (ttl_header, token_header) = match source {
            ConfigSource::Mmds => ("X-metadata-token-ttl-seconds", "X-metadata-token"),
            _ => ("X-aws-ec2-metadata-token-ttl-seconds", "X-aws-ec2-metadata-token"),
        };
        Self { ttl_header, token_header, token: None, deadline_ns: time::now_ns() + PATIENCE_NS }
    }

    fn ask_all(&mut self, options: &mut Options, told: &mut Told) -> Result<(), NoAnswer> {
        self.take_token()?;
        let instance = self.name("/latest/meta-data/instance-id")?;
        let host_name = match self.name("/latest/meta-data/local-hostname")? {
            Some(name) => Some(name),
            None => self.name("/latest/meta-data/hostname")?,
        };
        if let Some(name) = &host_name {
            take_host_name(name, options);
        }
        let entries = [("instance-id", instance.as_deref()), ("local-hostname", host_name.as_deref())];
        told.add_secret(META_DATA_PATH, meta_data_text(&entries));
        if let Some(data) = self.get("/latest/user-data")? {
            take_user_data(data, options, told);
        }
        log::info!("{HOST}: the machine's configuration");
        Ok(())
    }

    fn take_token(&mut self) -> Result<(), NoAnswer> {
        let answer = self.ask("PUT", TOKEN_PATH, (self.ttl_header, TOKEN_TTL))?;
        self.token = match answer.status {
            200 => Some(token(answer.body).ok_or(NoAnswer::Http(HttpError::NotHttp))?),
            // It has none.
            _ => None,
        };
        Ok(())
    }

    /// A text of one line; none if the service has none.
    fn name(&self, path: &str) -> Result<Option<String>, NoAnswer> {
        let body = self.get(path)?;
        let text = body.as_deref().and_then(|body| core::str::from_utf8(body.trim_ascii()).ok());
        let is_name = |text: &&str| {
            (1..=MAX_NAME_BYTES).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
        };
        Ok(text.filter(is_name).map(str::to_string))
    }

    fn get(&self, path: &str) -> Result<Option<Vec<u8>>, NoAnswer> {
        let answer = self.ask("GET", path, (self.token_header, self.token.as_deref().unwrap_or_default()))?;
        match answer.status {
            200 => Ok(Some(answer.body)),
            404 => Ok(None),
            other => Err(NoAnswer::Status(other)),
        }
    }

    /// Asks until there is an answer, or too much time has passed. A header without a value is left out.
    fn ask(&self, method: &str, path: &str, header: (&str, &str)) -> Result<Answer, NoAnswer> {
        static NOBODY: WaitQueue = WaitQueue::new();
        let headers = [header];
        let headers = if header.1.is_empty() { &[][..] } else { &headers };
        let request = request(method, HOST, path, headers);
        loop {
            let now_ns = time::now_ns();
            let deadline_ns = self.deadline_ns.min(now_ns + ANSWER_NS);
            let answer = exchange(request.as_bytes(), deadline_ns);
            let is_over = time::now_ns() + PAUSE_NS >= self.deadline_ns;
            match answer {
                Ok(answer) if answer.status < 500 || is_over => return Ok(answer),
                // What is no such service now will be none later.
                Err(error) if is_over || matches!(error, NoAnswer::Http(_)) => return Err(error),
                Err(error) => log::debug!("{HOST}: {error:?}"),
                Ok(answer) => log::debug!("{HOST}: status {}", answer.status),
            }
            let _: Option<()> = NOBODY.wait_uninterrupted(Some(time::now_ns() + PAUSE_NS), || None);
        }
    }
}

/// What a header can carry.
fn token(body: Vec<u8>) -> Option<String> {
    let text = String::from_utf8(body).ok()?;
    let text = text.trim();
    let is_good =
        text.len() <= MAX_TOKEN_BYTES && !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    is_good.then(|| text.to_string())
}

/// One question and its answer, on a connection of its own.
fn exchange(request: &[u8], deadline_ns: u64) -> Result<Answer, NoAnswer> {
    let connection = Connection::open(SERVICE, deadline_ns).map_err(NoAnswer::Network)?;
    connection.send(request, deadline_ns).map_err(NoAnswer::Network)?;
    let mut bytes = Vec::new();
    loop {
        let count = connection.receive(&mut bytes, deadline_ns).map_err(NoAnswer::Network)?;
        if let Some(answer) = Answer::parse(&bytes, count == 0).map_err(NoAnswer::Http)? {
            return Ok(answer);
        }
    }
}
