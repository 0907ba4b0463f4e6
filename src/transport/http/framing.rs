//! How long the body of a request is (RFC 9112 section 6). Two parties that answer this in two
//! ways are what request smuggling lives on, so everything but the plainest is refused.

use super::fields::{Field, Fields};
use super::{Framing, Refusal, Version};

/// The framing that the head of a request announces.
///
/// # Errors
/// A length that is not digits alone, a length beside an encoding, an encoding that is not
/// exactly `chunked`, an encoding in HTTP/1.0. What comes twice was refused before.
pub fn framing(fields: &Fields, version: Version) -> Result<Framing, Refusal> {
    let length = fields.value(Field::ContentLength);
    match (length, fields.value(Field::TransferEncoding)) {
        (None, None) => Ok(Framing::None),
        (Some(_), Some(_)) => Err(Refusal::LengthAndEncoding),
        (Some(length), None) => Ok(Framing::Sized(parse_length(length)?)),
        (None, Some(_)) if version == Version::Http10 => Err(Refusal::TransferEncodingTooOld),
        (None, Some(coding)) if coding.eq_ignore_ascii_case("chunked") => Ok(Framing::Chunked),
        (None, Some(_)) => Err(Refusal::TransferEncoding),
    }
}

/// Digits alone: `str::parse` would take a sign.
fn parse_length(length: &str) -> Result<u64, Refusal> {
    match length.bytes().all(|b| b.is_ascii_digit()) {
        true => length.parse().map_err(|_| Refusal::ContentLength),
        false => Err(Refusal::ContentLength),
    }
}
