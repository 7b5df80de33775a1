//! ext4 whose structures say anything under right checksums, unmounted or with a journal to replay, in use: each call ends.

use std::sync::{Mutex, OnceLock};

use unikernel_ext4::{
    BlockDevice, DeviceError, Ext4, FormatOptions, InodeNumber, MountMode, NewKind, NewNode, Timestamp,
    identify,
};

use super::patched::Patched;
use super::seal::Map;
use crate::input::Input;
use crate::user::User;

const NOW: Timestamp = Timestamp { seconds: 1_700_000_000, nanoseconds: 5 };
const IMAGE_BYTES: usize = 3 << 20;
/// More than the operations of the longest input need: each looks at an image of 3,000 blocks a few times at most.
const MOST_READS: u32 = 400_000;

/// An image and what there is in it.
struct Base {
    image: Vec<u8>,
    map: Map,
}

/// A disk in memory, to make the images on.
struct Memory(Mutex<Vec<u8>>);

impl BlockDevice for Memory {
    fn size_bytes(&self) -> u64 {
        IMAGE_BYTES as u64
    }

    fn is_read_only(&self) -> bool {
        false
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), DeviceError> {
        let bytes = self.0.lock().map_err(|_| DeviceError)?;
        into.copy_from_slice(
            bytes.get(offset as usize..).and_then(|bytes| bytes.get(..into.len())).ok_or(DeviceError)?,
        );
        Ok(())
    }

    fn write(&self, writes: &[(u64, &[u8])]) -> Result<(), DeviceError> {
        let mut bytes = self.0.lock().map_err(|_| DeviceError)?;
        writes
            .iter()
            .for_each(|(offset, data)| bytes[*offset as usize..][..data.len()].copy_from_slice(data));
        Ok(())
    }

    fn flush(&self) -> Result<(), DeviceError> {
        Ok(())
    }
}

/// An image with some of everything; the journal has something to replay, or not.
fn base(is_clean: bool) -> &'static Base {
    static BASES: [OnceLock<Base>; 2] = [const { OnceLock::new() }; 2];
    BASES[usize::from(is_clean)].get_or_init(|| {
        let device = Memory(Mutex::new(vec![0; IMAGE_BYTES]));
        let options = FormatOptions {
            uuid: *b"0123456789abcdef",
            hash_seed: *b"fedcba9876543210",
            block_bytes: Some(1024),
            ..FormatOptions::default()
        };
        Ext4::format(&device, &options, NOW).expect("it can be formatted");
        let mut fs = Ext4::mount(&device, MountMode::ReadWrite, NOW).expect("it can be mounted");
        fill(&mut fs);
        fs.unmount(NOW).expect("it can be unmounted");
        drop(fs);
        if !is_clean {
            // What is committed only is in the journal, and lies nowhere else.
            let mut fs = Ext4::mount(&device, MountMode::ReadWrite, NOW).expect("it can be mounted");
            for number in 0..20 {
                let node = NewNode { kind: NewKind::File, permissions: 0o644, user: 0, group: 0 };
                let name = format!("new-{number}");
                fs.create(InodeNumber::ROOT, name.as_bytes(), node, NOW).expect("there is room");
                fs.commit(NOW).expect("it can be committed");
            }
        }
        let image = device.0.into_inner().expect("nobody panics with it");
        Base { map: Map::new(&image), image }
    })
}

fn fill(fs: &mut Ext4<&Memory>) {
    const ROOT: InodeNumber = InodeNumber::ROOT;
    let node = |kind| NewNode { kind, permissions: 0o755, user: 0, group: 0 };
    let mut make =
        |parent, name: &[u8], kind| fs.create(parent, name, node(kind), NOW).expect("there is room");
    let (dir, many) = (make(ROOT, b"dir", NewKind::Directory), make(ROOT, b"many", NewKind::Directory));
    let (file, torn) = (make(dir, b"file", NewKind::File), make(ROOT, b"torn", NewKind::File));
    make(dir, b"link", NewKind::Symlink(b"../many"));
    make(ROOT, b"link", NewKind::Symlink(&[b'x'; 200]));
    let long = [b'x'; 40];
    for number in 0..400 {
        let name = [format!("name-{number}").as_bytes(), &long].concat();
        fs.link(file, many, &name, NOW).expect("there is room");
    }
    for number in 0..400 {
        fs.write_at(torn, number * 2048, b"x", NOW).expect("there is room");
    }
    fs.write_at(file, 0, &[7; 5000], NOW).expect("there is room");
    for inode in [file, many] {
        fs.set_attribute(inode, b"user.small", b"s", NOW).expect("there is room");
        fs.set_attribute(inode, b"user.large", &[5; 600], NOW).expect("there is room");
    }
}

/// Changes a field of a structure, and makes its checksum right.
fn lie(base: &Base, disk: &Patched, input: &mut Input<'_>) {
    let structures = &base.map.structures;
    let structure = &structures[usize::from(input.half()) % structures.len()];
    let mut bytes = vec![0; structure.range.len()];
    disk.copy_out(structure.range.start, &mut bytes).expect("it is on the disk");
    for _ in 0..1 + input.below(4) {
        let how = input.byte();
        let width = 1 << (how & 3);
        // The beginning matters most.
        let at = if how & 4 == 0 { input.byte().into() } else { usize::from(input.half()) };
        let at = at * width % bytes.len();
        bytes[at..at + width].copy_from_slice(&input.array::<8>()[..width]);
    }
    base.map.seal(structure.kind, &mut bytes, &mut |range, change| {
        let mut descriptor = vec![0; range.len()];
        disk.copy_out(range.start, &mut descriptor).expect("it is on the disk");
        change(&mut descriptor);
        disk.put(range.start, &descriptor);
    });
    disk.put(structure.range.start, &bytes);
}

pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let base = base(input.flag());
    let disk = Patched::new(&base.image, MOST_READS);
    for _ in 0..input.below(5) {
        lie(base, &disk, &mut input);
    }
    let _ = identify(&disk);
    let mode = if input.byte() == 1 { MountMode::ReadOnly } else { MountMode::ReadWrite };
    let Ok(mut fs) = Ext4::mount(disk, mode, NOW) else { return };
    fs.set_cache_bytes(16 << 10);
    let mut user = User::new(&fs);
    while !input.is_over() {
        user.act(&mut fs, input.array());
    }
    user.end(&mut fs);
}

#[cfg(test)]
mod tests {
    use super::super::seal::Kind;
    use super::*;

    #[test]
    fn sealing_whole_images_changes_nothing() {
        for is_clean in [false, true] {
            let base = base(is_clean);
            for structure in &base.map.structures {
                let old = &base.image[structure.range.clone()];
                let mut bytes = old.to_vec();
                base.map.seal(structure.kind, &mut bytes, &mut |range, change| {
                    let mut descriptor = base.image[range.clone()].to_vec();
                    change(&mut descriptor);
                    assert_eq!(descriptor, base.image[range], "{structure:?}");
                });
                assert!(bytes == old, "{structure:?}");
            }
            let has = |wanted: fn(&Kind) -> bool| {
                base.map.structures.iter().any(|structure| wanted(&structure.kind))
            };
            assert!(
                has(|kind| matches!(kind, Kind::Index(_, 32))) && has(|kind| matches!(kind, Kind::Leaf(_)))
            );
            assert!(
                has(|kind| matches!(kind, Kind::Extent(_)))
                    && has(|kind| matches!(kind, Kind::Attributes(_)))
            );
            assert!(has(|kind| matches!(kind, Kind::Journal(_))));
        }
    }
}
