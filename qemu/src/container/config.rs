//! What an image says about its program, and what becomes of that: where it is in the tree, and the words for the kernel
//! (`unikernel_cmdline::parse_for_image`).

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use unikernel_build::pack::examine;

use super::tree::{Kind, NodeId, Tree, parts};

const USUAL_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Interpreters of interpreters (Linux: 5).
const MOST_SCRIPTS: usize = 5;
/// What Linux reads of a script's first line (`BINPRM_BUF_SIZE`).
const SCRIPT_LINE_BYTES: usize = 256;

/// The image's configuration (image-spec 1.1, "Image Configuration").
#[derive(Deserialize)]
pub(super) struct ImageConfig {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    #[serde(default)]
    config: Option<RunConfig>,
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Option<Vec<String>>,
}

#[derive(Deserialize, Default, Clone)]
#[serde(rename_all = "PascalCase", default)]
struct RunConfig {
    user: Option<String>,
    env: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    working_dir: Option<String>,
    volumes: Option<BTreeMap<String, serde_json::Value>>,
}

/// What runs, and how.
#[derive(Debug)]
pub(super) struct Start {
    /// What the program is called.
    pub(super) name: String,
    /// The words for the kernel.
    pub(super) words: Vec<u8>,
}

impl ImageConfig {
    /// Refuses what is for another machine.
    pub(super) fn check(&self) -> Result<()> {
        let (os, architecture) = (self.os.escape_debug(), self.architecture.escape_debug());
        let is_ours = matches!((&*self.os, &*self.architecture), ("linux" | "", "amd64" | ""));
        ensure!(is_ours, "it is for {os}/{architecture}, and not for linux/amd64");
        Ok(())
    }

    /// The digests of what the layers hold.
    pub(super) fn contents(&self) -> Vec<String> {
        self.rootfs.diff_ids.clone().unwrap_or_default()
    }

    /// Finds the program, and makes the folders that the image wants to be there.
    pub(super) fn start(&self, tree: &mut Tree) -> Result<Start> {
        let config = self.config.clone().unwrap_or_default();
        let folder = config.working_dir.as_deref().filter(|folder| !folder.is_empty()).unwrap_or("/");
        let folder = format!("/{}", folder.trim_start_matches('/'));
        let volumes = config.volumes.iter().flat_map(BTreeMap::keys).map(String::as_str);
        for path in volumes.chain([&*folder]) {
            make_folder(tree, path).with_context(|| format!("the folder {}", path.escape_debug()))?;
        }
        let environment = variables(&config)?;
        let fixed = config.entrypoint.unwrap_or_default();
        let usual = config.cmd.unwrap_or_default();
        let called = fixed.first().or(usual.first()).filter(|word| !word.is_empty());
        let called = called.context("the image names no program (it has no ENTRYPOINT and no CMD)")?.clone();
        let path = environment.iter().find(|(name, _)| name == "PATH").map_or(USUAL_PATH, |(_, value)| value);
        let program = find_program(tree, &called, path, &folder)?;
        check_program(tree, &program, MOST_SCRIPTS)?;
        let account = Account::find(tree, config.user.as_deref().unwrap_or_default())?;
        let mut words = Words::default();
        words.add("init", &program)?;
        words.add("name", &called)?;
        words.add("cwd", &folder)?;
        words.add("user", &format!("{}:{}", account.user, account.group))?;
        if !environment.iter().any(|(name, _)| name == "HOME") {
            words.add("env.HOME", &account.home)?;
        }
        environment.iter().try_for_each(|(name, value)| words.add(&format!("env.{name}"), value))?;
        // Without an entry point, what the image names first is the program, and stays.
        let arguments = fixed.iter().map(|word| ("argument", word));
        let usual = usual.iter().map(|word| ("usual-argument", word));
        arguments.chain(usual).skip(1).try_for_each(|(key, word)| words.add(key, word))?;
        let name = called.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("app").to_owned();
        Ok(Start { name, words: words.0 })
    }
}

/// Words that end with zeros.
#[derive(Default)]
struct Words(Vec<u8>);

impl Words {
    fn add(&mut self, key: &str, value: &str) -> Result<()> {
        ensure!(!key.contains('\0') && !value.contains('\0'), "a zero in `{}`", value.escape_debug());
        self.0.extend(format!("{key}={value}\0").as_bytes());
        Ok(())
    }
}

fn variables(config: &RunConfig) -> Result<Vec<(String, String)>> {
    let split = |text: &String| {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        ensure!(!name.is_empty(), "a variable without a name: `{}`", text.escape_debug());
        Ok((name.to_owned(), value.to_owned()))
    };
    config.env.iter().flatten().map(split).collect()
}

