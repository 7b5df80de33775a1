//! Which room of the kernel may use which: a room uses those of the layers below, and of its own layer as long as that makes no
//! circle. [`references`] finds what the sources really name; `layers` (in `make lint`) compares.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;

/// A layer: its rooms, and what it is.
pub(crate) struct Layer {
    /// Modules directly below the crate's root.
    pub(crate) rooms: &'static [&'static str],
    /// What they are together.
    pub(crate) purpose: &'static str,
}

/// The kernel's layers, from the bottom up. The rooms of the machine are the crate `unikernel-hal`, which cannot name what
/// lies above it.
pub(crate) const LAYERS: [Layer; 13] = [
    Layer { rooms: &["abi"], purpose: "the Linux ABI: types without logic" },
    Layer {
        rooms: &["arch", "boot_info", "kmem", "platform", "sync"],
        purpose: "the machine, and the kernel's own memory",
    },
    Layer { rooms: &["task"], purpose: "threads: how they run and sleep" },
    Layer { rooms: &["mem"], purpose: "the app's memory" },
    Layer { rooms: &["process"], purpose: "signals, futexes, clocks, the end of the app" },
    Layer { rooms: &["policy", "trust"], purpose: "what the app may do; who has signed what is used" },
    Layer { rooms: &["block", "drivers"], purpose: "devices" },
    Layer { rooms: &["file", "net"], purpose: "open files in general; sockets" },
    Layer { rooms: &["event", "ipc", "vfs"], purpose: "events, pipes, mounted filesystems" },
    Layer { rooms: &["fs", "tty"], purpose: "names: the tree in memory; terminals" },
    Layer { rooms: &["ops"], purpose: "what is done with open files, sockets and paths" },
    Layer {
        rooms: &["exec", "modules", "service", "uring"],
        purpose: "how the app starts; what works beside it, or in its place",
    },
    Layer {
        rooms: &["debug", "entry", "syscall"],
        purpose: "system calls: the way in, the table, and who looks on",
    },
];

/// For each file, the rooms that it names, its own apart.
pub(crate) type References = BTreeMap<String, BTreeSet<String>>;

/// The place of a room in [`LAYERS`]. None for the crate's root, which uses everything, and for what is no room.
fn level(room: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.rooms.contains(&room))
}

/// The room of a file, named from the crate's `src/`.
fn room_of(file: &str) -> &str {
    file.split('/').next().unwrap_or(file).trim_end_matches(".rs")
}

/// What the sources below `src` name.
///
/// # Errors
///
/// If they cannot be read.
pub(crate) fn references(src: &Path) -> io::Result<References> {
    let mut found = References::new();
    visit(src, "", &mut found)?;
    Ok(found)
}

fn visit(folder: &Path, prefix: &str, found: &mut References) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if name == "workbench" {
            // Tests of the kernel as a whole, which no kernel has in it.
            continue;
        }
        if entry.file_type()?.is_dir() {
            visit(&entry.path(), &format!("{name}/"), found)?;
        } else if name.ends_with(".rs") && name != "lib.rs" {
            found.insert(name.clone(), named_in(&name, &fs::read_to_string(entry.path())?));
        }
    }
    Ok(())
}

/// The references that point up.
pub(crate) fn upward(references: &References) -> References {
    let points_up = |file: &str, room: &str| level(room) > level(room_of(file));
    let keep = |(file, rooms): (&String, &BTreeSet<String>)| {
        let rooms: BTreeSet<_> = rooms.iter().filter(|room| points_up(file, room)).cloned().collect();
        (!rooms.is_empty()).then(|| (file.clone(), rooms))
    };
    references.iter().filter_map(keep).collect()
}

/// Rooms that use each other in a circle: each the next, the last the first.
pub(crate) fn circle(references: &References) -> Option<Vec<String>> {
    let mut rooms = BTreeMap::<&str, BTreeSet<&str>>::new();
    for (file, named) in references {
        rooms.entry(room_of(file)).or_default().extend(named.iter().map(String::as_str));
    }
    // Rooms that use nothing but rooms that are gone are in no circle.
    loop {
        let before = rooms.len();
        let left: BTreeSet<_> = rooms.keys().copied().collect();
        rooms.retain(|_, used| used.iter().any(|room| left.contains(room)));
        if rooms.len() == before {
            break;
        }
    }
    // Each room that is left uses another that is: whoever follows them comes back somewhere.
    let mut way = vec![*rooms.keys().next()?];
    loop {
        let next = *rooms[way[way.len() - 1]].iter().find(|room| rooms.contains_key(**room))?;
        if let Some(start) = way.iter().position(|room| *room == next) {
            return Some(way[start..].iter().map(|room| (*room).to_owned()).collect());
        }
        way.push(next);
    }
}

