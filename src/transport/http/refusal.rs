//! Why a request is not served, and how a client is told.

use super::Status;

/// Why a request is refused. What refuses a head or a body closes the link, for nobody knows any
/// more where the next request begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// A line that ends with LF alone.
    BareLineFeed,
    /// The first line is not a method, a target and a version, with one space between.
    RequestLine,
    /// A version other than 1.0 and 1.1.
    VersionUnsupported,
    /// A method that nobody here knows.
    MethodUnknown,
    /// CONNECT.
    MethodRefused,
    /// The name of a field is empty, has a space behind it or an octet that names have not; or a
    /// line is folded.
    FieldName,
    /// The value of a field has NUL, a lone CR or another control character.
    FieldValue,
    /// A field that we read has a value that is not UTF-8.
    FieldNotText,
    /// A field that may come once came twice.
    FieldTwice,
    /// More fields than the bound.
    TooManyFields,
    /// The head has more octets than the bound.
    HeadTooLong,
    /// The target has more octets than the bound.
    TargetTooLong,
    /// A target of a form that does not go with the method, or with another host than `Host`.
    TargetForm,
    /// An octet in the target that a browser would have escaped.
    TargetOctet,
    /// An escape that is not two hexadecimal digits, or does not give UTF-8.
    Escape,
    /// A path that means another path: `.`, `..`, an empty segment, a hidden slash or backslash.
    PathNotNormal,
    /// HTTP/1.1 without `Host`.
    HostMissing,
    /// More than one `Host`.
    HostTwice,
    /// `Host` is no host with an optional port.
    HostMalformed,
    /// `Content-Length` is not one number.
    ContentLength,
    /// More than one `Content-Length`.
    ContentLengthTwice,
    /// `Transfer-Encoding` is not `chunked`, or comes twice.
    TransferEncoding,
    /// `Transfer-Encoding` in HTTP/1.0, which has none.
    TransferEncodingTooOld,
    /// `Content-Length` and `Transfer-Encoding` in one request.
    LengthAndEncoding,
    /// `Expect` with anything but `100-continue`.
    Expectation,
    /// The body has more octets than the bound.
    BodyTooLong,
    /// The size of a chunk is not hexadecimal.
    ChunkSize,
    /// Extensions of chunks that are too long or have control characters.
    ChunkExtension,
    /// A chunk that goes on behind its size.
    ChunkEnd,
    /// A trailer that is malformed, or that would change what the request is.
    Trailer,
    /// Trailers have more octets than the bound.
    TrailersTooLong,
    /// A parameter of the query that came twice.
    ParameterTwice,
}

impl Refusal {
    /// Every refusal, for tables of documentation and tests.
    pub const ALL: &[Self] = &[
        Self::BareLineFeed,
        Self::RequestLine,
        Self::VersionUnsupported,
        Self::MethodUnknown,
        Self::MethodRefused,
        Self::FieldName,
        Self::FieldValue,
        Self::FieldNotText,
        Self::FieldTwice,
        Self::TooManyFields,
        Self::HeadTooLong,
        Self::TargetTooLong,
        Self::TargetForm,
        Self::TargetOctet,
        Self::Escape,
        Self::PathNotNormal,
        Self::HostMissing,
        Self::HostTwice,
        Self::HostMalformed,
        Self::ContentLength,
        Self::ContentLengthTwice,
        Self::TransferEncoding,
        Self::TransferEncodingTooOld,
        Self::LengthAndEncoding,
        Self::Expectation,
        Self::BodyTooLong,
        Self::ChunkSize,
        Self::ChunkExtension,
        Self::ChunkEnd,
        Self::Trailer,
        Self::TrailersTooLong,
        Self::ParameterTwice,
    ];

    /// The status of the answer.
    pub const fn status(self) -> Status {
        match self {
            Self::VersionUnsupported => Status::HttpVersionNotSupported,
            Self::MethodUnknown | Self::MethodRefused => Status::NotImplemented,
            Self::TooManyFields | Self::HeadTooLong | Self::TrailersTooLong => {
                Status::RequestHeaderFieldsTooLarge
            }
            Self::TargetTooLong => Status::UriTooLong,
            Self::Expectation => Status::ExpectationFailed,
            Self::BodyTooLong => Status::ContentTooLarge,
            _ => Status::BadRequest,
        }
    }

