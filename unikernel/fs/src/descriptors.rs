//! Small numbers for open files: the lowest free one is given first (POSIX), and found again in
//! constant time.

use alloc::collections::TryReserveError;
use alloc::vec::Vec;

const BITS_PER_WORD: usize = u64::BITS as usize;

/// Slots are allocated so many at a time: a table of many descriptors is not one large block, and a high
/// descriptor costs no more than a low one.
const CHUNK_SLOTS: usize = 128;

/// A table from descriptors to what they stand for. It grows as descriptors are used.
#[derive(Debug)]
pub struct DescriptorTable<T> {
    /// A chunk is empty until one of its descriptors is used.
    chunks: Vec<Vec<Option<T>>>,
    /// One bit a descriptor, taken or free, so that 64 of them are passed at a look.
    taken: Vec<u64>,
    /// No descriptor below this one is free.
    lowest_free: usize,
    limit: usize,
}

/// Why there is no descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TableFull {
    /// The limit on descriptors is reached.
    Limit,
    /// There is no memory for more.
    Memory,
}

impl<T> DescriptorTable<T> {
    /// Makes an empty table for descriptors below `limit`.
    pub const fn new(limit: usize) -> Self {
        Self { chunks: Vec::new(), taken: Vec::new(), lowest_free: 0, limit }
    }

    /// Changes the limit; descriptors beyond it stay.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// What a descriptor stands for.
    #[inline]
    pub fn get(&self, descriptor: usize) -> Option<&T> {
        self.chunks.get(descriptor / CHUNK_SLOTS)?.get(descriptor % CHUNK_SLOTS)?.as_ref()
    }

    fn slot_mut(&mut self, descriptor: usize) -> Option<&mut Option<T>> {
        self.chunks.get_mut(descriptor / CHUNK_SLOTS)?.get_mut(descriptor % CHUNK_SLOTS)
    }

    /// What a descriptor stands for, to change it.
    pub fn get_mut(&mut self, descriptor: usize) -> Option<&mut T> {
        self.slot_mut(descriptor)?.as_mut()
    }

    /// Takes the lowest free descriptor that is not below `lowest`. A value that finds no place comes back.
    pub fn add(&mut self, lowest: usize, value: T) -> Result<usize, (TableFull, T)> {
        let descriptor = self.find_free(lowest.max(self.lowest_free));
        match self.put(descriptor, value) {
            Ok(_) => {
                if lowest <= self.lowest_free {
                    self.lowest_free = descriptor + 1;
                }
                Ok(descriptor)
            }
            Err(refused) => Err(refused),
        }
    }

    /// Takes the lowest free descriptor for something that there is not yet: until [`Self::fill`] it stands for nothing, and is not free.
    pub fn reserve(&mut self) -> Result<usize, TableFull> {
        let descriptor = self.find_free(self.lowest_free);
        self.make_room_below_limit(descriptor)?;
        self.take(descriptor);
        self.lowest_free = descriptor + 1;
        Ok(descriptor)
    }

    /// Makes a reserved descriptor stand for something.
    ///
    /// # Panics
    ///
    /// If it is not reserved.
    pub fn fill(&mut self, descriptor: usize, value: T) {
        assert!(self.is_reserved(descriptor), "{descriptor} is not reserved");
        if let Some(slot) = self.slot_mut(descriptor) {
            *slot = Some(value);
        }
    }

    /// Frees a reserved descriptor.
    ///
    /// # Panics
    ///
    /// If it is not reserved.
    pub fn unreserve(&mut self, descriptor: usize) {
        assert!(self.is_reserved(descriptor), "{descriptor} is not reserved");
        self.free(descriptor);
    }

    /// True between [`Self::reserve`] and [`Self::fill`].
    pub fn is_reserved(&self, descriptor: usize) -> bool {
        let word = self.taken.get(descriptor / BITS_PER_WORD).copied().unwrap_or(0);
        word >> (descriptor % BITS_PER_WORD) & 1 != 0 && self.get(descriptor).is_none()
    }

    /// Takes this very descriptor, which is not reserved; answers what it stood for. A value that finds no place comes back.
    pub fn replace(&mut self, descriptor: usize, value: T) -> Result<Option<T>, (TableFull, T)> {
        self.put(descriptor, value)
    }

    /// Frees a descriptor; answers what it stood for.
    pub fn remove(&mut self, descriptor: usize) -> Option<T> {
        let value = self.slot_mut(descriptor)?.take()?;
        self.free(descriptor);
        Some(value)
    }

    fn free(&mut self, descriptor: usize) {
        self.taken[descriptor / BITS_PER_WORD] &= !(1 << (descriptor % BITS_PER_WORD));
        self.lowest_free = self.lowest_free.min(descriptor);
        self.drop_unused_chunk(descriptor / CHUNK_SLOTS);
    }

    fn take(&mut self, descriptor: usize) {
        self.taken[descriptor / BITS_PER_WORD] |= 1 << (descriptor % BITS_PER_WORD);
    }

    /// The lowest descriptor in use, or reserved, that is not below `first`.
    pub fn first_in_use(&self, first: usize) -> Option<usize> {
        let first_word = first / BITS_PER_WORD;
        let words = self.taken.iter().enumerate().skip(first_word);
        let mut found = words.map(|(index, &taken)| {
            let from = if index == first_word { u64::MAX << (first % BITS_PER_WORD) } else { u64::MAX };
            (index, taken & from)
        });
        let (index, taken) = found.find(|(_, taken)| *taken != 0)?;
        Some(index * BITS_PER_WORD + taken.trailing_zeros() as usize)
    }

