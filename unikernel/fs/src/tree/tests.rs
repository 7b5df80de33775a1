//! Archives made by hand, damaged archives, and lookups against a model.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::{LastLink, LookupError};

type TestTree<'a> = Tree<'a, u32>;

/// Writes one "newc" entry.
fn entry(name: &str, mode: u32, content: &[u8], inode: u32, links: u32) -> Vec<u8> {
    let numbers =
        [inode, mode, 0, 0, links, 1000, content.len() as u32, 0, 0, 0, 0, name.len() as u32 + 1, 0];
    let mut bytes = b"070701".to_vec();
    numbers.iter().for_each(|number| bytes.extend(format!("{number:08x}").into_bytes()));
    bytes.extend(name.as_bytes());
    bytes.push(0);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn archive(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = entries.concat();
    bytes.extend(entry("TRAILER!!!", 0, b"", 0, 1));
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn file(name: &str, content: &[u8]) -> Vec<u8> {
    entry(name, 0o100_644, content, 1, 1)
}

fn symlink(name: &str, target: &str) -> Vec<u8> {
    entry(name, 0o120_777, target.as_bytes(), 1, 1)
}

fn content<'a>(tree: &TestTree<'a>, path: &str) -> Result<&'a [u8], LookupError> {
    match tree.node(tree.lookup(NodeId::ROOT, path.as_bytes(), LastLink::Follow)?) {
        Node::File(bytes) => Ok(bytes),
        other => panic!("{path} is {other:?}"),
    }
}

fn names(tree: &TestTree<'_>, path: &str, position: usize) -> Vec<String> {
    let id = tree.lookup(NodeId::ROOT, path.as_bytes(), LastLink::Follow).unwrap();
    tree.list(id, position).unwrap().map(|entry| String::from_utf8_lossy(entry.name).into_owned()).collect()
}

#[test]
fn archive_becomes_a_tree() {
    let bytes = archive(&[
        entry("www", 0o040_750, b"", 1, 2),
        file("www/index.html", b"<p>"),
        file("./etc/deep/name", b"x"),
        symlink("home", "/www/"),
    ]);
    let mut tree = TestTree::new();
    tree.add_archive(&bytes).unwrap();
    assert_eq!(content(&tree, "/www/index.html"), Ok(&b"<p>"[..]));
    assert_eq!(content(&tree, "home/../home/./index.html"), Ok(&b"<p>"[..]));
    assert_eq!(content(&tree, "//etc//deep/name"), Ok(&b"x"[..]));
    assert_eq!(names(&tree, "/", 0), [".", "..", "etc", "home", "www"]);
    assert_eq!(names(&tree, "/", 3), ["home", "www"]);
    let www = tree.lookup(NodeId::ROOT, b"/www", LastLink::Follow).unwrap();
    assert_eq!(tree.attributes(www).permissions, 0o750);
    assert_eq!(tree.path_of(www).unwrap(), b"/www");
    assert_eq!(tree.links(NodeId::ROOT), 4);
}

#[test]
fn later_archive_replaces_files_of_the_earlier() {
    let mut bytes = archive(&[file("a", b"old"), file("b", b"kept")]);
    bytes.extend(archive(&[file("a", b"new")]));
    let mut tree = TestTree::new();
    tree.add_archive(&bytes).unwrap();
    assert_eq!(content(&tree, "a"), Ok(&b"new"[..]));
    assert_eq!(content(&tree, "b"), Ok(&b"kept"[..]));
}

#[test]
fn hard_links_share_the_content_of_the_last() {
    let bytes = archive(&[entry("a", 0o100_644, b"", 7, 2), entry("b", 0o100_644, b"both", 7, 2)]);
    let mut tree = TestTree::new();
    tree.add_archive(&bytes).unwrap();
    assert_eq!(content(&tree, "a"), Ok(&b"both"[..]));
    let find = |path| tree.lookup(NodeId::ROOT, path, LastLink::Follow).unwrap();
    assert_eq!(find(b"a"), find(b"b"));
    assert_eq!(tree.links(find(b"a")), 2);
}

