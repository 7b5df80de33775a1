//! Logs in real files: cut, damaged, made anew.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::*;
use crate::testing::{self, contents, run};

/// A folder that goes with its test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("kv-log-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn log(&self) -> PathBuf {
        self.0.join(NAME)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn options(folder: &Path) -> Options {
    let arguments = ["kv", "--dir"].map(std::ffi::OsString::from).into_iter();
    crate::options::parse(arguments.chain([folder.as_os_str().to_owned()])).unwrap().unwrap()
}

fn open(folder: &Path) -> Result<(Log, Database), String> {
    let mut database = testing::database(i64::MIN);
    let log = Log::open(&options(folder), &mut database)?;
    database.set_now(1000);
    Ok((log, database))
}

/// Opens, runs lines of words, and closes; answers the keys.
fn session(folder: &Path, lines: &[&str]) -> Database {
    let (mut log, mut database) = open(folder).unwrap();
    for words in lines {
        assert!(!run(&mut database, words).starts_with(b"-"), "{words}");
        log.commit(database.log()).unwrap();
    }
    log.close(database.log()).unwrap();
    database
}

#[test]
fn changes_are_there_again() {
    let folder = Folder::new();
    let before = session(&folder.0, &["SET a 1 PX 500", "MSET b 2 c 3", "DEL b", "APPEND c 4"]);
    let (_log, after) = open(&folder.0).unwrap();
    assert_eq!(contents(&after), contents(&before));
    assert_eq!(contents(&after).len(), 2);
}

#[test]
fn every_unfinished_end_is_cut() {
    let folder = Folder::new();
    session(&folder.0, &["SET a 1"]);
    let whole = fs::read(folder.log()).unwrap();
    session(&folder.0, &["SET b 2"]);
    let longer = fs::read(folder.log()).unwrap();
    for len in whole.len()..longer.len() {
        for zeros in [0, 1, 100] {
            fs::write(folder.log(), [&longer[..len], &vec![0; zeros]].concat()).unwrap();
            let (_log, database) = open(&folder.0).unwrap();
            assert_eq!(contents(&database).len(), 1, "{len} bytes, {zeros} zeros");
            assert_eq!(fs::read(folder.log()).unwrap(), whole);
        }
    }
}

#[test]
fn damage_is_refused_and_left() {
    let folder = Folder::new();
    session(&folder.0, &["SET a 1", "SET b 22", "SET c 333"]);
    let good = String::from_utf8(fs::read(folder.log()).unwrap()).unwrap();
    for (from, to) in [
        ("$2\r\n22", "$3\r\n22"),
        ("$2\r\n22", "$9999\r\n22"),
        ("$2\r\n22", "$1\r\n22"),
        ("*3\r\n$3\r\nSET\r\n$1\r\nb", "x3\r\n$3\r\nSET\r\n$1\r\nb"),
        ("*3\r\n$3\r\nSET\r\n$1\r\nb", "*9\r\n$3\r\nSET\r\n$1\r\nb"),
        ("*3\r\n$3\r\nSET\r\n$1\r\nb", "*3\r\n$3\r\nGET\r\n$1\r\nb"),
    ] {
        let bad = good.replace(from, to);
        fs::write(folder.log(), &bad).unwrap();
        let error = open(&folder.0).err().unwrap();
        assert!(error.contains("is damaged at byte 27"), "{to}: {error}");
        assert_eq!(fs::read_to_string(folder.log()).unwrap(), bad);
    }
}

#[test]
fn missing_folder_is_explained() {
    let error = open(Path::new("/nonexistent/data")).err().unwrap();
    assert!(error.contains("there is no /nonexistent/data: mount a disk there"), "{error}");
}

#[test]
fn two_do_not_share_a_folder() {
    let folder = Folder::new();
    let _first = open(&folder.0).unwrap();
    assert!(open(&folder.0).err().unwrap().contains("another kv"));
}

#[test]
fn log_is_made_anew_when_it_has_doubled() {
    let folder = Folder::new();
    let (mut log, mut database) = open(&folder.0).unwrap();
    log.least_rewrite = 10_000;
    let value = "x".repeat(100);
    let mut longest = 0;
    for round in 0..1000 {
        run(&mut database, &format!("SET {} {value}", round % 10));
        log.commit(database.log()).unwrap();
        log.work(&mut database);
        longest = longest.max(fs::metadata(folder.log()).unwrap().len());
    }
    assert!(longest < 12_000, "{longest}");
    drop(log);
    let (_log, after) = open(&folder.0).unwrap();
    assert_eq!(contents(&after), contents(&database));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Changes between the steps of a rewrite, of keys that it has passed and of others, are all in the new
    /// log.
    #[test]
    fn rewritten_log_makes_the_same_keys(
        steps in prop::collection::vec((0_u8..7, 0_u32..40, 0_u32..50), 1..60),
    ) {
        let folder = Folder::new();
        let (mut log, mut database) = open(&folder.0).unwrap();
        let value = "x".repeat(9_000);
        for key in 0..40 {
            run(&mut database, &format!("SET {key} {value}"));
        }
        log.commit(database.log()).unwrap();
        database.wants_rewrite = true;
        for (what, key, amount) in steps {
            let words = match what {
                0 => format!("SET {key} {amount}"),
                1 => format!("INCRBY new{key} {amount}"),
                2 => format!("APPEND {key} {amount}"),
                3 => format!("DEL {key}"),
                4 => format!("PEXPIRE {key} {}", amount + 1),
                5 => format!("PERSIST {key}"),
                _ => format!("MSET {key} 1 new{key} 2"),
            };
            run(&mut database, &words);
            log.commit(database.log()).unwrap();
            log.work(&mut database);
        }
        while log.rewrite.is_some() {
            log.work(&mut database);
        }
        prop_assert!(!folder.0.join(NEW_NAME).exists());
        drop(log);
        let (_log, after) = open(&folder.0).unwrap();
        prop_assert_eq!(contents(&after), contents(&database));
    }
}
