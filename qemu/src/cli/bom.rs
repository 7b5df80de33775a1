//! `sbom` and `licenses`: of which package, and where the list goes.

use anyhow::Result;
use lexopt::prelude::*;

use super::{shown, unexpected};
use crate::bom::BomOptions;
use crate::package::take_option;

pub(super) fn parse(parser: &mut lexopt::Parser) -> Result<BomOptions> {
    let mut options = BomOptions::default();
    while let Some(argument) = parser.next()? {
        let is_value = matches!(argument, Value(_));
        let option = shown(&argument);
        match option.as_str() {
            "-o" | "--output" => options.output = Some(parser.value()?.into()),
            "--texts" => options.has_texts = true,
            _ if !is_value && take_option(&option, &mut options.package, parser)? => {}
            other => return Err(unexpected(other)),
        }
    }
    Ok(options)
}
