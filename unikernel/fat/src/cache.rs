//! What was read of the volume lately, apart from files' content: the allocation table and directories.

use alloc::vec::Vec;

use unikernel_vfs::{Error, Volume};

/// A window begins at a multiple of its size, and is shorter at the volume's end.
const WINDOW_BYTES: u64 = 4096;
const MAX_WINDOWS: usize = 16;

/// A few windows of the volume; the one that was used longest ago makes room.
#[derive(Default)]
pub(crate) struct Cache {
    windows: Vec<Window>,
    /// Counts uses.
    clock: u64,
}

struct Window {
    start: u64,
    bytes: Vec<u8>,
    used: u64,
}

impl Cache {
    /// Bytes of the volume, wherever they are.
    pub(crate) fn read(&mut self, volume: &dyn Volume, offset: u64, into: &mut [u8]) -> Result<(), Error> {
        let mut at = offset;
        let mut rest = into;
        while !rest.is_empty() {
            let within = (at % WINDOW_BYTES) as usize;
            let window = self.window(volume, at - within as u64)?;
            let from = window.get(within..).filter(|from| !from.is_empty());
            let from = from.ok_or(Error::Corrupt("a place past the volume's end"))?;
            let len = from.len().min(rest.len());
            let (now, later) = rest.split_at_mut(len);
            now.copy_from_slice(&from[..len]);
            at += len as u64;
            rest = later;
        }
        Ok(())
    }

    fn window(&mut self, volume: &dyn Volume, start: u64) -> Result<&[u8], Error> {
        self.clock += 1;
        let index = match self.windows.iter().position(|window| window.start == start) {
            Some(index) => index,
            None => self.load(volume, start)?,
        };
        let window = &mut self.windows[index];
        window.used = self.clock;
        Ok(&window.bytes)
    }

    fn load(&mut self, volume: &dyn Volume, start: u64) -> Result<usize, Error> {
        let len = volume.size_bytes().saturating_sub(start).min(WINDOW_BYTES) as usize;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(len).map_err(|_| Error::NoMemory)?;
        bytes.resize(len, 0);
        volume.read(start, &mut bytes).map_err(|_| Error::Device)?;
        let window = Window { start, bytes, used: self.clock };
        if self.windows.len() < MAX_WINDOWS {
            self.windows.try_reserve(1).map_err(|_| Error::NoMemory)?;
            self.windows.push(window);
            return Ok(self.windows.len() - 1);
        }
        let oldest =
            (0..self.windows.len()).min_by_key(|index| self.windows[*index].used).unwrap_or_default();
        self.windows[oldest] = window;
        Ok(oldest)
    }
}
