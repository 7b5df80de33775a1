//! Writing files. Data goes to its blocks first (`prepare_write`, the caller's writes), and only then do the
//! blocks become part of the file (`finish_write`), so no power cut shows what they held before.

use alloc::vec::Vec;
use core::slice;

use unikernel_vfs::RunState;

use crate::blocks::BlockRun;
use crate::inode::Inode;
use crate::layout::extent::{Extent, MAX_UNWRITTEN, MAX_WRITTEN};
use crate::{BlockDevice, Error, Ext4, InodeNumber, Sync, Timestamp, WriteRun};

/// Runs that one operation makes part of a file: each may change a bitmap, a descriptor and split nodes.
const RUNS_PER_OPERATION: usize = 8;
/// Blocks that `write_at` holds in memory at once.
const BLOCKS_PER_PIECE: u64 = 256;

/// What the blocks of a write hold at its end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Content {
    /// The data.
    Written,
    /// Anything: the device has failed.
    Missing,
}

impl<D: BlockDevice> Ext4<D> {
    /// Finds the blocks for a file's data from `first_block` on: those it has, and newly reserved ones, which a
    /// power cut or [`Ext4::cancel_write`] frees. The caller writes the data, whole blocks at a time, and calls
    /// [`Ext4::finish_write`].
    ///
    /// Until then nobody else may prepare the same blocks, and the file must not be truncated or punched there.
    pub fn prepare_write(
        &mut self,
        inode: InodeNumber,
        first_block: u64,
        blocks: u32,
    ) -> Result<Vec<WriteRun>, Error> {
        match self.prepare_runs(inode, first_block, blocks) {
            Err(Error::NoSpace) if !self.running.freed.is_empty() => {
                self.commit(self.latest)?;
                self.prepare_runs(inode, first_block, blocks)
            }
            outcome => outcome,
        }
    }

    fn prepare_runs(
        &mut self,
        inode: InodeNumber,
        first_block: u64,
        blocks: u32,
    ) -> Result<Vec<WriteRun>, Error> {
        self.check_writable()?;
        let inode = self.file(inode)?;
        let end = first_block + u64::from(blocks);
        if end > self.geometry.max_file_bytes().div_ceil(self.geometry.block_bytes as u64) {
            return Err(Error::TooLarge);
        }
        let mut runs: Vec<WriteRun> = Vec::new();
        let mut at = first_block;
        while at < end {
            let left = (end - at) as u32;
            let run = self.prepare_run(&inode, at as u32, left, runs.last().copied());
            match run {
                Ok(run) => {
                    at += u64::from(run.blocks);
                    runs.push(run);
                }
                Err(error) => {
                    self.cancel_write(&runs);
                    return Err(error);
                }
            }
        }
        Ok(runs)
    }

    fn prepare_run(
        &mut self,
        inode: &Inode,
        at: u32,
        left: u32,
        before: Option<WriteRun>,
    ) -> Result<WriteRun, Error> {
        let path = self.walk(inode, at)?;
        if let Some(extent) = path.holding(at) {
            let skip = at - extent.file_block;
            return Ok(WriteRun {
                file_block: u64::from(at),
                start: extent.start + u64::from(skip),
                blocks: left.min(extent.len - skip),
                state: if extent.is_unwritten { RunState::Unwritten } else { RunState::Written },
            });
        }
        let want = path.next.map_or(left, |next| left.min(next.saturating_sub(at))).clamp(1, MAX_WRITTEN);
        let goal = match before {
            Some(run) if run.state == RunState::Reserved => run.start + u64::from(run.blocks),
            _ => self.goal_of(inode, &path),
        };
        let run = self.reserve_run(goal, want)?;
        Ok(WriteRun {
            file_block: u64::from(at),
            start: run.start,
            blocks: run.len,
            state: RunState::Reserved,
        })
    }

    /// Gives the blocks back that [`Ext4::prepare_write`] reserved. The file stays as it was.
    pub fn cancel_write(&mut self, runs: &[WriteRun]) {
        for run in runs.iter().filter(|run| run.state == RunState::Reserved) {
            self.release_reservation(BlockRun { start: run.start, len: run.blocks });
        }
    }

    /// Makes blocks part of a file after their data was written, and the file at least `size` bytes long. What
    /// of `runs` lies past the file's end then is given back.
    ///
    /// On an error the runs that were not joined are still reserved: call [`Ext4::cancel_write`].
    pub fn finish_write(
        &mut self,
        inode: InodeNumber,
        runs: &[WriteRun],
        size: Option<u64>,
        now: Timestamp,
    ) -> Result<(), Error> {
        let runs: Vec<_> = runs.iter().map(|run| (*run, Content::Written)).collect();
        self.finish_runs(inode, &runs, size, now)
    }

