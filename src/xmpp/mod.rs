//! The vocabulary of RFC 6120 and 6121. No behaviour.
