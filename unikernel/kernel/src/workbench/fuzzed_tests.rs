//! What fuzzing of system calls has kept (`make fuzz-host TARGET=calls`), once more. The target's sources are the fuzzer's.

use std::fs;
use std::path::{Path, PathBuf};

#[path = "../../../fuzz/src/calls/mod.rs"]
mod calls;
#[expect(dead_code, unreachable_pub, reason = "it is the fuzzer's, whose other targets need more of it")]
#[path = "../../../fuzz/src/input.rs"]
mod input;

#[test]
fn every_kept_input_passes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/calls");
    let entries = fs::read_dir(folder).expect("a corpus");
    let mut files: std::vec::Vec<PathBuf> = entries.map(|entry| entry.expect("an input").path()).collect();
    files.sort();
    assert!(files.len() >= 5, "nothing was kept");
    for file in files {
        std::eprintln!("{}", file.display());
        calls::run(&fs::read(&file).expect("an input"));
    }
}
