//! Images made here, good ones and those of somebody who means ill: what becomes of each.

mod made;

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Value, json};
use tar::EntryType;

use super::stream::digest_of;
use super::*;
use made::{Layer, Scratch, base, config_of, gzip, layout, program, run_config, text};

/// Unpacks an image of these layers.
fn image_of(config: &Value, layers: impl IntoIterator<Item = Layer>) -> Result<Container> {
    let scratch = Scratch::new();
    let layers: Vec<_> = layers.into_iter().map(Layer::end).map(|layer| (gzip(&layer), layer)).collect();
    layout(&scratch.0, config, &layers);
    read(&scratch.0)
}

fn image(layers: impl IntoIterator<Item = Layer>) -> Result<Container> {
    image_of(&run_config(), layers)
}

fn told(outcome: Result<Container>) -> String {
    format!("{:#}", outcome.expect_err("it is refused"))
}

/// What an archive of files has: for each name the mode, and the content.
fn files(container: &Container) -> BTreeMap<String, (u32, String)> {
    let (bytes, mut at, mut found) = (&container.files, 0, BTreeMap::new());
    loop {
        let field = |number: usize| {
            let start = at + 6 + 8 * number;
            u32::from_str_radix(std::str::from_utf8(&bytes[start..start + 8]).unwrap(), 16).unwrap() as usize
        };
        let (mode, size, name_bytes) = (field(1), field(6), field(11));
        let name = String::from_utf8_lossy(&bytes[at + 110..at + 109 + name_bytes]).into_owned();
        let start = (at + 110 + name_bytes).next_multiple_of(4);
        if name == "TRAILER!!!" {
            return found;
        }
        assert!((field(2), field(3)) == (7, 8) || field(5) == 0, "{name} has an owner");
        found.insert(name, (mode as u32, String::from_utf8_lossy(&bytes[start..start + size]).into_owned()));
        at = (start + size).next_multiple_of(4);
    }
}

fn names(container: &Container) -> Vec<String> {
    files(container).into_keys().filter(|name| !name.starts_with("bin")).collect()
}

fn words(container: &Container) -> Vec<String> {
    String::from_utf8(container.words.clone()).unwrap().split_terminator('\0').map(str::to_owned).collect()
}

#[test]
fn layers_go_over_each_other() {
    let lower = base()
        .folder("a")
        .file("a/one", "1")
        .file("a/two", "2")
        .folder("b")
        .file("b/c/deep", "d")
        .file("gone", "g");
    let upper = Layer::default()
        .file("a/.wh.one", "")
        .file("a/three", "3")
        .file("b/new", "n")
        .file("b/.wh..wh..opq", "")
        .file(".wh.gone", "")
        .file(".wh..wh.plnk", "");
    let found = image([lower, upper]).unwrap();
    assert_eq!(names(&found), ["a", "a/three", "a/two", "b", "b/new"]);
    // A folder over a file, a file over a folder, a file through a link, a folder that was taken away and made anew.
    let lower = base()
        .file("f", "f")
        .folder("d")
        .file("d/x", "x")
        .link("lib", "usr/lib")
        .folder("usr/lib")
        .file("e/old", "o");
    let upper = Layer::default()
        .folder("f")
        .file("d", "d")
        .file("lib/so", "s")
        .folder("e")
        .file("e/new", "n")
        .file(".wh.e", "");
    let found = image([lower, upper]).unwrap();
    assert_eq!(names(&found), ["d", "e", "e/new", "f", "lib", "usr", "usr/lib", "usr/lib/so"]);
    let all = files(&found);
    assert_eq!(all["d"], (0o100_755, "d".into()));
    assert_eq!(all["f"].0, 0o040_750);
    assert_eq!(all["lib"], (0o120_755, "usr/lib".into()));
}

#[test]
fn hard_links_share_what_is_taken_away_elsewhere() {
    let lower = base().file("one", "content").hard("two", "one").hard("three", "./one");
    let found = image([lower, Layer::default().file(".wh.one", "")]).unwrap();
    let all = files(&found);
    let contents = ["two", "three"].map(|name| all[name].1.len());
    assert_eq!(
        (contents.iter().sum::<usize>(), all.contains_key("one")),
        (7, false),
        "the content comes once"
    );
}