    /// The same of a write that the device did in part: `is_written` tells which blocks of the file, one by one. Of the
    /// others, those that the file did not have become part of it, and read as zeros, so that nothing else is put
    /// where the disk may be bad. (Linux leaves them so, too.)
    pub fn finish_partial_write(
        &mut self,
        inode: InodeNumber,
        runs: &[WriteRun],
        is_written: impl Fn(u64) -> bool,
        size: Option<u64>,
        now: Timestamp,
    ) -> Result<(), Error> {
        let content = |block| if is_written(block) { Content::Written } else { Content::Missing };
        let mut pieces: Vec<(WriteRun, Content)> = Vec::new();
        for run in runs {
            let mut done = 0;
            while done < run.blocks {
                let (file_block, start) = (run.file_block + u64::from(done), run.start + u64::from(done));
                let kind = content(file_block);
                let is_other = |len: &u32| content(file_block + u64::from(*len)) != kind;
                let blocks = (1..run.blocks - done).find(is_other).unwrap_or(run.blocks - done);
                pieces.push((WriteRun { file_block, start, blocks, state: run.state }, kind));
                done += blocks;
            }
        }
        self.finish_runs(inode, &pieces, size, now)
    }

    fn finish_runs(
        &mut self,
        inode: InodeNumber,
        runs: &[(WriteRun, Content)],
        size: Option<u64>,
        now: Timestamp,
    ) -> Result<(), Error> {
        let old_size = self.file(inode)?.raw.size();
        let new_size = size.unwrap_or(0).max(old_size);
        if new_size > self.geometry.max_file_bytes() {
            return Err(Error::TooLarge);
        }
        let last = old_size / self.geometry.block_bytes as u64;
        let covers_last = runs
            .iter()
            .any(|(run, _)| (run.file_block..run.file_block + u64::from(run.blocks)).contains(&last));
        if new_size > old_size && !covers_last {
            self.zero_tail(inode, old_size)?;
        }
        let end = new_size.div_ceil(self.geometry.block_bytes as u64);
        let chunks = runs.len().div_ceil(RUNS_PER_OPERATION).max(1);
        for index in 0..chunks {
            let from = index * RUNS_PER_OPERATION;
            let chunk = &runs[from..runs.len().min(from + RUNS_PER_OPERATION)];
            let is_last = index + 1 == chunks;
            self.operation(now, |fs| {
                let mut inode = fs.file(inode)?;
                for (run, content) in chunk {
                    fs.join(&mut inode, *run, end, *content)?;
                }
                // Blocks past the end would be damage: the size grows with the first of them.
                let joined = chunk.last().map_or(0, |(run, _)| {
                    (run.file_block + u64::from(run.blocks)) * fs.geometry.block_bytes as u64
                });
                let size = if is_last { new_size } else { joined.min(new_size).max(old_size) };
                fs.finish_chunk(inode, size, now)
            })?;
            chunk.iter().for_each(|(run, _)| self.cancel_write(slice::from_ref(run)));
        }
        Ok(())
    }

    fn finish_chunk(&mut self, mut inode: Inode, size: u64, now: Timestamp) -> Result<(), Error> {
        if size > inode.raw.size() {
            inode.raw.set_size(size);
            self.note_inode(inode.number, true);
        }
        inode.raw.set_modified(now);
        inode.raw.set_changed(now);
        self.write_inode(&inode)
    }

    fn join(&mut self, inode: &mut Inode, run: WriteRun, end: u64, content: Content) -> Result<(), Error> {
        let blocks = u64::from(run.blocks).min(end.saturating_sub(run.file_block)) as u32;
        let is_unwritten = content == Content::Missing;
        if blocks == 0 || run.state == RunState::Written || is_unwritten && run.state == RunState::Unwritten {
            return Ok(());
        }
        self.note_inode(inode.number, true);
        let file_block = run.file_block as u32;
        if run.state == RunState::Unwritten {
            return self.mark_written(inode, file_block, file_block + blocks);
        }
        let place = BlockRun { start: run.start, len: blocks };
        if !self.is_reserved(place) {
            return Err(Error::Invalid);
        }
        self.take(place)?;
        self.charge(inode, i64::from(blocks))?;
        let most = if is_unwritten { MAX_UNWRITTEN } else { MAX_WRITTEN };
        let mut done = 0;
        while done < blocks {
            let len = (blocks - done).min(most);
            let (file_block, start) = (file_block + done, run.start + u64::from(done));
            self.insert_extent(inode, Extent { file_block, start, len, is_unwritten })?;
            done += len;
        }
        Ok(())
    }

    /// Zeroes what the block of `offset` holds from there on, if it is a written one.
    pub(crate) fn zero_tail(&mut self, inode: InodeNumber, offset: u64) -> Result<(), Error> {
        let block_bytes = self.geometry.block_bytes as u64;
        let (block, from) = (offset / block_bytes, offset % block_bytes);
        if from == 0 {
            return Ok(());
        }
        self.zero_in_block(inode, block, from as usize, block_bytes as usize)
    }

