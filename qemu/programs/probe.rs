//! A program that knows nothing of the kernel: `program_tests.rs` compiles it in several forms with rustc alone, runs it on
//! Linux, and boots it by `init=`. It looks at what a program is started with, and says where it was put.
//!
//! Its arguments are "relocatable" or "fixed", "interpreted" or "static", and two that prove that words arrive.

use std::arch::asm;
use std::ffi::{CStr, c_char, c_ulong};
use std::fs;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

const AT_PHDR: c_ulong = 3;
const AT_PHENT: c_ulong = 4;
const AT_PHNUM: c_ulong = 5;
const AT_PAGESZ: c_ulong = 6;
const AT_BASE: c_ulong = 7;
const AT_ENTRY: c_ulong = 9;
const AT_RANDOM: c_ulong = 25;
const AT_EXECFN: c_ulong = 31;
const PT_LOAD: u32 = 1;
const SYS_BRK: u64 = 12;

unsafe extern "C" {
    fn getauxval(name: c_ulong) -> c_ulong;
}

/// More than a page in the file, so that its end shares a page with zeros.
static DATA: [AtomicU64; 1000] = [const { AtomicU64::new(0x0123_4567_89ab_cdef) }; 1000];
static ZEROS: [AtomicU8; 300_000] = [const { AtomicU8::new(0) }; 300_000];

thread_local! {
    static OWN: AtomicU64 = const { AtomicU64::new(42) };
}

fn auxiliary(name: c_ulong) -> u64 {
    // SAFETY: it looks a number up.
    unsafe { getauxval(name) }
}

fn brk(to: u64) -> u64 {
    let at;
    // SAFETY: moves the break up only; nobody else uses it (a C library asks before it does).
    unsafe {
        asm!("syscall", inlateout("rax") SYS_BRK => at, in("rdi") to, out("rcx") _, out("r11") _, options(nostack));
    }
    at
}

/// The lines of `/proc/self/maps`: range, permissions, name.
fn maps() -> Vec<(std::ops::Range<u64>, String, String)> {
    let text = fs::read_to_string("/proc/self/maps").unwrap();
    let parse = |line: &str| {
        let mut words = line.split_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let number = |text| u64::from_str_radix(text, 16).ok();
        let permissions = words.next()?.to_owned();
        Some((number(start)?..number(end)?, permissions, words.nth(3).unwrap_or_default().to_owned()))
    };
    text.lines().map(|line| parse(line).expect(line)).collect()
}

fn check_memory() {
    assert!(ZEROS.iter().all(|zero| zero.swap(1, Ordering::Relaxed) == 0));
    assert!(ZEROS.iter().all(|zero| zero.load(Ordering::Relaxed) == 1));
    for (index, word) in DATA.iter().enumerate() {
        assert_eq!(word.swap(index as u64, Ordering::Relaxed), 0x0123_4567_89ab_cdef);
    }
    let start = brk(0);
    let end = brk(start + (1 << 20));
    assert_eq!(end, start + (1 << 20), "the break can grow");
    for at in (start..end).step_by(512) {
        let word = at as *mut u64;
        // SAFETY: the break has just been moved over these bytes.
        unsafe {
            assert_eq!(word.read_volatile(), 0);
            word.write_volatile(at);
        }
    }
    assert!(maps().iter().any(|(range, _, name)| name == "[heap]" && range.contains(&start)));
}

fn check_headers(is_interpreted: bool) {
    let (count, first) = (auxiliary(AT_PHNUM), auxiliary(AT_PHDR));
    assert_eq!((auxiliary(AT_PHENT), auxiliary(AT_PAGESZ)), (56, 4096));
    // SAFETY: the kernel says that so many headers are there.
    let kinds = (0..count).map(|index| unsafe { ((first + index * 56) as *const u32).read() });
    assert!(kinds.filter(|&kind| kind == PT_LOAD).count() >= 2);
    assert_eq!(auxiliary(AT_BASE) != 0, is_interpreted);
    let exe = fs::read_link("/proc/self/exe").unwrap();
    let entry = auxiliary(AT_ENTRY);
    let code = maps().into_iter().find(|(range, ..)| range.contains(&entry)).expect("the entry is mapped");
    assert_eq!((code.1.as_str(), code.2.as_str()), ("r-xp", exe.to_str().unwrap()));
    // SAFETY: sixteen bytes, by the ABI.
    let random = unsafe { (auxiliary(AT_RANDOM) as *const [u8; 16]).read() };
    assert_ne!(random, [0; 16]);
}

fn check_names() {
    let path = std::env::args().next().unwrap();
    // SAFETY: a string that the kernel has put on the stack.
    let name = unsafe { CStr::from_ptr(auxiliary(AT_EXECFN) as *const c_char) };
    assert_eq!(name.to_str().unwrap(), path);
    assert_eq!(std::env::current_exe().unwrap(), fs::canonicalize(&path).unwrap());
    assert!(fs::read("/proc/self/exe").unwrap().starts_with(b"\x7fELF\x02"));
    let file = path.rsplit('/').next().unwrap();
    assert_eq!(fs::read_to_string("/proc/self/comm").unwrap().trim(), &file[..file.len().min(15)]);
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kind, form, one, two] = &arguments[..] else { panic!("{arguments:?}") };
    assert_eq!((one.as_str(), two.as_str()), ("one", "two words"));
    assert_eq!(std::env::var("PROBE").as_deref(), Ok("yes"));
    check_names();
    check_headers(form == "interpreted");
    check_memory();
    let own = std::thread::spawn(|| OWN.with(|own| own.fetch_add(1, Ordering::Relaxed))).join().unwrap();
    assert_eq!((own, OWN.with(|own| own.load(Ordering::Relaxed))), (42, 42));
    // The unwinder finds its tables by the headers.
    let caught = std::panic::catch_unwind(|| assert!(DATA[0].load(Ordering::Relaxed) == 1, "as it should"));
    assert!(caught.is_err());
    let here = main as *const () as u64;
    assert_eq!(here > 0x1_0000_0000, kind == "relocatable");
    let local = 0u8;
    println!("places: {here:x} {:x} {:x} {:x}", brk(0), (&raw const local).addr(), maps_start());
}

/// Where the lowest of the shared libraries' or the kernel's mappings is.
fn maps_start() -> u64 {
    maps().iter().find(|(_, _, name)| name == "[vdso]").map_or(0, |(range, ..)| range.start)
}
