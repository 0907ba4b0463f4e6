//! What is served where. A path is served exactly as it stands here, or not at all
//! (SECURITY class 47).

use super::{Call, Outcome, bosh, host_meta, page, say, session, upgrade};
use crate::engine::shard::Shard;
use crate::session::effects::{Effects, Errand, ErrandKind};
use crate::transport::http::answer::{Answer, Problem, RETRY_SECONDS};
use crate::transport::http::origin::{Verdict, is_own};
use crate::transport::http::{Field, Method, Request, Status};

/// One resource.
pub struct Route {
    /// With a slash at its end: everything below it.
    pub path: &'static str,
    pub methods: &'static [Method],
    serve: fn(&mut Shard, &Call<'_>, &[u8], &mut Effects) -> Outcome,
}

impl Route {
    fn serves(&self, path: &str) -> bool {
        let is_tree = self.path.len() > 1 && self.path.ends_with('/');
        path == self.path || (is_tree && path.starts_with(self.path))
    }
}

const READ: &[Method] = &[Method::Get, Method::Head];
const GET: &[Method] = &[Method::Get];
/// With what a browser asks before a page of another origin may.
const POST: &[Method] = &[Method::Post, Method::Options];

/// All of them.
pub const ROUTES: &[Route] = &[
    Route {
        path: "/",
        methods: READ,
        serve: page::serve,
    },
    Route {
        path: upgrade::PATH,
        methods: GET,
        serve: upgrade::serve,
    },
    Route {
        path: bosh::PATH,
        methods: &[Method::Post, Method::Options],
        serve: bosh::serve,
    },
    Route {
        path: "/v1/session",
        methods: &[Method::Get, Method::Post, Method::Delete, Method::Options],
        serve: session::session,
    },
    Route {
        path: "/v1/session/respond",
        methods: POST,
        serve: session::respond,
    },
    Route {
        path: session::SOCKET,
        methods: GET,
        serve: session::socket,
    },
    Route {
        path: session::EVENTS,
        methods: &[Method::Get, Method::Options],
        serve: session::events,
    },
    Route {
        path: "/v1/requests",
        methods: POST,
        serve: |shard, call, body, fx| session::ask(shard, call, body, None, fx),
    },
    Route {
        path: "/v1/messages",
        methods: POST,
        serve: |shard, call, body, fx| session::ask(shard, call, body, Some("message"), fx),
    },
    Route {
        path: "/v1/presence",
        methods: &[Method::Get, Method::Post, Method::Options],
        serve: session::presence,
    },
    Route {
        path: "/v1/subscriptions",
        methods: POST,
        serve: |shard, call, body, fx| session::ask(shard, call, body, Some("subscription"), fx),
    },
    Route {
        path: "/v1/roster",
        methods: &[Method::Get, Method::Post, Method::Delete, Method::Options],
        serve: session::roster,
    },
    Route {
        path: session::TOPICS,
        methods: POST,
        serve: session::publish,
    },
    Route {
        path: "/v1/iq",
        methods: POST,
        serve: |shard, call, body, fx| session::ask(shard, call, body, Some("iq"), fx),
    },
    Route {
        path: "/v1/acks",
        methods: POST,
        serve: |shard, call, body, fx| session::ask(shard, call, body, Some("ack"), fx),
    },
    Route {
        path: "/.well-known/host-meta",
        methods: READ,
        serve: host_meta::xml,
    },
    Route {
        path: "/.well-known/host-meta.json",
        methods: READ,
        serve: host_meta::json,
    },
    Route {
        path: "/healthz",
        methods: READ,
        serve: health,
    },
    Route {
        path: "/readyz",
        methods: READ,
        serve: readiness,
    },
    Route {
        path: "/metrics",
        methods: READ,
        serve: metrics,
    },
];

/// The type of an exposition.
pub const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// Finds who serves a request.
pub fn dispatch(shard: &mut Shard, call: &Call<'_>, body: &[u8], fx: &mut Effects) -> Outcome {
    let path = &*call.request.path;
    if path == "*" {
        let allowed = list(ROUTES.iter().flat_map(|route| route.methods));
        return call.answer(shard, Status::NoContent, |answer| {
            answer.field("Allow", &allowed).empty();
        });
    }
    let Some(route) = route(path) else {
        return call.problem(
            shard,
            Status::NotFound,
            "not-found",
            "nothing is served under this path",
        );
    };
    if route.methods.contains(&call.request.method) {
        return (route.serve)(shard, call, body, fx);
    }
    let allowed = list(route.methods);
    let verdict = call.reader(shard);
    call.answer(shard, Status::MethodNotAllowed, |answer| {
        let answer = verdict.allow(answer);
        let problem = Problem {
            status: Status::MethodNotAllowed,
            code: "method-not-allowed",
            title: "this path is not served so",
            detail: "",
        };
        problem.finish(answer.field("Allow", &allowed));
    })
}

/// Whether anybody takes the body of such a request. An upgrade has none.
pub fn takes(request: &Request<'_>) -> bool {
    route(&request.path).is_some_and(|route| route.methods.contains(&request.method))
}

/// Whether pages of other origins have any business there.
pub fn is_for_pages(path: &str) -> bool {
    path == bosh::PATH || path.starts_with("/v1/")
}

/// Whether the answer to such a request comes as soon as it can.
pub fn is_brief(request: &Request<'_>) -> bool {
    !matches!(
        &*request.path,
        bosh::PATH | session::EVENTS | session::SOCKET
    )
}

fn route(path: &str) -> Option<&'static Route> {
    ROUTES.iter().find(|route| route.serves(path))
}

