//! The link of a program by arguments that were meant for `ld`: the kernel is put in, and what asks for a
//! position-independent program is taken out.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::kernel::Kernel;
use crate::shim::KERNEL_OPTION;
use crate::sources::{cache_dir, kernel_target_dir};
use crate::tools::{Failure, Output, run};
use crate::wrapped::{program_name, tell_of_kernel};
use crate::{embed, image_check, toolchain};

/// Arguments that have no meaning at a fixed address.
const FOR_PIE: [&str; 4] = ["-pie", "--pie", "-static-pie", "--no-dynamic-linker"];

/// A link as `ld` was asked for it.
#[derive(PartialEq, Eq, Debug)]
struct Link {
    kernel_profile: String,
    output: PathBuf,
    arguments: Vec<String>,
}

/// Links, with the kernel that the arguments name.
pub fn link_program(arguments: Vec<String>) -> Result<(), Failure> {
    let link = parse(expand(arguments))?;
    let target_dir = kernel_target_dir()?;
    if !Kernel::is_compiled(&target_dir, &link.kernel_profile) {
        tell_of_kernel();
    }
    let kernel = Kernel::compile(&target_dir, &cache_dir()?, &link.kernel_profile, Output::Kept)?;
    let mut linker = Command::new(toolchain::linker()?);
    linker.args(["-flavor", "gnu"]).args(&link.arguments).args(kernel.link_arguments());
    run(&mut linker, Output::Kept)?;
    let name = program_name(&link.output);
    embed(&link.output, &name).map_err(|error| Failure::of_file(&link.output, &error))?;
    let file = fs::read(&link.output).map_err(|error| Failure::of_file(&link.output, &error))?;
    match image_check::check(&file).first() {
        Some(fault) => Err(Failure::new(format!("the image {name} would not do: {fault}"))),
        None => Ok(()),
    }
}

/// Long command lines come in files: `@FILE`, as every tool of GCC's takes it. A file that is not there is an
/// argument.
fn expand(words: Vec<String>) -> Vec<String> {
    let read = |word: &str| fs::read_to_string(word.strip_prefix('@')?).ok();
    words.into_iter().flat_map(|word| read(&word).map_or_else(|| vec![word], |text| split(&text))).collect()
}

/// The arguments in such a file: apart by white space, with quotes and backslashes as in a shell.
fn split(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (character, quote) {
            ('\\', _) => word.get_or_insert_default().extend(characters.next()),
            (_, Some(open)) if character == open => quote = None,
            (_, Some(_)) => word.get_or_insert_default().push(character),
            ('\'' | '"', None) => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (space, None) if space.is_whitespace() => words.extend(word.take()),
            (_, None) => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    words
}

fn parse(words: Vec<String>) -> Result<Link, Failure> {
    let output =
        words.iter().position(|word| word == "-o").and_then(|at| words.get(at + 1)).map(PathBuf::from);
    let profile = words.iter().find_map(|word| word.strip_prefix(KERNEL_OPTION)).map(str::to_owned);
    let (Some(output), Some(kernel_profile)) = (output, profile) else {
        return Err(Failure::new("not called for a program with a kernel"));
    };
    let mut arguments = Vec::with_capacity(words.len() + 1);
    for word in words {
        if !FOR_PIE.contains(&word.as_str()) && !word.starts_with(KERNEL_OPTION) {
            arguments.push(at_fixed_address(word));
        }
    }
    arguments.push("-no-pie".to_owned());
    Ok(Link { kernel_profile, output, arguments })
}

/// The start-up code beside that of a position-independent program.
fn at_fixed_address(word: String) -> String {
    let path = Path::new(&word);
    if path.file_name().is_some_and(|name| name == "rcrt1.o" || name == "Scrt1.o") {
        return path.with_file_name("crt1.o").display().to_string();
    }
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn program_is_linked_at_a_fixed_address() {
        let link = parse(words(
            "-static -pie --no-dynamic-linker -o out/x /a/rcrt1.o x.o --unikernel-kernel=kernel",
        ));
        let link = link.unwrap();
        assert_eq!((link.kernel_profile.as_str(), link.output.as_path()), ("kernel", Path::new("out/x")));
        assert_eq!(link.arguments, words("-static -o out/x /a/crt1.o x.o -no-pie"));
        assert!(parse(words("-o x")).is_err() && parse(words("--unikernel-kernel=kernel -o")).is_err());
    }

    #[test]
    fn arguments_in_a_file_are_those_in_it() {
        let text = "-o  a\\ b\n'c d'\\''e' \"f \\\" g\"\n";
        assert_eq!(split(text), ["-o", "a b", "c d'e", "f \" g"]);
        assert_eq!(split(" \n"), [""; 0]);
        assert_eq!(split("''"), [""]);
        let file = std::env::temp_dir().join(format!("unikernel-arguments-{}", std::process::id()));
        fs::write(&file, "-o x").unwrap();
        let expanded = expand(vec!["-static".to_owned(), format!("@{}", file.display()), "@none".to_owned()]);
        fs::remove_file(file).unwrap();
        assert_eq!(expanded, ["-static", "-o", "x", "@none"]);
    }
}