/// The rooms of which no layer knows.
pub(crate) fn homeless(references: &References) -> BTreeSet<String> {
    references
        .keys()
        .map(|file| room_of(file))
        .filter(|room| level(room).is_none())
        .map(str::to_owned)
        .collect()
}

/// A list of references as people read it: a line for each source file, with the rooms behind a colon.
pub(crate) fn write(references: &References) -> String {
    let line = |(file, rooms): (&String, &BTreeSet<String>)| {
        let rooms: Vec<_> = rooms.iter().map(String::as_str).collect();
        format!("{file}: {}\n", rooms.join(" "))
    };
    references.iter().map(line).collect()
}

/// The layers as a table, from the top down.
pub(crate) fn table() -> String {
    let mut table = String::from("| layer | rooms |\n|---|---|\n");
    for layer in LAYERS.iter().rev() {
        let rooms: Vec<_> = layer.rooms.iter().map(|room| format!("`{room}`")).collect();
        table += &format!("| {} | {} |\n", layer.purpose, rooms.join(", "));
    }
    table
}

/// The rooms that a file names by paths from the root (`crate::...`, `super::...`).
fn named_in(file: &str, source: &str) -> BTreeSet<String> {
    let tokens = tokens(source);
    let own = room_of(file);
    // `net/stream.rs` and `net/stream/mod.rs` are both two levels below the root.
    let path = file.trim_end_matches(".rs").trim_end_matches("/mod");
    let depth = path.split('/').count();
    let mut named = BTreeSet::new();
    let mut at = 0;
    while at < tokens.len() {
        let is_path_inside = at > 0 && matches!(tokens[at - 1].as_str(), "::" | "$");
        let mut next = at + 1;
        let reaches_root = match tokens[at].as_str() {
            _ if is_path_inside => false,
            "crate" => true,
            "super" => {
                let mut levels = 1;
                while tokens.get(next).is_some_and(|token| token == "::")
                    && tokens.get(next + 1).is_some_and(|token| token == "super")
                {
                    (levels, next) = (levels + 1, next + 2);
                }
                levels >= depth
            }
            _ => false,
        };
        if reaches_root && tokens.get(next).is_some_and(|token| token == "::") {
            named.extend(first_names(&tokens[next + 1..]));
        }
        at = next;
    }
    named.retain(|room| room != own && level(room).is_some());
    named
}

