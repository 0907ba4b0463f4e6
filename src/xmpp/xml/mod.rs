//! Octets to checked elements, and back.
//!
//! [`scanner`] decides alone what is XML here: nothing that it refused is ever read or forwarded.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )
)]

/// Character data of attributes and text, decoded.
mod decode;
/// An owned tree, for those who must read deeply.
pub mod element;
/// Classes of octets and the fast ways over runs of them.
pub(super) mod octets;
/// Namespaces: declarations and what names resolve to.
mod resolve;
/// One strict pass over partial input.
pub mod scanner;
/// What the stream header declared for everything that follows it.
pub mod scope;
/// Views of what was scanned.
pub mod view;
/// The only place that escapes.
pub mod writer;

pub use element::Tree;
pub use scanner::{Bounds, Progress, Scanner};
pub use scope::StreamScope;
pub use view::{Attr, Child, Element, Header};
