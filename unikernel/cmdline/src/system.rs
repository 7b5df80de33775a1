//! The words about the machine as a whole and its services.
//!
//! ```text
//! hostname=web-1 forward=6379,11211
//! ```

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use crate::options::ParseError;

/// Every key about the machine.
pub(crate) const KEYS: [&str; 3] = ["hostname", "loopback", "forward"];
/// The longest host name (Linux: `__NEW_UTS_LEN`), and the longest part of one between dots (RFC 1035, section 2.3.4).
const MAX_NAME_BYTES: usize = 64;
const MAX_LABEL_BYTES: usize = 63;

/// What the command line says about the machine.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SystemOptions {
    /// `hostname=`.
    pub host_name: Option<String>,
    /// `loopback=open`: connections from outside reach listeners on the loopback address.
    pub opens_loopback: bool,
    /// `forward=`: the same for these ports alone.
    pub forwarded_ports: Vec<u16>,
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
