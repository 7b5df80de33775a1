//! Socket addresses as people write them.

use core::fmt::{Result, Write};
use core::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};

use linux_raw_sys::net::{AF_INET, AF_INET6, AF_UNIX};

/// Writes the bytes of a `sockaddr`: `sockaddr_in` (ip(7)), `sockaddr_in6` (ipv6(7)) or
/// `sockaddr_un` (unix(7)); of another family, its number.
pub fn write(out: &mut impl Write, bytes: &[u8]) -> Result {
    let Some((family, rest)) = bytes.split_first_chunk() else { return out.write_str("{}") };
    match (u32::from(u16::from_le_bytes(*family)), rest) {
        (AF_INET, [p0, p1, a, b, c, d, ..]) => {
            write!(
                out,
                "{{{}}}",
                SocketAddrV4::new(Ipv4Addr::new(*a, *b, *c, *d), u16::from_be_bytes([*p0, *p1]))
            )
        }
        (AF_INET6, [p0, p1, _, _, _, _, address @ ..]) if address.len() >= 16 => {
            let (address, scope) = address.split_at(16);
            let octets: [u8; 16] = address.try_into().unwrap_or_default();
            let scope = scope.first_chunk().map_or(0, |scope| u32::from_le_bytes(*scope));
            let port = u16::from_be_bytes([*p0, *p1]);
            write!(out, "{{{}}}", SocketAddrV6::new(Ipv6Addr::from(octets), port, 0, scope))
        }
        (AF_UNIX, path) => {
            let end = path.iter().position(|&byte| byte == 0).unwrap_or(path.len());
            write!(out, "{{\"{}\"}}", path[..end].escape_ascii())
        }
        (family, _) => write!(out, "{{family {family}}}"),
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::String;

    use proptest::prelude::*;

    use super::*;

    fn text(bytes: &[u8]) -> String {
        let mut text = String::new();
        write(&mut text, bytes).expect("strings take everything");
        text
    }

    #[test]
    fn addresses_are_written_by_family() {
        assert_eq!(text(&[2, 0, 0x1f, 0x90, 10, 0, 2, 15, 0, 0, 0, 0, 0, 0, 0, 0]), "{10.0.2.15:8080}");
        let mut v6 = [0; 28];
        v6[0] = 10;
        v6[3] = 80;
        v6[23] = 1;
        assert_eq!(text(&v6), "{[::1]:80}");
        assert_eq!(text(b"\x01\0/tmp/socket\0junk"), "{\"/tmp/socket\"}");
        assert_eq!(text(&[16, 0, 0, 0]), "{family 16}");
    }

    #[test]
    fn short_addresses_are_not_read_past_their_end() {
        assert_eq!(text(&[]), "{}");
        assert_eq!(text(&[2]), "{}");
        assert_eq!(text(&[2, 0, 0x1f]), "{family 2}");
        assert_eq!(text(&[10, 0, 0, 80, 0, 0, 0, 0, 0]), "{family 10}");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(prop_oneof![0u8..12, any::<u8>()], 0..40)) {
            prop_assert_eq!(text(&bytes).as_bytes()[0], b'{');
        }
    }
}
