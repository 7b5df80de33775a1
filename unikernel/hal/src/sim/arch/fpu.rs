//! The app's vector state: it uses the host's, so what is saved for it is only kept.

use alloc::vec::Vec;

/// The size of an FXSAVE image.
const AREA_BYTES: usize = 512;

/// Exceptions of the app's x87 unit that are raised and not masked.
pub fn x87_errors() -> u32 {
    0
}

/// The same for SSE and its successors.
pub fn simd_errors() -> u32 {
    0
}

/// Size of one thread's area in bytes.
pub fn area_bytes() -> usize {
    AREA_BYTES
}

/// One thread's saved registers.
pub struct FpuState(Vec<u8>);

impl FpuState {
    /// The state at program start, or `None` if memory is short.
    pub fn new() -> Option<Self> {
        let mut area = Vec::new();
        area.try_reserve_exact(AREA_BYTES).ok()?;
        area.resize(AREA_BYTES, 0);
        Some(Self(area))
    }

    /// Stores the registers here.
    pub fn save(&mut self) {}

    /// Loads the registers from here.
    pub fn restore(&self) {}

    /// The image, for a signal frame.
    pub fn image(&self) -> &[u8] {
        &self.0
    }

    /// Takes an image that the app may have changed.
    pub fn load_image(&mut self, image: &[u8]) {
        let bytes = self.0.len().min(image.len());
        self.0[..bytes].copy_from_slice(&image[..bytes]);
    }
}
