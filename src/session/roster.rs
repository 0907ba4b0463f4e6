//! The contact list of an account (RFC 6121 section 2): items, their subscription states, and the
//! record that keeps them.

/// The contact list. Kept as one record: it is read whole at every login.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster {
    /// Rises with every change (XEP-0237).
    pub version: u64,
    /// Sorted by JID.
    pub items: Vec<Item>,
}

/// One contact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Bare, normal form.
    pub jid: Box<str>,
    pub name: Option<Box<str>>,
    pub groups: Vec<Box<str>>,
    pub subscription: Subscription,
    /// We asked to see the contact's presence and wait for the answer.
    pub ask: bool,
    /// The contact's request was approved before it came (section 3.4).
    pub approved: bool,
    /// The contact asked to see ours and waits: the content of the request.
    pub request: Option<Box<[u8]>>,
    /// Whether the user sees it; an item may exist for a request alone.
    pub listed: bool,
}

/// Who sees whose presence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Subscription {
    /// The account sees the contact's presence.
    pub to: bool,
    /// The contact sees the account's presence.
    pub from: bool,
}
