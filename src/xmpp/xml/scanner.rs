//! One strict pass over partial input: where an element ends, whether it is well-formed, what
//! RFC 6120 section 11 forbids, what its names mean, and all bounds.
//!
//! The scanner is a state machine over offsets. It stops wherever the input stops and goes on at
//! that octet; only what has a small fixed bound (the introducer of a tag or a reference, the XML
//! declaration, one character) is read a second time. What it decides depends on the octets
//! alone, never on how they were cut.

use super::octets::{self, START};
use super::resolve::{Name, Names, Ns, Span};
use super::scope::StreamScope;
use super::view::{ChildSpan, Element, Header};
use crate::xmpp::error::StreamError;
/// Text, CDATA, end tags and what is refused.
mod content;
/// Whole elements of the usual form.
mod plain;
/// Start tags.
mod tag;

/// What one item of a stream may take. More is a policy violation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Octets from the first to the last of an item.
    pub octets_max: usize,
    /// Levels of elements below the item's root.
    pub depth_max: usize,
    /// Attributes of one element.
    pub attributes_max: usize,
    /// Elements inside the item.
    pub elements_max: usize,
}

/// What [`Scanner::next`] found; the numbers are octets from the start of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The item goes on behind the input.
    Incomplete,
    /// White space between elements, or the XML declaration of a framed one.
    Blank(usize),
    /// The stream's start tag.
    Header(usize),
    /// A whole element.
    Element(usize),
    /// The stream's end tag.
    End(usize),
}

/// Scans the items of a stream, one at a time. Its tables are reused, so it allocates nothing in
/// the long run; an idle stream needs none.
#[derive(Debug)]
pub struct Scanner {
    state: State,
    /// How far the input is understood.
    at: usize,
    /// Where the markup in hand begins.
    markup: usize,
    /// Where the name or value in hand begins.
    token: usize,
    /// Octets before the colon of the name in hand; zero when there is none yet.
    prefix: u32,
    /// The name of the element in hand.
    opened: Name,
    quote: u8,
    failed: Option<StreamError>,

    pub(super) root: Root,
    pub(super) content_start: usize,
    pub(super) content_end: usize,
    pub(super) item_end: usize,
    pub(super) has_text: bool,
    /// The default namespace around the root.
    pub(super) outer_default: Ns,
    /// The default namespace below the root.
    pub(super) inner_default: Ns,

    /// The default namespace at the element in hand.
    default: Ns,
    /// Prefixes bound before the element in hand.
    names_before: u32,
    prefixed: u32,
    /// A bit for some of the hash of each attribute's name: no bit, no such name.
    seen: u64,
    elements: usize,

    pub(super) names: Names,
    /// The root's attributes, then those of the element in hand.
    pub(super) attributes: Vec<Attribute>,
    pub(super) root_attributes: usize,
    frames: Vec<Frame>,
    pub(super) children: Vec<ChildSpan>,
}

/// The root of an element, or the header.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Root {
    pub name: Name,
    pub namespace: Ns,
}

/// An attribute of the element in hand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attribute {
    pub name: Name,
    pub value: Span,
    hash: u32,
    pub quote: u8,
    kind: AttributeKind,
    /// What the prefix is bound to; known when the tag ends.
    namespace: Ns,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AttributeKind {
    Plain,
    Prefixed,
    DefaultNamespace,
    Namespace,
}

/// An open element.
#[derive(Clone, Copy, Debug)]
struct Frame {
    name: Span,
    /// The default namespace inside.
    default: Ns,
    /// Prefixes bound outside.
    names_before: u32,
}

/// What the octet at [`Scanner::at`] is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The item is done, or nothing of it was seen.
    Fresh,
    /// Between top-level elements, or before the header.
    Between,
    /// At a `<`.
    Markup,
    /// In the name of a start tag.
    OpenName,
    /// Behind a name or a value in a start tag.
    InTag,
    AttributeName,
    /// Behind the name of an attribute.
    Equals,
    /// Behind the `=`.
    Quote,
    Value,
    Text,
    Cdata,
    CloseName,
    /// Behind the name in an end tag.
    CloseEnd,
}

enum Step {
    To(State),
    /// The input ends here.
    Wait(State),
    Done(Progress),
}

type Stepped = Result<Step, StreamError>;

impl Default for Scanner {
    fn default() -> Self {
        Self::new()
    }
}

impl Scanner {
    /// A scanner at the start of an item.
    pub fn new() -> Self {
        Self {
            state: State::Fresh,
            at: 0,
            markup: 0,
            token: 0,
            prefix: 0,
            opened: Name::default(),
            quote: 0,
            failed: None,
            root: Root::default(),
            content_start: 0,
            content_end: 0,
            item_end: 0,
            has_text: false,
            outer_default: Ns::None,
            inner_default: Ns::None,
            default: Ns::None,
            names_before: 0,
            prefixed: 0,
            seen: 0,
            elements: 0,
            names: Names::default(),
            attributes: Vec::new(),
            root_attributes: 0,
            frames: Vec::new(),
            children: Vec::new(),
        }
    }

