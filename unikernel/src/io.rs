//! The console: standard input, output and error as [`embedded_io`] readers and writers.

use core::fmt;

use embedded_io::{ErrorType, Read, Write};

use crate::{Error, sys};

const INPUT: i32 = 0;
const OUTPUT: i32 = 1;
const ERRORS: i32 = 2;

/// Standard input.
///
/// ```no_run
/// use unikernel::embedded_io::Read;
///
/// let mut bytes = [0; 256];
/// let filled = unikernel::io::Stdin.read(&mut bytes)?; // 0 at the end of the input
/// # Ok::<(), unikernel::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Stdin;

impl ErrorType for Stdin {
    type Error = Error;
}

impl Read for Stdin {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        sys::read(INPUT, buffer)
    }
}

macro_rules! console_writer {
    ($(#[$doc:meta])* $name:ident = $descriptor:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name;

        impl ErrorType for $name {
            type Error = Error;
        }

        impl Write for $name {
            fn write(&mut self, bytes: &[u8]) -> Result<usize, Error> {
                sys::write($descriptor, bytes)
            }

            fn flush(&mut self) -> Result<(), Error> {
                Ok(())
            }
        }

        impl fmt::Write for $name {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                self.write_all(text.as_bytes()).map_err(|_| fmt::Error)
            }
        }
    };
}

console_writer! {
    /// Standard output.
    ///
    /// ```
    /// use unikernel::embedded_io::Write;
    ///
    /// unikernel::io::Stdout.write_all(b"ready\n")?;
    /// # Ok::<(), unikernel::Error>(())
    /// ```
    Stdout = OUTPUT
}
console_writer! {
    /// Standard error.
    Stderr = ERRORS
}

/// Writes a line with one system call if it is short, and piece by piece if it is not.
#[doc(hidden)]
pub fn print_line(mut out: impl fmt::Write, line: fmt::Arguments<'_>) {
    let mut buffer = LineBuffer { bytes: [0; 256], len: 0 };
    let _ = match fmt::write(&mut buffer, line).map(|()| core::str::from_utf8(&buffer.bytes[..buffer.len])) {
        Ok(Ok(text)) => out.write_str(text),
        _ => fmt::write(&mut out, line),
    };
}

struct LineBuffer {
    bytes: [u8; 256],
    len: usize,
}

impl fmt::Write for LineBuffer {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.len + text.len();
        self.bytes.get_mut(self.len..end).ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

/// Prints a line to standard output.
///
/// ```
/// unikernel::println!("listening on port {}", 8080);
/// ```
#[macro_export]
macro_rules! println {
    ($($argument:tt)*) => {
        $crate::io::print_line($crate::io::Stdout, format_args!("{}\n", format_args!($($argument)*)))
    };
}

/// Prints a line to standard error.
#[macro_export]
macro_rules! eprintln {
    ($($argument:tt)*) => {
        $crate::io::print_line($crate::io::Stderr, format_args!("{}\n", format_args!($($argument)*)))
    };
}
