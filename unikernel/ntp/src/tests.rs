//! Answers, honest and not, and what the clock does then.

use alloc::vec::Vec;

use proptest::prelude::*;

use crate::*;

const COOKIE: u64 = 0x0123_4567_89ab_cdef;
/// In 2026.
const NOW_NS: i64 = 1_780_000_000 * NS_PER_SECOND;

fn ntp_time(unix_ns: i64) -> u64 {
    let seconds = unix_ns.div_euclid(NS_PER_SECOND) + 2_208_988_800;
    let fraction = (unix_ns.rem_euclid(NS_PER_SECOND) as u64) << 32;
    ((seconds as u64) << 32) | (fraction / NS_PER_SECOND as u64)
}

/// An answer of a server whose clock is `ahead_ns` ahead, got and given in the middle of the exchange.
fn answer(ahead_ns: i64) -> Vec<u8> {
    let at = NOW_NS + 10_000_000 + ahead_ns;
    let mut packet = request(0).to_vec();
    packet[..4].copy_from_slice(&[4 << 3 | 4, 2, 6, 0xe9]);
    packet[12..16].copy_from_slice(&[192, 0, 2, 1]);
    packet[16..24].copy_from_slice(&ntp_time(at - NS_PER_SECOND).to_be_bytes());
    packet[24..32].copy_from_slice(&COOKIE.to_be_bytes());
    packet[32..40].copy_from_slice(&ntp_time(at).to_be_bytes());
    packet[40..48].copy_from_slice(&ntp_time(at).to_be_bytes());
    packet
}

fn exchange() -> Exchange {
    Exchange { cookie: COOKIE, sent_ns: NOW_NS, elapsed_ns: 20_000_000 }
}

fn check(packet: &[u8]) -> Result<Sample, Refusal> {
    Reply::parse(packet).and_then(|reply| reply.check(&exchange()))
}

fn changed(at: usize, bytes: &[u8]) -> Result<Sample, Refusal> {
    let mut packet = answer(0);
    packet[at..at + bytes.len()].copy_from_slice(bytes);
    check(&packet)
}

#[test]
fn questions_are_those_of_a_client_and_say_nothing_else() {
    let packet = request(COOKIE);
    assert_eq!((packet.len(), packet[0]), (48, 0x23));
    assert_eq!(packet[1..40], [0; 39]);
    assert_eq!(packet[40..], COOKIE.to_be_bytes());
}

#[test]
fn offset_is_the_middle_of_the_exchange() {
    for ahead_ns in [0, 1_500_000_000, -3_600_000_000_000] {
        let sample = check(&answer(ahead_ns)).unwrap();
        assert!((sample.offset_ns - ahead_ns).abs() < 10, "{sample:?}");
        assert_eq!((sample.delay_ns, sample.error_ns), (20_000_000, 10_000_000));
    }
    // Codes of authentication, which we do not ask for.
    assert!(check(&[answer(0), [7; 20].to_vec()].concat()).is_ok());
}

