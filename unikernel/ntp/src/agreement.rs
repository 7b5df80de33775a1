//! Which of several servers to believe (Marzullo's algorithm, RFC 5905 section 11.2.1, without its refinements).

use alloc::vec::Vec;

use crate::packet::Sample;

/// The middle of what most servers hold possible, if more than half of them agree. Each says an interval, in which the true
/// offset lies if it is right.
pub fn agree(samples: &[Sample]) -> Option<i64> {
    // Where intervals begin and end; at one place beginnings come first, since both ends belong to it.
    let mut edges: Vec<(i128, i32)> = Vec::new();
    for sample in samples {
        let (middle, error) = (i128::from(sample.offset_ns), i128::from(sample.error_ns));
        edges.extend([(middle - error, -1), (middle + error, 1)]);
    }
    edges.sort_unstable();
    let (mut depth, mut deepest, mut within) = (0, 0, None);
    for (index, (start, kind)) in edges.iter().enumerate() {
        depth -= kind;
        if depth > deepest {
            deepest = depth;
            // The next edge ends the part that has so many.
            within = edges.get(index + 1).map(|(end, _)| (*start, *end));
        }
    }
    let (start, end) = within.filter(|_| deepest as usize * 2 > samples.len())?;
    i64::try_from((start + end) / 2).ok()
}
