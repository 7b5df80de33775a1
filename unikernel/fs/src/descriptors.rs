//! Small numbers for open files: the lowest free one is given first (POSIX), and found again in
//! constant time.

use alloc::vec::Vec;

const BITS_PER_WORD: usize = u64::BITS as usize;

/// A table from descriptors to what they stand for. It grows as descriptors are used.
#[derive(Debug)]
pub struct DescriptorTable<T> {
    slots: Vec<Option<T>>,
    /// One bit a descriptor, taken or free, so that 64 of them are passed at a look.
    taken: Vec<u64>,
    /// No descriptor below this one is free.
    lowest_free: usize,
    limit: usize,
}

/// The limit on descriptors is reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TableFull;

impl<T> DescriptorTable<T> {
    /// Makes an empty table for descriptors below `limit`.
    pub const fn new(limit: usize) -> Self {
        Self { slots: Vec::new(), taken: Vec::new(), lowest_free: 0, limit }
    }

    /// What a descriptor stands for.
    #[inline]
    pub fn get(&self, descriptor: usize) -> Option<&T> {
        self.slots.get(descriptor)?.as_ref()
    }

    /// What a descriptor stands for, to change it.
    pub fn get_mut(&mut self, descriptor: usize) -> Option<&mut T> {
        self.slots.get_mut(descriptor)?.as_mut()
    }

    /// Takes the lowest free descriptor that is not below `lowest`.
    pub fn add(&mut self, lowest: usize, value: T) -> Result<usize, TableFull> {
        let descriptor = self.find_free(lowest.max(self.lowest_free));
        if descriptor >= self.limit {
            return Err(TableFull);
        }
        if lowest <= self.lowest_free {
            self.lowest_free = descriptor + 1;
        }
        self.put(descriptor, value);
        Ok(descriptor)
    }

    /// Takes this very descriptor; answers what it stood for.
    pub fn replace(&mut self, descriptor: usize, value: T) -> Result<Option<T>, TableFull> {
        if descriptor < self.limit { Ok(self.put(descriptor, value)) } else { Err(TableFull) }
    }

    /// Frees a descriptor; answers what it stood for.
    pub fn remove(&mut self, descriptor: usize) -> Option<T> {
        let value = self.slots.get_mut(descriptor)?.take()?;
        self.taken[descriptor / BITS_PER_WORD] &= !(1 << (descriptor % BITS_PER_WORD));
        self.lowest_free = self.lowest_free.min(descriptor);
        Some(value)
    }

    /// The descriptors in use between two bounds, both included.
    pub fn in_use(&self, first: usize, last: usize) -> impl Iterator<Item = usize> {
        let end = self.slots.len().min(last.saturating_add(1));
        (first..end).filter(|&descriptor| self.slots[descriptor].is_some())
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

    fn put(&mut self, descriptor: usize, value: T) -> Option<T> {
        if descriptor >= self.slots.len() {
            self.slots.resize_with(descriptor + 1, || None);
            self.taken.resize(self.slots.len().div_ceil(BITS_PER_WORD), 0);
        }
        self.taken[descriptor / BITS_PER_WORD] |= 1 << (descriptor % BITS_PER_WORD);
        self.slots[descriptor].replace(value)
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
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let descriptor = 0..LIMIT + 20;
        prop::collection::vec(
            prop_oneof![
                4 => Just(Step::Add(0)),
                1 => descriptor.clone().prop_map(Step::Add),
                1 => descriptor.clone().prop_map(Step::Replace),
                3 => descriptor.prop_map(Step::Remove),
            ],
            0..400,
        )
    }

    proptest! {
        #[test]
        fn table_behaves_as_a_map_with_the_lowest_free_key(steps in steps()) {
            let (mut table, mut model) = (DescriptorTable::new(LIMIT), BTreeMap::new());
            for (value, step) in steps.iter().enumerate() {
                match *step {
                    Step::Add(lowest) => {
                        let free = (lowest..LIMIT).find(|key| !model.contains_key(key)).ok_or(TableFull);
                        prop_assert_eq!(table.add(lowest, value), free);
                        if let Ok(key) = free {
                            model.insert(key, value);
                        }
                    }
                    Step::Replace(key) if key >= LIMIT => {
                        prop_assert_eq!(table.replace(key, value), Err(TableFull));
                    }
                    Step::Replace(key) => prop_assert_eq!(table.replace(key, value), Ok(model.insert(key, value))),
                    Step::Remove(key) => prop_assert_eq!(table.remove(key), model.remove(&key)),
                }
            }
            prop_assert_eq!(table.len(), model.len());
            prop_assert!(table.in_use(0, usize::MAX).eq(model.keys().copied()));
            prop_assert!(table.in_use(10, 20).eq(model.range(10..=20).map(|(key, _)| *key)));
            prop_assert!((0..LIMIT + 20).all(|key| table.get(key) == model.get(&key)));
        }
    }
}
