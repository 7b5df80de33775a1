//! The messages, as a `.proto` file would have them.

/// `message Question { string text = 1; uint32 times = 2; }`
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Question {
    /// What is asked.
    #[prost(string, tag = "1")]
    pub(crate) text: String,
    /// How many answers are wanted; for the call with many.
    #[prost(uint32, tag = "2")]
    pub(crate) times: u32,
}

/// `message Answer { string text = 1; uint32 number = 2; }`
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Answer {
    /// What is answered.
    #[prost(string, tag = "1")]
    pub(crate) text: String,
    /// Which answer it is.
    #[prost(uint32, tag = "2")]
    pub(crate) number: u32,
}