    /// One past the highest descriptor that was ever in use, up to the next multiple of 64.
    pub fn span(&self) -> usize {
        self.taken.len() * BITS_PER_WORD
    }

    /// How many descriptors are in use.
    pub fn len(&self) -> usize {
        self.taken.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// True if no descriptor is in use.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn find_free(&self, lowest: usize) -> usize {
        let first_word = lowest / BITS_PER_WORD;
        for (index, &taken) in self.taken.iter().enumerate().skip(first_word) {
            let below = if index == first_word { (1 << (lowest % BITS_PER_WORD)) - 1 } else { 0 };
            let free = !(taken | below);
            if free != 0 {
                return index * BITS_PER_WORD + free.trailing_zeros() as usize;
            }
        }
        lowest.max(self.taken.len() * BITS_PER_WORD)
    }

    fn put(&mut self, descriptor: usize, value: T) -> Result<Option<T>, (TableFull, T)> {
        if let Err(full) = self.make_room_below_limit(descriptor) {
            return Err((full, value));
        }
        self.take(descriptor);
        Ok(self.slot_mut(descriptor).and_then(|slot| slot.replace(value)))
    }

    /// Gives a chunk's memory back if none of its descriptors is in use.
    fn drop_unused_chunk(&mut self, chunk: usize) {
        const WORDS: usize = CHUNK_SLOTS / BITS_PER_WORD;
        let mut words = self.taken.iter().skip(chunk * WORDS).take(WORDS);
        if words.all(|word| *word == 0) {
            self.chunks[chunk] = Vec::new();
        }
    }

    fn make_room_below_limit(&mut self, descriptor: usize) -> Result<(), TableFull> {
        match descriptor < self.limit {
            true => self.make_room(descriptor).map_err(|_| TableFull::Memory),
            false => Err(TableFull::Limit),
        }
    }

    /// Sees to it that a descriptor has a slot and a bit.
    fn make_room(&mut self, descriptor: usize) -> Result<(), TryReserveError> {
        let (chunk, word) = (descriptor / CHUNK_SLOTS, descriptor / BITS_PER_WORD);
        if word >= self.taken.len() {
            self.taken.try_reserve(word + 1 - self.taken.len())?;
        }
        if chunk >= self.chunks.len() {
            self.chunks.try_reserve(chunk + 1 - self.chunks.len())?;
            self.chunks.resize_with(chunk + 1, Vec::new);
        }
        let slots = &mut self.chunks[chunk];
        if slots.is_empty() {
            slots.try_reserve_exact(CHUNK_SLOTS)?;
            slots.resize_with(CHUNK_SLOTS, || None);
        }
        self.taken.resize(self.taken.len().max(word + 1), 0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 150;

    #[derive(Clone, Debug)]
    enum Step {
        Add(usize),
        Replace(usize),
        Remove(usize),
        Reserve,
        /// Fills the reserved one, or gives it back.
        Settle(bool),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let descriptor = 0..LIMIT + 20;
        prop::collection::vec(
            prop_oneof![
                4 => Just(Step::Add(0)),
                1 => descriptor.clone().prop_map(Step::Add),
                1 => descriptor.clone().prop_map(Step::Replace),
                3 => descriptor.prop_map(Step::Remove),
                1 => Just(Step::Reserve),
                1 => any::<bool>().prop_map(Step::Settle),
            ],
            0..400,
        )
    }

    proptest! {
        #[test]
        fn table_behaves_as_a_map_with_the_lowest_free_key(steps in steps()) {
            let (mut table, mut model) = (DescriptorTable::new(LIMIT), BTreeMap::new());
            let mut reserved: Option<usize> = None;
            for (value, step) in steps.iter().enumerate() {
                let is_free = |key: &usize| !model.contains_key(key) && Some(*key) != reserved;
                match *step {
                    Step::Reserve if reserved.is_some() => {}
                    Step::Reserve => {
                        let free = (0..LIMIT).find(is_free).ok_or(TableFull::Limit);
                        prop_assert_eq!(table.reserve(), free);
                        reserved = free.ok();
                    }
                    Step::Settle(is_filled) => match reserved.take() {
                        Some(key) if is_filled => {
                            table.fill(key, value);
                            model.insert(key, value);
                        }
                        Some(key) => table.unreserve(key),
                        None => {}
                    },
                    Step::Replace(key) if reserved == Some(key) => prop_assert!(table.is_reserved(key)),
                    Step::Add(lowest) => {
                        let free = (lowest..LIMIT).find(is_free).ok_or((TableFull::Limit, value));
                        prop_assert_eq!(table.add(lowest, value), free);
                        if let Ok(key) = free {
                            model.insert(key, value);
                        }
                    }
                    Step::Replace(key) if key >= LIMIT => {
                        prop_assert_eq!(table.replace(key, value), Err((TableFull::Limit, value)));
                    }
                    Step::Replace(key) => prop_assert_eq!(table.replace(key, value), Ok(model.insert(key, value))),
                    Step::Remove(key) => prop_assert_eq!(table.remove(key), model.remove(&key)),
                }
            }
            if let Some(key) = reserved {
                prop_assert!(table.is_reserved(key) && table.get(key).is_none());
                table.unreserve(key);
            }
            prop_assert_eq!(table.len(), model.len());
            for first in 0..LIMIT + 200 {
                let next = model.range(first..).next().map(|(key, _)| *key);
                prop_assert_eq!(table.first_in_use(first), next);
            }
            prop_assert!((0..LIMIT + 20).all(|key| table.get(key) == model.get(&key)));
        }
    }
}
