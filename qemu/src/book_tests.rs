//! The pages for people (`docs/`, which mdbook makes a book of): each is in the book, no link is dead, and what they say
//! of commands, options, words, messages, metrics and files of the repository is what there is.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::{cli, project};

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn page(name: &str) -> String {
    read(&docs().join(name))
}

fn docs() -> PathBuf {
    project::root().join("docs")
}

/// Every file below a folder whose name ends so.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut found = Vec::new();
    for path in entries.map(|entry| entry.expect("an entry").path()) {
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|end| end == extension) {
            found.push(path);
        }
    }
    found
}

/// The lines of a page outside of blocks of code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    text.lines().filter(move |line| {
        is_code ^= line.trim_start().starts_with("```");
        !is_code
    })
}

/// Where links of a page lead: the text between `](` and `)`.
fn links(text: &str) -> Vec<String> {
    let parts = prose(text).flat_map(|line| line.split("](").skip(1));
    parts.filter_map(|part| part.split_once(')')).map(|(link, _)| link.to_owned()).collect()
}

fn is_outside(link: &str) -> bool {
    link.starts_with("http://") || link.starts_with("https://")
}

/// The anchor of a heading, as mdbook and forges make it.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|letter| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_'));
    kept.map(|letter| if letter == ' ' { '-' } else { letter.to_ascii_lowercase() }).collect()
}

fn has_heading(text: &str, name: &str) -> bool {
    let headings = prose(text).filter_map(|line| line.strip_prefix('#'));
    headings.map(|heading| anchor(heading.trim_start_matches('#').trim())).any(|heading| heading == name)
}

/// The links of a page that lead nowhere.
fn dead_links(page: &Path) -> Vec<String> {
    let is_dead = |link: &String| {
        let (file, place) = link.split_once('#').unwrap_or((link, ""));
        let target = if file.is_empty() { page.to_owned() } else { page.with_file_name(file) };
        !target.exists() || !place.is_empty() && !has_heading(&read(&target), place)
    };
    links(&read(page)).into_iter().filter(|link| !is_outside(link)).filter(is_dead).collect()
}

/// Every page of the book, those at the root, and those of the crates.
fn pages() -> Vec<PathBuf> {
    let mut pages = files(&docs(), "md");
    let roots = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"];
    pages.extend(roots.map(|name| project::root().join(name)));
    pages.extend(files(&project::root().join("unikernel"), "md"));
    pages
}

#[test]
fn no_link_is_dead() {
    for page in &pages() {
        let dead = dead_links(page);
        assert!(dead.is_empty(), "{}: dead links: {dead:?}", page.display());
    }
}

/// In the book nothing lies beside the pages.
#[test]
fn no_link_of_a_page_leads_out_of_the_book() {
    for page in files(&docs(), "md") {
        for link in links(&read(&page)).iter().filter(|link| !is_outside(link) && !link.starts_with('#')) {
            let path = page.with_file_name(link.split('#').next().unwrap_or_default());
            let path = path.canonicalize().unwrap_or(path);
            assert!(path.starts_with(docs()) && path.is_file(), "{}: {link}", page.display());
        }
    }
}

#[test]
fn every_page_is_in_the_book_once() {
    let summary = docs().join("SUMMARY.md");
    let listed = links(&read(&summary));
    let names: BTreeSet<PathBuf> = listed.iter().map(|link| docs().join(link)).collect();
    assert_eq!(names.len(), listed.len(), "a page is listed twice");
    let pages: BTreeSet<PathBuf> = files(&docs(), "md").into_iter().filter(|page| *page != summary).collect();
    let left_out: Vec<_> = pages.difference(&names).collect();
    assert!(left_out.is_empty(), "docs/SUMMARY.md does not name {left_out:?}");
    let index = page("decisions/index.md");
    for decision in files(&docs().join("decisions"), "md") {
        let name = decision.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
        let is_listed = name == "index.md" || links(&index).contains(&name);
        assert!(is_listed, "docs/decisions/index.md does not name {name}");
    }
}

/// What stands between backquotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The first column of every table, without heads.
fn first_cells(text: &str) -> Vec<&str> {
    let lines: Vec<&str> = prose(text).collect();
    let is_row = |line: &str| line.starts_with("| ");
    let rows = lines.iter().zip(lines.iter().skip(1).chain(["\n"].iter()));
    let rows = rows.filter(|(line, next)| is_row(line) && !next.starts_with("|---"));
    rows.filter_map(|(line, _)| line.trim_start_matches("| ").split(" | ").next()).collect()
}

