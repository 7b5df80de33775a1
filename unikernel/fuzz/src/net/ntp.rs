//! Answers of time servers: what is believed moves the clock within bounds.

use unikernel_ntp::{Discipline, Exchange, Reply, Sample, Schedule, agree};

use crate::input::Input;

const COOKIE: u64 = 0x1234_5678_9abc_def0;

pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let (mut now_ns, mut samples) = (input.long().cast_signed(), Vec::<Sample>::new());
    while !input.is_over() && samples.len() < 8 {
        let exchange = Exchange { cookie: COOKIE, sent_ns: now_ns, elapsed_ns: input.word().into() };
        let mut packet: [u8; 48] = input.array();
        if input.flag() {
            packet[24..32].copy_from_slice(&COOKIE.to_be_bytes());
        }
        match Reply::parse(&packet).map(|reply| reply.check(&exchange)) {
            Ok(Ok(sample)) => samples.push(sample),
            Ok(Err(refusal)) => assert!(!refusal.to_string().is_empty()),
            Err(refusal) => panic!("a packet of the right length is refused: {refusal}"),
        }
    }
    let offset_ns = agree(&samples);
    let wait = Schedule::default().after(offset_ns);
    assert!((1..=1024).contains(&wait));
    let Some(offset_ns) = offset_ns else { return };
    let mut discipline = Discipline::default();
    if discipline.correct(now_ns, offset_ns).is_ok() {
        now_ns += offset_ns;
        assert!(discipline.correct(now_ns, 0).is_ok(), "the clock is not where it may be");
    }
}