/// The first names of a path's rest: one, or those of a group in braces.
fn first_names(tokens: &[String]) -> Vec<String> {
    if tokens.first().is_none_or(|token| token != "{") {
        return tokens.first().cloned().into_iter().collect();
    }
    let mut names = Vec::new();
    let (mut depth, mut is_first) = (0, true);
    for token in tokens {
        match token.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            "," if depth == 1 => is_first = true,
            name if depth == 1 && is_first => {
                names.push(name.to_owned());
                is_first = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names
}

/// Words and punctuation of a source text, without comments and literals.
fn tokens(source: &str) -> Vec<String> {
    let bytes = source.as_bytes();
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let rest = &source[at..];
        let len = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(len) = literal_len(rest) {
            len
        } else if byte == b'_' || byte.is_ascii_alphanumeric() {
            let word = |byte: &u8| *byte == b'_' || byte.is_ascii_alphanumeric();
            let len = rest.bytes().take_while(word).count();
            tokens.push(rest[..len].to_owned());
            len
        } else if rest.starts_with("::") {
            tokens.push("::".to_owned());
            2
        } else {
            let len = rest.chars().next().map_or(1, char::len_utf8);
            if !byte.is_ascii_whitespace() {
                tokens.push(rest[..len].to_owned());
            }
            len
        };
        at += len;
    }
    tokens
}

/// The length of the string or character at the start of `rest`. A lifetime is none.
fn literal_len(rest: &str) -> Option<usize> {
    let prefix = rest.len() - rest.trim_start_matches(['b', 'c', 'r', '#']).len();
    let (mark, quoted) = rest.split_at(prefix);
    if let Some(text) = quoted.strip_prefix('"') {
        if mark.contains('r') {
            let end = format!("\"{}", "#".repeat(mark.matches('#').count()));
            return Some(prefix + 1 + text.find(&end).map_or(text.len(), |at| at + end.len()));
        }
        return (!mark.contains('#')).then(|| prefix + closing(quoted, '"'));
    }
    // 'x' or '\...': what is longer without a backslash is a lifetime.
    let is_character =
        rest.starts_with('\'') && (rest[1..].starts_with('\\') || rest.chars().nth(2) == Some('\''));
    is_character.then(|| closing(rest, '\''))
}

/// The length of a literal that begins and ends with `quote`.
fn closing(rest: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (at, character) in rest.char_indices().skip(1) {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            _ if character == quote => return at + character.len_utf8(),
            _ => {}
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(file: &str, source: &str) -> Vec<String> {
        named_in(file, source).into_iter().collect()
    }

    #[test]
    fn paths_from_the_root_name_a_room() {
        let source = "use crate::{arch::cpu, net, task::{a, fs}};\nfn f() { crate::syscall::enter() }";
        assert_eq!(named("mem/fault.rs", source), ["arch", "net", "syscall", "task"]);
    }

    #[test]
    fn supers_reach_the_root_from_their_depth() {
        assert_eq!(named("mem/mod.rs", "use super::net;"), ["net"]);
        assert_eq!(named("mem/fault.rs", "use super::net; use super::super::fs;"), ["fs"]);
        assert_eq!(named("sync.rs", "use super::{task, debug::x};"), ["debug", "task"]);
    }

    #[test]
    fn comments_literals_and_macros_name_nothing() {
        let source = "// crate::net\n/* crate::fs */ const A: &str = \"crate::task \\\" crate::net\";\n\
                      const B: &str = r#\"crate::\"net\"#; const C: char = '\"'; fn f<'a>() {} macro!($crate::net);";
        assert_eq!(named("mem/fault.rs", source), [""; 0]);
        assert_eq!(named("mem/fault.rs", "const C: char = '\"'; use crate::net;"), ["net"]);
        assert_eq!(named("mem/fault.rs", "impl<'a> X<'a> for crate::net::Y<'a> {}"), ["net"]);
    }

    #[test]
    fn only_upward_references_are_listed() {
        let of = |rooms: &[&str]| rooms.iter().map(|&room| room.to_owned()).collect::<BTreeSet<_>>();
        let all = References::from([
            ("kmem/heap.rs".to_owned(), of(&["arch", "fs", "mem"])),
            ("mem/fault.rs".to_owned(), of(&["kmem", "net", "task"])),
            ("net/mod.rs".to_owned(), of(&["file", "mem"])),
        ]);
        assert_eq!(write(&upward(&all)), "kmem/heap.rs: fs mem\nmem/fault.rs: net\n");
    }

    #[test]
    fn circles_of_rooms_are_found() {
        let of = |rooms: &[&str]| rooms.iter().map(|&room| room.to_owned()).collect::<BTreeSet<_>>();
        let mut all = References::from([
            ("fs/mod.rs".to_owned(), of(&["file", "net"])),
            ("net/mod.rs".to_owned(), of(&["file"])),
            ("ops/mod.rs".to_owned(), of(&["fs", "net"])),
        ]);
        assert_eq!(circle(&all), None);
        // Of another file of the room than the one that is used.
        all.insert("file/table.rs".to_owned(), of(&["net"]));
        assert_eq!(circle(&all), Some(vec!["file".to_owned(), "net".to_owned()]));
    }

    #[test]
    fn no_room_is_in_two_layers() {
        let mut rooms: Vec<_> = LAYERS.iter().flat_map(|layer| layer.rooms).collect();
        let all = rooms.len();
        rooms.sort_unstable();
        rooms.dedup();
        assert_eq!(rooms.len(), all);
    }
}
