//! Loading and unloading, and all that can be wrong.

use alloc::string::String;

use linux_raw_sys::errno::*;
use linux_raw_sys::general::*;
use unikernel_trust::{Kind, Signer};

use super::super::app::calls::{Room, sys};
use super::super::app::run::{Answer, run, run_on};
use super::super::app::{Machine, join, spawn};
use super::super::files::{open, read_file, write_file};
use super::writer::{PC_32, Reloc};
use super::{FAIL, Module, load, run_open, text_of, unload};

/// A key of OpenSSL's.
const SECRET: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEII8kCB/zRyTLO++KQIlaUU4V+YMuWksYKS62TVrGD25j
-----END PRIVATE KEY-----
";

#[test]
fn modules_are_loaded_shown_and_unloaded() {
    run_open(|| {
        let mut module = Module::new("one");
        module.says.push("version=1.2");
        assert_eq!(module.load(), Ok(0));
        assert_eq!(text_of("/proc/modules"), "one 8192 0 - Live 0x0000000000000000\n");
        let of = |name: &str| text_of(&["/sys/module/one/", name].concat());
        assert_eq!(
            ["version", "refcnt", "coresize", "initstate"].map(of),
            ["1.2\n", "0\n", "8192\n", "live\n"]
        );
        assert_eq!(unload("one"), Ok(0));
        assert_eq!(text_of("/proc/modules"), "");
        assert_eq!(sys!(access, "/sys/module/one", 0), Err(ENOENT));
        assert_eq!(unload("one"), Err(ENOENT));
    });
}

#[test]
fn what_is_read_of_a_module_that_went_is_an_error() {
    run_open(|| {
        assert_eq!(Module::new("one").load(), Ok(0));
        let file = open("/sys/module/one/version", O_RDONLY);
        assert_eq!(sys!(open, "/sys/module/one/version", O_RDWR), Err(EACCES));
        assert_eq!(unload("one"), Ok(0));
        assert_eq!(sys!(read, file, &Room::new(8), 8), Err(ENODEV));
    });
}

#[test]
fn files_are_loaded_as_memory_is() {
    run_open(|| {
        write_file("/tmp/one.ko", &Module::new("one").writer().bytes());
        let file = open("/tmp/one.ko", O_RDONLY);
        assert_eq!(sys!(finit_module, file, "", 0), Ok(0));
        assert_eq!(sys!(finit_module, file, "", 0), Err(EEXIST));
        assert_eq!(
            [1, 2, 4, 8].map(|flag| sys!(finit_module, file, "", flag)),
            [Err(ENOEXEC), Err(ENOEXEC), Err(EOPNOTSUPP), Err(EINVAL)]
        );
        assert_eq!(sys!(finit_module, 99, "", 0), Err(EBADF));
        let written = open("/tmp/one.ko", O_WRONLY);
        assert_eq!(sys!(finit_module, written, "", 0), Err(EBADF));
        let folder = open("/tmp", O_RDONLY);
        assert_eq!(sys!(finit_module, folder, "", 0), Err(EINVAL));
        let null = open("/dev/null", O_RDONLY);
        assert_eq!(sys!(finit_module, null, "", 0), Err(EINVAL));
    });
}

