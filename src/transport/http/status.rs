//! The status codes that this server sends (RFC 9110 section 15).

/// A status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Status {
    Ok = 200,
    Created = 201,
    Accepted = 202,
    NoContent = 204,
    MovedPermanently = 301,
    SeeOther = 303,
    NotModified = 304,
    BadRequest = 400,
    Unauthorized = 401,
    Forbidden = 403,
    NotFound = 404,
    MethodNotAllowed = 405,
    NotAcceptable = 406,
    RequestTimeout = 408,
    Conflict = 409,
    Gone = 410,
    LengthRequired = 411,
    PreconditionFailed = 412,
    ContentTooLarge = 413,
    UriTooLong = 414,
    UnsupportedMediaType = 415,
    ExpectationFailed = 417,
    MisdirectedRequest = 421,
    UnprocessableContent = 422,
    UpgradeRequired = 426,
    TooManyRequests = 429,
    RequestHeaderFieldsTooLarge = 431,
    InternalServerError = 500,
    NotImplemented = 501,
    ServiceUnavailable = 503,
    GatewayTimeout = 504,
    HttpVersionNotSupported = 505,
    InsufficientStorage = 507,
}

impl Status {
    /// The three digits.
    pub const fn code(self) -> u16 {
        self as u16
    }

    /// The one of this number; 500 where there is none.
    pub fn of(code: u16) -> Self {
        let found = ALL.iter().find(|status| status.code() == code);
        found.copied().unwrap_or(Self::InternalServerError)
    }

    /// The status line of an answer, with its line end.
    pub const fn line(self) -> &'static str {
        match self {
            Self::Ok => "HTTP/1.1 200 OK\r\n",
            Self::Created => "HTTP/1.1 201 Created\r\n",
            Self::Accepted => "HTTP/1.1 202 Accepted\r\n",
            Self::NoContent => "HTTP/1.1 204 No Content\r\n",
            Self::MovedPermanently => "HTTP/1.1 301 Moved Permanently\r\n",
            Self::SeeOther => "HTTP/1.1 303 See Other\r\n",
            Self::NotModified => "HTTP/1.1 304 Not Modified\r\n",
            Self::BadRequest => "HTTP/1.1 400 Bad Request\r\n",
            Self::Unauthorized => "HTTP/1.1 401 Unauthorized\r\n",
            Self::Forbidden => "HTTP/1.1 403 Forbidden\r\n",
            Self::NotFound => "HTTP/1.1 404 Not Found\r\n",
            Self::MethodNotAllowed => "HTTP/1.1 405 Method Not Allowed\r\n",
            Self::NotAcceptable => "HTTP/1.1 406 Not Acceptable\r\n",
            Self::RequestTimeout => "HTTP/1.1 408 Request Timeout\r\n",
            Self::Conflict => "HTTP/1.1 409 Conflict\r\n",
            Self::Gone => "HTTP/1.1 410 Gone\r\n",
            Self::LengthRequired => "HTTP/1.1 411 Length Required\r\n",
            Self::PreconditionFailed => "HTTP/1.1 412 Precondition Failed\r\n",
            Self::ContentTooLarge => "HTTP/1.1 413 Content Too Large\r\n",
            Self::UriTooLong => "HTTP/1.1 414 URI Too Long\r\n",
            Self::UnsupportedMediaType => "HTTP/1.1 415 Unsupported Media Type\r\n",
            Self::ExpectationFailed => "HTTP/1.1 417 Expectation Failed\r\n",
            Self::MisdirectedRequest => "HTTP/1.1 421 Misdirected Request\r\n",
            Self::UnprocessableContent => "HTTP/1.1 422 Unprocessable Content\r\n",
            Self::UpgradeRequired => "HTTP/1.1 426 Upgrade Required\r\n",
            Self::TooManyRequests => "HTTP/1.1 429 Too Many Requests\r\n",
            Self::RequestHeaderFieldsTooLarge => "HTTP/1.1 431 Request Header Fields Too Large\r\n",
            Self::InternalServerError => "HTTP/1.1 500 Internal Server Error\r\n",
            Self::NotImplemented => "HTTP/1.1 501 Not Implemented\r\n",
            Self::ServiceUnavailable => "HTTP/1.1 503 Service Unavailable\r\n",
            Self::GatewayTimeout => "HTTP/1.1 504 Gateway Timeout\r\n",
            Self::HttpVersionNotSupported => "HTTP/1.1 505 HTTP Version Not Supported\r\n",
            Self::InsufficientStorage => "HTTP/1.1 507 Insufficient Storage\r\n",
        }
    }

    /// Whether an answer of this status has no body and says no length (RFC 9112 section 6.3).
    pub const fn is_bodiless(self) -> bool {
        matches!(self, Self::NoContent | Self::NotModified)
    }
}

const ALL: &[Status] = &[
    Status::Ok,
    Status::Created,
    Status::Accepted,
    Status::NoContent,
    Status::MovedPermanently,
    Status::SeeOther,
    Status::NotModified,
    Status::BadRequest,
    Status::Unauthorized,
    Status::Forbidden,
    Status::NotFound,
    Status::MethodNotAllowed,
    Status::NotAcceptable,
    Status::RequestTimeout,
    Status::Conflict,
    Status::Gone,
    Status::LengthRequired,
    Status::PreconditionFailed,
    Status::ContentTooLarge,
    Status::UriTooLong,
    Status::UnsupportedMediaType,
    Status::ExpectationFailed,
    Status::MisdirectedRequest,
    Status::UnprocessableContent,
    Status::UpgradeRequired,
    Status::TooManyRequests,
    Status::RequestHeaderFieldsTooLarge,
    Status::InternalServerError,
    Status::NotImplemented,
    Status::ServiceUnavailable,
    Status::GatewayTimeout,
    Status::HttpVersionNotSupported,
    Status::InsufficientStorage,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_its_own_code() {
        for status in ALL.iter().copied() {
            assert_eq!(Status::of(status.code()), status);
            let start = format!("HTTP/1.1 {} ", status.code());
            assert!(status.line().starts_with(&start), "{status:?}");
            assert!(status.line().ends_with("\r\n"), "{status:?}");
        }
        assert_eq!(Status::of(418), Status::InternalServerError);
    }
}
