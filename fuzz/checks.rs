//! What must hold for any input. The fuzz targets feed it; `tests/corpora.rs` replays the corpora.
#![allow(dead_code, reason = "each target uses one of them")]

use encke::xmpp::jid::Jid;
use encke::xmpp::xml::{Bounds, Progress, Scanner, StreamScope, Tree};

/// Tight, so that short inputs reach the bounds.
const BOUNDS: Bounds = Bounds {
    octets_max: 400,
    depth_max: 8,
    attributes_max: 8,
    elements_max: 16,
};

/// The items of a stream do not depend on how it was cut, nothing panics, and what is written anew
/// reads the same.
pub fn xml(input: &[u8]) {
    let whole = items(input, input.len().max(1));
    assert_eq!(items(input, 1), whole);
    assert_eq!(items(input, 7), whole);
    for tree in whole.0 {
        let mut written = Vec::new();
        tree.write(&mut written);
        let bounds = Bounds {
            octets_max: usize::MAX,
            attributes_max: usize::MAX,
            ..BOUNDS
        };
        let mut scanner = Scanner::new();
        let progress = scanner.next(&written, &StreamScope::standard(), &bounds);
        assert_eq!(
            progress,
            Ok(Progress::Element(written.len())),
            "{}",
            written.escape_ascii()
        );
        assert_eq!(scanner.element(&written).tree(), tree);
    }
}

/// The normal form of an address is its own normal form, and its parts make it up.
pub fn jid(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else {
        return;
    };
    let Ok(jid) = Jid::parse(text) else {
        return;
    };
    assert_eq!(Jid::parse(jid.as_str()).as_ref(), Ok(&jid));
    assert_eq!(
        Jid::from_parts(jid.local(), jid.domain(), jid.resource()).as_ref(),
        Ok(&jid)
    );
    assert_eq!(
        Jid::parse(jid.bare()).map(|bare| bare.to_bare()),
        Ok(jid.to_bare())
    );
    assert!(jid.as_str().len() <= 3 * 1023 + 2);
}

/// Trees of the elements, and how the stream ended.
fn items(input: &[u8], piece: usize) -> (Vec<Tree>, Option<&'static str>, bool) {
    let mut scanner = Scanner::new();
    let mut scope = StreamScope::closed();
    let mut buffer = Vec::new();
    let mut trees = Vec::new();
    let mut ended = false;
    for piece in input.chunks(piece) {
        buffer.extend_from_slice(piece);
        while !buffer.is_empty() {
            let used = match scanner.next(&buffer, &scope, &BOUNDS) {
                Ok(Progress::Incomplete) => break,
                Ok(Progress::Blank(used)) => used,
                Ok(Progress::Header(used)) => {
                    scope = scope.open(&scanner.header(&buffer));
                    used
                }
                Ok(Progress::Element(used)) => {
                    let element = scanner.element(&buffer);
                    for child in element.children() {
                        let name = [child.namespace, child.local].map(str::from_utf8);
                        let [Ok(namespace), Ok(local)] = name else {
                            panic!("a name that is not text passed the scanner");
                        };
                        assert!(child.tree().is(namespace, local));
                    }
                    trees.push(element.tree());
                    used
                }
                Ok(Progress::End(used)) => {
                    ended = true;
                    scope = StreamScope::closed();
                    used
                }
                Err(error) => return (trees, Some(error.condition()), ended),
            };
            buffer.drain(..used);
        }
    }
    (trees, None, ended)
}