    /// Zeroes part of a file's block on the disk, if it is a written one that holds anything else.
    pub(crate) fn zero_in_block(
        &mut self,
        inode: InodeNumber,
        block: u64,
        from: usize,
        to: usize,
    ) -> Result<(), Error> {
        let Some(start) = self.map(inode, block, 1)?.start else { return Ok(()) };
        let mut bytes = alloc::vec![0; self.geometry.block_bytes];
        let place = self.geometry.offset(start);
        self.device.read(place, &mut bytes)?;
        if bytes[from..to].iter().any(|byte| *byte != 0) {
            bytes[from..to].fill(0);
            self.device.write(&[(place, &bytes)])?;
        }
        Ok(())
    }

    /// Writes into a file through the device. Returns how many bytes: all of them.
    pub fn write_at(
        &mut self,
        inode: InodeNumber,
        offset: u64,
        bytes: &[u8],
        now: Timestamp,
    ) -> Result<usize, Error> {
        let block_bytes = self.geometry.block_bytes as u64;
        let end = offset.checked_add(bytes.len() as u64).ok_or(Error::TooLarge)?;
        let mut at = offset;
        while at < end {
            let first = at / block_bytes;
            let piece_end = end.min((first + BLOCKS_PER_PIECE) * block_bytes);
            let piece = &bytes[(at - offset) as usize..(piece_end - offset) as usize];
            self.write_piece(inode, at, piece, now)?;
            at = piece_end;
        }
        Ok(bytes.len())
    }

    fn write_piece(
        &mut self,
        inode: InodeNumber,
        offset: u64,
        bytes: &[u8],
        now: Timestamp,
    ) -> Result<(), Error> {
        let block_bytes = self.geometry.block_bytes as u64;
        let (first, end) = (offset / block_bytes, offset + bytes.len() as u64);
        let blocks = (end.div_ceil(block_bytes) - first) as u32;
        let size = self.file(inode)?.raw.size();
        let runs = self.prepare_write(inode, first, blocks)?;
        let outcome = self.fill_blocks(&runs, first, size, offset, bytes).and_then(|buffer| {
            let writes: Vec<(u64, &[u8])> = runs
                .iter()
                .map(|run| {
                    let from = ((run.file_block - first) * block_bytes) as usize;
                    let len = run.blocks as usize * block_bytes as usize;
                    (self.geometry.offset(run.start), &buffer[from..from + len])
                })
                .collect();
            Ok(self.device.write(&writes)?)
        });
        let outcome = outcome.and_then(|()| self.finish_write(inode, &runs, Some(end), now));
        if outcome.is_err() {
            self.cancel_write(&runs);
        }
        outcome
    }

    /// The whole blocks that hold `bytes`, filled up with what was there.
    fn fill_blocks(
        &self,
        runs: &[WriteRun],
        first: u64,
        size: u64,
        offset: u64,
        bytes: &[u8],
    ) -> Result<Vec<u8>, Error> {
        let block_bytes = self.geometry.block_bytes;
        let last = runs.last().map_or(first, |run| run.file_block + u64::from(run.blocks) - 1);
        let mut buffer = alloc::vec![0; (last + 1 - first) as usize * block_bytes];
        let skip = (offset - first * block_bytes as u64) as usize;
        let tail = (skip + bytes.len()) % block_bytes;
        let edges = [(skip != 0).then_some(first), (tail != 0).then_some(last)];
        for block in edges.into_iter().flatten() {
            let run = runs
                .iter()
                .find(|run| (run.file_block..run.file_block + u64::from(run.blocks)).contains(&block));
            let Some(run) = run.filter(|run| !run.is_fresh()) else { continue };
            let at = (block - first) as usize * block_bytes;
            let part = &mut buffer[at..at + block_bytes];
            self.device.read(self.geometry.offset(run.start + (block - run.file_block)), part)?;
            // What lies past the file's end is nobody's.
            let valid = size.saturating_sub(block * block_bytes as u64).min(block_bytes as u64);
            part[valid as usize..].fill(0);
        }
        buffer[skip..skip + bytes.len()].copy_from_slice(bytes);
        Ok(buffer)
    }

    /// Makes an inode durable, and all data that was written to it before. Commits only if something that this
    /// needs was not committed yet; else the device's cache is flushed.
    pub fn sync_inode(&mut self, inode: InodeNumber, what: Sync, now: Timestamp) -> Result<(), Error> {
        match (self.running.inodes.get(&inode.0), what) {
            (Some(true), _) | (Some(false), Sync::All) if !self.running.is_empty() => self.commit(now),
            _ => Ok(self.device.flush()?),
        }
    }
}
