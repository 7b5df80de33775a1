//! `metrics`, `threads` and `ss`: whom to ask.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use lexopt::prelude::*;

use super::{shown, unexpected};
use crate::observe::{ObserveOptions, PORT, Page};

pub(super) fn parse(page: Page, parser: &mut lexopt::Parser) -> Result<ObserveOptions> {
    let mut options = ObserveOptions { page, at: SocketAddr::from(([127, 0, 0, 1], PORT)) };
    while let Some(argument) = parser.next()? {
        match argument {
            Long("at") => options.at = address(&parser.value()?.string()?)?,
            other => return Err(unexpected(&shown(&other))),
        }
    }
    Ok(options)
}

/// A port of this host, an address, or both.
fn address(text: &str) -> Result<SocketAddr> {
    let by_port = || text.parse().ok().map(|port: u16| SocketAddr::from(([127, 0, 0, 1], port)));
    let by_address = || text.parse().ok().map(|address| SocketAddr::new(address, PORT));
    match text.parse().ok().or_else(by_port).or_else(by_address) {
        Some(address) if address.port() == 0 => bail!("`{text}`: nobody listens at port 0"),
        address => address.with_context(|| {
            format!("`{text}` is no place to ask: give a port of this host, an address or both, such as 10.0.0.5:9100")
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_an_address_or_both_are_a_place_to_ask() {
        for (text, expected) in [
            ("9200", "127.0.0.1:9200"),
            ("10.0.0.5", "10.0.0.5:9100"),
            ("10.0.0.5:80", "10.0.0.5:80"),
            ("fd00::1", "[fd00::1]:9100"),
            ("[fd00::1]:1", "[fd00::1]:1"),
        ] {
            assert_eq!(address(text).unwrap().to_string(), expected);
        }
        for text in ["", "0", "x", "10.0.0.5:", "65536", "10.0.0.5:0"] {
            assert!(address(text).is_err(), "{text}");
        }
    }
}
