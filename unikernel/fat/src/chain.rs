//! Chains of clusters: where the n-th cluster of a file is.
//!
//! The table says only which cluster follows one, so the way to a file's end is as long as the file. What was learnt on the way is kept, for
//! the chains that were used lately: runs of clusters that lie one after another, and where the last step ended. A chain in many pieces
//! keeps only some of its runs, evenly; from the nearest one on, the table is followed again.

use alloc::vec::Vec;

use unikernel_vfs::Error;

use crate::Fat;

const MAX_CHAINS: usize = 32;
const MAX_RUNS: usize = 512;

/// What is known about the chains used lately; the one used longest ago makes room.
#[derive(Default)]
pub(crate) struct Chains {
    known: Vec<Chain>,
    /// Counts uses.
    clock: u64,
}

/// What is known about a chain.
struct Chain {
    /// The first cluster, by which it is found.
    first: u32,
    /// In order. The first begins at the chain's beginning.
    runs: Vec<Run>,
    /// A new run is kept if it begins so many clusters after the last one.
    spacing: u32,
    /// Where the last way ended.
    last: Step,
    used: u64,
}

/// Clusters that follow one another on the volume too.
#[derive(Clone, Copy)]
struct Run {
    start: Step,
    /// At least 1.
    clusters: u32,
}

/// A cluster and how many are before it in its chain.
#[derive(Clone, Copy)]
struct Step {
    index: u32,
    cluster: u32,
}

impl Run {
    /// The cluster there, or the last one of the run before.
    fn nearest(&self, index: u32) -> Step {
        let within = (index - self.start.index).min(self.clusters - 1);
        Step { index: self.start.index + within, cluster: self.start.cluster + within }
    }
}

impl Chain {
    /// The known place nearest before an index, or at it.
    fn nearest(&self, index: u32) -> Step {
        let after = self.runs.partition_point(|run| run.start.index <= index);
        let by_runs = self.runs[after.saturating_sub(1)].nearest(index);
        if (by_runs.index..=index).contains(&self.last.index) { self.last } else { by_runs }
    }

    /// Keeps a step, if that is worth its memory. Those of a way come in order.
    fn learn(&mut self, step: Step) -> Result<(), Error> {
        self.last = step;
        let tail = self.runs.len() - 1;
        let run = &mut self.runs[tail];
        let end = run.start.index + run.clusters;
        if step.index == end && step.cluster == run.start.cluster + run.clusters {
            run.clusters += 1;
        } else if step.index >= end && step.index - run.start.index >= self.spacing {
            self.runs.try_reserve(1).map_err(|_| Error::NoMemory)?;
            self.runs.push(Run { start: step, clusters: 1 });
        }
        if self.runs.len() == MAX_RUNS {
            let mut number = 0_u32;
            self.runs.retain(|_| {
                number += 1;
                number % 2 == 1
            });
            self.spacing *= 2;
        }
        Ok(())
    }
}

impl Chains {
    /// What is known about the chain that begins there.
    fn chain(&mut self, first: u32) -> Result<&mut Chain, Error> {
        self.clock += 1;
        let index = match self.known.iter().position(|chain| chain.first == first) {
            Some(index) => index,
            None => self.add(first)?,
        };
        self.known[index].used = self.clock;
        Ok(&mut self.known[index])
    }

    fn add(&mut self, first: u32) -> Result<usize, Error> {
        let start = Step { index: 0, cluster: first };
        let mut runs = Vec::new();
        runs.try_reserve(1).map_err(|_| Error::NoMemory)?;
        runs.push(Run { start, clusters: 1 });
        let chain = Chain { first, runs, spacing: 1, last: start, used: self.clock };
        if self.known.len() < MAX_CHAINS {
            self.known.try_reserve(1).map_err(|_| Error::NoMemory)?;
            self.known.push(chain);
            return Ok(self.known.len() - 1);
        }
        let oldest = (0..self.known.len()).min_by_key(|index| self.known[*index].used).unwrap_or_default();
        self.known[oldest] = chain;
        Ok(oldest)
    }
}

impl Fat<'_> {
    /// The cluster with so many before it in the chain that begins with `first`; none past the chain's end.
    pub(crate) fn cluster_at(&mut self, first: u32, index: u32) -> Result<Option<u32>, Error> {
        if self.geometry.cluster_offset(first).is_none() {
            return Err(Error::Corrupt("a first cluster"));
        }
        if index > self.geometry.clusters {
            return Err(Error::Corrupt("a chain of more clusters than there are"));
        }
        let mut step = self.chains.chain(first)?.nearest(index);
        while step.index < index {
            let Some(cluster) = self.next_cluster(step.cluster)? else { return Ok(None) };
            step = Step { index: step.index + 1, cluster };
            self.chains.chain(first)?.learn(step)?;
        }
        Ok(Some(step.cluster))
    }
    /// Reads what is in a chain from `offset` on, which must be long enough; clusters that lie one after another at once.
    pub(crate) fn read_chain(&mut self, first: u32, offset: u64, into: &mut [u8]) -> Result<(), Error> {
        let cluster_bytes = u64::from(self.geometry.cluster_bytes);
        let mut at = offset;
        let mut rest = into;
        while !rest.is_empty() {
            let within = at % cluster_bytes;
            let index = u32::try_from(at / cluster_bytes).map_err(|_| Error::TooLarge)?;
            let cluster =
                self.cluster_at(first, index)?.ok_or(Error::Corrupt("a chain shorter than its file"))?;
            let start = self.geometry.cluster_offset(cluster).ok_or(Error::Corrupt("a cluster"))?;
            let mut run = 1;
            while cluster_bytes * u64::from(run) - within < rest.len() as u64
                && self.cluster_at(first, index + run)? == Some(cluster + run)
            {
                run += 1;
            }
            let len = (cluster_bytes * u64::from(run) - within).min(rest.len() as u64);
            let (now, later) = rest.split_at_mut(len as usize);
            self.volume.read(start + within, now).map_err(|_| Error::Device)?;
            at += len;
            rest = later;
        }
        Ok(())
    }
}