#[test]
fn symlinks_follow_as_linux_follows() {
    let bytes = archive(&[
        file("d/f", b"1"),
        symlink("link", "d/f"),
        symlink("dir", "d"),
        symlink("loop", "loop"),
        symlink("d/up", "../d/./f"),
        symlink("dangling", "nowhere"),
    ]);
    let mut tree = TestTree::new();
    tree.add_archive(&bytes).unwrap();
    let look = |path: &str, last| tree.lookup(NodeId::ROOT, path.as_bytes(), last);
    assert_eq!(content(&tree, "link"), Ok(&b"1"[..]));
    assert_eq!(content(&tree, "dir/up"), Ok(&b"1"[..]));
    assert!(matches!(tree.node(look("link", LastLink::Keep).unwrap()), Node::Symlink(b"d/f")));
    // A trailing slash follows even the last link, and demands a directory.
    assert!(matches!(tree.node(look("dir/", LastLink::Keep).unwrap()), Node::Directory(_)));
    assert_eq!(look("link/", LastLink::Keep), Err(LookupError::NotADirectory));
    assert_eq!(look("loop", LastLink::Follow), Err(LookupError::TooManyLinks));
    assert_eq!(look("dangling", LastLink::Follow), Err(LookupError::NotFound));
    assert_eq!(look("link/x", LastLink::Follow), Err(LookupError::NotADirectory));
    assert_eq!(look("", LastLink::Follow), Err(LookupError::NotFound));
    assert_eq!(look(&"n".repeat(256), LastLink::Follow), Err(LookupError::NameTooLong));
}

#[test]
fn forty_links_are_followed_and_one_more_is_not() {
    let links: Vec<_> = (1..=41).map(|n| (format!("l{n}"), format!("l{}", n - 1))).collect();
    let mut entries = vec![file("l0", b"end")];
    entries.extend(links.iter().map(|(name, target)| symlink(name, target)));
    let bytes = archive(&entries);
    let mut tree = TestTree::new();
    tree.add_archive(&bytes).unwrap();
    assert_eq!(content(&tree, "l40"), Ok(&b"end"[..]));
    assert_eq!(content(&tree, "l41"), Err(LookupError::TooManyLinks));
}

#[test]
fn relative_paths_start_at_their_base() {
    let bytes = archive(&[file("a/b/c", b"1")]);
    let mut tree = TestTree::new();
    tree.add_archive(&bytes).unwrap();
    let base = tree.lookup(NodeId::ROOT, b"a/b", LastLink::Follow).unwrap();
    assert_eq!(
        tree.lookup(base, b"../b/c", LastLink::Follow),
        tree.lookup(base, b"/a/b/c", LastLink::Follow)
    );
    assert_eq!(tree.lookup(base, b"../../../..", LastLink::Follow), Ok(NodeId::ROOT));
}

#[test]
fn kernel_nodes_lie_over_the_archive() {
    let bytes = archive(&[file("etc/resolv.conf", b"theirs"), file("etc/other", b"kept")]);
    let mut tree = TestTree::new();
    tree.add_archive(&bytes).unwrap();
    let attributes = Attributes::with_permissions(0o444);
    let id = tree.add(b"/etc/resolv.conf", Node::Special(5), attributes).unwrap();
    assert!(matches!(tree.node(id), Node::Special(5)));
    assert_eq!(tree.lookup(NodeId::ROOT, b"/etc/resolv.conf", LastLink::Follow), Ok(id));
    assert_eq!(content(&tree, "/etc/other"), Ok(&b"kept"[..]));
    assert_eq!(tree.add(b"/etc", Node::Special(6), attributes), Err(AddError::IsADirectory));
    assert_eq!(tree.add(b"/etc/other/x", Node::Special(6), attributes), Err(AddError::NotADirectory));
    assert_eq!(tree.add(b"/../x", Node::Special(6), attributes), Err(AddError::BadName));
    assert_eq!(tree.add(b"/", Node::Special(6), attributes), Err(AddError::BadName));
}

fn problem_of(bytes: &[u8]) -> Option<Problem> {
    TestTree::new().add_archive(bytes).err().map(|error| error.problem)
}