#[test]
fn each_fault_has_its_error() {
    let refused = |change: &dyn Fn(&mut Module)| {
        let mut module = Module::new("bad");
        change(&mut module);
        module.load()
    };
    run_open(move || {
        assert_eq!(load(&[0; 63], ""), Err(ENOEXEC));
        assert_eq!(load(&[0; 4096], ""), Err(ENOEXEC));
        assert_eq!(sys!(init_module, 64, 4096, ""), Err(EFAULT));
        assert_eq!(sys!(init_module, &Room::of(&[0; 64]), usize::MAX, ""), Err(ENOEXEC));
        let file = Module::new("bad").writer().bytes();
        assert_eq!(sys!(init_module, &Room::of(&file), file.len(), 1), Err(EFAULT));
        assert_eq!(load(&file[..file.len() - 1], ""), Err(ENOEXEC), "it was cut off");
        assert_eq!(refused(&|module| module.says.clear()), Err(ENOEXEC), "no interface");
        assert_eq!(refused(&|module| module.says = alloc::vec!["abi=2"]), Err(ENOEXEC));
        assert_eq!(refused(&|module| module.abi = 2), Err(ENOEXEC));
        assert_eq!(refused(&|module| module.name = "../bad"), Err(ENOEXEC));
        assert_eq!(refused(&|module| module.says.push("depends=nobody")), Err(ENOENT));
        assert_eq!(Module::calling("bad", "uk_nothing", "symver=uk_nothing:1").load(), Err(ENOENT));
        assert_eq!(Module::calling("bad", "uk_hold", "symver=uk_hold:7").load(), Err(EINVAL));
        assert_eq!(Module::calling("bad", "uk_hold", "license=none").load(), Err(EINVAL), "no version");
        // The code of an exported function, or of the start, in the data.
        let mut writer = Module::new("bad").writer();
        writer.data_relocs[1].symbol = 4;
        assert_eq!(load(&writer.bytes(), ""), Err(ENOEXEC));
        let mut writer = Module::new("bad").writer();
        writer.text_relocs = alloc::vec![Reloc { at: 62, kind: PC_32, symbol: 1, addend: 0 }];
        assert_eq!(load(&writer.bytes(), ""), Err(ENOEXEC));
        // After all that it is loaded as ever.
        assert_eq!((Module::new("bad").load(), unload("bad")), (Ok(0), Ok(0)));
    });
}

#[test]
fn module_that_does_not_start_leaves_nothing() {
    run_open(|| {
        let module = Module { init: FAIL, ..Module::new("one") };
        assert_eq!(module.load(), Err(ENODEV));
        assert_eq!(text_of("/proc/modules"), "");
        assert_eq!(sys!(access, "/sys/module/one", 0), Err(ENOENT));
        assert_eq!(Module::new("one").load(), Ok(0));
    });
}

#[test]
fn module_that_is_held_stays() {
    run_open(|| {
        assert_eq!(Module::calling("held", "uk_hold", "symver=uk_hold:1").load(), Ok(0));
        assert_eq!(unload("held"), Err(EBUSY));
        assert_eq!(sys!(delete_module, "held", O_NONBLOCK | O_TRUNC), Err(EBUSY), "by force, too");
        assert_eq!(text_of("/sys/module/held/refcnt"), "1\n");
        assert_eq!(text_of("/sys/module/held/initstate"), "live\n");
    });
}

#[test]
fn modules_use_each_others_symbols() {
    run_open(|| {
        let base = Module { exports: Some(("base_call", 3)), ..Module::new("base") };
        let mut user = Module::calling("user", "base_call", "symver=base_call:3");
        user.says.push("depends=base");
        assert_eq!(user.load(), Err(ENOENT), "what it needs is not there");
        assert_eq!(base.load(), Ok(0));
        assert_eq!(Module::calling("other", "base_call", "symver=base_call:2").load(), Err(EINVAL));
        assert_eq!(user.load(), Ok(0));
        let list = "user 12288 0 - Live 0x0000000000000000\nbase 8192 1 user, Live 0x0000000000000000\n";
        assert_eq!(text_of("/proc/modules"), list);
        assert_eq!(unload("base"), Err(EBUSY));
        assert_eq!((unload("user"), unload("base")), (Ok(0), Ok(0)));
    });
}

#[test]
fn sealed_kernels_take_no_modules() {
    run(|| {
        assert_eq!(Module::new("one").load(), Err(EPERM));
        assert_eq!(unload("one"), Err(EPERM));
        assert_eq!(sys!(finit_module, 99, "", 0), Err(EPERM));
        assert_eq!(text_of("/proc/sys/kernel/modules_disabled"), "1\n");
    });
    run_open(|| {
        assert_eq!(text_of("/proc/sys/kernel/modules_disabled"), "0\n");
        assert_eq!(Module::new("one").load(), Ok(0));
        let seal = open("/proc/sys/kernel/modules_disabled", O_RDWR);
        assert_eq!(sys!(write, seal, &Room::of(b"1\n"), 2), Ok(2));
        assert_eq!((Module::new("two").load(), unload("one")), (Err(EPERM), Err(EPERM)));
        assert_eq!(sys!(write, seal, &Room::of(b"0\n"), 2), Err(EINVAL), "not back");
    });
}

