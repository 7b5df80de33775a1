//! A command line, with the words of an image and those of a file: what is refused is told in a sentence, and the kernel moves
//! unless told not to, whichever of the two readers of the line is asked.

use unikernel_cmdline::{Shown, is_host_name, moves_kernel, of_file, parse, parse_for_image, text};
use unikernel_machine::levels::Levels;

pub(crate) fn run(data: &[u8]) {
    let (packed, line) = match data.iter().position(|byte| *byte == b'\n') {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (&[][..], data),
    };
    let _ = moves_kernel(packed, line, data);
    if let Ok(line) = of_file(data) {
        let _ = parse(&line);
    }
    let (Ok(packed), Ok(line)) = (text(packed), text(line)) else { return };
    match parse(line) {
        Ok(options) => {
            assert!(options.system.host_name.as_deref().is_none_or(is_host_name));
            assert_eq!(parse_for_image("", line), Ok(options));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    let _ = parse_for_image(packed, line);
    assert!(!Shown(line).to_string().contains(char::is_control));
    let _ = Levels::parse(line);
}
