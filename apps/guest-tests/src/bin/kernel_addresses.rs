//! What ring 3 can ask must not tell where the kernel is: the files of /proc, the auxiliary vector, and the processor, which
//! without UMIP shows anybody where its descriptor tables are (`tables`).

use std::arch::asm;
use std::fs;
use std::ops::Range;
use std::path::Path;

/// Where the kernel's things are; but for the last part, where masks look like addresses.
const KERNEL: Range<u64> = 0xffff_8000_0000_0000..0xffff_ffff_ffe0_0000;
/// Where the kernel's image may be, and where it is linked.
const IMAGES: Range<u64> = 0xffff_ffff_8000_0000..u64::MAX;
/// Links in /proc may lead anywhere.
const MOST_DEPTH: usize = 5;

fn main() {
    if std::env::args().nth(1).as_deref() == Some("tables") {
        return tables();
    }
    let mut files = 0;
    look_into(Path::new("/proc"), 0, &mut files);
    assert!(files > 20, "only {files} files in /proc were read");
    for kind in 0..64 {
        // SAFETY: looks an entry up, which need not be there.
        let value = unsafe { libc::getauxval(kind) };
        assert!(!KERNEL.contains(&value), "the auxiliary vector has {value:#x} for {kind}");
    }
}

fn look_into(folder: &Path, depth: usize, files: &mut usize) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() && depth < MOST_DEPTH {
            look_into(&entry.path(), depth + 1, files);
        } else if kind.is_file() {
            // Some are for writing, or for root.
            let Ok(content) = fs::read(entry.path()) else { continue };
            *files += 1;
            check(&entry.path(), &String::from_utf8_lossy(&content));
        }
    }
}

fn check(path: &Path, text: &str) {
    for word in text.split(|c: char| !c.is_ascii_hexdigit()).filter(|word| word.len() >= 16) {
        let found = u64::from_str_radix(&word[word.len() - 16..], 16).unwrap();
        assert!(!KERNEL.contains(&found), "{} has {word}", path.display());
    }
}

fn tables() {
    let read = |name: &str, store: fn(*mut u8)| {
        let mut table = [0_u8; 10];
        store(table.as_mut_ptr());
        let base = u64::from_ne_bytes(table[2..].try_into().unwrap());
        println!("{name} at {base:#x}");
        assert!(base != 0 && !IMAGES.contains(&base), "{name}: {base:#x}");
    };
    // SAFETY: both store ten bytes, or end the program where they may not be used.
    read("sidt", |to| unsafe { asm!("sidt [{}]", in(reg) to, options(nostack)) });
    // SAFETY: as above.
    read("sgdt", |to| unsafe { asm!("sgdt [{}]", in(reg) to, options(nostack)) });
}
