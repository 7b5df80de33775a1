//! Directories: slots one after another, in a region or in a chain of clusters.

use alloc::string::String;
use core::ops::ControlFlow;

use unikernel_vfs::{Error, InodeNumber};

use crate::entry::{Content, Entry, SLOT_BYTES, content, label};
use crate::geometry::Place;
use crate::name::{LongName, short_text};
use crate::{Fat, MAX_DIRECTORY_BYTES};

/// The root, which has no entry. No other directory's entry can have its number, that of a place in the boot sector.
pub(crate) const ROOT: InodeNumber = InodeNumber(1);

/// An entry, as it is found in a directory.
pub(crate) struct Found<'a> {
    /// The number of its slot.
    pub(crate) slot: u32,
    /// The place of its slot.
    pub(crate) inode: InodeNumber,
    pub(crate) entry: Entry,
    /// At least one of the two.
    pub(crate) long_name: Option<&'a str>,
    pub(crate) short_name: Option<&'a str>,
}

/// A way through a directory.
struct Slots {
    place: Place,
    next: u32,
    /// Where the cluster of the last slot begins.
    cluster: u64,
}

impl Slots {
    fn new(place: Place, first: u32) -> Self {
        Self { place, next: first, cluster: 0 }
    }

    /// The offset of the next slot, if there is one.
    fn next(&mut self, fat: &mut Fat<'_>) -> Result<Option<u64>, Error> {
        let slot = self.next;
        self.next = slot.saturating_add(1);
        let first = match self.place {
            Place::Region { offset, slots } => {
                return Ok((slot < slots).then_some(offset + u64::from(slot) * u64::from(SLOT_BYTES)));
            }
            Place::Chain(first) => first,
        };
        let cluster_slots = fat.geometry.cluster_bytes / SLOT_BYTES;
        let within = slot % cluster_slots;
        if within == 0 || self.cluster == 0 {
            let Some(cluster) = fat.cluster_at(first, slot / cluster_slots)? else { return Ok(None) };
            if slot >= MAX_DIRECTORY_BYTES / SLOT_BYTES {
                return Err(Error::Corrupt("a directory with more than 65,536 slots"));
            }
            self.cluster = fat.geometry.cluster_offset(cluster).ok_or(Error::Corrupt("a cluster"))?;
        }
        Ok(Some(self.cluster + u64::from(within * SLOT_BYTES)))
    }
}

