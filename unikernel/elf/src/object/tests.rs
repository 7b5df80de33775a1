use alloc::vec::Vec;
use proptest::prelude::*;

use super::*;
use writer::{
    ABS_32, ABS_32_SIGNED, ABS_64, BSS, GLOBAL, GLOBAL_FUNCTION, GOT_PC_32, PC_32, PLT_32, RODATA, Reloc,
    TEXT, WEAK, Writer,
};

mod writer;

const BASE: u64 = 0xffff_ffff_a000_0000;
const FOREIGN: u64 = 0xffff_ffff_8123_4560;

/// Code with room for relocations, constants, data and zeros.
fn plain() -> Writer {
    let mut writer = Writer { text: alloc::vec![0x90; 64], ..Writer::default() };
    writer.rodata = b"constant".to_vec();
    writer.data = alloc::vec![7; 32];
    writer.bss_bytes = 5000;
    writer.symbol("start", GLOBAL_FUNCTION, TEXT, 16);
    writer.symbol("text", GLOBAL, RODATA, 4);
    writer.symbol("zeros", GLOBAL, BSS, 8);
    writer.symbol("foreign", GLOBAL, 0, 0);
    writer
}

fn linked(file: &[u8]) -> Result<Vec<u8>, ObjectError<'_>> {
    let object = Object::parse(file)?;
    let mut image = alloc::vec![0xcc; object.image_bytes()];
    object.link(
        BASE,
        &mut image,
        |name| if name == "foreign" { Ok(FOREIGN) } else { Err(Unresolved::Unknown) },
    )?;
    Ok(image)
}

fn word(image: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(image[at..at + 8].try_into().unwrap())
}

fn int(image: &[u8], at: usize) -> i64 {
    i32::from_le_bytes(image[at..at + 4].try_into().unwrap()).into()
}

#[test]
fn sections_are_laid_out_by_what_may_be_done_with_them() {
    let file = plain().bytes();
    let object = Object::parse(&file).unwrap();
    assert_eq!(
        [Area::Code, Area::ReadOnly, Area::Data].map(|area| object.area(area)),
        [0..4096, 4096..8192, 8192..16384]
    );
    let image = linked(&file).unwrap();
    assert_eq!(
        (&image[..64], &image[4096..4104], &image[8192..8224]),
        (&[0x90; 64][..], &b"constant"[..], &[7; 32][..])
    );
    assert!(image[64..4096].iter().chain(&image[8224..]).all(|&byte| byte == 0), "what is left is zero");
    assert_eq!(
        (object.find("start"), object.find("text"), object.find("zeros")),
        (Some(16), Some(4100), Some(8232))
    );
    assert_eq!((object.find("foreign"), object.find("no")), (None, None));
    assert_eq!(object.functions().collect::<Vec<_>>(), [(16, 0, "start")]);
    assert_eq!(object.symbols().undefined().collect::<Vec<_>>(), ["foreign"]);
}

#[test]
fn relocations_name_places_here_and_elsewhere() {
    let mut writer = plain();
    writer.text_relocs =
        [(0, PC_32, 2, -4), (8, PLT_32, 4, -4), (16, ABS_32_SIGNED, 3, 1), (24, GOT_PC_32, 4, -4)]
            .map(|(at, kind, symbol, addend)| Reloc { at, kind, symbol, addend })
            .to_vec();
    writer.data_relocs = [(0, ABS_64, 1, 0), (8, ABS_64, 4, 2)]
        .map(|(at, kind, symbol, addend)| Reloc { at, kind, symbol, addend })
        .to_vec();
    let image = linked(&writer.bytes()).unwrap();
    assert_eq!(int(&image, 0), 4100 - 4);
    assert_eq!(BASE.wrapping_add(8 + 4).wrapping_add(int(&image, 8) as u64), FOREIGN);
    assert_eq!(int(&image, 16) as u64, BASE + 8232 + 1);
    let table = 24 + 4 + int(&image, 24);
    assert!((4096..8192).contains(&table) && word(&image, table as usize) == FOREIGN);
    assert_eq!((word(&image, 8192), word(&image, 8200)), (BASE + 16, FOREIGN + 2));
}

