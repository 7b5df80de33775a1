//! `metrics`, `threads`, `ss`, `trace`, `tail` and `pcap`: whom to ask.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context, Result, bail};
use lexopt::prelude::*;
use unikernel_trace::filter::Filter;

use super::{shown, unexpected};
use crate::observe::{ObserveOptions, PORT, Page};
use crate::pcap::PcapOptions;
use crate::tail::TailOptions;
use crate::trace::TraceOptions;

/// Where `run --observe` has the channel.
const HERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), PORT);

pub(super) fn parse(page: Page, parser: &mut lexopt::Parser) -> Result<ObserveOptions> {
    let mut options = ObserveOptions { page, at: HERE };
    while let Some(argument) = parser.next()? {
        match argument {
            Long("at") => options.at = address(&parser.value()?.string()?)?,
            other => return Err(unexpected(&shown(&other))),
        }
    }
    Ok(options)
}

pub(super) fn parse_trace(parser: &mut lexopt::Parser) -> Result<TraceOptions> {
    let mut options = TraceOptions { at: HERE, seconds: 1, is_text: false, output: None };
    while let Some(argument) = parser.next()? {
        match argument {
            Long("at") => options.at = address(&parser.value()?.string()?)?,
            Long("seconds") => options.seconds = seconds(&parser.value()?.string()?)?,
            Long("text") => options.is_text = true,
            Short('o') | Long("output") => options.output = Some(parser.value()?.into()),
            other => return Err(unexpected(&shown(&other))),
        }
    }
    Ok(options)
}

pub(super) fn parse_tail(parser: &mut lexopt::Parser) -> Result<TailOptions> {
    let mut options = TailOptions { at: HERE, seconds: 5, slowest: 5 };
    while let Some(argument) = parser.next()? {
        match argument {
            Long("at") => options.at = address(&parser.value()?.string()?)?,
            Long("seconds") => options.seconds = seconds(&parser.value()?.string()?)?,
            Long("slowest") => options.slowest = count(&parser.value()?.string()?)?,
            other => return Err(unexpected(&shown(&other))),
        }
    }
    Ok(options)
}

pub(super) fn parse_pcap(parser: &mut lexopt::Parser) -> Result<PcapOptions> {
    let mut options =
        PcapOptions { at: HERE, seconds: 5, filter: String::new(), output: "frames.pcapng".into() };
    while let Some(argument) = parser.next()? {
        match argument {
            Long("at") => options.at = address(&parser.value()?.string()?)?,
            Long("seconds") => options.seconds = seconds(&parser.value()?.string()?)?.max(1),
            Long("filter") => options.filter = filter(parser.value()?.string()?)?,
            Short('o') | Long("output") => options.output = parser.value()?.into(),
            other => return Err(unexpected(&shown(&other))),
        }
    }
    Ok(options)
}

fn filter(text: String) -> Result<String> {
    match Filter::parse(&text) {
        Ok(_) => Ok(text),
        Err(_) => bail!(
            "`--filter {text}`: terms are tcp, udp, icmp, arp, ip, ip6, port NUMBER and host ADDRESS, perhaps with `not` before one; `and` joins them"
        ),
    }
}

fn count(text: &str) -> Result<usize> {
    text.parse().with_context(|| format!("`--slowest {text}`: how many requests? 0 tells none"))
}

fn seconds(text: &str) -> Result<u64> {
    let seconds = text.parse().ok().filter(|seconds| *seconds <= 60);
    seconds.with_context(|| {
        format!("`--seconds {text}`: give 1 to 60, or 0 for what a guest with `trace=events` has kept")
    })
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
    fn a_recording_takes_a_minute_at_most() {
        assert_eq!([seconds("0").ok(), seconds("60").ok()], [Some(0), Some(60)]);
        for text in ["", "-1", "61", "1.5", "99999999999999999999"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }

    #[test]
    fn filters_are_looked_at_before_anybody_is_asked() {
        assert_eq!(filter("tcp and port 80".into()).ok(), Some("tcp and port 80".into()));
        for text in ["tcp or udp", "port", "&seconds=60"] {
            assert!(filter(text.into()).is_err(), "{text}");
        }
    }

    #[test]
    fn requests_are_counted() {
        assert_eq!([count("0").ok(), count("12").ok()], [Some(0), Some(12)]);
        assert!(["", "-1", "all"].iter().all(|text| count(text).is_err()));
    }

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
