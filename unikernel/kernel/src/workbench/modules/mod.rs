//! Modules, made of a few bytes of machine code, which the simulated machine runs as a real one does.

mod load_tests;
#[path = "../../../../elf/src/object/tests/writer.rs"]
#[expect(dead_code, reason = "the loader's own tests use all of it")]
mod writer;

use alloc::string::String;
use alloc::vec::Vec;

use linux_raw_sys::general as linux;

use super::app::Machine;
use super::app::calls::{Room, sys};
use super::app::run::{Answer, run_on};
use super::files::read_file;
use writer::{ABS_64, DATA, GLOBAL, GLOBAL_FUNCTION, GOT_PC_32, Reloc, TEXT, Writer};

/// `xor eax, eax; ret`
const SUCCEED: &[u8] = &[0x31, 0xc0, 0xc3];
/// `mov eax, -19; ret`: `ENODEV`.
const FAIL: &[u8] = &[0xb8, 0xed, 0xff, 0xff, 0xff, 0xc3];
/// `sub rsp, 8; call [rip + ...]; add rsp, 8; ret`: calls a function with what it was called with, and answers its answer.
const CALL: &[u8] = &[0x48, 0x83, 0xec, 8, 0xff, 0x15, 0, 0, 0, 0, 0x48, 0x83, 0xc4, 8, 0xc3];
/// Where the call has the distance.
const CALL_AT: u64 = 6;
const EXIT_AT: u64 = 32;
const EXPORTED_AT: u64 = 48;
/// Where the descriptor, its name and its exports are in the data.
const NAME_AT: u64 = 96;
const EXPORTS_AT: u64 = 128;

/// A module, of which tests may change anything.
#[derive(Clone)]
struct Module {
    name: &'static str,
    init: &'static [u8],
    /// The function that `init` calls.
    calls: Option<&'static str>,
    /// A function that others may call, and its version.
    exports: Option<(&'static str, u32)>,
    says: Vec<&'static str>,
    abi: u32,
}

impl Module {
    fn new(name: &'static str) -> Self {
        Self { name, init: SUCCEED, calls: None, exports: None, says: alloc::vec!["abi=1"], abi: 1 }
    }

    /// One whose start calls a function.
    fn calling(name: &'static str, function: &'static str, version: &'static str) -> Self {
        let mut module = Self { init: CALL, calls: Some(function), ..Self::new(name) };
        module.says.push(version);
        module
    }

    fn writer(&self) -> Writer {
        let mut writer =
            Writer { text: alloc::vec![0xc3; 64], data: alloc::vec![0; 192], ..Writer::default() };
        writer.text[..self.init.len()].copy_from_slice(self.init);
        writer.text[EXPORTED_AT as usize..][..SUCCEED.len()].copy_from_slice(SUCCEED);
        let init = writer.symbol("init", GLOBAL_FUNCTION, TEXT, 0);
        let exit = writer.symbol("exit", GLOBAL_FUNCTION, TEXT, EXIT_AT);
        writer.symbol("unikernel_module", GLOBAL, DATA, 0);
        let data = writer.symbol("data", GLOBAL, DATA, 0);
        let reloc = |at, symbol, addend| Reloc { at, kind: ABS_64, symbol, addend };
        writer.data_relocs =
            alloc::vec![reloc(8, data, NAME_AT as i64), reloc(24, init, 0), reloc(32, exit, 0)];
        let mut put = |at: usize, bytes: &[u8]| writer.data[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &self.abi.to_le_bytes());
        put(4, &72u32.to_le_bytes());
        put(16, &self.name.len().to_le_bytes());
        put(NAME_AT as usize, self.name.as_bytes());
        if let Some((name, version)) = self.exports {
            put(64, &1u64.to_le_bytes());
            put(NAME_AT as usize + 16, name.as_bytes());
            put(EXPORTS_AT as usize + 8, &name.len().to_le_bytes());
            put(EXPORTS_AT as usize + 16, &version.to_le_bytes());
            let function = writer.symbol("exported", GLOBAL_FUNCTION, TEXT, EXPORTED_AT);
            writer.data_relocs.extend([
                reloc(56, data, EXPORTS_AT as i64),
                reloc(EXPORTS_AT, data, NAME_AT as i64 + 16),
                reloc(EXPORTS_AT + 24, function, 0),
            ]);
        }
        if let Some(function) = self.calls {
            let symbol = writer.symbol(function, GLOBAL, 0, 0);
            writer.text_relocs = alloc::vec![Reloc { at: CALL_AT, kind: GOT_PC_32, symbol, addend: -4 }];
        }
        writer.says(&["name=", self.name].concat());
        self.says.iter().for_each(|line| writer.says(line));
        writer
    }

    fn load(&self) -> Answer {
        load(&self.writer().bytes(), "")
    }
}

fn load(file: &[u8], parameters: &str) -> Answer {
    sys!(init_module, &Room::of(file), file.len(), parameters)
}

fn unload(name: &str) -> Answer {
    sys!(delete_module, name, linux::O_NONBLOCK)
}

fn text_of(path: &str) -> String {
    String::from_utf8(read_file(path)).unwrap()
}

/// Runs an app that may load modules.
fn run_open(app: impl FnOnce() + 'static) {
    run_on(Machine { command_line: "modules=open".into(), ..Machine::default() }, app);
}