#[test]
fn modules_take_a_privilege() {
    run_open(|| {
        assert_eq!(sys!(setuid, 1000), Ok(0));
        assert_eq!((Module::new("one").load(), unload("one")), (Err(EPERM), Err(EPERM)));
    });
}

#[test]
fn files_that_are_not_signed_are_refused() {
    let signer = Signer::from_pem(SECRET).unwrap();
    let command_line = alloc::format!("modules=open trust={}", signer.public());
    run_on(Machine { command_line, ..Machine::default() }, move || {
        let file = Module::new("one").writer().bytes();
        assert_eq!(load(&file, ""), Err(EKEYREJECTED));
        let mut sealed = signer.seal(Kind::Module, &file);
        assert_eq!(load(&signer.seal(Kind::Initrd, &file), ""), Err(EKEYREJECTED));
        sealed[0] ^= 1;
        assert_eq!(load(&sealed, ""), Err(EKEYREJECTED));
        sealed[0] ^= 1;
        assert_eq!(load(&sealed, ""), Ok(0));
    });
}

/// The machine's numbers that must not grow.
fn taken() -> [u64; 2] {
    let text = String::from_utf8(read_file("/proc/unikernel/metrics")).unwrap();
    ["unikernel_memory_free_bytes ", "unikernel_kernel_heap_bytes "].map(|name| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.parse().unwrap()
    })
}

#[test]
fn nothing_is_left_of_many_modules() {
    run_open(|| {
        let file = Module::new("one").writer().bytes();
        let failing = Module { init: FAIL, ..Module::new("one") }.writer().bytes();
        // Texts of calls are in the app's memory, too, and would stay there.
        let (room, failing) = (Room::of(&file), Room::of(&failing));
        let (name, nothing) = (Room::of(b"one\0"), Room::of(b"\0"));
        let come_and_go = || {
            assert_eq!(sys!(init_module, &room, file.len(), &nothing), Ok(0));
            assert_eq!(sys!(delete_module, &name, O_NONBLOCK), Ok(0));
            assert_eq!(sys!(init_module, &failing, file.len(), &nothing), Err(ENODEV));
        };
        (0..20).for_each(|_| come_and_go());
        // To look takes some pages of the app's, each time as many.
        let (first, before) = (taken(), taken());
        (0..300).for_each(|_| come_and_go());
        let after = taken();
        let is_free = after[0] + (first[0] - before[0]) >= before[0];
        assert!(is_free && after[1] <= before[1], "free and heap: {first:?}, {before:?}, then {after:?}");
    });
}

#[test]
fn threads_load_and_unload_at_once() {
    for seed in 0..8 {
        let machine = Machine { seed, cores: 2, command_line: "modules=open".into(), ..Machine::default() };
        super::run_on(machine, || {
            let work = |name: &'static str| {
                move || {
                    for _ in 0..10 {
                        let outcome: Answer = Module::new(name).load();
                        assert!(matches!(outcome, Ok(0) | Err(EEXIST)), "{outcome:?}");
                        let outcome = unload(name);
                        assert!(matches!(outcome, Ok(0) | Err(ENOENT | EBUSY)), "{outcome:?}");
                    }
                }
            };
            let others = [spawn(work("one")).unwrap(), spawn(work("two")).unwrap()];
            work("one")();
            others.into_iter().for_each(join);
            assert_eq!(text_of("/proc/modules"), "");
        });
    }
}

/// With `--features hello`: the module is there from the start, and stays.
#[cfg(feature = "hello")]
#[test]
fn module_of_the_kernel_starts_at_boot() {
    let machine = Machine {
        command_line: "module=\"hello who=you times=2\" modules=open".into(),
        ..Machine::default()
    };
    super::run_on(machine, || {
        assert_eq!(text_of("/dev/hello"), "hello, you\nhello, you\n");
        assert_eq!(text_of("/sys/module/hello/parameters/times"), "2\n");
        assert_eq!((text_of("/proc/modules").as_str(), unload("hello")), ("", Err(ENOENT)));
        assert_eq!(Module::new("hello").load(), Err(EEXIST));
    });
}
