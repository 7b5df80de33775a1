//! What an app has done, as the words that would allow it: a profile that is learnt by a run.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use unikernel_report::calls::name;

use crate::NONE;
use crate::access::FileAccess;
use crate::calls::CallSet;
use crate::net::NetAction;
use crate::paths::letters_of;

/// Paths and addresses that are kept at most.
const MAX_PATHS: usize = 2048;
const MAX_ADDRESSES: usize = 512;
/// Folders whose content the kernel makes, and which are not the same in each run.
const MADE: [&str; 2] = ["/proc", "/sys"];

/// What was seen.
#[derive(Debug)]
pub struct Recorder {
    calls: CallSet,
    paths: BTreeMap<String, FileAccess>,
    addresses: BTreeSet<(bool, SocketAddr)>,
}

impl Default for Recorder {
    fn default() -> Self {
        Self::new()
    }
}

impl Recorder {
    /// Nothing was seen.
    pub const fn new() -> Self {
        Self { calls: CallSet::EMPTY, paths: BTreeMap::new(), addresses: BTreeSet::new() }
    }

    /// A system call.
    pub fn call(&mut self, number: u32) {
        self.calls.insert(number);
    }

    /// The use of a file, or of a directory in which something was made or removed.
    pub fn file(&mut self, path: &str, access: FileAccess) {
        let made = MADE.into_iter().find(|made| is_below(path, made));
        let path = made.unwrap_or(path);
        let has_room = self.paths.len() < MAX_PATHS;
        match self.paths.get_mut(path) {
            Some(known) => *known |= access,
            None if has_room => drop(self.paths.insert(path.to_string(), access)),
            None => {}
        }
    }

    /// The use of an address.
    pub fn address(&mut self, action: NetAction, address: SocketAddr) {
        if self.addresses.len() < MAX_ADDRESSES {
            let address = SocketAddr::new(address.ip().to_canonical(), address.port());
            self.addresses.insert((action == NetAction::Connect, address));
        }
    }

    /// The words, one of each kind: of what nothing was seen, nothing is allowed.
    pub fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        let calls: Vec<_> = self.calls.numbers().filter_map(name).collect();
        let paths: Vec<_> = self
            .path_rules()
            .iter()
            .map(|(path, access)| format!("{}:{path}", letters_of(*access)))
            .collect();
        let addresses: Vec<_> =
            self.addresses.iter().map(|(connects, address)| rule(*connects, *address)).collect();
        for (key, rules) in [
            ("allow-calls", calls.join(",")),
            ("allow-paths", paths.join(",")),
            ("allow-net", addresses.join(",")),
        ] {
            // There is a call in each run: the one that ends it.
            if !rules.is_empty() {
                words.push(format!("{key}={rules}"));
            } else if key != "allow-calls" {
                words.push(format!("{key}={NONE}"));
            }
        }
        words
    }

    /// One rule for each file, but for those below a directory in which files are made: they may not be there the next time, so the
    /// directory gets their rights. What a directory above gives needs no rule, and a path that a word cannot hold is its directory's.
    fn path_rules(&self) -> BTreeMap<&str, FileAccess> {
        let makers = |path: &str| {
            let made = self.paths.iter().filter(|(_, access)| access.intersects(FileAccess::NAMES));
            let above = made.filter(|(maker, _)| is_below(path, maker)).map(|(maker, _)| maker.as_str());
            above.min_by_key(|maker| maker.len())
        };
        let mut rules = BTreeMap::<&str, FileAccess>::new();
        for (path, access) in &self.paths {
            let mut place = makers(path).unwrap_or(path);
            while place.contains([',', ' ', '"']) || place.contains(char::is_control) {
                place = parent(place);
            }
            *rules.entry(place).or_default() |= *access;
        }
        let given = |path: &str, access: FileAccess| {
            rules
                .iter()
                .any(|(above, given)| *above != path && is_below(path, above) && given.contains(access))
        };
        // One by one: to collect them would sort them first, on 4 KiB of the kernel's stack.
        let mut kept = BTreeMap::new();
        for (path, access) in rules.iter().filter(|(path, access)| !given(path, **access)) {
            kept.insert(*path, *access);
        }
        kept
    }
}

fn parent(path: &str) -> &str {
    match path.rfind('/') {
        None | Some(0) => "/",
        Some(end) => &path[..end],
    }
}

/// True for the folder itself, too.
fn is_below(path: &str, folder: &str) -> bool {
    let rest = path.strip_prefix(folder.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn rule(connects: bool, address: SocketAddr) -> String {
    let action = if connects { "connect" } else { "bind" };
    // A port that the kernel chose is another one the next time.
    let port = if address.port() == 0 { "*".to_string() } else { address.port().to_string() };
    match address.ip() {
        IpAddr::V4(ip) => format!("{action}:{ip}:{port}"),
        IpAddr::V6(ip) => format!("{action}:[{ip}]:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls::{CallRule, number_of};
    use crate::{net, paths};

    #[test]
    fn what_was_seen_is_allowed_by_the_words() {
        let mut seen = Recorder::new();
        for call in ["read", "openat", "accept4"] {
            seen.call(number_of(call).unwrap());
        }
        seen.file("/etc/hosts", FileAccess::READ_FILE);
        seen.file("/proc/1/task/77/stat", FileAccess::READ_FILE);
        seen.file("/data", FileAccess::MAKE_REG);
        seen.file("/data/a", FileAccess::WRITE_FILE | FileAccess::TRUNCATE);
        seen.file("/www/a b,c", FileAccess::READ_FILE);
        seen.address(NetAction::Bind, "0.0.0.0:80".parse().unwrap());
        seen.address(NetAction::Connect, "[::ffff:10.0.0.1]:53".parse().unwrap());
        seen.address(NetAction::Bind, "[::]:0".parse().unwrap());
        let words = seen.words();
        assert_eq!(words[0], "allow-calls=read,openat,accept4");
        assert_eq!(words[1], "allow-paths=wc:/data,r:/etc/hosts,r:/proc,r:/www");
        assert_eq!(words[2], "allow-net=bind:0.0.0.0:80,bind:[::]:*,connect:10.0.0.1:53");
        let value = |index: usize| words[index].split_once('=').unwrap().1;
        assert!(
            CallRule::parse(value(0)).is_some()
                && paths::parse(value(1)).is_some()
                && net::parse(value(2)).is_some()
        );
        assert_eq!(Recorder::new().words(), ["allow-paths=none", "allow-net=none"]);
    }

    #[test]
    fn a_rule_above_is_enough() {
        let mut seen = Recorder::new();
        seen.file("/srv", FileAccess::READ_DIR | FileAccess::READ_FILE);
        seen.file("/srv/a", FileAccess::READ_FILE);
        seen.file("/srvx", FileAccess::READ_FILE);
        assert_eq!(seen.words(), ["allow-paths=r:/srv,r:/srvx", "allow-net=none"]);
    }
}
