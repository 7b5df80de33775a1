//! The answer of a metadata service, as it comes in: what is whole stays the same when more comes.

use unikernel_config::MAX_FILE_BYTES;
use unikernel_config::http::Answer;

pub(crate) fn run(data: &[u8]) {
    let so_far = Answer::parse(data, false);
    let whole = Answer::parse(data, true);
    if let Ok(Some(answer)) = &so_far {
        assert!(answer.body.len() <= MAX_FILE_BYTES);
        assert_eq!(whole, so_far);
    }
    if so_far == Ok(None) {
        assert!(whole != Ok(None), "nothing more comes");
    }
}
