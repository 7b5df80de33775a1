//! Images laid out by hand: what tools write and `fatfs` does not.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use unikernel_vfs::{FileSystem, Timestamp};

use super::image::{Image, SECTOR, long, slot, utf16};
use super::{content, find, names};
use crate::{Fat, MountError, identify};

/// The root of FAT32 with these slots.
pub(super) fn root(slots: &[Vec<u8>]) -> Image {
    let mut image = Image::fat32(200);
    // On in clusters that no test uses.
    let slots = slots.concat();
    let clusters: Vec<u32> = [2].into_iter().chain(100..).take(slots.len().div_ceil(SECTOR).max(1)).collect();
    image.chain(&clusters);
    for (cluster, part) in clusters.iter().zip(slots.chunks(SECTOR)) {
        image.put(*cluster, part);
    }
    image
}

pub(super) fn mount(image: Image) -> Fat<'static> {
    Fat::mount(image.bytes).unwrap()
}

fn root_names(slots: &[Vec<u8>]) -> Vec<String> {
    let mut fat = mount(root(slots));
    let root = fat.root();
    names(&mut fat, root)
}

#[test]
fn a_small_fat32_is_one() {
    let mut image = root(&[slot(b"FILE    TXT", 0, 3, 900)]);
    image.chain(&[3, 7]);
    image.put(3, &[1; 512]);
    image.put(7, &[2; 512]);
    let mut fat = mount(image);
    let inode = find(&mut fat, "file.txt").unwrap();
    assert!(content(&mut fat, inode, 4096).unwrap() == [[1; 512].as_slice(), &[2; 388]].concat());
}

#[test]
fn short_names_are_shown_as_windows_does() {
    let mut small = slot(b"STEM    EXT", 0, 0, 0);
    small[12] = 0x08;
    let mut all_small = slot(b"OTHER   EXT", 0, 0, 0);
    all_small[12] = 0x18;
    let slots = [
        slot(b"NAME       ", 0, 0, 0),
        slot(b"A B     C  ", 0, 0, 0),
        small,
        all_small,
        slot(b"\x05\x80\x81     \xe1  ", 0, 0, 0),
        slot(b"\xe5EMOVED    ", 0, 0, 0),
        slot(b"MYLABEL    ", 0x08, 0, 0),
    ];
    assert_eq!(root_names(&slots), ["NAME", "A B.C", "stem.EXT", "other.ext", "σÇü.ß"]);
}

#[test]
fn long_names_must_belong_to_their_entries() {
    let short = b"SHORT      ";
    let name = long(&utf16("a name of more than one part"), short);
    let entry = slot(short, 0, 0, 0);
    let other = slot(b"OTHER      ", 0, 0, 0);
    let parts: Vec<Vec<u8>> = name.chunks(32).map(<[u8]>::to_vec).collect();
    let listed = |slots: &[&[u8]]| root_names(&slots.iter().map(|slot| slot.to_vec()).collect::<Vec<_>>());
    assert_eq!(listed(&[&name, &entry]), ["a name of more than one part"]);
    // Another entry's, in another order, with one missing, and with something between.
    assert_eq!(listed(&[&name, &other]), ["OTHER"]);
    assert_eq!(listed(&[&parts[1], &parts[0], &parts[2], &entry]), ["SHORT"]);
    assert_eq!(listed(&[&parts[0], &parts[1], &entry]), ["SHORT"]);
    assert_eq!(listed(&[&parts[1], &parts[2], &entry]), ["SHORT"]);
    assert_eq!(
        listed(&[&parts[0], &parts[1], &slot(b"\xe5          ", 0, 0, 0), &parts[2], &entry]),
        ["SHORT"]
    );
    assert_eq!(listed(&[&name, &slot(b"LABEL      ", 8, 0, 0), &entry]), ["SHORT"]);
    // The longest, and a longer one.
    let longest = "x".repeat(255);
    assert_eq!(listed(&[&long(&utf16(&longest), short), &entry]), [longest]);
    assert_eq!(listed(&[&long(&utf16(&"x".repeat(256)), short), &entry]), ["SHORT"]);
    // Numbers that no part can have.
    for number in [0x40, 0x41 + 20, 0x7f] {
        let mut part = long(&utf16("x"), short);
        part[0] = number;
        assert_eq!(listed(&[&part, &entry]), ["SHORT"]);
    }
}

