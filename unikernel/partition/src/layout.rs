//! Which of a table's partitions may be used: none that shares a block with anything else.

use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

use crate::{Complaint, Disk, MAX_PARTITIONS, Partition, Refusal, SECTOR_BYTES};

/// A partition as the table has it, in blocks of the disk.
pub(crate) struct Candidate {
    pub(crate) number: u32,
    /// Not empty.
    pub(crate) blocks: Range<u64>,
    pub(crate) uuid: String,
    pub(crate) label: String,
}

/// Partitions as they are found, and what the table itself takes.
#[derive(Default)]
pub(crate) struct Layout {
    candidates: Vec<Candidate>,
    tables: Vec<Range<u64>>,
    pub(crate) complaints: Vec<Complaint>,
}

impl Layout {
    /// Blocks of the table, where no partition may be.
    pub(crate) fn reserve(&mut self, blocks: Range<u64>) {
        self.tables.push(blocks);
    }

    /// True if a block is one of the table's.
    pub(crate) fn is_reserved(&self, block: u64) -> bool {
        self.tables.iter().any(|table| table.contains(&block))
    }

    /// Adds a partition, which must lie in `room`; false if there are too many.
    pub(crate) fn add(&mut self, candidate: Candidate, room: &Range<u64>) -> bool {
        let Range { start, end } = candidate.blocks;
        if start >= end {
            self.complaints.push(Complaint::Refused(candidate.number, Refusal::Backwards));
        } else if start < room.start || end > room.end {
            self.complaints.push(Complaint::Refused(candidate.number, Refusal::Outside));
        } else {
            self.candidates.push(candidate);
        }
        let has_room = self.candidates.len() + self.complaints.len() <= MAX_PARTITIONS;
        if !has_room {
            self.candidates.truncate(MAX_PARTITIONS);
            self.complaints.push(Complaint::TooMany);
        }
        has_room
    }

    /// The partitions that can be used, by number, and what is wrong with the others.
    pub(crate) fn finish(mut self, disk: &impl Disk) -> (Vec<Partition>, Vec<Complaint>) {
        let overlapping = self.overlapping();
        let block_sectors = disk.block_bytes() as u64 / SECTOR_BYTES;
        let mut partitions = Vec::new();
        for (candidate, overlaps) in self.candidates.into_iter().zip(overlapping) {
            let (number, Range { start, end }) = (candidate.number, candidate.blocks);
            // They end on the disk, whose bytes can be counted.
            let sectors = |blocks: u64| blocks.saturating_mul(block_sectors);
            if overlaps || end > disk.blocks() {
                self.complaints.push(Complaint::Refused(number, Refusal::Overlaps));
                continue;
            }
            partitions.push(Partition {
                number,
                first_sector: sectors(start),
                sectors: sectors(end - start),
                uuid: candidate.uuid,
                label: candidate.label,
            });
        }
        partitions.sort_by_cached_key(|partition| partition.number);
        (partitions, self.complaints)
    }

    /// For each candidate, whether it has a block in common with another one or with the table.
    fn overlapping(&self) -> Vec<bool> {
        let mut overlaps = alloc::vec![false; self.candidates.len()];
        let candidates = self.candidates.iter().enumerate().map(|(index, it)| (Some(index), &it.blocks));
        let mut all: Vec<_> = candidates.chain(self.tables.iter().map(|table| (None, table))).collect();
        all.sort_unstable_by_key(|(_, blocks)| blocks.start);
        // Of those before, the one that reaches farthest: what overlaps with any of them overlaps with it, or they do.
        let mut farthest: Option<(Option<usize>, u64)> = None;
        for (index, blocks) in all {
            if let Some((other, end)) = farthest
                && blocks.start < end
            {
                [index, other].into_iter().flatten().for_each(|index| overlaps[index] = true);
            }
            if farthest.is_none_or(|(_, end)| blocks.end > end) {
                farthest = Some((index, blocks.end));
            }
        }
        overlaps
    }
}