impl Fat<'_> {
    /// Shows the entries from a slot on, without those for the directory itself and its parent, until one is enough.
    pub(crate) fn scan<T>(
        &mut self,
        place: Place,
        first_slot: u32,
        mut each: impl FnMut(Found<'_>) -> ControlFlow<T>,
    ) -> Result<Option<T>, Error> {
        let mut slots = Slots::new(place, first_slot);
        let mut parts = LongName::new()?;
        let (mut long, mut short) = (String::new(), String::new());
        while let Some(offset) = slots.next(self)? {
            let slot = self.bytes(offset)?;
            let entry = match content(&slot, self.geometry.width) {
                Content::End => break,
                Content::LongName => {
                    parts.add(&slot);
                    continue;
                }
                Content::Entry(entry) if !entry.is_dot() => entry,
                Content::Entry(_) | Content::Free | Content::Label => {
                    parts.clear();
                    continue;
                }
            };
            let long_name = parts.text(&entry.name, &mut long)?.then_some(long.as_str());
            let short_name = short_text(&entry.name, entry.case, &mut short)?.then_some(short.as_str());
            parts.clear();
            // Nobody could say which one is meant.
            if long_name.is_none() && short_name.is_none() {
                continue;
            }
            let (slot, inode) = (slots.next - 1, InodeNumber(offset / u64::from(SLOT_BYTES)));
            if let ControlFlow::Break(found) = each(Found { slot, inode, entry, long_name, short_name }) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// More slots no directory can have.
    pub(crate) fn max_slots(&self) -> u32 {
        let clusters = u64::from(self.geometry.clusters);
        let by_clusters = clusters * u64::from(self.geometry.cluster_bytes / SLOT_BYTES);
        by_clusters.min(u64::from(MAX_DIRECTORY_BYTES / SLOT_BYTES)) as u32
    }

    /// The label in the root.
    pub(crate) fn root_label(&mut self) -> Result<Option<[u8; 11]>, Error> {
        let mut slots = Slots::new(self.geometry.root, 0);
        while let Some(offset) = slots.next(self)? {
            let slot = self.bytes(offset)?;
            match content(&slot, self.geometry.width) {
                Content::End => break,
                Content::Label => return Ok(Some(label(&slot))),
                _ => {}
            }
        }
        Ok(None)
    }

    /// The entry with a number; none for the root.
    pub(crate) fn entry(&mut self, inode: InodeNumber) -> Result<Option<Entry>, Error> {
        if inode == ROOT {
            return Ok(None);
        }
        let places = self.geometry.directories..self.geometry.end();
        let offset = inode.0.checked_mul(SLOT_BYTES.into()).filter(|offset| places.contains(offset));
        let slot = self.bytes(offset.ok_or(Error::NotFound)?)?;
        match content(&slot, self.geometry.width) {
            Content::Entry(entry) if !entry.is_dot() => Ok(Some(entry)),
            _ => Err(Error::NotFound),
        }
    }

    /// Where a directory's slots are.
    pub(crate) fn directory(&mut self, inode: InodeNumber) -> Result<Place, Error> {
        match self.entry(inode)? {
            None => Ok(self.geometry.root),
            Some(entry) if entry.is_directory => Ok(Place::Chain(entry.first_cluster)),
            Some(_) => Err(Error::NotADirectory),
        }
    }

    /// The directory above one.
    pub(crate) fn parent(&mut self, directory: Place) -> Result<InodeNumber, Error> {
        let parent = self.place_of_parent(directory)?;
        if parent == self.geometry.root {
            return Ok(ROOT);
        }
        // `..` tells where the parent's slots are, not where its entry is: that is in the directory above it.
        let above = self.place_of_parent(parent)?;
        let is_it =
            |found: &Found<'_>| found.entry.is_directory && Place::Chain(found.entry.first_cluster) == parent;
        let inode = self.scan(above, 0, |found| match is_it(&found) {
            true => ControlFlow::Break(found.inode),
            false => ControlFlow::Continue(()),
        })?;
        inode.ok_or(Error::Corrupt("a parent that is not in the directory above"))
    }

    fn place_of_parent(&mut self, directory: Place) -> Result<Place, Error> {
        let root = self.geometry.root;
        if directory == root {
            return Ok(root);
        }
        // The first slots are the directory's own and its parent's. `fatfs` gives both parts of long names.
        let mut slots = Slots::new(directory, 0);
        while let Some(offset) = slots.next(self)? {
            let slot = self.bytes(offset)?;
            match content(&slot, self.geometry.width) {
                Content::LongName => {}
                Content::Entry(entry) if entry.is_parent() => {
                    let first = entry.first_cluster;
                    return Ok(if first == 0 { root } else { Place::Chain(first) });
                }
                Content::Entry(entry) if entry.is_dot() => {}
                _ => break,
            }
        }
        Err(Error::Corrupt("a directory without `..`"))
    }

    /// How many bytes a directory's slots take.
    pub(crate) fn directory_bytes(&mut self, place: Place) -> Result<u32, Error> {
        let first = match place {
            Place::Region { slots, .. } => return Ok(slots * SLOT_BYTES),
            Place::Chain(first) => first,
        };
        let cluster_bytes = self.geometry.cluster_bytes;
        let mut clusters = 0;
        while clusters * cluster_bytes < MAX_DIRECTORY_BYTES && self.cluster_at(first, clusters)?.is_some() {
            clusters += 1;
        }
        Ok(clusters * cluster_bytes)
    }
}
