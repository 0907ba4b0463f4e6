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
    /// The contact asked to see ours and waits: the request, but for its end tag.
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

impl Roster {
    /// The item of a contact.
    pub fn find(&self, jid: &str) -> Option<&Item> {
        self.position(jid).ok().map(|at| &self.items[at])
    }

    /// The item of a contact, made if it is not there.
    pub fn entry(&mut self, jid: &str) -> &mut Item {
        let at = match self.position(jid) {
            Ok(at) => at,
            Err(at) => {
                self.items.insert(at, Item::new(jid));
                at
            }
        };
        &mut self.items[at]
    }

    /// The item of a contact, for change.
    pub fn find_mut(&mut self, jid: &str) -> Option<&mut Item> {
        self.position(jid).ok().map(|at| &mut self.items[at])
    }

    /// Takes an item out.
    pub fn remove(&mut self, jid: &str) -> Option<Item> {
        self.position(jid).ok().map(|at| self.items.remove(at))
    }

    fn position(&self, jid: &str) -> Result<usize, usize> {
        self.items.binary_search_by(|item| (*item.jid).cmp(jid))
    }

    /// The record: version of the format, version of the roster, then the items; every text has
    /// its length (4 octets, big-endian) before it.
    pub fn encode(&self) -> Vec<u8> {
        let mut record = vec![FORMAT];
        record.extend_from_slice(&self.version.to_be_bytes());
        record.extend_from_slice(&(self.items.len() as u32).to_be_bytes());
        for item in &self.items {
            item.encode(&mut record);
        }
        record
    }

    /// The inverse of [`Roster::encode`]. `None`: damaged, or of a format not known here.
    pub fn decode(record: &[u8]) -> Option<Box<Self>> {
        let mut reader = Reader(record);
        if reader.octet()? != FORMAT {
            return None;
        }
        let version = u64::from_be_bytes(reader.take(8)?.try_into().ok()?);
        let count = reader.number()?;
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(Item::decode(&mut reader)?);
        }
        Some(Box::new(Self { version, items }))
    }
}

impl Item {
    /// A contact of whom nothing is known.
    pub fn new(jid: &str) -> Self {
        Self {
            jid: jid.into(),
            name: None,
            groups: Vec::new(),
            subscription: Subscription::default(),
            ask: false,
            approved: false,
            request: None,
            listed: false,
        }
    }

    fn encode(&self, record: &mut Vec<u8>) {
        let flags = [
            self.subscription.to,
            self.subscription.from,
            self.ask,
            self.approved,
            self.listed,
            self.name.is_some(),
            self.request.is_some(),
        ];
        let flags = flags
            .iter()
            .rev()
            .fold(0, |bits, flag| bits << 1 | u8::from(*flag));
        put(record, self.jid.as_bytes());
        record.push(flags);
        if let Some(name) = &self.name {
            put(record, name.as_bytes());
        }
        if let Some(request) = &self.request {
            put(record, request);
        }
        record.extend_from_slice(&(self.groups.len() as u32).to_be_bytes());
        for group in &self.groups {
            put(record, group.as_bytes());
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let mut item = Self::new(reader.text()?);
        let flags = reader.octet()?;
        let flag = |bit: u8| flags >> bit & 1 == 1;
        item.subscription = Subscription {
            to: flag(0),
            from: flag(1),
        };
        (item.ask, item.approved, item.listed) = (flag(2), flag(3), flag(4));
        if flag(5) {
            item.name = Some(reader.text()?.into());
        }
        if flag(6) {
            item.request = Some(reader.octets()?.into());
        }
        for _ in 0..reader.number()? {
            item.groups.push(reader.text()?.into());
        }
        Some(item)
    }
}

const FORMAT: u8 = 1;

fn put(record: &mut Vec<u8>, bytes: &[u8]) {
    record.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    record.extend_from_slice(bytes);
}

/// Reads a record from its front; every read past the end is `None`.
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    /// The next `count` octets.
    pub fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// One octet.
    pub fn octet(&mut self) -> Option<u8> {
        self.take(1).map(|octets| octets[0])
    }

    /// Four octets, big-endian.
    pub fn number(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_be_bytes)
    }

    /// Octets with their length before them.
    pub fn octets(&mut self) -> Option<&'a [u8]> {
        let count = self.number()? as usize;
        self.take(count)
    }

    /// Text with its length before it.
    pub fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.octets()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Roster {
        let mut roster = Roster {
            version: 7,
            items: Vec::new(),
        };
        let item = roster.entry("juliet@example.net");
        item.name = Some("Juliet".into());
        item.groups = vec!["Friends".into(), "Verona".into()];
        item.subscription = Subscription {
            to: true,
            from: false,
        };
        item.listed = true;
        let item = roster.entry("mercutio@example.net");
        item.request = Some(b"<status>hi</status>".as_slice().into());
        (item.ask, item.approved) = (true, true);
        roster
    }

    #[test]
    fn a_record_comes_back_as_it_was() {
        assert_eq!(*Roster::decode(&sample().encode()).unwrap(), sample());
    }

    #[test]
    fn a_cut_record_is_refused() {
        let record = sample().encode();
        for cut in 0..record.len() {
            assert_eq!(Roster::decode(&record[..cut]), None, "cut at {cut}");
        }
    }
}