#[test]
fn dots_at_the_end_do_not_count() {
    let short = b"SHORT      ";
    let mut fat = mount(root(&[
        [long(&utf16("with dots.."), short), slot(short, 0, 0, 0)].concat(),
        [long(&utf16("...."), b"DOTS       "), slot(b"DOTS       ", 0, 0, 0)].concat(),
    ]));
    let root = fat.root();
    assert_eq!(names(&mut fat, root), ["with dots..", "...."]);
    assert!(find(&mut fat, "with dots").is_ok() && find(&mut fat, "With Dots....").is_ok());
    assert_eq!(find(&mut fat, "..."), find(&mut fat, "dots"));
}

#[test]
fn names_that_no_path_can_have_are_not_shown() {
    let short = b"SHORT      ";
    for name in ["a/b", ".", "..", "/", ""] {
        let listed = root_names(&[long(&utf16(name), short), slot(short, 0, 0, 0)]);
        assert_eq!(listed, ["SHORT"], "{name}");
    }
    let lone = root_names(&[long(&[0xd834, u16::from(b'x')], short), slot(short, 0, 0, 0)]);
    assert_eq!(lone, ["\u{fffd}x"]);
    let pair = root_names(&[long(&utf16("𝄞 and ☃"), short), slot(short, 0, 0, 0)]);
    assert_eq!(pair, ["𝄞 and ☃"]);
    let hidden =
        [slot(b"A/B        ", 0, 0, 0), slot(b"        .  ", 0, 0, 0), slot(b"           ", 0, 0, 0)];
    assert_eq!(root_names(&hidden), [""; 0]);
    let shown = root_names(&[long(&utf16("by its long name"), b"A/B        "), hidden[0].clone()]);
    assert_eq!(shown, ["by its long name"]);
}

#[test]
fn times_are_utc() {
    let mut entry = slot(b"FILE       ", 1, 0, 0);
    let date = |year: u16, month: u16, day: u16| ((year - 1980) << 9 | month << 5 | day).to_le_bytes();
    let time =
        |hours: u16, minutes: u16, seconds: u16| (hours << 11 | minutes << 5 | (seconds / 2)).to_le_bytes();
    entry[13] = 150;
    entry[14..16].copy_from_slice(&time(23, 59, 58));
    entry[16..18].copy_from_slice(&date(1999, 12, 31));
    entry[18..20].copy_from_slice(&date(2000, 2, 29));
    entry[22..24].copy_from_slice(&time(12, 34, 56));
    entry[24..26].copy_from_slice(&date(2107, 12, 31));
    let mut odd = slot(b"ODD        ", 0, 0, 0);
    odd[22..26].copy_from_slice(&[0xff; 4]);
    let mut fat = mount(root(&[entry, odd, slot(b"NONE       ", 0, 0, 0)]));
    let file = find(&mut fat, "file").unwrap();
    let attributes = fat.attributes(file).unwrap();
    let at = |seconds, nanoseconds| Timestamp { seconds, nanoseconds };
    // By `date -u -d ... +%s`.
    assert_eq!(attributes.born, at(946_684_799, 500_000_000));
    assert_eq!(attributes.accessed, at(951_782_400, 0));
    assert_eq!(attributes.modified, at(4_354_778_096, 0));
    assert_eq!(attributes.changed, attributes.modified);
    assert_eq!(attributes.permissions, 0o555);
    let none = find(&mut fat, "none").unwrap();
    assert_eq!(fat.attributes(none).unwrap().born, Timestamp::default());
    let odd = find(&mut fat, "odd").unwrap();
    // 2107-12-31 23:59:58.
    assert_eq!(fat.attributes(odd).unwrap().modified, at(4_354_819_198, 0));
}