#[test]
fn layers_come_in_each_compression() {
    let layer = base().file("a", "a").end();
    let twice = [gzip(&layer[..1000]), gzip(&layer[1000..])].concat();
    for packed in [layer.clone(), gzip(&layer), twice, zstd::encode_all(&layer[..], 1).unwrap()] {
        let scratch = Scratch::new();
        layout(&scratch.0, &run_config(), &[(packed, layer.clone())]);
        assert_eq!(names(&read(&scratch.0).unwrap()), ["a"]);
    }
    let scratch = Scratch::new();
    layout(&scratch.0, &run_config(), &[(b"\xfd7zXZ\0...".to_vec(), layer)]);
    assert!(told(read(&scratch.0)).contains("xz"));
}

#[test]
fn end_of_an_archive_may_be_missing_but_no_file() {
    let whole = base().file("a", "abc").0;
    let end = whole.len() - 512 + 3;
    let apply = |len: usize| {
        let (mut tree, budget) = (Tree::new(), Budget::new(MOST_ENTRIES, MOST_BYTES));
        layer::apply(&mut tree, 0, &whole[..len], len as u64, &budget).map(|_| tree.find(b"a").is_some())
    };
    assert!((end..=whole.len()).all(|len| apply(len).unwrap()));
    assert!((end - 3 + 1..end).all(|len| format!("{:#}", apply(len).unwrap_err()).contains("cut short")));
    assert!(apply(end - 3 - 100).is_err(), "half a header");
}

#[test]
fn configuration_becomes_words() {
    let config = json!({
        "Entrypoint": ["server", "--"], "Cmd": ["-p", "two words \"quoted\""], "WorkingDir": "/data/x", "User": "web",
        "Env": ["PATH=/none:/usr/bin:/bin", "A=b=c", "EMPTY="], "Volumes": { "/var/v": {} },
    });
    let accounts = base()
        .file("etc/passwd", "root:x:0:0::/root:\nweb:x:33:44::/srv/web:/bin/sh\n")
        .file("etc/group", "staff:x:50:\n");
    let found = image_of(&config, [accounts]).unwrap();
    let expected = [
        "init=/bin/server",
        "name=server",
        "cwd=/data/x",
        "user=33:44",
        "env.HOME=/srv/web",
        "env.PATH=/none:/usr/bin:/bin",
        "env.A=b=c",
        "env.EMPTY=",
        "argument=--",
        "usual-argument=-p",
        "usual-argument=two words \"quoted\"",
    ];
    assert_eq!(words(&found), expected);
    assert!(files(&found).contains_key("data/x") && files(&found).contains_key("var/v"));
    let text = String::from_utf8(found.words).unwrap();
    let options = unikernel_cmdline::parse_for_image(&text, "").unwrap();
    assert_eq!(options.app_arguments, ["--", "-p", "two words \"quoted\""]);

    // Without an entry point, the first word of the other is the program; a relative one is where it starts.
    let found =
        image_of(&json!({ "Cmd": ["./server", "x"], "WorkingDir": "bin", "User": "5:6" }), [base()]).unwrap();
    assert_eq!(
        words(&found),
        ["init=/bin/./server", "name=./server", "cwd=/bin", "user=5:6", "env.HOME=/", "usual-argument=x"]
    );
}

#[test]
fn programs_that_cannot_start_are_refused() {
    let of = |command: &str, layer: Layer| told(image_of(&json!({ "Cmd": [command] }), [layer]));
    assert!(of("nginx", base()).contains("nginx is in no folder of PATH"));
    assert!(of("/bin/nginx", base()).contains("/bin/nginx is not in the image"));
    assert!(of("/bin", base()).contains("/bin is no file"));
    assert!(of("/loop", base().link("loop", "/loop")).contains("not in the image"));
    assert!(
        of("/s", base().file("s", "#!/bin/sh -e\n"))
            .contains("the interpreter of /s: /bin/sh is not in the image")
    );
    assert!(of("/s", base().file("s", "#!/s\n")).contains("a script of a script"));
    assert!(of("/s", base().file("s", "#! \n")).contains("names no interpreter"));
    assert!(of("/s", base().file("s", "text")).contains("no ELF file"));
    let arm = [&program()[..18], &[183, 0], &program()[20..]].concat();
    assert!(of("/s", base().file("s", arm)).contains("ARM"));
    assert!(told(image_of(&json!({}), [base()])).contains("names no program"));
    assert!(
        told(image_of(&json!({ "Cmd": ["/bin/server"], "User": "nobody" }), [base()]))
            .contains("no user `nobody`")
    );
    assert!(
        told(image_of(&json!({ "Cmd": ["/bin/server"], "WorkingDir": "/a/../../b" }), [base()]))
            .contains("upwards")
    );
    // Through links, and by a script.
    let good = base().link("usr/bin/server", "../../../bin/server").file("start", "#! /usr/bin/server -x\n");
    image_of(&json!({ "Cmd": ["/start"] }), [good]).unwrap();
}

