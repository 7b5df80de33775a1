//! The words about the machine as a whole and its services.
//!
//! ```text
//! hostname=web-1 forward=6379,11211 ntp=10.0.0.1,[2001:db8::1]:1123 syslog=10.0.0.2 config=nocloud wx=on kaslr=off module="hello who=you" modules=open
//! ```

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use crate::error::ParseError;
use crate::options::is_on;

/// Every key about the machine.
pub(crate) const KEYS: [&str; 10] =
    ["hostname", "loopback", "forward", "ntp", "syslog", "config", "wx", KASLR, "module", "modules"];
/// Whether the kernel moves to a random place ([`crate::moves_kernel`]).
pub(crate) const KASLR: &str = "kaslr";
/// The longest host name (Linux: `__NEW_UTS_LEN`), and the longest part of one between dots (RFC 1035, section 2.3.4).
const MAX_NAME_BYTES: usize = 64;
const MAX_LABEL_BYTES: usize = 63;

/// Where servers listen if nothing else is said (RFC 5905, RFC 5426).
const NTP_PORT: u16 = 123;
const SYSLOG_PORT: u16 = 514;

/// Which time servers are asked.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum TimeServers {
    /// Those that DHCP tells of, if it does.
    #[default]
    OfNetwork,
    /// `ntp=off`.
    None,
    /// These.
    Given(Vec<SocketAddr>),
}

/// Where the machine is told the rest.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ConfigSource {
    /// Nothing is said: where the hypervisor says, or nowhere.
    #[default]
    Unsaid,
    /// `config=none`.
    None,
    /// `config=nocloud`: on a volume called `cidata`.
    NoCloud,
    /// `config=mmds`: by Firecracker's metadata service.
    Mmds,
    /// `config=ec2`: by a metadata service like Amazon's.
    Ec2,
}

/// What the command line says about the machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SystemOptions {
    /// `hostname=`.
    pub host_name: Option<String>,
    /// `loopback=open`: connections from outside reach listeners on the loopback address.
    pub opens_loopback: bool,
    /// `forward=`: the same for these ports alone.
    pub forwarded_ports: Vec<u16>,
    /// `ntp=`.
    pub time_servers: TimeServers,
    /// `syslog=`: who is told what is logged and written to the console.
    pub syslog: Option<SocketAddr>,
    /// `config=`.
    pub config: ConfigSource,
    /// `wx=on`: the app may have memory that is writable and executable at once.
    pub has_writable_code: bool,
    /// `module=`: modules that are loaded, each with its parameters.
    pub modules: Vec<String>,
    /// `modules=open`: the app may load and unload modules, too.
    pub opens_modules: bool,
    /// Not `kaslr=off`: the kernel runs at another place with each boot.
    pub moves_kernel: bool,
}

impl Default for SystemOptions {
    fn default() -> Self {
        Self {
            host_name: None,
            opens_loopback: false,
            forwarded_ports: Vec::new(),
            time_servers: TimeServers::default(),
            syslog: None,
            config: ConfigSource::default(),
            has_writable_code: false,
            modules: Vec::new(),
            opens_modules: false,
            moves_kernel: true,
        }
    }
}

impl SystemOptions {
    /// Takes the word of one of [`KEYS`].
    pub(crate) fn take(&mut self, key: &'static str, value: &str) -> Result<(), ParseError> {
        match key {
            "hostname" if is_host_name(value) => self.host_name = Some(value.to_owned()),
            "hostname" => return Err(bad(key, value, "a host name such as `web-1` or `web-1.example.org`")),
            "loopback" => {
                self.opens_loopback = match value {
                    "open" => true,
                    "closed" => false,
                    _ => return Err(bad(key, value, "`open` or `closed`")),
                }
            }
            "ntp" => self.take_time_servers(value)?,
            "syslog" => {
                let expected = "an IP address such as `10.0.0.2` or `10.0.0.2:514`";
                let server = server(value, SYSLOG_PORT);
                self.syslog = Some(server.ok_or_else(|| bad(key, value, expected))?);
            }
            "config" => {
                let source = source(value);
                self.config = source.ok_or_else(|| bad(key, value, "`nocloud`, `mmds`, `ec2` or `none`"))?;
            }
            "module" if is_module(value) => self.modules.push(value.to_owned()),
            "module" => {
                return Err(bad(key, value, "a name or path, and parameters: `module=\"hello who=you\"`"));
            }
            "modules" => {
                self.opens_modules = match value {
                    "open" => true,
                    "sealed" => false,
                    _ => return Err(bad(key, value, "`open` or `sealed`")),
                }
            }
            "wx" => self.has_writable_code = is_on(key, value)?,
            KASLR => self.moves_kernel = is_on(key, value)?,
            _ => {
                for port in value.split(',') {
                    let port = port.parse().ok().filter(|port| *port > 0 && !value.contains('+'));
                    let port = port.ok_or_else(|| bad(key, value, "TCP ports such as `6379` or `80,443`"))?;
                    self.forwarded_ports.push(port);
                }
            }
        }
        Ok(())
    }

    fn take_time_servers(&mut self, value: &str) -> Result<(), ParseError> {
        if value == "off" {
            self.time_servers = TimeServers::None;
            return Ok(());
        }
        let servers: Option<Vec<_>> = value.split(',').map(|word| server(word, NTP_PORT)).collect();
        let expected = "`off` or IP addresses such as `10.0.0.1` or `10.0.0.1,[2001:db8::1]:123`";
        let servers = servers.ok_or_else(|| bad("ntp", value, expected))?;
        match &mut self.time_servers {
            TimeServers::Given(known) => known.extend(servers),
            other => *other = TimeServers::Given(servers),
        }
        Ok(())
    }
}

/// True for what begins with a name or a path.
fn is_module(value: &str) -> bool {
    !value.is_empty() && !value.starts_with(|first: char| first.is_ascii_whitespace() || first == '=')
}

fn source(text: &str) -> Option<ConfigSource> {
    Some(match text {
        "none" => ConfigSource::None,
        "nocloud" => ConfigSource::NoCloud,
        "mmds" => ConfigSource::Mmds,
        "ec2" => ConfigSource::Ec2,
        _ => return None,
    })
}

/// An address, with a port or without.
fn server(text: &str, port: u16) -> Option<SocketAddr> {
    let address = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, port));
    let address = address.ok().or_else(|| text.parse().ok());
    let is_host = |ip: IpAddr| !ip.is_unspecified() && !ip.is_multicast();
    address.filter(|address| is_host(address.ip()) && address.port() != 0)
}

fn bad(key: &'static str, value: &str, expected: &'static str) -> ParseError {
    ParseError::BadValue(key, value.to_owned(), expected)
}

/// True for a name that a machine can have: parts of letters, digits, `-` and `_` between dots.
pub fn is_host_name(name: &str) -> bool {
    let is_inner = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let is_label = |label: &str| {
        let bytes = label.as_bytes();
        (1..=MAX_LABEL_BYTES).contains(&bytes.len())
            && bytes.iter().all(is_inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= MAX_NAME_BYTES && name.split('.').all(is_label)
}
