//! Which frames are meant: the part of pcap-filter(7) that an owner of one server needs.
//!
//! Terms are joined by `and`; each is `tcp`, `udp`, `icmp`, `arp`, `ip`, `ip6`, `port NUMBER` or `host ADDRESS`, perhaps with `not` before
//! it. Ports and addresses are those of either end.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Terms at most.
const MOST_TERMS: usize = 8;

/// What a frame has to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Filter {
    terms: [Option<Term>; MOST_TERMS],
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Term {
    is_negated: bool,
    what: What,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum What {
    Ethertype(u16),
    /// Any of these numbers of protocols; 255 is none's.
    Protocol([u8; 2]),
    Port(u16),
    Host(IpAddr),
}

/// Why a text is no filter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadFilter;

const TCP: u8 = 6;
const UDP: u8 = 17;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const NONE: u8 = 255;

impl Filter {
    /// Reads one; of nothing, all frames are meant. Words may be separated by `+`, as in a query of HTTP.
    ///
    /// # Errors
    ///
    /// If it is none.
    pub fn parse(text: &str) -> Result<Self, BadFilter> {
        let mut filter = Self::default();
        let mut words = text.split([' ', '+']).filter(|word| !word.is_empty()).peekable();
        let mut places = filter.terms.iter_mut();
        while words.peek().is_some() {
            *places.next().ok_or(BadFilter)? = Some(Term::parse(&mut words)?);
            match words.next() {
                None => break,
                // Something follows.
                Some("and") if words.peek().is_some() => {}
                Some(_) => return Err(BadFilter),
            }
        }
        Ok(filter)
    }

    /// The same without the frames of a port.
    ///
    /// # Errors
    ///
    /// If there are too many terms.
    pub fn without_port(mut self, port: u16) -> Result<Self, BadFilter> {
        let place = self.terms.iter_mut().find(|place| place.is_none()).ok_or(BadFilter)?;
        *place = Some(Term { is_negated: true, what: What::Port(port) });
        Ok(self)
    }

    /// Whether a frame of Ethernet is meant.
    pub fn takes(&self, frame: &[u8]) -> bool {
        let headers = Headers::of(frame);
        self.terms.iter().flatten().all(|term| term.what.is(&headers) != term.is_negated)
    }
}

impl Term {
    fn parse<'a>(words: &mut impl Iterator<Item = &'a str>) -> Result<Self, BadFilter> {
        let mut word = words.next().ok_or(BadFilter)?;
        let is_negated = word == "not";
        if is_negated {
            word = words.next().ok_or(BadFilter)?;
        }
        let mut value = || words.next().ok_or(BadFilter);
        let what = match word {
            "tcp" => What::Protocol([TCP, NONE]),
            "udp" => What::Protocol([UDP, NONE]),
            // Both families'.
            "icmp" => What::Protocol([1, 58]),
            "arp" => What::Ethertype(0x0806),
            "ip" => What::Ethertype(IPV4),
            "ip6" => What::Ethertype(IPV6),
            "port" => What::Port(value()?.parse().map_err(|_| BadFilter)?),
            "host" => What::Host(value()?.parse().map_err(|_| BadFilter)?),
            _ => return Err(BadFilter),
        };
        Ok(Self { is_negated, what })
    }
}

impl What {
    fn is(&self, headers: &Headers) -> bool {
        match *self {
            Self::Ethertype(number) => headers.ethertype == number,
            Self::Protocol(numbers) => headers.protocol.is_some_and(|protocol| numbers.contains(&protocol)),
            Self::Port(port) => headers.ports.is_some_and(|ports| ports.contains(&port)),
            Self::Host(address) => headers.ends.is_some_and(|ends| ends.contains(&address)),
        }
    }
}

/// What is asked of a frame, as far as it tells.
#[derive(Default)]
struct Headers {
    ethertype: u16,
    protocol: Option<u8>,
    ends: Option<[IpAddr; 2]>,
    ports: Option<[u16; 2]>,
}

