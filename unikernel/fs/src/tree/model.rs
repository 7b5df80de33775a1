//! Random changes, against a model that keeps whole paths: slow, and too simple to be wrong.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::LastLink;

/// What a path names: a directory, or a file with this content.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Directory,
    File(u32),
}

type Model = BTreeMap<String, Kind>;

#[derive(Clone, Debug)]
enum Change {
    Make(String, u32),
    MakeDirectory(String),
    Unlink(String),
    RemoveDirectory(String),
    Rename(String, String, bool),
    Link(String, String),
}

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(alloc::vec!["a", "b", "c"]), 1..4)
        .prop_map(|names| names.iter().fold(String::new(), |path, name| path + "/" + name))
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (path(), any::<u32>()).prop_map(|(path, content)| Change::Make(path, content)),
        path().prop_map(Change::MakeDirectory),
        path().prop_map(Change::Unlink),
        path().prop_map(Change::RemoveDirectory),
        (path(), path(), any::<bool>()).prop_map(|(from, to, keeps)| Change::Rename(from, to, keeps)),
        (path(), path()).prop_map(|(from, to)| Change::Link(from, to)),
    ]
}

fn parent(path: &str) -> String {
    path[..path.rfind('/').unwrap_or(0)].to_string()
}

fn has_parent(model: &Model, path: &str) -> bool {
    parent(path).is_empty() || model.get(&parent(path)) == Some(&Kind::Directory)
}

fn is_empty(model: &Model, path: &str) -> bool {
    !model.keys().any(|other| other.starts_with(&(path.to_string() + "/")))
}

/// True if the change was allowed and done.
fn apply_to_model(model: &mut Model, change: &Change) -> bool {
    match change {
        Change::Make(path, _) | Change::MakeDirectory(path) => {
            let is_good = has_parent(model, path) && !model.contains_key(path);
            let kind =
                if let Change::Make(_, content) = change { Kind::File(*content) } else { Kind::Directory };
            is_good && model.insert(path.clone(), kind).is_none()
        }
        Change::Unlink(path) => {
            matches!(model.get(path), Some(Kind::File(_))) && model.remove(path).is_some()
        }
        Change::RemoveDirectory(path) => {
            let is_good = model.get(path) == Some(&Kind::Directory) && is_empty(model, path);
            is_good && model.remove(path).is_some()
        }
        Change::Link(from, to) => {
            let Some(Kind::File(content)) = model.get(from).copied() else { return false };
            let is_good = has_parent(model, to) && !model.contains_key(to);
            is_good && model.insert(to.clone(), Kind::File(content)).is_none()
        }
        Change::Rename(from, to, keeps) => rename_in_model(model, from, to, *keeps),
    }
}

fn rename_in_model(model: &mut Model, from: &str, to: &str, keeps: bool) -> bool {
    let Some(moved) = model.get(from).copied() else { return false };
    let is_inside = to == from || to.starts_with(&(from.to_string() + "/"));
    if !has_parent(model, to) || moved == Kind::Directory && is_inside && to != from {
        return false;
    }
    match (moved, model.get(to)) {
        (_, Some(_)) if keeps => return false,
        // Two names of one file: nothing happens.
        (Kind::File(moved), Some(Kind::File(target))) if moved == *target => return true,
        (Kind::Directory, Some(Kind::Directory)) if to != from && !is_empty(model, to) => return false,
        (Kind::Directory, Some(Kind::File(_))) | (Kind::File(_), Some(Kind::Directory)) => return false,
        _ => {}
    }
    let inside = from.to_string() + "/";
    let moving: Vec<(String, Kind)> = model
        .iter()
        .filter(|(path, _)| *path == from || path.starts_with(&inside))
        .map(|(path, kind)| (path.clone(), *kind))
        .collect();
    model.retain(|path, _| !moving.iter().any(|(moved, _)| moved == path));
    model.extend(moving.into_iter().map(|(path, kind)| (to.to_string() + &path[from.len()..], kind)));
    true
}

type TestTree = Tree<u32, ()>;

fn place(tree: &TestTree, path: &str) -> Option<(NodeId, Vec<u8>, Option<NodeId>)> {
    let place = tree.walk(NodeId::ROOT, path.as_bytes(), LastLink::Keep).ok()?;
    Some((place.parent, place.name, place.found))
}

fn apply(tree: &mut TestTree, change: &Change) -> bool {
    let first = match change {
        Change::Make(path, _)
        | Change::MakeDirectory(path)
        | Change::Unlink(path)
        | Change::RemoveDirectory(path)
        | Change::Rename(path, ..)
        | Change::Link(path, _) => path,
    };
    let Some((parent, name, found)) = place(tree, first) else { return false };
    let attributes = Attributes::default();
    match change {
        Change::Make(_, content) => tree.create(parent, &name, Node::File(*content), attributes).is_ok(),
        Change::MakeDirectory(_) => tree.create_directory(parent, &name, attributes).is_ok(),
        Change::Unlink(_) => tree.unlink(parent, &name, 0).is_ok(),
        Change::RemoveDirectory(_) => tree.remove_directory(parent, &name, 0).is_ok(),
        Change::Rename(_, to, keeps) => {
            let mode = if *keeps { RenameMode::KeepExisting } else { RenameMode::Replace };
            let Some((to, new_name, _)) = place(tree, to) else { return false };
            let is_same = to == parent && new_name == name;
            // Renaming a name to itself is nothing, which `is_within` would refuse for directories.
            if is_same && !*keeps && found.is_some() {
                return true;
            }
            tree.rename((parent, &name), (to, &new_name), mode, 0).is_ok()
        }
        Change::Link(_, to) => {
            let (Some(id), Some((to, new_name, _))) = (found, place(tree, to)) else { return false };
            tree.link(to, &new_name, id, 0).is_ok()
        }
    }
}

fn content_of(tree: &TestTree, id: NodeId, path: &str, model: &mut Model) {
    for entry in tree.list(id, FIRST_COOKIE).expect("a directory") {
        let path = path.to_string() + "/" + core::str::from_utf8(entry.name).expect("plain names");
        match tree.node(entry.id) {
            Node::Directory(_) => {
                model.insert(path.clone(), Kind::Directory);
                content_of(tree, entry.id, &path, model);
            }
            Node::File(content) => {
                model.insert(path, Kind::File(*content));
            }
            _ => unreachable!("nothing else is made here"),
        }
    }
}

proptest! {
    #[test]
    fn tree_agrees_with_a_map_of_paths(changes in prop::collection::vec(change(), 1..60)) {
        let (mut tree, mut model) = (TestTree::new(), Model::new());
        for (number, mut change) in changes.into_iter().enumerate() {
            // Every file has a content of its own, so that the model can tell files apart.
            if let Change::Make(_, content) = &mut change {
                *content = number as u32;
            }
            let change = &change;
            prop_assert_eq!(apply(&mut tree, change), apply_to_model(&mut model, change), "{:?}", change);
            let mut found = Model::new();
            content_of(&tree, NodeId::ROOT, "", &mut found);
            prop_assert_eq!(&found, &model, "after {:?}", change);
        }
    }
}
