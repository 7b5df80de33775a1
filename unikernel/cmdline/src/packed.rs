//! What an image says itself about the program in its files, as container images do: words like those of the command line,
//! each ended by a zero, so that any text can be in them. They come first; whoever boots the image has the last word.
//!
//! ```text
//! init=/usr/bin/server env.PATH=/usr/bin cwd=/data user=33:33 name=server argument=--strict usual-argument=--port=80
//! ```
//!
//! What they allow the app (`allow-calls=` and the like) is kept apart: the line's words of this kind bind beside them.
//!
//! With another `init=`, the arguments and the name are not meant for that program, and go.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use crate::error::ParseError;
use crate::options::Options;

/// The first word that the program finds among its arguments; its path if there is none.
const NAME: &str = "name";
/// An argument that goes before those of the command line.
const ARGUMENT: &str = "argument";
/// An argument in case that the command line has none.
const USUAL_ARGUMENT: &str = "usual-argument";

/// Parses a command line for an image that brings these words.
pub fn parse_for_image(packed: &str, line: &str) -> Result<Options, ParseError> {
    let mut options = Options::default();
    let (mut arguments, mut usual) = (Vec::new(), Vec::new());
    let mut name: Option<String> = None;
    for word in packed.split_terminator('\0') {
        match word.split_once('=') {
            Some((NAME, value)) => name = Some(value.to_owned()),
            Some((ARGUMENT, value)) => arguments.push(value.to_owned()),
            Some((USUAL_ARGUMENT, value)) => usual.push(value.to_owned()),
            _ => options.take(word)?,
        }
    }
    options.image_policy = core::mem::take(&mut options.policy);
    options.trust.seal();
    let packed_init = options.init.take();
    options.take_line(line)?;
    if options.init.is_none() {
        let given = core::mem::take(&mut options.app_arguments);
        arguments.extend(if given.is_empty() { usual } else { given });
        options.app_arguments = arguments;
        options.init = packed_init;
        options.app_name = name;
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::user::User;

    const PACKED: &str = "init=/bin/a\0env.A=\"1\"\0env.B= 2\0cwd=/data\0user=7:8\0name=a\0argument=--\0usual-argument=x y\0usual-argument=\0";

    #[test]
    fn whoever_boots_has_the_last_word() {
        let options = parse_for_image(PACKED, "log=debug").unwrap();
        assert_eq!(options.init.as_deref(), Some("/bin/a"));
        assert_eq!(options.app_name.as_deref(), Some("a"));
        assert_eq!(options.app_arguments, ["--", "x y", ""]);
        assert_eq!(options.environment, [("A", "\"1\""), ("B", " 2")].map(|(a, b)| (a.into(), b.into())));
        assert_eq!(options.user, Some(User::Numbers(7, 8)));

        let options = parse_for_image(PACKED, "env.A=3 cwd=/ user=9 -- -p 80").unwrap();
        assert_eq!(options.app_arguments, ["--", "-p", "80"]);
        assert_eq!(options.environment[0], ("A".into(), "3".into()));
        assert_eq!((options.environment.len(), options.user), (2, Some(User::Numbers(9, 9))));
        assert_eq!(options.current_directory.as_deref(), Some("/"));

        let options = parse_for_image(PACKED, "init=/bin/b").unwrap();
        assert_eq!((options.app_name, options.app_arguments.len()), (None, 0));
        assert_eq!(parse_for_image("", "a=b").err(), crate::parse("a=b").err());
    }
}
