//! Frames as blocks of a capture file that Wireshark and tshark open: pcapng (draft-ietf-opsawg-pcapng).
//!
//! Each function writes one block to the start of `room` and answers its length, or none if it does not fit.
//! Words are little-endian, times are nanoseconds since 1970. A capture is a section header, an interface
//! for each card, then packets in the order they passed, each with its direction. Packets that were lost are told by
//! the next one that was not.

/// Bytes around a packet's bytes at most: the block, its options and padding.
pub const PACKET_OVERHEAD: usize = 64;

/// Types of blocks (sections 4.1 to 4.6).
const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const INTERFACE_STATISTICS: u32 = 5;
const ENHANCED_PACKET: u32 = 6;
/// Tells the order of a word's bytes.
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
/// The link is an Ethernet (`LINKTYPE_ETHERNET`).
const ETHERNET: u32 = 1;

/// Options.
const OF_USER_APPLICATION: u16 = 4;
const OF_INTERFACE_NAME: u16 = 2;
const OF_MAC: u16 = 6;
const OF_RESOLUTION: u16 = 9;
const OF_PACKET_FLAGS: u16 = 2;
const OF_PACKET_DROPS: u16 = 4;
const OF_RECEIVED: u16 = 4;
const OF_DROPPED: u16 = 5;
/// Times are in units of ten to the minus ninth of a second.
const NANOSECONDS: u8 = 9;

/// Which way a frame went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// To this machine.
    In,
    /// From it.
    Out,
}

/// A frame that passed.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// The interface, by its number in the file.
    pub interface: u32,
    /// Which way.
    pub direction: Direction,
    /// When, in nanoseconds since 1970.
    pub time_ns: u64,
    /// All of its bytes.
    pub frame: &'a [u8],
    /// How many of them are kept at most.
    pub snap_len: usize,
    /// Frames of this interface that were lost since the last one that was not.
    pub lost: u64,
}

/// Begins a capture; `application` is who makes it.
pub fn section(room: &mut [u8], application: &str) -> Option<usize> {
    let mut block = Block::begin(room, SECTION_HEADER)?;
    block.word(BYTE_ORDER)?;
    // Version 1.0.
    block.word(1)?;
    // A length that is not told.
    block.wide(u64::MAX)?;
    block.option(OF_USER_APPLICATION, application.as_bytes())?;
    block.end()
}

/// The next interface: its name, its hardware address, and how many bytes of a frame are kept at most.
pub fn interface(room: &mut [u8], name: &str, mac: [u8; 6], snap_len: usize) -> Option<usize> {
    let mut block = Block::begin(room, INTERFACE_DESCRIPTION)?;
    block.word(ETHERNET)?;
    block.word(snap_len as u32)?;
    block.option(OF_INTERFACE_NAME, name.as_bytes())?;
    block.option(OF_MAC, &mac)?;
    block.option(OF_RESOLUTION, &[NANOSECONDS])?;
    block.end()
}

/// A frame.
pub fn packet(room: &mut [u8], packet: &Packet<'_>) -> Option<usize> {
    let kept = &packet.frame[..packet.frame.len().min(packet.snap_len)];
    let mut block = Block::begin(room, ENHANCED_PACKET)?;
    block.word(packet.interface)?;
    block.time(packet.time_ns)?;
    block.word(kept.len() as u32)?;
    block.word(packet.frame.len() as u32)?;
    block.padded(kept)?;
    let direction: u32 = if packet.direction == Direction::In { 1 } else { 2 };
    block.option(OF_PACKET_FLAGS, &direction.to_le_bytes())?;
    if packet.lost > 0 {
        block.option(OF_PACKET_DROPS, &packet.lost.to_le_bytes())?;
    }
    block.end()
}

/// What an interface has seen in all, and how much of that was lost: for the end of a capture.
pub fn statistics(room: &mut [u8], interface: u32, time_ns: u64, seen: u64, lost: u64) -> Option<usize> {
    let mut block = Block::begin(room, INTERFACE_STATISTICS)?;
    block.word(interface)?;
    block.time(time_ns)?;
    block.option(OF_RECEIVED, &seen.to_le_bytes())?;
    block.option(OF_DROPPED, &lost.to_le_bytes())?;
    block.end()
}

/// A block that is being written: type, length, contents, options, and the length again.
struct Block<'a> {
    room: &'a mut [u8],
    len: usize,
    has_options: bool,
}

impl<'a> Block<'a> {
    fn begin(room: &'a mut [u8], kind: u32) -> Option<Self> {
        let mut block = Self { room, len: 0, has_options: false };
        block.word(kind)?;
        // The length is written at the end.
        block.word(0)?;
        Some(block)
    }

    fn bytes(&mut self, bytes: &[u8]) -> Option<()> {
        self.room.get_mut(self.len..self.len + bytes.len())?.copy_from_slice(bytes);
        self.len += bytes.len();
        Some(())
    }

    fn word(&mut self, word: u32) -> Option<()> {
        self.bytes(&word.to_le_bytes())
    }

    fn wide(&mut self, wide: u64) -> Option<()> {
        self.bytes(&wide.to_le_bytes())
    }

    /// A time, its upper half first.
    fn time(&mut self, time_ns: u64) -> Option<()> {
        self.word((time_ns >> 32) as u32)?;
        self.word(time_ns as u32)
    }

    /// Bytes, filled up to a word.
    fn padded(&mut self, bytes: &[u8]) -> Option<()> {
        self.bytes(bytes)?;
        self.bytes(&[0; 3][..bytes.len().next_multiple_of(4) - bytes.len()])
    }

    fn option(&mut self, code: u16, value: &[u8]) -> Option<()> {
        self.has_options = true;
        self.word(u32::from(code) | (value.len() as u32) << 16)?;
        self.padded(value)
    }

    fn end(mut self) -> Option<usize> {
        if self.has_options {
            // The end of the options.
            self.word(0)?;
        }
        let len = self.len + size_of::<u32>();
        self.word(len as u32)?;
        self.room[4..8].copy_from_slice(&(len as u32).to_le_bytes());
        Some(len)
    }
}