/// Every file and folder of the sources, by its parts.
fn paths() -> Vec<Vec<String>> {
    fn visit(folder: &Path, parts: &[String], found: &mut Vec<Vec<String>>) {
        let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        for path in entries.map(|entry| entry.expect("an entry").path()) {
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            let parts: Vec<String> = parts.iter().cloned().chain([name]).collect();
            if path.is_dir() {
                visit(&path, &parts, found);
            }
            found.push(parts);
        }
    }
    let mut found = Vec::new();
    for top in SOURCES {
        visit(&project::root().join(top), &[top.to_owned()], &mut found);
        found.push(vec![top.to_owned()]);
    }
    found
}

/// The folders that pages name files of.
const SOURCES: [&str; 4] = ["unikernel", "qemu", "apps", "docs"];

/// A name with choices in braces is several: `{a,b}.rs` is `a.rs` and `b.rs`.
fn choices(name: &str) -> Vec<String> {
    let parts = name.split_once('{').and_then(|(before, rest)| Some((before, rest.split_once('}')?)));
    let Some((before, (list, after))) = parts else { return vec![name.to_owned()] };
    list.split(',').flat_map(|choice| choices(&format!("{before}{choice}{after}"))).collect()
}

/// True for what names a source file, or anything of the repository by its whole path; not if a part of it is a gap, in capitals.
fn is_path(name: &str) -> bool {
    let is_plain = name.chars().all(|letter| letter.is_ascii_alphanumeric() || "./_*-".contains(letter));
    let has_gap = ["NAME", "NNNN", "PROFILE"].iter().any(|gap| name.contains(gap));
    let is_whole = name.split_once('/').is_some_and(|(top, _)| SOURCES.contains(&top));
    is_plain && !has_gap && (name.ends_with(".rs") || is_whole)
}

/// True if a path ends as a name says, of which a part may have a `*`.
fn ends_as(path: &[String], name: &str) -> bool {
    let fits = |(part, wanted): (&String, &str)| match wanted.split_once('*') {
        Some((before, after)) => part.starts_with(before) && part.ends_with(after),
        None => part == wanted,
    };
    let wanted: Vec<&str> = name.trim_end_matches('/').split('/').collect();
    path.len() >= wanted.len() && path.iter().rev().zip(wanted.into_iter().rev()).all(fits)
}

/// Pages name files as readers look for them: by the end of their paths.
#[test]
fn files_that_pages_name_exist() {
    let (paths, mut count) = (paths(), 0);
    let mut check = |page: &Path, name: &str| {
        for name in choices(name).iter().filter(|name| is_path(name)) {
            count += 1;
            assert!(paths.iter().any(|path| ends_as(path, name)), "{}: no `{name}`", page.display());
        }
    };
    for page in pages() {
        prose(&read(&page)).flat_map(quoted).for_each(|name| check(&page, name));
    }
    for picture in files(&docs(), "svg") {
        let (text, is_source) = (read(&picture), |word: &&str| word.ends_with(".rs"));
        text.split(['<', '>', ' ', ',']).filter(is_source).for_each(|word| check(&picture, word));
    }
    assert!(count > 150, "only {count} names");
}

#[test]
fn every_crate_is_described() {
    let page = page("architecture.md");
    let named: BTreeSet<String> = first_cells(&page).into_iter().flat_map(quoted).flat_map(choices).collect();
    let entries = fs::read_dir(project::root().join("unikernel")).expect("the crates are there");
    let folders = entries.map(|entry| entry.expect("an entry").path());
    let crates: Vec<PathBuf> = folders.filter(|folder| folder.join("Cargo.toml").is_file()).collect();
    assert!(crates.len() > 15, "{crates:?}");
    for folder in crates {
        assert!(folder.join("README.md").is_file(), "{} has no README.md", folder.display());
        let name = format!("unikernel/{}/", folder.file_name().expect("a name").to_string_lossy());
        assert!(named.contains(&name), "docs/architecture.md has no row for {name}");
    }
}

