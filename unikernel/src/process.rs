//! The end of the program, and randomness.

use crate::{Error, sys};

/// Ends the program, and with it the appliance.
///
/// ```no_run
/// unikernel::process::exit(0)
/// ```
pub fn exit(code: i32) -> ! {
    sys::exit(code)
}

/// Fills a buffer with random bytes fit for keys.
///
/// ```
/// let mut key = [0; 32];
/// unikernel::process::random(&mut key)?;
/// assert_ne!(key, [0; 32]);
/// # Ok::<(), unikernel::Error>(())
/// ```
pub fn random(buffer: &mut [u8]) -> Result<(), Error> {
    let mut filled = 0;
    while filled < buffer.len() {
        filled += sys::random(&mut buffer[filled..])?;
    }
    Ok(())
}
