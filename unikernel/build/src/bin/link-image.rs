//! Links the kernel into static programs of which only the objects are at hand: the test programs of
//! `make conformance`, whose sources are not ours and get no build script.
//!
//! `link-image WORK_DIR PROFILE` compiles the kernel and reads lines `RECORD IMAGE` from its standard input: a
//! folder that `qemu/conformance/lld` recorded, and where the image shall go. It answers a line for each image.

#![forbid(unsafe_code)]

use std::io::{self, BufRead};
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    if unikernel_build::embed_if_asked() {
        return;
    }
    let mut arguments = env::args().skip(1);
    let work_dir = PathBuf::from(arguments.next().expect("the first argument is a folder"));
    let profile = arguments.next().expect("the second argument is the kernel's profile");
    fs::create_dir_all(&work_dir).expect("the folder can be made");
    let kernel = unikernel_build::image_arguments(&work_dir.join("target"), &work_dir, &profile);
    for line in io::stdin().lock().lines() {
        let line = line.expect("the list is UTF-8");
        let (record, image) = line.split_once(' ').expect("a line has two paths");
        link(Path::new(record), image, &kernel);
        println!("{image}");
    }
}

/// Repeats a recorded link with the kernel as further input.
fn link(record: &Path, image: &str, kernel: &[String]) {
    let recorded = fs::read_to_string(record.join("arguments")).expect("the link was recorded");
    let mut words: Vec<&str> = recorded.lines().collect();
    let output = words.iter().position(|&word| word == "-o").expect("a link has an output") + 1;
    words[output] = image;
    words.extend(kernel.iter().map(String::as_str));
    let linker = fs::read_to_string(record.join("linker")).expect("the linker was recorded");
    unikernel_build::run_linker(&linker, &words);
}
