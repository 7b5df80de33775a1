//! `/proc/self/maps` (proc_pid_maps(5)).

use alloc::format;
use core::fmt::{self, Write};

use unikernel_fs::LastLink;

use crate::file::long_text::LongText;
use crate::fs::{self, device, image};
use crate::mem::space::{self, Description, Protection, RegionKind, Shown};
use crate::process::program;

/// Where the name stands in a line.
const NAME_COLUMN: usize = 73;

pub(super) fn maps(text: &mut LongText) -> fmt::Result {
    let program = program();
    for shown in space::listing() {
        let (Description { name, device, inode }, offset) = describe(&shown, &program);
        let region = &shown.region;
        let letter = |protection, letter| if region.protection.contains(protection) { letter } else { '-' };
        let is_shared = matches!(region.kind, RegionKind::Object(part) if part.is_shared);
        let (major, minor) = device::parts(device);
        let columns = format!(
            "{:08x}-{:08x} {}{}{}{} {offset:08x} {major:02x}:{minor:02x} {inode} ",
            region.start,
            region.end,
            letter(Protection::READ, 'r'),
            letter(Protection::WRITE, 'w'),
            letter(Protection::EXECUTE, 'x'),
            if is_shared { 's' } else { 'p' },
        );
        if name.is_empty() {
            writeln!(text, "{columns}")?;
        } else {
            writeln!(text, "{columns:<NAME_COLUMN$}{}", name.replace('\n', "\\012"))?;
        }
    }
    Ok(())
}

/// What a region shows, and from where in it.
fn describe(shown: &Shown, program: &Description) -> (Description, u64) {
    if let Some((object, offset)) = &shown.object {
        return (object.describe(), *offset);
    }
    let region = &shown.region;
    let name = match region.kind {
        RegionKind::Image => {
            let Some(offset) = image::offset_of(region.start) else { return (unnamed(""), 0) };
            return (Description { name: program.name.clone(), ..*program }, offset);
        }
        RegionKind::Stack => "[stack]",
        RegionKind::Kernel if region.protection.contains(Protection::EXECUTE) => "[vdso]",
        RegionKind::Kernel => "[vvar]",
        _ if shown.is_heap => "[heap]",
        _ => "",
    };
    (unnamed(name), 0)
}

fn unnamed(name: &str) -> Description {
    Description { name: name.into(), device: 0, inode: 0 }
}

/// The app's own file.
fn program() -> Description {
    let name = program::path();
    let found = fs::find(&fs::current_directory(), name.as_bytes(), LastLink::Follow);
    let (device, inode) = found.map_or((0, 0), |found| {
        let metadata = found.metadata();
        (metadata.device, metadata.inode)
    });
    Description { name, device, inode }
}