    /// The stable word that programs look at.
    pub const fn code(self) -> &'static str {
        match self {
            Self::BareLineFeed => "bare-line-feed",
            Self::RequestLine => "request-line",
            Self::VersionUnsupported => "version-unsupported",
            Self::MethodUnknown => "method-unknown",
            Self::MethodRefused => "method-refused",
            Self::FieldName => "field-name",
            Self::FieldValue => "field-value",
            Self::FieldNotText => "field-not-text",
            Self::FieldTwice => "field-twice",
            Self::TooManyFields => "too-many-fields",
            Self::HeadTooLong => "head-too-long",
            Self::TargetTooLong => "target-too-long",
            Self::TargetForm => "target-form",
            Self::TargetOctet => "target-octet",
            Self::Escape => "escape",
            Self::PathNotNormal => "path-not-normal",
            Self::HostMissing => "host-missing",
            Self::HostTwice => "host-twice",
            Self::HostMalformed => "host-malformed",
            Self::ContentLength => "content-length",
            Self::ContentLengthTwice => "content-length-twice",
            Self::TransferEncoding => "transfer-encoding",
            Self::TransferEncodingTooOld => "transfer-encoding-too-old",
            Self::LengthAndEncoding => "length-and-encoding",
            Self::Expectation => "expectation",
            Self::BodyTooLong => "body-too-long",
            Self::ChunkSize => "chunk-size",
            Self::ChunkExtension => "chunk-extension",
            Self::ChunkEnd => "chunk-end",
            Self::Trailer => "trailer",
            Self::TrailersTooLong => "trailers-too-long",
            Self::ParameterTwice => "parameter-twice",
        }
    }

    /// One sentence for people.
    pub const fn title(self) -> &'static str {
        match self {
            Self::BareLineFeed => "A line ends without a carriage return.",
            Self::RequestLine => "The request line is malformed.",
            Self::VersionUnsupported => "Only HTTP/1.1 and HTTP/1.0 are spoken here.",
            Self::MethodUnknown => "The method is unknown.",
            Self::MethodRefused => "The method is for proxies.",
            Self::FieldName => "The name of a header field is malformed.",
            Self::FieldValue => "The value of a header field has a control character.",
            Self::FieldNotText => "The value of a header field is not UTF-8.",
            Self::FieldTwice => "A header field came more than once.",
            Self::TooManyFields => "There are too many header fields.",
            Self::HeadTooLong => "The head of the request is too long.",
            Self::TargetTooLong => "The target is too long.",
            Self::TargetForm => "The target has a form that is not served here.",
            Self::TargetOctet => "The target has a character that must be escaped.",
            Self::Escape => "A percent-encoded octet is malformed.",
            Self::PathNotNormal => "The path is not in its normal form.",
            Self::HostMissing => "The Host field is missing.",
            Self::HostTwice => "The Host field came more than once.",
            Self::HostMalformed => "The Host field is malformed.",
            Self::ContentLength => "Content-Length is not one number.",
            Self::ContentLengthTwice => "Content-Length came more than once.",
            Self::TransferEncoding => "The only transfer encoding is chunked.",
            Self::TransferEncodingTooOld => "HTTP/1.0 has no transfer encodings.",
            Self::LengthAndEncoding => "Content-Length and Transfer-Encoding exclude each other.",
            Self::Expectation => "The expectation cannot be met.",
            Self::BodyTooLong => "The body is too long.",
            Self::ChunkSize => "The size of a chunk is malformed.",
            Self::ChunkExtension => "The extensions of chunks are too long or malformed.",
            Self::ChunkEnd => "A chunk is longer than its size.",
            Self::Trailer => "A trailer field is malformed or not allowed.",
            Self::TrailersTooLong => "The trailer fields are too long.",
            Self::ParameterTwice => "A parameter of the query came more than once.",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_refusal_has_a_word_of_its_own_and_is_the_client_s_fault_or_our_limit() {
        let codes: HashSet<_> = Refusal::ALL.iter().map(|refusal| refusal.code()).collect();
        assert_eq!(codes.len(), Refusal::ALL.len());
        for refusal in Refusal::ALL {
            assert!(
                (400..=505).contains(&refusal.status().code()),
                "{refusal:?}"
            );
            assert!(refusal.title().ends_with('.'), "{refusal:?}");
        }
    }
}
