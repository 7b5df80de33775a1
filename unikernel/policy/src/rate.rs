//! How often is told what the app can cause as often as it likes (Linux: `printk_ratelimit`, 10 lines in 5 seconds).

const LINES: u32 = 10;
const SPAN_NS: u64 = 5_000_000_000;

/// Counts lines that are told, and those that are not.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RateLimit {
    began_ns: Option<u64>,
    told: u32,
    untold: u32,
}

impl RateLimit {
    /// Nothing was told.
    pub const fn new() -> Self {
        Self { began_ns: None, told: 0, untold: 0 }
    }

    /// Asks for a line at this time; if it may be told, also how many were not since the last one.
    pub fn ask(&mut self, now_ns: u64) -> Option<u32> {
        if self.began_ns.is_none_or(|began_ns| now_ns.saturating_sub(began_ns) >= SPAN_NS) {
            (self.began_ns, self.told) = (Some(now_ns), 0);
        }
        if self.told == LINES {
            self.untold = self.untold.saturating_add(1);
            return None;
        }
        self.told += 1;
        Some(core::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_lines_are_told_and_the_others_are_counted() {
        let mut limit = RateLimit::new();
        let told = (0..25).filter(|now| limit.ask(*now) == Some(0)).count();
        assert_eq!((told, limit.ask(SPAN_NS), limit.ask(SPAN_NS)), (10, Some(15), Some(0)));
        assert_eq!(limit.ask(0), Some(0), "a clock that goes back costs nothing");
    }
}
