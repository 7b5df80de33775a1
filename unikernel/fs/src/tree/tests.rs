//! Archives made by hand, damaged archives, and lookups against a model.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::cpio::Problem;
use crate::{LastLink, LookupError};

type TestTree<'a> = Tree<&'a [u8], u32>;

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

fn names(tree: &TestTree<'_>, path: &str, position: u64) -> Vec<String> {
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
    tree.add_archive(&bytes, |content| content).unwrap();
    assert_eq!(content(&tree, "/www/index.html"), Ok(&b"<p>"[..]));
    assert_eq!(content(&tree, "home/../home/./index.html"), Ok(&b"<p>"[..]));
    assert_eq!(content(&tree, "//etc//deep/name"), Ok(&b"x"[..]));
    assert_eq!(names(&tree, "/", 0), [".", "..", "www", "etc", "home"]);
    assert_eq!(names(&tree, "/", 3), ["etc", "home"]);
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
    tree.add_archive(&bytes, |content| content).unwrap();
    assert_eq!(content(&tree, "a"), Ok(&b"new"[..]));
    assert_eq!(content(&tree, "b"), Ok(&b"kept"[..]));
}

#[test]
fn hard_links_share_the_content_of_the_last() {
    let bytes = archive(&[entry("a", 0o100_644, b"", 7, 2), entry("b", 0o100_644, b"both", 7, 2)]);
    let mut tree = TestTree::new();
    tree.add_archive(&bytes, |content| content).unwrap();
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
    tree.add_archive(&bytes, |content| content).unwrap();
    let look = |path: &str, last| tree.lookup(NodeId::ROOT, path.as_bytes(), last);
    assert_eq!(content(&tree, "link"), Ok(&b"1"[..]));
    assert_eq!(content(&tree, "dir/up"), Ok(&b"1"[..]));
    assert!(
        matches!(tree.node(look("link", LastLink::Keep).unwrap()), Node::Symlink(target) if **target == *b"d/f")
    );
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
    tree.add_archive(&bytes, |content| content).unwrap();
    assert_eq!(content(&tree, "l40"), Ok(&b"end"[..]));
    assert_eq!(content(&tree, "l41"), Err(LookupError::TooManyLinks));
}

#[test]
fn relative_paths_start_at_their_base() {
    let bytes = archive(&[file("a/b/c", b"1")]);
    let mut tree = TestTree::new();
    tree.add_archive(&bytes, |content| content).unwrap();
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
    tree.add_archive(&bytes, |content| content).unwrap();
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

fn with_file(name: &str) -> TestTree<'static> {
    let mut tree = TestTree::new();
    tree.add(name.as_bytes(), Node::File(b"bytes"), Attributes::with_permissions(0o644)).unwrap();
    tree
}

#[test]
fn unlinked_file_lives_while_it_is_open() {
    let mut tree = with_file("a");
    let id = tree.lookup(NodeId::ROOT, b"a", LastLink::Follow).unwrap();
    tree.open(id);
    assert!(tree.unlink(NodeId::ROOT, b"a", 1).unwrap().is_none());
    assert!(matches!(tree.node(id), Node::File(b"bytes")));
    assert_eq!(tree.links(id), 0);
    assert!(matches!(tree.close(id), Some(Node::File(b"bytes"))));
    assert!(tree.is_empty());
}

#[test]
fn inodes_are_never_used_twice() {
    let mut tree = with_file("a");
    let before = tree.inode(tree.lookup(NodeId::ROOT, b"a", LastLink::Follow).unwrap());
    drop(tree.unlink(NodeId::ROOT, b"a", 1).unwrap());
    let id = tree.create(NodeId::ROOT, b"b", Node::File(b""), Attributes::default()).unwrap();
    assert_ne!(tree.inode(id), before);
}

#[test]
fn removed_directory_takes_no_names() {
    let mut tree = TestTree::new();
    let id = tree.create_directory(NodeId::ROOT, b"d", Attributes::default()).unwrap();
    tree.open(id);
    assert!(tree.remove_directory(NodeId::ROOT, b"d", 1).unwrap().is_none());
    assert_eq!(tree.create(id, b"x", Node::File(b""), Attributes::default()), Err(EditError::NotFound));
    assert_eq!(tree.path_of(id), None);
    assert_eq!(tree.lookup(id, b"..", LastLink::Follow), Ok(NodeId::ROOT));
    drop(tree.close(id));
}

#[test]
fn directory_does_not_move_into_itself() {
    let mut tree = TestTree::new();
    let outer = tree.create_directory(NodeId::ROOT, b"outer", Attributes::default()).unwrap();
    let inner = tree.create_directory(outer, b"inner", Attributes::default()).unwrap();
    let moved = tree.rename((NodeId::ROOT, b"outer"), (inner, b"x"), RenameMode::Replace, 1);
    assert_eq!(moved.err(), Some(EditError::IntoItself));
}

#[test]
fn exchange_swaps_a_file_and_a_directory() {
    let mut tree = with_file("d/f");
    let names = ((NodeId::ROOT, &b"d"[..]), (NodeId::ROOT, &b"e"[..]));
    assert_eq!(tree.rename(names.0, names.1, RenameMode::Exchange, 1).err(), Some(EditError::NotFound));
    tree.create(NodeId::ROOT, b"e", Node::File(b"e"), Attributes::default()).unwrap();
    assert!(tree.rename(names.0, names.1, RenameMode::Exchange, 1).unwrap().is_none());
    assert_eq!(content(&tree, "d"), Ok(&b"e"[..]));
    assert_eq!(content(&tree, "e/f"), Ok(&b"bytes"[..]));
}

