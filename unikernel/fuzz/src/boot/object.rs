//! A module: a relocatable object whose sections, symbols and relocations are the input's, and which has then been damaged. What is linked is as
//! long as its layout says, and has no page that is two things.

use unikernel_elf::object::{Area, Object, Unresolved, arguments};

use crate::input::Input;

#[path = "../../../elf/src/object/tests/writer.rs"]
#[expect(dead_code, reason = "tests of the crate use all of it")]
mod writer;

const PAGE_BYTES: usize = 4096;
const BASE: u64 = 0xffff_ffff_9000_0000;
const NAMES: [&str; 4] = ["unikernel_module", "start", "uk_log", "memcpy"];

fn object(input: &mut Input<'_>) -> Vec<u8> {
    let mut writer = writer::Writer {
        text: vec![0x90; input.below(80)],
        rodata: vec![1; input.below(80)],
        data: vec![2; input.below(80)],
        bss_bytes: input.below(3) as u64 * 5000,
        ..writer::Writer::default()
    };
    for _ in 0..input.below(6) {
        let (name, info) = (NAMES[input.below(NAMES.len())], [0x10, 0x12, 0x20, 0x02][input.below(4)]);
        writer.symbol(name, info, input.below(8) as u16, input.below(90) as u64);
    }
    let relocs = |input: &mut Input<'_>| -> Vec<writer::Reloc> {
        let one = |input: &mut Input<'_>| writer::Reloc {
            at: input.below(90) as u64,
            kind: input.below(48) as u32,
            symbol: input.below(8) as u32,
            addend: input.below(256) as i64 - 128,
        };
        (0..input.below(6)).map(|_| one(input)).collect()
    };
    (writer.text_relocs, writer.data_relocs) = (relocs(input), relocs(input));
    writer.says(["name=x", "abi=1", "depends=a,b", "none"][input.below(4)]);
    let mut file = writer.bytes();
    for _ in 0..input.below(6) {
        let at = input.below(file.len());
        file[at] = input.below(256) as u8;
    }
    let kept = if input.below(8) == 0 { input.below(file.len()) } else { file.len() };
    file.truncate(kept);
    file
}

pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let file = object(&mut input);
    if let Ok(line) = core::str::from_utf8(input.rest()) {
        let bytes: usize =
            arguments::words(line).map(|(key, value)| key.len() + value.map_or(0, str::len)).sum();
        assert!(bytes <= line.len());
    }
    let Ok(object) = Object::parse(&file) else { return };
    let areas = [Area::Code, Area::ReadOnly, Area::Data].map(|area| object.area(area));
    assert!(areas[0].start == 0 && !areas[0].is_empty() && areas[2].end == object.image_bytes());
    assert!(areas.windows(2).all(|pair| pair[0].end == pair[1].start));
    assert!(areas.iter().all(|area| area.end.is_multiple_of(PAGE_BYTES)));
    assert!(object.find(NAMES[0]).is_none_or(|at| at <= object.image_bytes()));
    assert!(object.functions().all(|(at, ..)| areas[0].contains(&at)));
    let _ = object.modinfo().map(|info| info.depends().count() + info.versions("symver").count());
    let mut image = vec![0xcc; object.image_bytes()];
    let known = |name: &str| if name == "memcpy" { Ok(BASE - (1 << 20)) } else { Err(Unresolved::Unknown) };
    if object.link(BASE, &mut image, known).is_ok() {
        let mut again = vec![0; object.image_bytes()];
        assert!(
            object.link(BASE, &mut again, known).is_ok() && again == image,
            "what was there does not matter"
        );
    }
}
