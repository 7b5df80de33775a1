//! A TPM: any bytes as its answers, and answers with a right head. What is taken of one is what can be.

use unikernel_tpm::response::{self, HEAD_BYTES, MOST_BYTES};
use unikernel_tpm::{Bank, EventLog, EventType, MOST_BANKS, command, digests};

use crate::input::Input;

pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let (kind, is_whole, register) = (input.below(4), input.flag(), input.byte());
    let code = if input.flag() { 0 } else { input.word() };
    let body = input.rest();
    let mut answer = body.to_vec();
    if is_whole {
        answer = [
            &0x8001_u16.to_be_bytes()[..],
            &(body.len() as u32 + 10).to_be_bytes(),
            &code.to_be_bytes(),
            body,
        ]
        .concat();
    }
    if let Some(head) = answer.first_chunk::<HEAD_BYTES>()
        && let Some(len) = response::len(head)
    {
        assert!((HEAD_BYTES..=MOST_BYTES).contains(&len));
    }
    match kind {
        0 => drop(response::started(&answer)),
        1 => {
            let Ok(banks) = response::banks(&answer) else { return };
            assert!(banks.len() <= MOST_BANKS);
            assert!((1..banks.len()).all(|at| !banks[..at].contains(&banks[at])), "a bank twice");
            // With these banks everything goes on.
            let measured = digests(&banks, body).expect("a host has memory");
            assert!(command::extend(register, &measured).len() <= command::MOST_BYTES);
            let mut log = EventLog::new(&banks).expect("there is memory");
            log.add(register, EventType::Ipl, &measured, body).expect("there is memory");
        }
        2 => {
            for bank in Bank::ALL {
                if let Ok(digest) = response::register(&answer, bank) {
                    assert_eq!(digest.bytes().len(), bank.digest_bytes());
                    assert!(answer.windows(digest.bytes().len()).any(|part| part == digest.bytes()));
                }
            }
        }
        _ => drop(response::done(&answer)),
    }
}