#[test]
fn names_stay_in_their_filesystem() {
    let other = FilesystemId(1);
    let mut tree = with_file("other/inside/file");
    tree.add(b"file", Node::File(b"".as_slice()), Attributes::default()).unwrap();
    let at =
        |tree: &TestTree<'_>, path: &str| tree.lookup(NodeId::ROOT, path.as_bytes(), LastLink::Keep).unwrap();
    let root = at(&tree, "other");
    tree.set_filesystem(root, other);
    assert!(tree.is_filesystem_root(root) && tree.is_filesystem_root(NodeId::ROOT));
    let inside = at(&tree, "other/inside");
    assert_eq!((tree.filesystem(inside), tree.is_filesystem_root(inside)), (other, false));
    assert_eq!(tree.filesystem(at(&tree, "other/inside/file")), other);
    assert_eq!(tree.filesystem(at(&tree, "file")), FilesystemId::default());
    let made = tree.create_directory(inside, b"new", Attributes::default()).unwrap();
    assert_eq!(tree.filesystem(made), other);
    let unnamed = unnamed(&mut tree, inside, Future::MayBeNamed);
    assert_eq!(tree.link(NodeId::ROOT, b"named", unnamed, 0), Err(EditError::OtherFilesystem));
    tree.link(inside, b"named", unnamed, 0).unwrap();
    for mode in [RenameMode::Replace, RenameMode::KeepExisting, RenameMode::Exchange] {
        let across = tree.rename((NodeId::ROOT, b"file"), (inside, b"named"), mode, 0);
        assert_eq!(across.unwrap_err(), EditError::OtherFilesystem);
        let moved = tree.rename((NodeId::ROOT, b"other"), (NodeId::ROOT, b"file"), mode, 0);
        assert_eq!(moved.unwrap_err(), EditError::Busy);
    }
    assert_eq!(tree.remove_directory(NodeId::ROOT, b"other", 0).unwrap_err(), EditError::Busy);
}

fn unnamed(tree: &mut TestTree<'_>, beside: NodeId, future: Future) -> NodeId {
    tree.create_unnamed(beside, Node::File(b"".as_slice()), Attributes::default(), future).unwrap()
}

#[test]
fn names_that_are_lost_do_not_come_back() {
    let mut tree = with_file("file");
    let root = NodeId::ROOT;
    let file = tree.lookup(root, b"file", LastLink::Keep).unwrap();
    tree.open(file);
    tree.link(root, b"other", file, 0).unwrap();
    for name in [b"file".as_slice(), b"other"] {
        assert!(tree.unlink(root, name, 0).unwrap().is_none());
    }
    assert_eq!(tree.link(root, b"again", file, 0), Err(EditError::NotFound));
    let secret = unnamed(&mut tree, root, Future::StaysUnnamed);
    assert_eq!(tree.link(root, b"secret", secret, 0), Err(EditError::NotFound));
    // One made without a name gets one once: then it is as any other.
    let made = unnamed(&mut tree, root, Future::MayBeNamed);
    tree.link(root, b"made", made, 0).unwrap();
    tree.link(root, b"twice", made, 0).unwrap();
    for name in [b"made".as_slice(), b"twice"] {
        assert!(tree.unlink(root, name, 0).unwrap().is_none());
    }
    assert_eq!(tree.link(root, b"made", made, 0), Err(EditError::NotFound));
}

#[test]
fn listing_in_pieces_survives_removals() {
    let mut tree = TestTree::new();
    for name in ["a", "b", "c", "d"] {
        tree.create(NodeId::ROOT, name.as_bytes(), Node::File(b""), Attributes::default()).unwrap();
    }
    let at = tree.list(NodeId::ROOT, 0).unwrap().find(|entry| entry.name == b"b").unwrap().next;
    drop(tree.unlink(NodeId::ROOT, b"a", 1).unwrap());
    drop(tree.unlink(NodeId::ROOT, b"b", 1).unwrap());
    assert_eq!(names(&tree, "/", at), ["c", "d"]);
}

fn problem_of(bytes: &[u8]) -> Option<Problem> {
    TestTree::new().add_archive(bytes, |content| content).err().map(|error| error.problem)
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
    let error = TestTree::new().add_archive(&late, |content| content).unwrap_err();
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
        tree.add_archive(&bytes, |content| content).unwrap();
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
        tree.add_archive(&bytes, |content| content).unwrap();
        if let Ok(id) = tree.lookup(NodeId::ROOT, path.as_bytes(), LastLink::Follow) {
            prop_assert!(!matches!(tree.node(id), Node::Symlink(_)));
        }
    }

    #[test]
    fn any_bytes_are_an_archive_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = TestTree::new().add_archive(&bytes, |content| content);
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
        let _ = tree.add_archive(&bytes[..end], |content| content);
        let live = (0..tree.slots.len() as u32).map(NodeId).filter(|id| tree.slots[id.0 as usize].is_some());
        for id in live {
            let _ = tree.links(id);
            if let Node::Directory(_) = tree.node(id) {
                prop_assert!(tree.path_of(id).is_some());
            }
        }
    }
}