fn make_folder(tree: &mut Tree, path: &str) -> Result<NodeId> {
    // Above all layers, though nothing is taken away any more.
    tree.make_folder(&parts(path.as_bytes())?, usize::MAX)
}

/// Where the program is that the image names, as execvp(3) would find it.
fn find_program(tree: &Tree, name: &str, path: &str, folder: &str) -> Result<String> {
    let absolute = |path: String| if path.starts_with('/') { path } else { format!("{folder}/{path}") };
    if name.contains('/') {
        let place = absolute(name.to_owned());
        let found = tree.find(place.as_bytes());
        ensure!(found.is_some(), "the program {} is not in the image", name.escape_debug());
        return Ok(place);
    }
    let places = path.split(':').map(|folder| absolute(format!("{folder}/{name}").replace("//", "/")));
    let is_program = |place: &String| {
        let node = tree.find(place.as_bytes()).map(|id| tree.node(id));
        node.is_some_and(|node| matches!(node.kind, Kind::File(_)) && node.owner.permissions & 0o111 != 0)
    };
    let mut places = places;
    let place = places.find(is_program);
    place.with_context(|| {
        format!("the program {} is in no folder of PATH ({})", name.escape_debug(), path.escape_debug())
    })
}

/// Refuses a program that cannot start, with what is missing.
fn check_program(tree: &Tree, path: &str, most_scripts: usize) -> Result<()> {
    let shown = path.escape_debug();
    let id = tree.find(path.as_bytes()).with_context(|| format!("{shown} is not in the image"))?;
    let node = tree.node(id);
    let Kind::File(content) = &node.kind else { bail!("{shown} is no file") };
    ensure!(node.owner.permissions & 0o111 != 0, "nobody may execute {shown}");
    let next = if content.starts_with(b"#!") {
        Some(
            interpreter_of_script(content)
                .with_context(|| format!("{shown}: its first line names no interpreter"))?,
        )
    } else {
        examine(content, true).with_context(|| shown.to_string())?.interpreter
    };
    let Some(next) = next else { return Ok(()) };
    ensure!(most_scripts > 0, "{shown} is a script of a script of a script");
    check_program(tree, &next, most_scripts - 1).with_context(|| format!("the interpreter of {shown}"))
}

fn interpreter_of_script(content: &[u8]) -> Option<String> {
    let line = &content[2..content.len().min(SCRIPT_LINE_BYTES)];
    let line = line.split(|&byte| byte == b'\n').next()?;
    let mut words = line.split(|&byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty());
    words.next().map(|word| String::from_utf8_lossy(word).into_owned())
}

/// Whom the program runs as.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Account {
    pub(super) user: u32,
    pub(super) group: u32,
    pub(super) home: String,
}

impl Account {
    /// `name`, `name:group`, or the numbers; names are those of the image's own files.
    pub(super) fn find(tree: &Tree, text: &str) -> Result<Self> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        let user = if user.is_empty() { "0" } else { user };
        let known = lines(tree, b"/etc/passwd").into_iter().find(|line| is_called(line, user));
        let number = |line: &Vec<String>, at: usize| line.get(at).and_then(|word| word.parse().ok());
        let (id, usual_group) = match (&known, user.parse()) {
            (Some(line), _) => (number(line, 2), number(line, 3)),
            (None, Ok(id)) => (Some(id), Some(0)),
            (None, Err(_)) => (None, None),
        };
        let groups = lines(tree, b"/etc/group");
        let group = match group.filter(|group| !group.is_empty()) {
            None => usual_group,
            Some(name) => {
                let line = groups.iter().find(|line| is_called(line, name));
                line.and_then(|line| number(line, 2)).or_else(|| name.parse().ok())
            }
        };
        let ids = id.zip(group).filter(|&(user, group)| user != u32::MAX && group != u32::MAX);
        let (user, group) =
            ids.with_context(|| format!("the image has no user `{}`", text.escape_debug()))?;
        let home = known.and_then(|line| line.get(5).cloned()).filter(|home| home.starts_with('/'));
        Ok(Self { user, group, home: home.unwrap_or_else(|| "/".to_owned()) })
    }
}

/// The lines of a file like passwd(5), split at colons.
fn lines(tree: &Tree, path: &[u8]) -> Vec<Vec<String>> {
    let Some(Kind::File(content)) = tree.find(path).map(|id| &tree.node(id).kind) else { return Vec::new() };
    let text = String::from_utf8_lossy(content);
    text.lines().map(|line| line.split(':').map(str::to_owned).collect()).collect()
}

/// By its name, or by its number.
fn is_called(line: &[String], name: &str) -> bool {
    line.first().is_some_and(|known| known == name) || line.get(2).is_some_and(|number| number == name)
}
