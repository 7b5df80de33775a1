//! The codes of instructions (`linux/bpf_common.h`), put together from class, size or operation, and mode or source.

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $value:expr;)*) => { $($(#[$doc])* pub const $name: u16 = $value;)* };
}

codes! {
    /// A = word of the subject at k.
    LD_W_ABS = 0x20;
    /// A = half word at k.
    LD_H_ABS = 0x28;
    /// A = byte at k.
    LD_B_ABS = 0x30;
    /// A = word at X + k.
    LD_W_IND = 0x40;
    /// A = half word at X + k.
    LD_H_IND = 0x48;
    /// A = byte at X + k.
    LD_B_IND = 0x50;
    /// A = k.
    LD_IMM = 0x00;
    /// A = length of the subject.
    LD_LEN = 0x80;
    /// A = memory[k].
    LD_MEM = 0x60;
    /// X = k.
    LDX_IMM = 0x01;
    /// X = length of the subject.
    LDX_LEN = 0x81;
    /// X = memory[k].
    LDX_MEM = 0x61;
    /// X = four times the low half of the byte at k: the length of an IPv4 header.
    LDX_MSH = 0xb1;
    /// memory[k] = A.
    ST = 0x02;
    /// memory[k] = X.
    STX = 0x03;
    /// A += k.
    ADD_K = 0x04;
    /// A += X.
    ADD_X = 0x0c;
    /// A -= k.
    SUB_K = 0x14;
    /// A -= X.
    SUB_X = 0x1c;
    /// A *= k.
    MUL_K = 0x24;
    /// A *= X.
    MUL_X = 0x2c;
    /// A /= k.
    DIV_K = 0x34;
    /// A /= X; by zero, the program ends with 0.
    DIV_X = 0x3c;
    /// A |= k.
    OR_K = 0x44;
    /// A |= X.
    OR_X = 0x4c;
    /// A &= k.
    AND_K = 0x54;
    /// A &= X.
    AND_X = 0x5c;
    /// A <<= k.
    LSH_K = 0x64;
    /// A <<= X.
    LSH_X = 0x6c;
    /// A >>= k.
    RSH_K = 0x74;
    /// A >>= X.
    RSH_X = 0x7c;
    /// A = -A.
    NEG = 0x84;
    /// A %= k.
    MOD_K = 0x94;
    /// A %= X; by zero, the program ends with 0.
    MOD_X = 0x9c;
    /// A ^= k.
    XOR_K = 0xa4;
    /// A ^= X.
    XOR_X = 0xac;
    /// Leaves k instructions out.
    JA = 0x05;
    /// Branches on A == k.
    JEQ_K = 0x15;
    /// Branches on A == X.
    JEQ_X = 0x1d;
    /// Branches on A > k.
    JGT_K = 0x25;
    /// Branches on A > X.
    JGT_X = 0x2d;
    /// Branches on A >= k.
    JGE_K = 0x35;
    /// Branches on A >= X.
    JGE_X = 0x3d;
    /// Branches on A & k.
    JSET_K = 0x45;
    /// Branches on A & X.
    JSET_X = 0x4d;
    /// Ends with k.
    RET_K = 0x06;
    /// Ends with A.
    RET_A = 0x16;
    /// X = A.
    TAX = 0x07;
    /// A = X.
    TXA = 0x87;
}

/// Those that any program may use.
pub(super) const COMMON: &[u16] = &[
    LD_W_ABS, LD_IMM, LD_LEN, LD_MEM, LDX_IMM, LDX_LEN, LDX_MEM, ST, STX, ADD_K, ADD_X, SUB_K, SUB_X, MUL_K,
    MUL_X, DIV_K, DIV_X, OR_K, OR_X, AND_K, AND_X, LSH_K, LSH_X, RSH_K, RSH_X, NEG, XOR_K, XOR_X, JA, JEQ_K,
    JEQ_X, JGT_K, JGT_X, JGE_K, JGE_X, JSET_K, JSET_X, RET_K, RET_A, TAX, TXA,
];

/// Those that only a program about packets may use.
pub(super) const OF_PACKETS: &[u16] =
    &[LD_H_ABS, LD_B_ABS, LD_W_IND, LD_H_IND, LD_B_IND, LDX_MSH, MOD_K, MOD_X];