#[test]
fn every_day_follows_the_one_before() {
    let mut days = 0;
    let mut date = 1 << 5 | 1_u16;
    let first = crate::time::timestamp(date, 0, 0).unwrap().seconds;
    assert_eq!(first, 315_532_800);
    for year in 1980..=2107_u16 {
        let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let months = [31, 28 + u16::from(is_leap), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        for (month, last) in (1..).zip(months) {
            for day in 1..=last {
                date = (year - 1980) << 9 | month << 5 | day;
                let seconds = crate::time::timestamp(date, 0, 0).unwrap().seconds;
                assert_eq!(seconds, first + days * 86_400, "{year}-{month}-{day}");
                days += 1;
            }
        }
    }
}

#[test]
fn the_root_of_fat16_has_an_end() {
    let mut image = Image::fat16(5000);
    let at = image.at(2) - 512 * 32;
    let name =
        |number: usize| -> [u8; 11] { std::format!("{number:08}   ").into_bytes().try_into().unwrap() };
    for number in 0..512 {
        // The high half of the cluster's number is none on FAT16.
        let mut entry = slot(&name(number), 0, 0xabcd_0002, 1);
        entry[11] = 0x20;
        image.bytes[at + number * 32..at + number * 32 + 32].copy_from_slice(&entry);
    }
    image.put(2, b"!");
    let mut fat = mount(image);
    let root = fat.root();
    assert_eq!(names(&mut fat, root).len(), 512);
    assert_eq!(fat.attributes(root).unwrap().size, 512 * 32);
    let last = find(&mut fat, "00000511").unwrap();
    assert_eq!(content(&mut fat, last, 10).unwrap(), b"!");
}

#[test]
fn the_table_that_counts_is_read() {
    // The same boot sector with two tables, of which the second counts; data moves by one table.
    let mut image = root(&[]);
    let table_bytes = 2 * SECTOR;
    let table = image.bytes[32 * SECTOR..32 * SECTOR + table_bytes].to_vec();
    let mut bytes = image.bytes.clone();
    bytes.splice(32 * SECTOR..32 * SECTOR, vec![0; table_bytes]);
    bytes[32 * SECTOR + table_bytes..32 * SECTOR + 2 * table_bytes].copy_from_slice(&table);
    bytes[16] = 2;
    let sectors = bytes.len() as u32 / 512;
    bytes[32..36].copy_from_slice(&sectors.to_le_bytes());
    bytes[40] = 0x81;
    image.bytes = bytes;
    let mut fat = Fat::mount(image.bytes.clone()).unwrap();
    let root = fat.root();
    assert_eq!(fat.attributes(root).unwrap().size, 512);
    image.bytes[40] = 0x82;
    assert!(matches!(Fat::mount(image.bytes), Err(MountError::Corrupt(_))));
}

#[test]
fn free_clusters_are_told_or_counted() {
    let mut image = root(&[]);
    image.chain(&[10, 11, 12]);
    image.bytes[48] = 1;
    let mut fat = Fat::mount(image.bytes.clone()).unwrap();
    assert_eq!(fat.statistics().unwrap().free_blocks, 200 - 4);
    let info = &mut image.bytes[512..1024];
    info[..4].copy_from_slice(b"RRaA");
    info[484..488].copy_from_slice(b"rrAa");
    info[488..492].copy_from_slice(&77_u32.to_le_bytes());
    let mut fat = Fat::mount(image.bytes.clone()).unwrap();
    assert_eq!(fat.statistics().unwrap().free_blocks, 77);
    image.bytes[512 + 488..512 + 492].copy_from_slice(&201_u32.to_le_bytes());
    let mut fat = Fat::mount(image.bytes).unwrap();
    assert_eq!(fat.statistics().unwrap().free_blocks, 200 - 4);
}

#[test]
fn the_label_of_the_root_counts_first() {
    let image = root(&[slot(b"FILE       ", 0, 0, 0)]);
    assert_eq!(identify(&image.bytes).unwrap().label, "");
    let mut image = root(&[slot(b"FILE       ", 0, 0, 0), slot(b"IN ROOT    ", 8, 0, 0)]);
    image.bytes[71..82].copy_from_slice(b"IN SECTOR  ");
    assert_eq!(identify(&image.bytes).unwrap().label, "IN ROOT");
    image.put(2, &[0; 64]);
    let identity = identify(&image.bytes).unwrap();
    assert_eq!((identity.label.as_str(), identity.uuid.as_str()), ("IN SECTOR", "1A2B-3C4D"));
}