#[test]
fn attacks_in_layers_are_refused_by_name() {
    let zero = |path: &[u8]| base().raw(path, EntryType::Regular, 0o755, &[], 0, &[]);
    let device = |path: &str, kind| base().entry(path, kind, "");
    let attacks: Vec<(Layer, &str)> = vec![
        (base().file("../evil", "x"), "../evil: it leads upwards"),
        (base().file("a/../../evil", "x"), "upwards"),
        (base().file("/../evil", "x"), "upwards"),
        (base().folder(".."), "upwards"),
        (base().link("up", "../../..").file("up/etc/passwd", "x"), "a link that leads out of the root"),
        (base().link("a", "b").link("b", "a").file("a/x", "x"), "too many links"),
        (base().link("a", "nowhere").file("a/x", "x"), "leads nowhere"),
        (base().file("bin/server/x", "x"), "through a file"),
        (base().hard("evil", "../../etc/passwd"), "upwards"),
        (base().hard("evil", "/etc/passwd"), "not in the image"),
        (base().hard("evil", "bin"), "a hard link to a folder"),
        (base().hard("evil", "/"), "a hard link to the root"),
        (device("dev/sda", EntryType::Block), "a device"),
        (device("mem", EntryType::Char), "a device"),
        (device("pipe", EntryType::Fifo), "a named pipe"),
        (device("x", EntryType::new(b'V')), "unknown kind"),
        (base().file(".wh..", ""), "takes away"),
        (base().file(".wh...", ""), "takes away"),
        (base().file("a/.wh.", ""), "takes away"),
        (zero(&[b'x'; 100]).raw(&[], EntryType::Regular, 0, &[], 0, &[]), "the root is no folder"),
        (base().raw(b"lie", EntryType::Regular, 0o755, &[], 1 << 20, b"short"), "cut short"),
        (base().raw(b"lie", EntryType::Regular, 0o755, &[], u64::MAX >> 2, b"short"), "too many bytes"),
        (base().raw(b"long", EntryType::GNULongName, 0, &[], 1 << 21, &vec![b'x'; 1 << 21]), "too long"),
    ];
    for (number, (layer, expected)) in attacks.into_iter().enumerate() {
        let message = told(image([layer]));
        assert!(message.contains(expected), "attack {number}: not {expected:?}: {message}");
    }
    // Absolute links lead to the image's own files, and devices that the kernel has need not come.
    let good = base().link("etc", "/real").folder("real").file("etc/passwd", "").entry(
        "dev/null",
        EntryType::Char,
        "",
    );
    assert_eq!(names(&image([good]).unwrap()), ["dev", "etc", "real", "real/passwd"]);
}

#[test]
fn whatever_is_damaged_is_told() {
    let layer = base().end();
    let make = |change: &dyn Fn(&Path)| {
        let scratch = Scratch::new();
        layout(&scratch.0, &run_config(), &[(gzip(&layer), layer.clone())]);
        change(&scratch.0);
        told(read(&scratch.0))
    };
    let blob = |folder: &Path, bytes: &[u8]| folder.join("blobs/sha256").join(&digest_of(bytes)[7..]);
    let packed = gzip(&layer);
    let mut changed = packed.clone();
    changed[100] ^= 1;
    assert!(make(&|folder| fs::write(blob(folder, &packed), &changed).unwrap()).contains("its digest is"));
    assert!(make(&|folder| fs::write(blob(folder, &packed), b"x").unwrap()).contains("has 1 bytes, and not"));
    assert!(make(&|folder| fs::remove_file(blob(folder, &packed)).unwrap()).contains("it has no blobs/"));
    assert!(
        make(&|folder| fs::write(folder.join("index.json"), "{").unwrap()).contains("index.json is damaged")
    );
    assert!(make(&|folder| fs::remove_file(folder.join("index.json")).unwrap()).contains("neither"));
    for digest in ["sha256:../../../etc/passwd", "sha512:00", "", "sha256:é"] {
        let index = json!({ "manifests": [{ "digest": digest, "size": 1 }] });
        let message = make(&|folder| fs::write(folder.join("index.json"), text(&index)).unwrap());
        assert!(message.contains("expected a digest"), "{message}");
    }
    let platform = json!({ "os": "linux", "architecture": "arm64" });
    let index = json!({ "manifests": [{ "digest": "sha256:", "size": 1, "platform": platform }] });
    assert!(
        make(&|folder| fs::write(folder.join("index.json"), text(&index)).unwrap())
            .contains("only for linux/arm64")
    );
    // A layer that holds something else than the configuration says.
    let scratch = Scratch::new();
    layout(&scratch.0, &run_config(), &[(gzip(&layer), b"another".to_vec())]);
    assert!(told(read(&scratch.0)).contains("holds is damaged"));
    assert!(told(read(Path::new("/nonexistent"))).contains("no such file"));
    assert!(told(read(Path::new("/dev/null"))).contains("neither a file nor a folder"));
}

