//! Every log event, as an enum with its level.

/// How much an event matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

/// What the engine has to tell. No stanza bodies, no credentials, no full addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A session was bound.
    SessionBound { account: Box<str> },
    /// A session ended for good; how many messages it left unacknowledged.
    SessionEnded {
        account: Box<str>,
        unacknowledged: usize,
    },
    /// SASL failed.
    LoginFailed {
        account: Box<str>,
        condition: &'static str,
    },
    /// A stream was closed for the peer's fault.
    StreamError { condition: &'static str },
    /// Storage refused to keep something.
    StorageRefused { full: bool },
    /// A shard survived a panic.
    Panicked { input: &'static str },
}

impl Event {
    /// The level it is logged at.
    pub const fn level(&self) -> Level {
        match self {
            Self::SessionBound { .. } | Self::SessionEnded { .. } => Level::Debug,
            Self::LoginFailed { .. } | Self::StreamError { .. } => Level::Info,
            Self::StorageRefused { .. } => Level::Warn,
            Self::Panicked { .. } => Level::Error,
        }
    }

    /// The stable name that scripts search for.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::SessionBound { .. } => "session-bound",
            Self::SessionEnded { .. } => "session-ended",
            Self::LoginFailed { .. } => "login-failed",
            Self::StreamError { .. } => "stream-error",
            Self::StorageRefused { .. } => "storage-refused",
            Self::Panicked { .. } => "panicked",
        }
    }

    /// What the log shows beside the name, in this order.
    pub fn fields(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::SessionBound { account } => vec![("account", account.to_string())],
            Self::SessionEnded {
                account,
                unacknowledged,
            } => vec![
                ("account", account.to_string()),
                ("unacknowledged", unacknowledged.to_string()),
            ],
            Self::LoginFailed { account, condition } => vec![
                ("account", account.to_string()),
                ("condition", (*condition).to_owned()),
            ],
            Self::StreamError { condition } => vec![("condition", (*condition).to_owned())],
            Self::StorageRefused { full } => vec![("full", full.to_string())],
            Self::Panicked { input } => vec![("input", (*input).to_owned())],
        }
    }
}
