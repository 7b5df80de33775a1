//! What prctl(2) keeps for each thread.

use linux_raw_sys::prctl::PR_MCE_KILL_DEFAULT;

/// Settings of one thread; a thread that it starts begins with the same.
#[derive(Clone, Copy)]
pub(crate) struct Settings {
    /// `PR_SET_PDEATHSIG`.
    pub death_signal: u32,
    /// `PR_SET_NO_NEW_PRIVS`.
    pub has_no_new_privileges: bool,
    /// `PR_SET_TIMERSLACK`.
    pub timer_slack_ns: u64,
    /// `PR_MCE_KILL`.
    pub machine_check_policy: u32,
}

impl Settings {
    /// As the first thread has them. Timers are exact, which keeps every promise of a slack.
    pub(crate) const INITIAL: Self = Self {
        death_signal: 0,
        has_no_new_privileges: false,
        timer_slack_ns: 50_000,
        machine_check_policy: PR_MCE_KILL_DEFAULT,
    };

    /// What a new thread gets.
    pub(crate) fn inherited(self) -> Self {
        Self { death_signal: 0, ..self }
    }
}