/// Source text as its strings are read: one that goes on in the next line is whole.
fn joined(source: &str) -> String {
    let mut text = String::new();
    for part in source.split("\\\n") {
        text.push_str(if text.is_empty() { part } else { part.trim_start() });
    }
    text
}

/// The sources of the kernel and of the tool, each joined, without tests.
fn sources() -> Vec<String> {
    let folders = ["unikernel", "qemu/src"].map(|name| project::root().join(name));
    let is_test =
        |path: &PathBuf| path.file_stem().is_some_and(|stem| stem.to_string_lossy().ends_with("tests"));
    let all = folders.iter().flat_map(|folder| files(folder, "rs")).filter(|path| !is_test(path));
    all.map(|path| joined(read(&path).split("#[cfg(test)]\nmod tests {").next().unwrap_or_default()))
        .collect()
}

/// True if the parts of a message between its gaps stand in a source, one after the other.
fn says(source: &str, message: &str) -> bool {
    let mut rest = source;
    message.split("...").map(str::trim).all(|part| match rest.find(part) {
        Some(at) => {
            rest = &rest[at + part.len()..];
            true
        }
        None => false,
    })
}

#[test]
fn every_message_of_the_troubleshooting_is_one() {
    let (page, sources) = (page("troubleshooting.md"), sources());
    let messages: Vec<&str> = first_cells(&page).into_iter().flat_map(quoted).collect();
    assert!(messages.len() > 50, "only {} messages", messages.len());
    for message in messages {
        assert!(sources.iter().any(|source| says(source, message)), "nobody says `{message}`");
    }
}

#[test]
fn every_word_of_the_kernel_is_explained() {
    let (page, source) =
        (page("configure.md"), read(&project::root().join("unikernel/cmdline/src/options.rs")));
    let table = source.split_once("const KEYS: &[&str] = &[").and_then(|(_, rest)| rest.split_once("];"));
    let (table, _) = table.expect("the parser has a table of its keys");
    let keys: Vec<&str> = table.split('"').skip(1).step_by(2).collect();
    assert!(keys.len() > 20, "{keys:?}");
    for key in keys {
        assert!(
            quoted(&page).any(|word| word.starts_with(key)),
            "docs/configure.md does not explain `{key}`"
        );
    }
    let words = first_cells(&page).into_iter().flat_map(quoted).filter(|word| word.contains('='));
    let known = |word: &str| unikernel_cmdline::parse(word).is_ok() || GO_TOGETHER.contains(&word);
    for word in words {
        assert!(known(word), "docs/configure.md: the kernel does not know `{word}`");
    }
}

/// Words that are only right beside others, or end in a gap.
const GO_TOGETHER: [&str; 11] = [
    "gw=",
    "dns=",
    "gw=fe80::1",
    "eth1.gw=",
    "format=blk0",
    "env.NAME=value",
    "filter=",
    "offload=",
    "ip=",
    "root=blk0:verity=ROOT@64M",
    "mount=/www:blk0p1:verity=ROOT@blk0p2",
];

#[test]
fn every_metric_is_listed() {
    let kernel = read(&project::root().join("unikernel/kernel/src/fs/metrics.rs"));
    let (listed, mut there) = (page("metrics.md"), BTreeSet::new());
    for call in kernel.split("Kind::").skip(1) {
        let (call, suffix) = match (call.strip_prefix("Counter,"), call.strip_prefix("Gauge,")) {
            (Some(call), _) => (call, "_total"),
            (_, Some(call)) => (call, ""),
            _ => continue,
        };
        let name = call.split('"').nth(1).expect("a metric has a name");
        there.insert(format!("unikernel_{name}{suffix}"));
    }
    for (name, meaning, _) in unikernel_net::Counters::default().entries() {
        let suffix = if meaning.starts_with("Now:") { "" } else { "_total" };
        let name = format!("unikernel_net_{name}{suffix}");
        assert!(listed.contains(&format!("| `{name}` |")) && listed.contains(meaning), "{name}: {meaning}");
        there.insert(name);
    }
    let named: BTreeSet<String> =
        first_cells(&listed).into_iter().flat_map(quoted).map(str::to_owned).collect();
    assert_eq!(named, there, "docs/metrics.md");
}

#[test]
fn the_reference_of_commands_is_the_help() {
    assert!(
        page("command-line.md") == cli::reference(),
        "docs/command-line.md is behind `--help`: run `make doc`"
    );
}

