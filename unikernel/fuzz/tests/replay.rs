//! The kept corpus, and each input cut off and with bytes changed: what was once reached is reached in each test run.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use unikernel_fuzz::{TARGETS, Target};

/// What one input may take, without optimisation on a busy machine. Those that are kept take milliseconds.
const LIMIT: Duration = Duration::from_secs(20);
/// What all of them may take in the repository.
const MOST_BYTES: usize = 300 << 10;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

/// The kept inputs of a target, and the names of their files.
fn inputs(target: &Target) -> Vec<(String, Vec<u8>)> {
    let folder = corpus().join(target.name);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut inputs: Vec<(String, Vec<u8>)> = entries
        .map(|entry| entry.expect("the folder can be read").path())
        .map(|path| (path.display().to_string(), fs::read(&path).expect("the input can be read")))
        .collect();
    inputs.sort();
    inputs
}

/// Runs an input; what fails is told by the name of its file.
fn run(target: &Target, name: &str, input: &[u8]) {
    let start = Instant::now();
    let (function, input) = (target.run, input.to_vec());
    let outcome = std::panic::catch_unwind(move || function(&input));
    assert!(outcome.is_ok(), "{}: {name} panics (`unikernel/fuzz/README.md`)", target.name);
    assert!(start.elapsed() < LIMIT, "{}: {name} takes {:?}", target.name, start.elapsed());
}

fn replay(targets: &[Target]) {
    for target in targets {
        (target.run)(&[]);
        let inputs = inputs(target);
        assert!(
            inputs.len() >= 5,
            "{}: nothing was kept; `make fuzz-host TARGET={}`",
            target.name,
            target.name
        );
        for (name, input) in &inputs {
            assert!(input.len() <= target.max_bytes, "{name} is longer than its target takes");
            run(target, name, input);
            run(target, &format!("half of {name}"), &input[..input.len() / 2]);
        }
    }
}

/// In two halves, for two cores.
#[test]
fn every_kept_input_passes() {
    replay(&TARGETS[..TARGETS.len() / 2]);
}

#[test]
fn every_kept_input_of_the_others_passes() {
    replay(&TARGETS[TARGETS.len() / 2..]);
}

#[test]
fn folders_and_targets_are_the_same_and_small() {
    let mut folders: Vec<String> = fs::read_dir(corpus())
        .expect("there is a corpus")
        .map(|entry| entry.expect("it can be read").file_name().into_string().expect("it is a name"))
        .collect();
    folders.sort();
    let mut names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    if !cfg!(feature = "libfuzzer") {
        // Needs the kernel, whose tests replay it.
        names.push("calls");
    }
    names.sort_unstable();
    assert_eq!(folders, names);
    let bytes: usize = TARGETS.iter().flat_map(inputs).map(|(_, input)| input.len()).sum();
    assert!(bytes <= MOST_BYTES, "the corpus has {bytes} bytes: minimise it");
}