#[test]
fn damage_is_named() {
    let good = file("name", b"content");
    assert_eq!(problem_of(b"\x1f\x8b\x08"), Some(Problem::Compressed));
    assert_eq!(problem_of(b"not an archive"), Some(Problem::NoHeader));
    assert_eq!(problem_of(&good[..50]), Some(Problem::CutShort));
    assert_eq!(problem_of(&good[..good.len() - 4]), Some(Problem::CutShort));
    let mut digits = good.clone();
    digits[20] = b'g';
    assert_eq!(problem_of(&digits), Some(Problem::BadNumber));
    assert_eq!(problem_of(&file("../escape", b"")), Some(Problem::BadName));
    assert_eq!(problem_of(&[file("a", b""), file("a/b", b"")].concat()), Some(Problem::Conflict));
    let late = [good, b"junk".to_vec()].concat();
    let error = TestTree::new().add_archive(&late).unwrap_err();
    assert_eq!((error.problem, error.offset), (Problem::NoHeader, late.len() - 4));
    assert_eq!(format!("{error}"), "damaged archive at byte 124: no cpio header (format \"newc\")");
}

/// Names from a small alphabet, so that paths meet, and with everything that lookup treats apart.
fn path() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec!["a", "b", "c", ".", "..", ""]);
    (any::<bool>(), prop::collection::vec(name, 0..6))
        .prop_map(|(is_absolute, names)| if is_absolute { "/" } else { "" }.to_owned() + &names.join("/"))
}

/// Lookup in a tree without links, by normalising the path: what a reader would do by hand.
fn model_lookup(files: &[&str], path: &str) -> Option<String> {
    let is_directory = |at: &[&str]| {
        at.is_empty() || files.iter().any(|file| file.starts_with(&format!("{}/", at.join("/"))))
    };
    let mut at: Vec<&str> = Vec::new();
    for name in path.split('/').filter(|name| !name.is_empty()) {
        if !is_directory(&at) {
            return None;
        }
        match name {
            "." => {}
            ".." => drop(at.pop()),
            name => at.push(name),
        }
        if !is_directory(&at) && !files.contains(&at.join("/").as_str()) {
            return None;
        }
    }
    let found = at.join("/");
    (!path.is_empty() && (is_directory(&at) || !path.ends_with('/'))).then_some(found)
}

proptest! {
    #[test]
    fn lookup_agrees_with_normalising_the_path(path in path()) {
        let files = ["a/b", "a/c/a", "b/a/a", "c"];
        let bytes = archive(&files.map(|name| file(name, name.as_bytes())));
        let mut tree = TestTree::new();
        tree.add_archive(&bytes).unwrap();
        let found = tree.lookup(NodeId::ROOT, path.as_bytes(), LastLink::Follow).ok();
        let found = found.map(|id| match tree.node(id) {
            Node::File(content) => String::from_utf8_lossy(content).into_owned(),
            _ => String::from_utf8(tree.path_of(id).unwrap()).unwrap().trim_start_matches('/').into(),
        });
        prop_assert_eq!(found, model_lookup(&files, &path));
    }

    /// Whatever links there are, lookup ends, and never at a link.
    #[test]
    fn lookup_through_any_links_ends(targets in prop::collection::vec(path(), 3), path in path()) {
        let names = ["a", "b", "c"];
        let mut entries: Vec<_> = names.iter().zip(&targets).map(|(name, target)| symlink(name, target)).collect();
        entries.push(file("real/a", b""));
        let bytes = archive(&entries);
        let mut tree = TestTree::new();
        tree.add_archive(&bytes).unwrap();
        if let Ok(id) = tree.lookup(NodeId::ROOT, path.as_bytes(), LastLink::Follow) {
            prop_assert!(!matches!(tree.node(id), Node::Symlink(_)));
        }
    }

    #[test]
    fn any_bytes_are_an_archive_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = TestTree::new().add_archive(&bytes);
    }

    /// A good archive with some bytes changed or cut off: no panic, and no content from outside.
    #[test]
    fn damaged_archives_do_no_harm(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
        digits in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(b"0fF7".to_vec())), 0..6),
    ) {
        let mut bytes = archive(&[file("a/b", b"12345"), symlink("l", "a"), entry("h", 0o100_644, b"x", 3, 2)]);
        damage.iter().for_each(|(at, byte)| { let at = at.index(bytes.len()); bytes[at] = *byte; });
        digits.iter().for_each(|(at, byte)| { let at = at.index(110); bytes[at] = *byte; });
        let end = bytes.len() - cut.index(bytes.len()) / 3;
        let mut tree = TestTree::new();
        let _ = tree.add_archive(&bytes[..end]);
        for index in 0..tree.len() as u32 {
            let _ = tree.links(NodeId(index));
            if let Node::Directory(_) = tree.node(NodeId(index)) {
                prop_assert!(tree.path_of(NodeId(index)).is_some());
            }
        }
    }
}
