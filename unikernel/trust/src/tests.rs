//! Keys and a signature of OpenSSL's, everything that can be changed, and vectors of RFC 8032.

extern crate std;

use alloc::vec;
use alloc::vec::Vec;
use std::format;
use std::string::{String, ToString};

use proptest::prelude::*;

use super::*;

const SECRET: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEII8kCB/zRyTLO++KQIlaUU4V+YMuWksYKS62TVrGD25j\n-----END PRIVATE KEY-----\n";
const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAmp+6v9i2dnrFlsFA8i9PkqAie4SDhOPxBwiEb2F9TLY=\n-----END PUBLIC KEY-----\n";
const PUBLIC_HEX: &str = "9a9fbabfd8b6767ac596c140f22f4f92a0227b848384e3f10708846f617d4cb6";
/// What `openssl pkeyutl -sign -inkey KEY -rawin -in STATEMENT` makes for `hello` and a line's end, as an initrd.
const SIGNATURE_HEX: &str = "bb9dc3a0f1fd6759881cb82db45a4fca537461c739c719f3c51360a7b323ceb3279c07f88b8b7545824d7f1a9b1f650b5141b991def3fe0072bdd33c8c3e5604";

fn from_hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
}

fn signer() -> Signer {
    Signer::from_pem(SECRET).unwrap()
}

fn keys() -> Keys {
    Keys::new(vec![signer().public()])
}

#[test]
fn keys_are_read_as_openssl_writes_them() {
    let key = signer().public();
    assert_eq!(PublicKey::from_pem(PUBLIC), Some(key));
    assert_eq!(PublicKey::parse(&format!("ed25519:{PUBLIC_HEX}")), Some(key));
    let base64 = PUBLIC.lines().nth(1).unwrap();
    // A key of OpenSSL's is its last 32 bytes, which begin in the middle of a digit: as 44 digits they are others.
    assert_eq!(base64.len(), 60);
    assert_eq!(key.to_string(), format!("ed25519:{PUBLIC_HEX}"));
    for (text, is_key) in [
        ("mp+6v9i2dnrFlsFA8i9PkqAie4SDhOPxBwiEb2F9TLY=", true),
        ("mp+6v9i2dnrFlsFA8i9PkqAie4SDhOPxBwiEb2F9TLY", true),
        ("mp+6", false),
    ] {
        assert_eq!(PublicKey::parse(&format!("ed25519:{text}")).is_some(), is_key, "{text}");
    }
}

#[test]
fn what_is_no_key_is_refused() {
    let small_order = "0100000000000000000000000000000000000000000000000000000000000000";
    let beyond = "f".repeat(64);
    for text in [PUBLIC_HEX, "ed25519:", "rsa:00", &format!("ed25519:{}", &PUBLIC_HEX[2..])] {
        assert_eq!(PublicKey::parse(text), None, "{text}");
    }
    for hex in [small_order, &"0".repeat(64), &beyond, &format!("{}g", &PUBLIC_HEX[1..])] {
        assert_eq!(PublicKey::parse(&format!("ed25519:{hex}")), None, "{hex}");
    }
    let x25519 = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VuBCIEICgAni4J3u9s5bYCypk4HgWm7TfqM0ld3zxtHqHdOLF3\n-----END PRIVATE KEY-----\n";
    for text in ["", PUBLIC, x25519, &SECRET.replace("MC4C", "MC4D"), "-----BEGIN PRIVATE KEY-----\n\n"] {
        assert!(Signer::from_pem(text).is_none());
    }
    assert_eq!(PublicKey::from_pem(SECRET), None);
}

#[test]
fn signatures_are_those_of_openssl() {
    let signature: [u8; SIGNATURE_BYTES] = from_hex(SIGNATURE_HEX).try_into().unwrap();
    assert_eq!(signer().sign(Kind::Initrd, b"hello\n"), signature);
    assert!(keys().has_signed(Kind::Initrd, b"hello\n", &signature));
    assert!(!keys().has_signed(Kind::Module, b"hello\n", &signature));
    assert!(!keys().has_signed(Kind::Initrd, b"hello", &signature));
    assert!(!Keys::default().has_signed(Kind::Initrd, b"hello\n", &signature));
}

