//! Extensions that are served elsewhere and only have to be known: to service discovery and to the
//! list of what is implemented.

use super::{Feature, Xep};
use crate::xmpp::ns;

/// XEP-0160: messages wait for their recipient (`session::offline`).
pub const OFFLINE: Feature = Feature {
    disco: &[ns::OFFLINE],
    ..known(160, "1.0.1")
};

/// XEP-0203: they say how long they waited.
pub const DELAY: Feature = known(203, "2.0");

/// XEP-0334: hints are read when a message comes in (`engine::inbound`).
pub const HINTS: Feature = known(334, "1.0.0");

/// XEP-0359: every message that may be stored gets a name (`engine::inbound`).
pub const SID: Feature = Feature {
    account_disco: &[ns::SID],
    ..known(359, "0.7.0")
};

/// XEP-0478: the limits are told in the stream's features (`stream::c2s`).
pub const STREAM_LIMITS: Feature = known(478, "0.2.0");

/// XEP-0198: sessions outlive their links (`engine::management`, `engine::login`).
pub const STREAM_MANAGEMENT: Feature = known(198, "1.6.1");

const fn known(number: u16, version: &'static str) -> Feature {
    Feature {
        xep: Some(Xep { number, version }),
        ..Feature::NONE
    }
}
