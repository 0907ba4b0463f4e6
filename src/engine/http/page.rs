//! The chat page: one file, whose source is the tutorial of the JSON protocol.
//!
//! It is part of the program, so serving it is a copy from memory, and a browser that has it
//! already is told so.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest as _, Sha256};

use super::{Call, Outcome};
use crate::engine::shard::Shard;
use crate::session::effects::Effects;
use crate::transport::http::answer::POLICY;
use crate::transport::http::{Field, Status};

const PAGE: &str = include_str!("../../page/index.html");

/// What is said of the page.
static HEADERS: LazyLock<Headers> = LazyLock::new(|| Headers::of(PAGE));

struct Headers {
    /// Changes whenever the page does.
    tag: String,
    policy: String,
}

impl Headers {
    fn of(page: &str) -> Self {
        let digest = |text: &str| BASE64_STANDARD.encode(Sha256::digest(text.as_bytes()));
        // Nothing runs and nothing is shown that is not in the file: what others wrote least of all
        // (SECURITY class 49).
        let sources = |name: &str| {
            let inside = between(page, &format!("<{name}>"), &format!("</{name}>"));
            format!("{name}-src 'sha256-{}'", digest(inside))
        };
        let policy = format!(
            "default-src 'none'; {}; {}; connect-src 'self' ws: wss:; img-src data:; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            sources("script"),
            sources("style"),
        );
        Self {
            tag: format!("\"{}\"", digest(page)),
            policy,
        }
    }
}

fn between<'p>(page: &'p str, start: &str, end: &str) -> &'p str {
    let rest = page.split_once(start).map_or("", |(_, rest)| rest);
    rest.split_once(end).map_or("", |(inside, _)| inside)
}

/// Serves the page.
pub fn serve(shard: &mut Shard, call: &Call<'_>, _: &[u8], _: &mut Effects) -> Outcome {
    let Headers { tag, policy } = &*HEADERS;
    let mut known = call.request.fields.list(Field::IfNoneMatch);
    let is_same = |known: &str| known.strip_prefix("W/").unwrap_or(known) == tag;
    let is_known = known.any(|known| known == "*" || is_same(known));
    let status = match is_known {
        true => Status::NotModified,
        false => Status::Ok,
    };
    call.answer(shard, status, |answer| {
        let answer = answer.field("ETag", tag).field(POLICY, policy);
        answer
            .cache("no-cache")
            .body("text/html; charset=utf-8", PAGE.as_bytes());
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The policy covers one script and one style, and none in attributes.
    #[test]
    fn the_page_keeps_to_its_policy() {
        for once in ["<script>", "</script>", "<style>", "</style>"] {
            assert_eq!(PAGE.matches(once).count(), 1, "{once}");
        }
        let markup = PAGE.split_once("</style>").unwrap().1;
        let markup = markup.split_once("<script>").unwrap().0;
        for word in [
            " style=",
            " onclick=",
            " onload=",
            "javascript:",
            "<script ",
            "http://",
        ] {
            assert!(!markup.contains(word), "{word}");
        }
        let headers = Headers::of("<style>a</style><script>b</script>");
        let script = "script-src 'sha256-PiPoFgA5WUoziU9lZOGxNIu9egCI1CxKy3PurtWcAJ0='";
        assert!(headers.policy.contains(script), "{}", headers.policy);
    }
}
