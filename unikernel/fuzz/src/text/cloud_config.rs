//! Files of a cloud: user data, metadata, the configuration of the network. What comes of it are words that the kernel takes.

use unikernel_config::{MetaData, UserData, network, yaml};

pub(crate) fn run(data: &[u8]) {
    if let Ok(user_data) = UserData::parse(data) {
        for file in &user_data.files {
            assert!(file.path.starts_with('/') && !file.path.contains("/../") && file.permissions <= 0o7777);
        }
        assert!(
            user_data.environment.iter().all(|(name, value)| !name.contains('=') && !value.contains('\0'))
        );
    }
    let Ok(value) = yaml::parse(data) else { return };
    let meta_data = MetaData::parse(data).expect("it is the same language");
    if let Some(value) = &meta_data.network {
        let _ = network::read(value);
    }
    for card in network::read(&value).cards {
        for (key, word) in card.words {
            assert!(!word.contains(['\n', '\0', '"']), "{key}={word}");
        }
    }
}