/// Methods as `Allow` lists them.
fn list<'m>(methods: impl IntoIterator<Item = &'m Method>) -> String {
    let mut names: Vec<&str> = Vec::new();
    for method in methods {
        if !names.contains(&method.name()) {
            names.push(method.name());
        }
    }
    names.join(", ")
}

/// Whether the process turns.
fn health(shard: &mut Shard, call: &Call<'_>, _: &[u8], _: &mut Effects) -> Outcome {
    call.answer(shard, Status::Ok, |answer| answer.body(TEXT, b"ok\n"))
}

/// Whether it takes new clients.
fn readiness(shard: &mut Shard, call: &Call<'_>, _: &[u8], _: &mut Effects) -> Outcome {
    let why = match (shard.stopping, shard.room) {
        (false, Ok(())) => {
            return call.answer(shard, Status::Ok, |answer| answer.body(TEXT, b"ready\n"));
        }
        (true, _) => "stopping\n".to_owned(),
        (false, Err(shortage)) => format!("full: {} is reached\n", shortage.option()),
    };
    call.answer(shard, Status::ServiceUnavailable, |answer| {
        answer.retry_after(RETRY_SECONDS).body(TEXT, why.as_bytes());
    })
}

/// Counters are for the administrator: for this machine, and not for what a proxy passes on.
fn metrics(shard: &mut Shard, call: &Call<'_>, _: &[u8], fx: &mut Effects) -> Outcome {
    let header = |field| call.request.header(field).is_some();
    let passed_on = header(Field::Forwarded) || header(Field::XForwardedFor);
    if passed_on || call.client.relayed || !call.client.address.is_loopback() {
        return call.problem(
            shard,
            Status::Forbidden,
            "forbidden",
            "this is told to this machine only",
        );
    }
    let policy = &shard.core.policy;
    let public = policy.http.public_url.as_deref();
    let public = public.and_then(|url| url.split_once("://"));
    let public = public.and_then(|(_, host)| host.split([':', '/']).next());
    let domains = policy.domains.iter().map(String::as_str);
    let host = call.request.host.unwrap_or_default();
    // The browser of the administrator is on this machine as well.
    if !is_own(host, domains.chain(public)) {
        return call.problem(
            shard,
            Status::Forbidden,
            "forbidden",
            "this is told under an address, localhost or a domain of this server",
        );
    }
    fx.errands.push(Errand {
        link: call.key,
        kind: ErrandKind::Metrics,
    });
    Outcome::Later
}

impl Call<'_> {
    /// What is to be thought of the page that asks, if one does.
    pub(super) fn verdict(&self, shard: &Shard) -> Verdict<'_> {
        let page = self.request.header(Field::Origin);
        let origins = &shard.core.policy.http.origins;
        origins.judge(page, self.request.host, self.client.scheme)
    }

    /// The same, for an answer that no handler has a hand in.
    fn reader(&self, shard: &Shard) -> Verdict<'_> {
        match is_for_pages(&self.request.path) {
            true => self.verdict(shard),
            false => Verdict::Absent,
        }
    }

    /// Writes the answer of this request.
    pub(super) fn answer(
        &self,
        shard: &mut Shard,
        status: Status,
        write: impl FnOnce(Answer<'_>),
    ) -> Outcome {
        say(shard, self.key, self.request.manner(), status, write)
    }

    /// Refuses this request. A page that may ask may read why.
    pub(super) fn problem(
        &self,
        shard: &mut Shard,
        status: Status,
        code: &str,
        title: &str,
    ) -> Outcome {
        let problem = Problem {
            status,
            code,
            title,
            detail: "",
        };
        let verdict = self.reader(shard);
        self.answer(shard, status, |answer| {
            problem.finish(verdict.allow(answer));
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_is_there_twice() {
        let mut paths: Vec<_> = ROUTES.iter().map(|route| route.path).collect();
        paths.sort_unstable();
        paths.dedup();
        assert_eq!(paths.len(), ROUTES.len());
    }
}