/// What the pages tell people to type is a command with options that it has.
#[test]
fn commands_of_the_pages_are_known() {
    let roots = ["README.md", "CONTRIBUTING.md"].map(|name| project::root().join(name));
    for path in files(&docs(), "md").iter().chain(&roots) {
        let text = read(path);
        for rest in text.split("cargo unikernel ").skip(1) {
            let end = rest.find(['`', '\n', '#', '&', '|', ';', '(']).unwrap_or(rest.len());
            let command = rest[..end].split(" -- ").next().unwrap_or_default();
            let unknown = cli::unknown_words(command);
            assert!(unknown.is_empty(), "{}: `{command}`: {unknown:?}", path.display());
        }
    }
}

#[test]
fn links_anchors_and_messages_are_found() {
    let text = "see [a](b.md), [c](d.md#e-f) and `x`\n```\n[no](link.md)\n```\n[g](https://h)";
    assert_eq!(links(text), ["b.md", "d.md#e-f", "https://h"]);
    assert!(is_outside("https://h") && !is_outside("b.md"));
    assert_eq!(anchor("What a card does for us"), "what-a-card-does-for-us");
    assert_eq!(anchor("`cargo unikernel`, once"), "cargo-unikernel-once");
    assert_eq!(first_cells("| a | b |\n|---|---|\n| `c` ... | d |\n"), ["`c` ..."]);
    assert_eq!(choices("a/{b,c}/{d,e}.rs"), ["a/b/d.rs", "a/b/e.rs", "a/c/d.rs", "a/c/e.rs"]);
    assert!(is_path("mem.rs") && is_path("docs/x-*") && !is_path("docs/NNNN-x") && !is_path("a/b"));
    let path = ["unikernel", "net", "src", "flow.rs"].map(str::to_owned);
    assert!(ends_as(&path, "src/flow.rs") && ends_as(&path, "net/*/fl*.rs"));
    assert!(!ends_as(&path, "low.rs") && !ends_as(&path[2..], "net/src/flow.rs") && !ends_as(&path, "src/"));
    let source = joined("\"there is {no} \\\n      such thing at {path}\"");
    assert!(says(&source, "there is ... such thing at ...") && !says(&source, "at ... there is"));
}

/// The words of rows whose last column names tests: what stands between backquotes there.
fn tests_named(text: &str) -> Vec<&str> {
    let rows = prose(text).filter(|line| line.starts_with("| ") && line.ends_with(" |"));
    let last = rows.filter_map(|line| line.trim_end_matches(" |").rsplit(" | ").next());
    last.flat_map(quoted).collect()
}

/// What promises security names tests that are there: a guest test, perhaps with its arguments, a test of the tool's, a fuzz target or
/// another program, or a function anywhere.
#[test]
fn promises_name_tests_that_exist() {
    let root = project::root();
    let table = read(&root.join("apps/guest-tests/tests.toml"));
    let sources = ["unikernel", "qemu/src", "apps/guest-tests/src"].map(|name| root.join(name));
    let sources: Vec<String> =
        sources.iter().flat_map(|folder| files(folder, "rs")).map(|path| read(&path)).collect();
    let is_said = |words: &str| table.contains(words) || sources.iter().any(|source| source.contains(words));
    let exists = |name: &str| {
        let (program, argument) = name.split_once(' ').unwrap_or((name, ""));
        let has_argument = argument.is_empty() || is_said(&format!("\"{argument}\""));
        // On several machines, its name goes on with which.
        let [whole, on_machines] = [format!("\"{program}\""), format!("\"{program} [")];
        let is_test = [whole, on_machines, format!("fn {program}("), format!("_{program}\"")];
        let is_program = root.join(format!("unikernel/build/src/bin/{program}.rs")).exists();
        has_argument && (is_program || is_test.iter().any(|words| is_said(words)))
    };
    let boundary = page("boundary.md");
    let promises = boundary.split_once("## Promises").and_then(|(_, rest)| rest.split_once("## Limits"));
    let security = read(&root.join("SECURITY.md"));
    let named = [promises.expect("the page has promises").0, &security].map(tests_named).concat();
    assert!(named.len() > 80, "only {} tests", named.len());
    let missing: Vec<&str> = named.into_iter().filter(|name| !exists(name)).collect();
    assert!(missing.is_empty(), "there is no test {missing:?}");
}
