//! A submission entry, as the app wrote it (io_uring_enter(2), "struct io_uring_sqe").

use linux_raw_sys::io_uring::io_uring_sqe_flags_bit;

/// Bytes of an entry.
pub(super) const SQE_BYTES: usize = 64;

/// The entry's words. Several mean something else for each operation; the names are those of the fields'
/// first use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sqe {
    /// `IORING_OP_*`.
    pub(super) opcode: u8,
    /// `IOSQE_*`.
    pub(super) flags: SqeFlags,
    /// Priority, or flags of the operation.
    pub(super) ioprio: u16,
    pub(super) fd: i32,
    pub(super) off: u64,
    pub(super) addr: u64,
    pub(super) len: u32,
    /// The flags of the system call.
    pub(super) op_flags: u32,
    pub(super) user_data: u64,
    /// A registered buffer, or a group of provided ones.
    pub(super) buf: u16,
    pub(super) personality: u16,
    /// `splice_fd_in`, `file_index` and `addr_len`.
    pub(super) file_index: u32,
    pub(super) addr3: u64,
}

bitflags::bitflags! {
    /// `IOSQE_*`.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(super) struct SqeFlags: u8 {
        /// The descriptor is an index of the registered files.
        const FIXED_FILE = 1 << io_uring_sqe_flags_bit::IOSQE_FIXED_FILE_BIT as u8;
        /// Starts when all before it are complete; those behind wait for it.
        const DRAIN = 1 << io_uring_sqe_flags_bit::IOSQE_IO_DRAIN_BIT as u8;
        /// The next entry starts when this one has succeeded.
        const LINK = 1 << io_uring_sqe_flags_bit::IOSQE_IO_LINK_BIT as u8;
        /// The next entry starts when this one is complete.
        const HARD_LINK = 1 << io_uring_sqe_flags_bit::IOSQE_IO_HARDLINK_BIT as u8;
        /// Not tried at once: a hint, as nothing here ever blocks the submitter.
        const ASYNC = 1 << io_uring_sqe_flags_bit::IOSQE_ASYNC_BIT as u8;
        /// The kernel takes a provided buffer.
        const BUFFER_SELECT = 1 << io_uring_sqe_flags_bit::IOSQE_BUFFER_SELECT_BIT as u8;
        /// No completion unless it fails.
        const SKIP_SUCCESS = 1 << io_uring_sqe_flags_bit::IOSQE_CQE_SKIP_SUCCESS_BIT as u8;
    }
}

impl Sqe {
    /// Takes the fields apart.
    pub(super) fn parse(bytes: &[u8; SQE_BYTES]) -> Self {
        fn field<const N: usize>(bytes: &[u8; SQE_BYTES], at: usize) -> [u8; N] {
            *bytes[at..].first_chunk().expect("fields lie within the entry")
        }
        let word = |at| u64::from_ne_bytes(field(bytes, at));
        let half = |at| u32::from_ne_bytes(field(bytes, at));
        let quarter = |at| u16::from_ne_bytes(field(bytes, at));
        Self {
            opcode: bytes[0],
            flags: SqeFlags::from_bits_retain(bytes[1]),
            ioprio: quarter(2),
            fd: half(4) as i32,
            off: word(8),
            addr: word(16),
            len: half(24),
            op_flags: half(28),
            user_data: word(32),
            buf: quarter(40),
            personality: quarter(42),
            file_index: half(44),
            addr3: word(48),
        }
    }

    /// True if the next entry belongs to the same chain.
    pub(super) fn is_linked(&self) -> bool {
        self.flags.intersects(SqeFlags::LINK.union(SqeFlags::HARD_LINK))
    }
}