#[test]
fn bombs_are_bounded() {
    let zeros = vec![0; 1 << 20];
    for packed in [gzip(&zeros), zstd::encode_all(&zeros[..], 1).unwrap()] {
        let bomb = packed.repeat(100);
        let mut reader = stream::decompressed(&bomb[..], bomb.len() as u64).unwrap();
        let error = io::copy(&mut reader, &mut io::sink()).unwrap_err();
        assert!(error.to_string().contains("a bomb?"), "{error}");
    }
    let apply = |layer: Layer, entries, bytes| {
        let layer = layer.end();
        let outcome =
            layer::apply(&mut Tree::new(), 0, &layer[..], layer.len() as u64, &Budget::new(entries, bytes));
        outcome.err().map(|error| format!("{error:#}"))
    };
    let same = || Layer(Layer::default().file("same", "12345").0.repeat(10));
    assert_eq!(apply(same(), 10, 50), None);
    assert!(apply(same(), 9, 50).unwrap().contains("more files than"));
    assert!(apply(same(), 10, 49).unwrap().contains("too many bytes"));
}

#[test]
fn archives_of_docker_save_are_read() {
    let (lower, upper) = (base().end(), Layer::default().file("up", "u").end());
    let config = text(&config_of(&run_config(), &[digest_of(&lower), digest_of(&upper)]));
    let name = format!("{}.json", &digest_of(&config)[7..]);
    let saved = json!([{ "Config": name, "RepoTags": ["a:1"], "Layers": ["1/layer.tar", "2/layer.tar"] }]);
    let archive = |saved: &Value, config: &[u8]| {
        let mut archive = tar::Builder::new(Vec::new());
        let mut add = |name: &str, bytes: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            archive.append_data(&mut header, name, bytes).unwrap();
        };
        add("1/layer.tar", &lower);
        add("shared/layer.tar", &upper);
        add(&name, config);
        add("manifest.json", &text(saved));
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(EntryType::Symlink);
        header.set_size(0);
        archive.append_link(&mut header, "2/layer.tar", "../shared/layer.tar").unwrap();
        archive.into_inner().unwrap()
    };
    let scratch = Scratch::new();
    let path = scratch.0.join("image.tar");
    let of = |bytes: Vec<u8>| {
        fs::write(&path, bytes).unwrap();
        read(&path)
    };
    assert_eq!(names(&of(archive(&saved, &config)).unwrap()), ["up"]);
    assert_eq!(names(&of(gzip(&archive(&saved, &config))).unwrap()), ["up"]);
    assert!(told(of(archive(&saved, &[&config[..], b" "].concat()))).contains("its digest is"));
    assert!(told(of(archive(&json!([saved[0], saved[0]]), &config))).contains("it holds 2 images"));
    let mut evil = saved.clone();
    evil[0]["Layers"][0] = json!("../../etc/passwd");
    assert!(told(of(archive(&evil, &config))).contains("it has no ../../etc/passwd"));
    assert!(told(of(program())).contains("it is a program"));
    assert!(told(of(b"text".to_vec())).contains("no archive of an image"));
    assert!(told(of(vec![0; 1024])).contains("neither"), "an archive without anything");
    let whole = archive(&saved, &config);
    for len in [100, 513, 2000, whole.len() / 2] {
        assert!(of(whole[..len].to_vec()).is_err());
    }
}