#[test]
fn lies_are_refused() {
    assert_eq!(check(&answer(0)[..47]), Err(Refusal::Short));
    assert_eq!(check(&[]), Err(Refusal::Short));
    for mode in [0, 1, 2, 3, 5, 6, 7] {
        assert_eq!(changed(0, &[4 << 3 | mode]), Err(Refusal::NotAServers));
    }
    for version in [0, 1, 2, 5, 6, 7] {
        assert_eq!(changed(0, &[version << 3 | 4]), Err(Refusal::NotAServers));
    }
    assert!(changed(0, &[3 << 3 | 4]).is_ok());
    assert_eq!(changed(0, &[3 << 6 | 4 << 3 | 4]), Err(Refusal::Unsynchronized));
    assert_eq!(changed(31, &[0]), Err(Refusal::NotOurs));
    assert_eq!(changed(24, &[0; 8]), Err(Refusal::NotOurs));
    for stratum in [16, 17, 255] {
        assert_eq!(changed(1, &[stratum]), Err(Refusal::Unsynchronized));
    }
    assert_eq!(changed(32, &[0; 8]), Err(Refusal::BadTimes));
    assert_eq!(changed(40, &[0; 8]), Err(Refusal::BadTimes));
    // It answers before it was asked, has worked longer than the exchange took, knows a reference of the future.
    assert_eq!(changed(40, &ntp_time(NOW_NS).to_be_bytes()), Err(Refusal::BadTimes));
    assert_eq!(changed(40, &ntp_time(NOW_NS + NS_PER_SECOND).to_be_bytes()), Err(Refusal::BadTimes));
    assert_eq!(changed(16, &ntp_time(NOW_NS + NS_PER_SECOND).to_be_bytes()), Err(Refusal::BadTimes));
    // A second, and half of twice that.
    assert_eq!(changed(8, &[0, 1, 0, 0]), Err(Refusal::TooDispersed));
    assert_eq!(changed(4, &[0, 2, 0, 0]), Err(Refusal::TooDispersed));
    assert_eq!(changed(8, &[255; 4]), Err(Refusal::TooDispersed));
    assert!(changed(8, &[0, 0, 255, 255]).is_ok());
    let late = Exchange { elapsed_ns: NS_PER_SECOND as u64, ..exchange() };
    assert_eq!(Reply::parse(&answer(0)).unwrap().check(&late), Err(Refusal::TooLate));
}

#[test]
fn kisses_count_if_they_answer_a_question() {
    let mut packet = answer(0);
    packet[..2].copy_from_slice(&[3 << 6 | 4 << 3 | 4, 0]);
    packet[12..16].copy_from_slice(b"RATE");
    assert_eq!(check(&packet), Err(Refusal::Kiss(*b"RATE")));
    packet[24] ^= 1;
    assert_eq!(check(&packet), Err(Refusal::NotOurs));
}

#[test]
fn time_goes_on_in_2036() {
    let before = (1 << 32) - 2_208_988_800_i64;
    for seconds in [before - 1, before, before + 1] {
        let now_ns = seconds * NS_PER_SECOND;
        let mut packet = answer(0);
        for at in [16, 32, 40] {
            packet[at..at + 8].copy_from_slice(&ntp_time(now_ns + 10_000_000).to_be_bytes());
        }
        let exchange = Exchange { sent_ns: now_ns, ..exchange() };
        let sample = Reply::parse(&packet).unwrap().check(&exchange).unwrap();
        assert!(sample.offset_ns.abs() < 10, "{sample:?}");
    }
}

fn sample(offset_ns: i64, error_ns: u64) -> Sample {
    Sample { offset_ns, delay_ns: 0, error_ns }
}

#[test]
fn most_servers_are_believed() {
    assert_eq!(agree(&[]), None);
    assert_eq!(agree(&[sample(7, 10)]), Some(7));
    assert_eq!(agree(&[sample(0, 10), sample(10, 10)]), Some(5));
    assert_eq!(agree(&[sample(0, 10), sample(20, 10)]), Some(10), "they touch");
    assert_eq!(agree(&[sample(0, 10), sample(21, 10)]), None, "two that disagree");
    assert_eq!(agree(&[sample(0, 10), sample(1_000_000, 10), sample(4, 10)]), Some(2), "one lies");
    assert_eq!(agree(&[sample(0, 1), sample(10, 1), sample(20, 1)]), None);
    assert_eq!(agree(&[sample(i64::MIN, u64::MAX), sample(i64::MAX, u64::MAX)]), Some(0));
}

