//! What a client reads: a stream, cut into its items.

use crate::xmpp::xml::{Bounds, Progress, Scanner, StreamScope};

/// One item as it was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// The server's header.
    Header,
    /// A top-level element.
    Element(String),
    /// The server ended the stream.
    End,
}

/// Cuts octets into items. After `<success/>` the stream begins anew.
pub struct Reader {
    octets: Vec<u8>,
    scope: StreamScope,
    scanner: Box<Scanner>,
}

const BOUNDS: Bounds = Bounds {
    octets_max: usize::MAX,
    depth_max: 1_000,
    attributes_max: 1_000,
    elements_max: 1_000_000,
};

impl Default for Reader {
    fn default() -> Self {
        Self {
            octets: Vec::new(),
            scope: StreamScope::closed(),
            scanner: Box::default(),
        }
    }
}

impl Reader {
    /// Takes octets and appends every item that is complete.
    ///
    /// # Panics
    /// When the server wrote what is not well-formed.
    pub fn receive(&mut self, octets: &[u8], items: &mut Vec<Item>) {
        self.octets.extend_from_slice(octets);
        loop {
            let progress = match self.scanner.next(&self.octets, &self.scope, &BOUNDS) {
                Ok(progress) => progress,
                Err(error) => {
                    let text = String::from_utf8_lossy(&self.octets);
                    panic!("the server wrote something ill-formed ({error:?}): {text}");
                }
            };
            let taken = match progress {
                Progress::Incomplete => return,
                Progress::Blank(taken) => taken,
                Progress::Header(taken) => {
                    items.push(Item::Header);
                    self.scope = StreamScope::standard();
                    taken
                }
                Progress::Element(taken) => {
                    let text = String::from_utf8_lossy(&self.octets[..taken]);
                    let text = text.trim().to_owned();
                    if text.starts_with("<success") {
                        self.scope = StreamScope::closed();
                    }
                    items.push(Item::Element(text));
                    taken
                }
                Progress::End(taken) => {
                    items.push(Item::End);
                    taken
                }
            };
            self.octets.drain(..taken);
            self.scanner.reset();
        }
    }

    /// Octets of an item that is not complete.
    pub fn rest(&self) -> usize {
        self.octets.len()
    }
}
