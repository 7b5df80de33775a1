//! A FAT of each width, with bytes changed where they count, some reads failing: all operations end.

use std::sync::OnceLock;

use unikernel_fat::{Fat, identify};

use super::patched::Patched;
use crate::input::Input;
use crate::user::User;

const SECTOR: usize = 512;
const RESERVED: usize = 32;
const DIRECTORY: u8 = 0x10;
const CLUSTERS: [usize; 3] = [100, 4085, 100];
/// More than the operations of the longest input need, each of which reads a few hundred sectors at most.
const MOST_READS: u32 = 400_000;

/// An image: sectors and clusters of 512 bytes, one table, and the first cluster after the root of FAT12 and 16.
struct Image {
    bytes: Vec<u8>,
    bits: usize,
    data: usize,
}

impl Image {
    fn new(bits: usize, clusters: usize) -> Self {
        let table = ((clusters + 2) * bits).div_ceil(8 * SECTOR);
        let root = if bits == 32 { 0 } else { 2 };
        let sectors = RESERVED + table + root + clusters;
        let mut image = Self {
            bytes: vec![0; (sectors * SECTOR).next_multiple_of(1024)],
            bits,
            data: (RESERVED + table + root) * SECTOR,
        };
        image.put(11, &[0, 2, 1, RESERVED as u8, 0, 1]);
        image.put(21, &[0xf8]);
        image.put(32, &(sectors as u32).to_le_bytes());
        if bits == 32 {
            image.put(36, &(table as u32).to_le_bytes());
            image.put(44, &[2, 0, 0, 0]);
            image.put(66, b"\x29\x01\x02\x03\x04CIDATA     ");
            image.chain(&[2]);
        } else {
            image.put(17, &[32, 0]);
            image.put(22, &(table as u16).to_le_bytes());
            image.put(38, b"\x29\x01\x02\x03\x04CIDATA     ");
        }
        image.put(510, &[0x55, 0xaa]);
        image
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Where a cluster begins; 0 is the root.
    fn at(&self, cluster: usize) -> usize {
        match cluster {
            0 if self.bits != 32 => self.data - 2 * SECTOR,
            0 => self.data,
            _ => self.data + (cluster - 2) * SECTOR,
        }
    }

    fn chain(&mut self, clusters: &[usize]) {
        let next = clusters.iter().skip(1).copied().chain([0x0fff_ffff]);
        for (cluster, next) in clusters.iter().copied().zip(next) {
            let (at, shift) = (RESERVED * SECTOR + cluster * self.bits / 8, cluster * self.bits % 8);
            let mask = ((1_u64 << self.bits) - 1) << shift;
            let old =
                u64::from(u32::from_le_bytes(*self.bytes[at..].first_chunk().expect("it is in the table")));
            let new = old & !mask | (next as u64) << shift & mask;
            self.put(at, &(new as u32).to_le_bytes());
        }
    }

    /// Makes a directory of these slots; all but the root have two more.
    fn directory(&mut self, cluster: usize, parent: usize, slots: &[[u8; 32]]) {
        let own = [slot(b".          ", DIRECTORY, cluster, 0), slot(b"..         ", DIRECTORY, parent, 0)];
        let front: &[[u8; 32]] = if cluster == 0 { &[] } else { &own };
        self.put(self.at(cluster), [front, slots].concat().as_flattened());
    }
}

fn slot(name: &[u8; 11], attributes: u8, cluster: usize, bytes: u32) -> [u8; 32] {
    let mut slot = [0; 32];
    slot[..11].copy_from_slice(name);
    slot[11] = attributes;
    slot[26..28].copy_from_slice(&(cluster as u16).to_le_bytes());
    slot[28..].copy_from_slice(&bytes.to_le_bytes());
    slot
}

/// One of the three images, with some of everything in few clusters.
pub(super) fn base(kind: usize) -> &'static [u8] {
    static BASES: [OnceLock<Vec<u8>>; 3] = [const { OnceLock::new() }; 3];
    BASES[kind].get_or_init(|| {
        let mut image = Image::new([12, 16, 32][kind], CLUSTERS[kind]);
        // `meta-data`, whose name is too long for a slot.
        let short = b"META-D~1   ";
        let sum = short.iter().fold(0_u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte));
        let mut long = [0xff; 32];
        long[..11].copy_from_slice(b"\x41m\0e\0t\0a\0-\0");
        (long[11], long[12], long[13]) = (0x0f, 0, sum);
        long[14..26].copy_from_slice(b"d\0a\0t\0a\0\0\0\xff\xff");
        (long[26], long[27]) = (0, 0);
        let slots = [
            slot(b"CIDATA     ", 8, 0, 0),
            long,
            slot(short, 0, 10, 2000),
            slot(b"DIR        ", DIRECTORY, 20, 0),
            slot(b"NEW        ", 0, 0, 0),
        ];
        image.directory(0, 0, &slots);
        image.chain(&[10, 12, 11, 13]);
        image.chain(&[20, 22]);
        image.directory(20, 0, &[slot(b"FILE       ", 0, 30, 700); 14]);
        image.put(image.at(22), &slot(b"DIR        ", DIRECTORY, 23, 0));
        image.chain(&[23]);
        image.directory(23, 20, &[slot(b"FILE       ", 0, 10, 512)]);
        image.chain(&[30, 31]);
        image.bytes
    })
}

/// Changes bytes of an image, as many as the input says.
pub(super) fn change(disk: &Patched, input: &mut Input<'_>) {
    let len = disk.base().len();
    for _ in 0..input.below(12) {
        let (place, at) = (input.byte(), usize::from(input.half()));
        let at = match place & 3 {
            0 => at % 90,
            1 => RESERVED * SECTOR + at % 160,
            2 => RESERVED * SECTOR + at % (64 * SECTOR),
            _ => at * 32 % len,
        };
        let width = if place & 4 == 0 { 1 } else { 4 };
        disk.put(at, &input.array::<4>()[..width]);
    }
}

pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let disk = Patched::new(base(input.below(3)), MOST_READS);
    change(&disk, &mut input);
    if let Some(identity) = identify(&disk) {
        assert_eq!(identity.uuid.len(), 9);
    }
    let Ok(mut fat) = Fat::mount(&disk) else { return };
    let mut user = User::new(&fat);
    while !input.is_over() {
        user.act(&mut fat, input.array());
    }
    user.end(&mut fat);
}

#[cfg(test)]
mod tests {
    use super::*;
    use unikernel_config::read_seed;
    use unikernel_vfs::{ByteStorage, FileSystem};

    #[test]
    fn images_are_whole() {
        for kind in 0..3 {
            let disk = Patched::new(base(kind), MOST_READS);
            let mut fat = Fat::mount(&disk).expect("it is a FAT");
            let root = fat.root();
            let file = fat.lookup(root, b"meta-data").expect("it has a long name");
            assert_eq!(fat.read(file, 0, &mut [0; 3000]), Ok(2000));
            let below =
                [&b"dir"[..], b"dir", b"file"].into_iter().try_fold(root, |at, name| fat.lookup(at, name));
            assert_eq!(fat.read(below.expect("it is there"), 0, &mut [0; 3000]), Ok(512));
            assert!(read_seed(&disk).expect("it is whole").is_some_and(|seed| seed.meta_data.len() == 2000));
        }
    }
}
