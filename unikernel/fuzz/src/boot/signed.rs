//! Files that should be signed: sealed ones with any bytes changed, and any bytes as keys. What is opened is what was signed.

use std::sync::OnceLock;

use unikernel_trust::{Keys, Kind, PublicKey, Signer, without_trailer};

use crate::input::Input;

const SECRET: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEII8kCB/zRyTLO++KQIlaUU4V+YMuWksYKS62TVrGD25j
-----END PRIVATE KEY-----
";
const CONTENT: &[u8] = b"what was signed, and nothing else";

/// The content as it is signed as a module.
fn sealed() -> &'static (Keys, Vec<u8>) {
    static SEALED: OnceLock<(Keys, Vec<u8>)> = OnceLock::new();
    SEALED.get_or_init(|| {
        let signer = Signer::from_pem(SECRET).expect("it is a key");
        (Keys::new(vec![signer.public()]), signer.seal(Kind::Module, CONTENT))
    })
}

pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let (keys, sealed) = sealed();
    let (kind, changes) = (Kind::ALL[input.below(Kind::ALL.len())], input.below(5));
    let mut file = sealed.clone();
    for _ in 0..changes {
        let (at, change) = (input.below(file.len()), input.byte());
        match input.below(4) {
            0 => file.truncate(at),
            1 => file.insert(at, change),
            _ => {
                if let Some(byte) = file.get_mut(at) {
                    *byte ^= change;
                }
            }
        }
    }
    match keys.open(kind, &file) {
        Ok(content) => assert!(content == CONTENT && kind == Kind::Module, "something else was opened"),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    assert!(file.starts_with(without_trailer(&file)));
    let rest = input.rest();
    assert!(keys.open(kind, rest).is_err());
    let text = String::from_utf8_lossy(rest);
    if let Some(key) = PublicKey::parse(&text) {
        assert_eq!(PublicKey::parse(&key.to_string()), Some(key));
    }
    let _ = (PublicKey::from_pem(&text), Signer::from_pem(&text).is_some());
}