impl Headers {
    fn of(frame: &[u8]) -> Self {
        let half = |at: usize| frame.get(at..)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes));
        let mut headers = Self { ethertype: half(12).unwrap_or(0), ..Self::default() };
        let packet = 14;
        let transport = match headers.ethertype {
            IPV4 => {
                let address = |at: usize| {
                    let bytes: [u8; 4] = *frame.get(packet + at..)?.first_chunk()?;
                    Some(IpAddr::from(Ipv4Addr::from(bytes)))
                };
                headers.ends = address(12).zip(address(16)).map(<[IpAddr; 2]>::from);
                headers.protocol = frame.get(packet + 9).copied();
                let is_first = half(packet + 6).is_some_and(|place| place & 0x1fff == 0);
                let length = frame.get(packet).map_or(0, |first| usize::from(first & 15) * 4);
                is_first.then_some(packet + length)
            }
            IPV6 => {
                let address = |at: usize| {
                    let bytes: [u8; 16] = *frame.get(packet + at..)?.first_chunk()?;
                    Some(IpAddr::from(Ipv6Addr::from(bytes)))
                };
                headers.ends = address(8).zip(address(24)).map(<[IpAddr; 2]>::from);
                headers.protocol = frame.get(packet + 6).copied();
                Some(packet + 40)
            }
            _ => None,
        };
        let has_ports = headers.protocol.is_some_and(|protocol| protocol == TCP || protocol == UDP);
        headers.ports = transport.filter(|_| has_ports).and_then(|at| Some([half(at)?, half(at + 2)?]));
        headers
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    /// From 10.0.2.2:4000 to 10.0.2.15:8080.
    fn frame(protocol: u8) -> Vec<u8> {
        let mut frame = std::vec![0; 60];
        frame[12..14].copy_from_slice(&IPV4.to_be_bytes());
        frame[14] = 0x45;
        frame[23] = protocol;
        frame[26..34].copy_from_slice(&[10, 0, 2, 2, 10, 0, 2, 15]);
        frame[34..38].copy_from_slice(&[0x0f, 0xa0, 0x1f, 0x90]);
        frame
    }

    fn takes(text: &str, frame: &[u8]) -> bool {
        Filter::parse(text).unwrap().takes(frame)
    }

    #[test]
    fn frames_are_taken_that_are_all_of_it() {
        let tcp = frame(TCP);
        for text in
            ["", "tcp", "ip", "port 8080", "port 4000", "host 10.0.2.2", "tcp+and+port+8080", "not udp"]
        {
            assert!(takes(text, &tcp), "{text}");
        }
        for text in
            ["udp", "arp", "ip6", "port 80", "host 10.0.2.3", "tcp and not port 8080", "icmp", "host ::1"]
        {
            assert!(!takes(text, &tcp), "{text}");
        }
        assert!(takes("icmp and not port 8080", &frame(1)), "it has no ports");
        let mut fragment = frame(UDP);
        fragment[21] = 8;
        assert!(takes("udp", &fragment) && !takes("port 8080", &fragment));
    }

    #[test]
    fn ipv6_has_ends_and_ports() {
        let mut frame = std::vec![0; 80];
        frame[12..14].copy_from_slice(&IPV6.to_be_bytes());
        frame[20] = UDP;
        frame[37] = 1;
        frame[54..58].copy_from_slice(&[0, 53, 0, 99]);
        assert!(takes("ip6 and udp and port 53 and host ::1 and host ::", &frame));
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        for text in [
            "and",
            "tcp and",
            "tcp udp",
            "port",
            "port x",
            "port 65536",
            "host",
            "host a",
            "not",
            "tcp or udp",
            "TCP",
        ] {
            assert_eq!(Filter::parse(text), Err(BadFilter), "{text}");
        }
        let many = ["tcp"; MOST_TERMS].join(" and ");
        let full = Filter::parse(&many).unwrap();
        assert_eq!(full.without_port(1), Err(BadFilter));
        assert_eq!(Filter::parse(&(many + " and tcp")), Err(BadFilter));
    }

    #[test]
    fn a_port_can_be_left_out() {
        let filter = Filter::parse("tcp").unwrap().without_port(8080).unwrap();
        assert!(!filter.takes(&frame(TCP)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged(bytes in proptest::collection::vec(any::<u8>(), 0..90), cut in 0_usize..60, text in "(not |tcp|udp|and |port |host |[0-9:. +]){0,9}") {
            if let Ok(filter) = Filter::parse(&text) {
                filter.takes(&bytes);
                filter.takes(&frame(TCP)[..cut]);
            }
        }
    }
}