#[test]
fn what_is_wrong_is_named() {
    let of = |change: &dyn Fn(&mut Writer)| {
        let mut writer = plain();
        change(&mut writer);
        let file = writer.bytes();
        linked(&file).map(|_| ()).map_err(|error| alloc::string::ToString::to_string(&error))
    };
    let reloc = |at, kind, symbol| Reloc { at, kind, symbol, addend: 0 };
    let told = |change: &dyn Fn(&mut Writer), words: &str| {
        let error = of(change).unwrap_err();
        assert!(error.contains(words), "{error}");
    };
    told(&|writer| writer.text.clear(), "no code");
    told(&|writer| writer.text_flags = Some(7), "`.text` is writable and executable");
    told(&|writer| writer.text_flags = Some(0x406), "`.text` has thread-local data");
    told(&|writer| writer.text_relocs = alloc::vec![reloc(61, PC_32, 1)], "`.text` are damaged");
    told(&|writer| writer.text_relocs = alloc::vec![reloc(u64::MAX, PC_32, 1)], "`.text` are damaged");
    told(&|writer| writer.text_relocs = alloc::vec![reloc(0, 5, 1)], "type 5");
    told(
        &|writer| writer.text_relocs = alloc::vec![reloc(0, ABS_32, 1)],
        "`start` is out of an instruction's reach",
    );
    told(&|writer| writer.text_relocs = alloc::vec![reloc(0, PC_32, 99)], "table of symbols is damaged");
    told(
        &|writer| {
            let symbol = writer.symbol("nobody", GLOBAL, 0, 0);
            writer.text_relocs = alloc::vec![reloc(0, PC_32, symbol)];
        },
        "unknown symbol `nobody`",
    );
    told(
        &|writer| {
            let symbol = writer.symbol("beyond", GLOBAL, TEXT, 65);
            writer.text_relocs = alloc::vec![reloc(0, PC_32, symbol)];
        },
        "`beyond` is in no section",
    );
    told(&|writer| writer.bss_bytes = 1 << 40, "larger than 16 MiB");
    told(&|writer| writer.bss_bytes = u64::MAX, "larger than 16 MiB");
    assert_eq!(of(&|_| {}), Ok(()));
}

#[test]
fn weak_symbols_may_be_nowhere() {
    let mut writer = plain();
    let symbol = writer.symbol("perhaps", WEAK, 0, 0);
    writer.data_relocs = alloc::vec![Reloc { at: 16, kind: ABS_64, symbol, addend: 0 }];
    assert_eq!(word(&linked(&writer.bytes()).unwrap(), 8208), 0);
}

#[test]
fn versions_are_compared_by_who_resolves() {
    let mut writer = plain();
    writer.text_relocs = alloc::vec![Reloc { at: 0, kind: PLT_32, symbol: 4, addend: 0 }];
    let file = writer.bytes();
    let object = Object::parse(&file).unwrap();
    let mut image = alloc::vec![0; object.image_bytes()];
    let refused = object.link(BASE, &mut image, |_| Err(Unresolved::OtherVersion { wanted: 1, found: 2 }));
    assert_eq!(refused, Err(ObjectError::OtherVersion { name: "foreign", wanted: 1, found: 2 }));
}

#[test]
fn files_of_other_kinds_are_refused() {
    let good = plain().bytes();
    let with = |at: usize, byte: u8| {
        let mut file = good.clone();
        file[at] = byte;
        Object::parse(&file).err().map(|error| alloc::string::ToString::to_string(&error)).unwrap()
    };
    assert!(with(0, 0).contains("no ELF file"));
    assert!(with(18, 40).contains("not for 64-bit x86"));
    assert!(with(4, 1).contains("not for 64-bit x86"));
    assert!(with(16, 3).contains("`ld -r`"));
    assert!(with(58, 63).contains("sections is damaged"));
    assert_eq!(Object::parse(&good[..good.len() - 1]).err(), Some(ObjectError::Truncated));
}

#[test]
fn modules_say_what_they_are() {
    let mut writer = plain();
    for line in ["name=hello", "depends=one,two", "parm=who:whom", "parmtype=who:string", "symver=uk_log:1"] {
        writer.says(line);
    }
    let file = writer.bytes();
    let info = Object::parse(&file).unwrap().modinfo().unwrap();
    assert_eq!((info.get("name"), info.get("version")), (Some("hello"), None));
    assert_eq!(info.depends().collect::<Vec<_>>(), ["one", "two"]);
    assert_eq!((info.version_of("symver", "uk_log"), info.version_of("symver", "uk_free")), (Some(1), None));
    assert!(modinfo::Modinfo::parse(b"name").is_err() && modinfo::Modinfo::parse(b"=x\0").is_err());
    assert!(
        modinfo::Modinfo::parse(b"name=a\x1b[2J\0").is_err() && modinfo::Modinfo::parse(b"a=\xff").is_err()
    );
    assert!(
        modinfo::is_module_name("i6300esb")
            && !modinfo::is_module_name("../x")
            && !modinfo::is_module_name("")
    );
}

proptest! {
    #[test]
    fn damaged_objects_never_write_past_the_image(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        relocs in proptest::collection::vec((0..70u64, 0..48u32, 0..6u32, any::<i64>()), 0..8),
        len in any::<prop::sample::Index>(),
    ) {
        let mut writer = plain();
        writer.text_relocs = relocs.into_iter().map(|(at, kind, symbol, addend)| Reloc { at, kind, symbol, addend }).collect();
        let mut file = writer.bytes();
        for (at, value) in changes {
            let at = at.index(file.len());
            file[at] = value;
        }
        let _ = linked(&file);
        let _ = linked(&file[..len.index(file.len())]);
    }
}