#[test]
fn what_is_wrong_is_told() {
    let sealed = signer().seal(Kind::Initrd, b"content");
    assert_eq!(keys().open(Kind::Initrd, &sealed), Ok(&b"content"[..]));
    assert_eq!(without_trailer(&sealed), b"content");
    assert_eq!(without_trailer(b"content"), b"content");
    assert_eq!(keys().open(Kind::Initrd, b"content"), Err(TrustError::Unsigned(Kind::Initrd)));
    assert_eq!(keys().open(Kind::Module, &sealed), Err(TrustError::OtherKind(Kind::Initrd)));
    assert_eq!(Keys::default().open(Kind::Initrd, &sealed), Err(TrustError::UnknownKey(signer().public())));
    assert_eq!(keys().open(Kind::Initrd, &sealed[1..]), Err(TrustError::Length));
    let mut changed = sealed.clone();
    changed[0] ^= 1;
    assert_eq!(keys().open(Kind::Initrd, &changed), Err(TrustError::Changed));
    // A kind that another version may know; the end of the file twice: what is signed is what is in front of the last.
    changed = sealed.clone();
    let kind_at = sealed.len() - TRAILER_BYTES + 104;
    changed[kind_at] = 99;
    assert_eq!(keys().open(Kind::Initrd, &changed), Err(TrustError::Changed));
    let twice = [&sealed[..], &sealed[sealed.len() - TRAILER_BYTES..]].concat();
    assert_eq!(keys().open(Kind::Initrd, &twice), Err(TrustError::Length));
    for error in [
        TrustError::Unsigned(Kind::Module),
        TrustError::Length,
        TrustError::OtherKind(Kind::Initrd),
        TrustError::Changed,
    ] {
        assert!(!error.to_string().is_empty());
    }
    for kind in Kind::ALL {
        assert_eq!(Kind::named(kind.name()), Some(kind));
        assert_eq!(Kind::numbered(kind.number()), Some(kind));
    }
    assert_eq!(Kind::named("program"), None);
}

/// RFC 8032, section 7.1, tests 2 and 3: the crate's arithmetic by itself.
#[test]
fn vectors_of_the_standard_are_found_good() {
    use ed25519_compact::{PublicKey, Signature};
    for (key, message, signature) in [
        (
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ),
        (
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "af82",
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
        ),
    ] {
        let (key, mut message) = (PublicKey::from_slice(&from_hex(key)).unwrap(), from_hex(message));
        let signature = Signature::from_slice(&from_hex(signature)).unwrap();
        assert!(key.verify(&message, &signature).is_ok());
        message[0] ^= 1;
        assert!(key.verify(&message, &signature).is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever bit of content, signature, key, length, kind, version or mark is changed, nothing is opened; nor is what was cut off or added to.
    #[test]
    fn nothing_that_was_changed_is_opened(
        content in prop::collection::vec(any::<u8>(), 0..300),
        at: prop::sample::Index,
        bit in 0_u32..8,
        cut in 1_usize..400,
        added in prop::collection::vec(any::<u8>(), 1..200),
    ) {
        let sealed = signer().seal(Kind::Module, &content);
        prop_assert_eq!(keys().open(Kind::Module, &sealed), Ok(&content[..]));
        let mut changed = sealed.clone();
        changed[at.index(sealed.len())] ^= 1 << bit;
        prop_assert!(keys().open(Kind::Module, &changed).is_err());
        prop_assert!(keys().open(Kind::Module, &sealed[..sealed.len().saturating_sub(cut)]).is_err());
        prop_assert!(keys().open(Kind::Module, &[&added[..], &sealed].concat()).is_err());
        prop_assert!(keys().open(Kind::Module, &[&sealed[..], &added].concat()).is_err());
    }

    #[test]
    fn any_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..300), text in ".{0,100}", kind in 0_u32..6) {
        let mut bytes = bytes;
        bytes.extend_from_slice(&kind.to_le_bytes());
        bytes.extend_from_slice(&[1, 0, 0, 0]);
        bytes.extend_from_slice(b"unikernel-signed");
        for kind in Kind::ALL {
            prop_assert!(keys().open(kind, &bytes).is_err());
        }
        let _ = (PublicKey::parse(&text), PublicKey::from_pem(&text), Signer::from_pem(&text).is_some());
        let _: String = text;
    }
}
