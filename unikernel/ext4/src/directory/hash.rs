//! The hashes by which a directory's index is ordered (`ext4/directory.rst`, "Hash Tree Directories").

use crate::geometry::Geometry;

/// A name's hash. The index is ordered by the first word, whose lowest bit is always clear.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct NameHash {
    pub major: u32,
    pub minor: u32,
}

/// The last hash that a name may have; the one after it means the end (`EXT4_HTREE_EOF_32BIT`).
const LAST: u32 = 0xffff_fffc;

/// Computes a name's hash in the given version, or `None` if the version is not known.
pub(crate) fn hash_name(geometry: &Geometry, version: u8, name: &[u8]) -> Option<NameHash> {
    let is_unsigned = version >= 3 || geometry.is_hash_unsigned;
    let seed = if geometry.hash_seed == [0; 4] {
        [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476]
    } else {
        geometry.hash_seed
    };
    let (major, minor) = match version {
        0 | 3 => (legacy(name, is_unsigned), 0),
        1 | 4 => {
            let state = chunks(name, 8, is_unsigned).fold(seed, half_md4);
            (state[1], state[2])
        }
        2 | 5 => {
            let state = chunks(name, 4, is_unsigned).fold(seed, tea);
            (state[0], state[1])
        }
        _ => return None,
    };
    let major = major & !1;
    Some(NameHash { major: if major > LAST { LAST } else { major }, minor })
}

fn byte(byte: u8, is_unsigned: bool) -> u32 {
    if is_unsigned { u32::from(byte) } else { i32::from(byte.cast_signed()).cast_unsigned() }
}

fn legacy(name: &[u8], is_unsigned: bool) -> u32 {
    let (mut hash, mut before) = (0x12a3_fe2d_u32, 0x37ab_e8f9_u32);
    for character in name {
        let mixed = before.wrapping_add(hash ^ byte(*character, is_unsigned).wrapping_mul(7_152_373));
        let mixed = if mixed & 0x8000_0000 != 0 { mixed.wrapping_sub(0x7fff_ffff) } else { mixed };
        (before, hash) = (hash, mixed);
    }
    hash << 1
}

/// The name in words of four characters, `count` at a time, filled up with its length.
fn chunks(name: &[u8], count: usize, is_unsigned: bool) -> impl Iterator<Item = [u32; 8]> + '_ {
    let pieces = name.len().div_ceil(4 * count);
    (0..pieces).map(move |piece| {
        let rest = &name[piece * 4 * count..];
        let pad = rest.len() as u32 | (rest.len() as u32) << 8;
        let pad = pad | pad << 16;
        let mut words = [0; 8];
        for (word, slot) in words.iter_mut().take(count).enumerate() {
            let characters = rest.get(word * 4..).unwrap_or(&[]);
            *slot = characters
                .iter()
                .take(4)
                .fold(pad, |value, character| byte(*character, is_unsigned).wrapping_add(value << 8));
        }
        words
    })
}

fn tea(state: [u32; 4], input: [u32; 8]) -> [u32; 4] {
    let (mut b0, mut b1, mut sum) = (state[0], state[1], 0u32);
    let [a, b, c, d, ..] = input;
    for _ in 0..16 {
        sum = sum.wrapping_add(0x9e37_79b9);
        let mix = |value: u32, one: u32, two: u32| {
            (value << 4).wrapping_add(one) ^ value.wrapping_add(sum) ^ (value >> 5).wrapping_add(two)
        };
        b0 = b0.wrapping_add(mix(b1, a, b));
        b1 = b1.wrapping_add(mix(b0, c, d));
    }
    [state[0].wrapping_add(b0), state[1].wrapping_add(b1), state[2], state[3]]
}

/// Order of the input words, rotations and constant of MD4's three rounds, cut to eight steps each.
const ROUNDS: [([usize; 8], [u32; 4], u32); 3] = [
    ([0, 1, 2, 3, 4, 5, 6, 7], [3, 7, 11, 19], 0),
    ([1, 3, 5, 7, 0, 2, 4, 6], [3, 5, 9, 13], 0x5a82_7999),
    ([3, 7, 2, 6, 1, 5, 0, 4], [3, 9, 11, 15], 0x6ed9_eba1),
];

fn half_md4(state: [u32; 4], input: [u32; 8]) -> [u32; 4] {
    let [mut a, mut b, mut c, mut d] = state;
    for (round, (order, rotations, constant)) in ROUNDS.iter().enumerate() {
        for (step, word) in order.iter().enumerate() {
            let mixed = match round {
                0 => d ^ (b & (c ^ d)),
                1 => (b & c).wrapping_add((b ^ c) & d),
                _ => b ^ c ^ d,
            };
            let sum = a.wrapping_add(mixed).wrapping_add(input[*word]).wrapping_add(*constant);
            (a, d, c, b) = (d, c, b, sum.rotate_left(rotations[step % 4]));
        }
    }
    [state[0].wrapping_add(a), state[1].wrapping_add(b), state[2].wrapping_add(c), state[3].wrapping_add(d)]
}