    /// Forgets what was seen, for the next stream. Tables that an unusual element made large are
    /// given back.
    pub fn reset(&mut self) {
        self.failed = None;
        self.state = State::Fresh;
        let largest = self.attributes.capacity().max(self.children.capacity());
        let largest = largest.max(self.frames.capacity());
        if largest > TABLE_ENTRIES_KEPT || self.names.is_large() {
            self.begin();
            self.attributes.shrink_to(TABLE_ENTRIES_KEPT);
            self.frames.shrink_to(TABLE_ENTRIES_KEPT);
            self.children.shrink_to(TABLE_ENTRIES_KEPT);
        }
    }

    /// Goes on with the item that begins at the first of `bytes`.
    ///
    /// After [`Progress::Incomplete`] call again with the same octets and more behind them. After
    /// anything else drop the octets it names first. Each octet is looked at once, however the
    /// input is cut. White space before the header belongs to the header.
    ///
    /// # Errors
    /// Whatever breaks the rules of XML, of RFC 6120 section 11, or `bounds`. Errors are final: all
    /// later calls return the same, until [`Scanner::reset`].
    pub fn next(
        &mut self,
        bytes: &[u8],
        scope: &StreamScope,
        bounds: &Bounds,
    ) -> Result<Progress, StreamError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        // What is behind the bound is not looked at, so that the outcome does not depend on how
        // much of it has arrived.
        let octets_max = bounds.octets_max.min(u32::MAX as usize);
        let window = bytes.get(..octets_max).unwrap_or(bytes);
        if self.state == State::Fresh
            && let Some(octets) = self.whole(window, scope, bounds)
        {
            return Ok(Progress::Element(octets));
        }
        let outcome = match self.run(window, scope, bounds) {
            Ok(Progress::Incomplete) if bytes.len() > window.len() => {
                Err(StreamError::PolicyViolation("element too large"))
            }
            outcome => outcome,
        };
        if let Err(error) = outcome {
            self.failed = Some(error);
        }
        outcome
    }

    /// The element that [`Progress::Element`] announced, in the same octets.
    pub fn element<'a>(&'a self, bytes: &'a [u8]) -> Element<'a> {
        Element {
            scanner: self,
            bytes,
        }
    }

    /// The header that [`Progress::Header`] announced, in the same octets.
    pub fn header<'a>(&'a self, bytes: &'a [u8]) -> Header<'a> {
        Header(self.element(bytes))
    }

    fn run(
        &mut self,
        bytes: &[u8],
        scope: &StreamScope,
        bounds: &Bounds,
    ) -> Result<Progress, StreamError> {
        loop {
            let step = match self.state {
                State::Fresh => {
                    self.begin();
                    Step::To(State::Between)
                }
                State::Between => self.between(bytes, scope)?,
                State::Markup => self.markup(bytes, scope, bounds)?,
                State::OpenName => self.open_name(bytes)?,
                State::InTag => self.in_tag(bytes, scope, bounds)?,
                State::AttributeName => self.attribute_name(bytes)?,
                State::Equals => self.equals(bytes)?,
                State::Quote => self.quote(bytes)?,
                State::Value => self.value(bytes, bounds)?,
                State::Text => self.text(bytes)?,
                State::Cdata => self.cdata(bytes)?,
                State::CloseName => self.close_name(bytes, scope)?,
                State::CloseEnd => self.close_end(bytes)?,
            };
            match step {
                Step::To(state) => self.state = state,
                Step::Wait(state) => {
                    self.state = state;
                    return Ok(Progress::Incomplete);
                }
                Step::Done(progress) => {
                    self.state = State::Fresh;
                    return Ok(progress);
                }
            }
        }
    }

    fn begin(&mut self) {
        self.at = 0;
        self.has_text = false;
        self.elements = 0;
        self.root_attributes = 0;
        self.names.clear();
        self.attributes.clear();
        self.frames.clear();
        self.children.clear();
    }

    fn between(&mut self, bytes: &[u8], scope: &StreamScope) -> Stepped {
        let at = octets::skip_space(bytes, self.at);
        self.at = at;
        if scope.is_open() && at > 0 {
            return Ok(Step::Done(Progress::Blank(at)));
        }
        match bytes.get(at) {
            None => Ok(Step::Wait(State::Between)),
            Some(b'<') => Ok(Step::To(State::Markup)),
            // Well-formed, but a stream has elements only (RFC 6120 section 4.9.3.1).
            Some(&b) if scope.is_open() && b >= 0x20 => Err(StreamError::BadFormat),
            Some(_) => Err(StreamError::NotWellFormed),
        }
    }

    #[inline(always)]
    fn markup(&mut self, bytes: &[u8], scope: &StreamScope, bounds: &Bounds) -> Stepped {
        self.markup = self.at;
        match bytes.get(self.at + 1) {
            None => Ok(Step::Wait(State::Markup)),
            Some(b'/') => {
                self.at += 2;
                self.token = self.at;
                self.close_name(bytes, scope)
            }
            Some(b'!') => self.declaration(bytes, scope),
            Some(b'?') => self.instruction(bytes, scope),
            Some(&b) if octets::is(b, START) || b >= 0x80 => {
                self.open(scope, bounds)?;
                self.open_name(bytes)
            }
            Some(_) => Err(StreamError::NotWellFormed),
        }
    }
}

/// Entries of a table that survive [`Scanner::reset`].
const TABLE_ENTRIES_KEPT: usize = 64;

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;