#[test]
fn clock_is_stepped_once_and_then_slewed() {
    let mut discipline = Discipline::default();
    let hour = 3600 * NS_PER_SECOND;
    assert_eq!(discipline.correct(NOW_NS, hour), Ok(Correction::Step(hour)));
    assert_eq!(discipline.correct(NOW_NS, -100_000_000), Ok(Correction::Slew(-100_000_000)));
    assert_eq!(discipline.correct(NOW_NS, 200_000_000), Ok(Correction::Step(200_000_000)));
    assert_eq!(discipline.correct(NOW_NS, hour), Err(OutOfBounds(hour)), "it was right a moment ago");
    // A clock of its own is not off by days; one that was never set may be by years.
    assert_eq!(Discipline::default().correct(NOW_NS, 25 * hour), Err(OutOfBounds(25 * hour)));
    assert_eq!(Discipline::default().correct(0, NOW_NS), Ok(Correction::Step(NOW_NS)));
    assert_eq!(Discipline::default().correct(0, hour), Err(OutOfBounds(hour)), "that is 1970 still");
    assert_eq!(Discipline::default().correct(0, i64::MAX), Err(OutOfBounds(i64::MAX)), "the year 2262");
}

#[test]
fn servers_are_asked_less_and_less_often() {
    let mut schedule = Schedule::default();
    let silent: Vec<u64> = (0..12).map(|_| schedule.after(None)).collect();
    assert_eq!(silent[..4], [2, 4, 8, 16]);
    assert_eq!(silent[11], 1024);
    let mut schedule = Schedule::default();
    assert_eq!(schedule.after(Some(NS_PER_SECOND)), 64);
    assert_eq!(schedule.after(Some(1_000_000)), 128);
    schedule.slow_down();
    assert_eq!(schedule.after(Some(0)), 512);
    assert_eq!(schedule.after(Some(-10_000_000)), 64);
}

proptest! {
    #[test]
    fn any_answer_is_read(packet in prop::collection::vec(any::<u8>(), 0..80), cookie: u64, sent_ns: i64, elapsed_ns: u64) {
        let exchange = Exchange { cookie, sent_ns, elapsed_ns };
        let _ = Reply::parse(&packet).map(|reply| reply.check(&exchange));
    }

    /// With the right mark, so that what comes behind it is reached, too; what is believed is within bounds.
    #[test]
    fn what_is_believed_is_within_bounds(packet: [u8; 48], sent_ns: i64, elapsed_ns in 0..3_000_000_000_u64) {
        let cookie = u64::from_be_bytes(*packet[24..].first_chunk().unwrap());
        let exchange = Exchange { cookie, sent_ns, elapsed_ns };
        if let Ok(sample) = Reply::parse(&packet).unwrap().check(&exchange) {
            prop_assert!(sample.delay_ns <= elapsed_ns && sample.error_ns < 2 * NS_PER_SECOND as u64);
        }
    }

    #[test]
    fn corrections_are_within_bounds(now_ns: i64, offsets in prop::collection::vec(any::<i64>(), 1..5)) {
        let mut discipline = Discipline::default();
        let mut is_first = true;
        for offset in offsets {
            if let Ok(correction) = discipline.correct(now_ns, offset) {
                let (Correction::Step(by) | Correction::Slew(by)) = correction;
                prop_assert_eq!(by, offset);
                prop_assert!(is_first || by.abs() <= 1000 * NS_PER_SECOND);
                prop_assert!(now_ns + by >= 1_704_067_200 * NS_PER_SECOND);
                is_first = false;
            }
        }
    }

    /// The offset of honest servers is found if they are more than half, whatever the others say.
    #[test]
    fn liars_in_the_minority_do_no_harm(truth in -1_000_000..1_000_000_i64, honest in 2..5_usize, lies: Vec<(i64, u32)>) {
        let mut samples: Vec<Sample> = (0..honest as i64).map(|index| sample(truth + index * 10, 1000)).collect();
        samples.extend(lies.iter().take(honest - 1).map(|(offset, error)| sample(*offset, u64::from(*error))));
        let found = agree(&samples).expect("most agree");
        prop_assert!((found - truth).abs() <= 2000, "{found} is not {truth}");
    }
}
