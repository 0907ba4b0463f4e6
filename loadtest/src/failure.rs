//! What went wrong with a session, in words to count it by.

/// Why a session failed: a kind to count by, and what exactly happened.
#[derive(Debug)]
pub struct Failure {
    pub kind: String,
    pub detail: String,
}

impl Failure {
    pub fn new(kind: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            kind: kind.into(),
            detail: detail.into(),
        }
    }
}

impl Failure {
    /// Whether it may be another time: a server that goes away or comes up, not a wrong password.
    pub fn is_passing(&self) -> bool {
        ![
            "refused: not-authorized",
            "bind refused",
            "SASL:",
            "STARTTLS is",
            "no usable",
            "WebSocket refused: HTTP 40",
            "WebSocket: ",
            "the server sent no HTTP",
            "login refused: HTTP 40",
            "event stream refused: HTTP 40",
            "request refused: HTTP 40",
        ]
        .iter()
        .any(|lasting| self.kind.starts_with(lasting))
    }
}

impl From<rustls::Error> for Failure {
    fn from(error: rustls::Error) -> Self {
        Self::new(format!("TLS: {error}"), format!("{error:?}"))
    }
}

pub fn example(octets: &[u8]) -> String {
    let cut = &octets[..octets.len().min(EXAMPLE_OCTETS)];
    let mut text = String::from_utf8_lossy(cut).into_owned();
    if cut.len() < octets.len() {
        text.push('…');
    }
    text
}

/// How much of an element is kept as an example.
const EXAMPLE_OCTETS: usize = 300;
