//! Every option, one row each. The parser, the environment overlay, the sample file and
//! `docs/options.md` come from these rows.

use std::path::PathBuf;
use std::time::Duration;

use super::config::Config;
use super::value::{Bounds, Kind, Value};

/// One option.
pub struct Row {
    /// Where it stands in the file: `table.key`, or `key` at the top.
    pub name: &'static str,
    pub kind: Kind,
    pub change: Change,
    pub secrecy: Secrecy,
    /// What it does, in one sentence.
    pub text: &'static str,
    /// What the sample file shows where the default says little.
    pub example: &'static str,
    access: Access,
}

/// When a new value takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// With SIGHUP.
    Live,
    /// With the next start.
    Restart,
}

/// Whether a value may be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrecy {
    Open,
    Masked,
}

/// How a row reaches its field.
struct Access {
    read: fn(&Config) -> Value,
    write: fn(&mut Config, Value),
}

impl Row {
    /// The value in `config`.
    pub fn read(&self, config: &Config) -> Value {
        (self.access.read)(config)
    }

    /// Puts a value that [`Kind`] has checked into `config`.
    pub fn write(&self, config: &mut Config, value: Value) {
        (self.access.write)(config, value);
    }

    /// The table of the file, empty for the top, and the key in it.
    pub fn place(&self) -> (&'static str, &'static str) {
        self.name.split_once('.').unwrap_or(("", self.name))
    }

    /// The environment variable that overrides it.
    pub fn variable(&self) -> String {
        format!("{PREFIX}{}", self.name.replace('.', "__").to_uppercase())
    }

    /// The default, as TOML; nothing where there is none.
    pub fn default(&self) -> String {
        self.read(&Config::default()).to_string()
    }

    const fn new(name: &'static str, kind: Kind, access: Access, text: &'static str) -> Self {
        Self {
            name,
            kind,
            change: Change::Live,
            secrecy: Secrecy::Open,
            text,
            example: "",
            access,
        }
    }

    const fn restart(mut self) -> Self {
        self.change = Change::Restart;
        self
    }

    const fn masked(mut self) -> Self {
        self.secrecy = Secrecy::Masked;
        self
    }

    const fn example(mut self, example: &'static str) -> Self {
        self.example = example;
        self
    }
}

/// What the variables of the overlay begin with.
pub const PREFIX: &str = "ENCKE__";

/// The row of that name.
pub fn row(name: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.name == name)
}

macro_rules! number {
    ($($field:ident).+) => {
        Access {
            read: |c| Value::Number(c.$($field).+ as u64),
            write: |c, v| c.$($field).+ = v.number().try_into().unwrap_or_default(),
        }
    };
}
macro_rules! number_or_auto {
    ($($field:ident).+) => {
        Access {
            read: |c| match c.$($field).+ {
                0 => Value::Auto,
                number => Value::Number(number as u64),
            },
            write: |c, v| c.$($field).+ = v.number().try_into().unwrap_or_default(),
        }
    };
}
macro_rules! seconds {
    ($($field:ident).+) => {
        Access {
            read: |c| Value::Number(c.$($field).+.as_secs()),
            write: |c, v| c.$($field).+ = Duration::from_secs(v.number()),
        }
    };
}
macro_rules! flag {
    ($($field:ident).+) => {
        Access {
            read: |c| Value::Flag(c.$($field).+),
            write: |c, v| c.$($field).+ = v.flag(),
        }
    };
}
macro_rules! word {
    ($($field:ident).+) => {
        Access {
            read: |c| Value::Text(c.$($field).+.clone()),
            write: |c, v| c.$($field).+ = v.text().unwrap_or_default(),
        }
    };
}
macro_rules! text {
    ($($field:ident).+) => {
        Access {
            read: |c| c.$($field).+.clone().map_or(Value::Absent, Value::Text),
            write: |c, v| c.$($field).+ = v.text(),
        }
    };
}
macro_rules! texts {
    ($($field:ident).+) => {
        Access {
            read: |c| Value::Texts(c.$($field).+.clone()),
            write: |c, v| c.$($field).+ = v.texts(),
        }
    };
}
macro_rules! path {
    ($($field:ident).+) => {
        Access {
            read: |c| c.$($field).+.as_ref()
                .map_or(Value::Absent, |path| Value::Text(path.display().to_string())),
            write: |c, v| c.$($field).+ = v.text().map(PathBuf::from),
        }
    };
}

const fn octets(min: u64, max: u64) -> Kind {
    Kind::Number(Bounds::new("octets", min, max))
}

const fn span(min: u64, max: u64) -> Kind {
    Kind::Number(Bounds::new("seconds", min, max))
}

const fn count(unit: &'static str, min: u64, max: u64) -> Kind {
    Kind::Number(Bounds::new(unit, min, max))
}

/// Everything that can be set, in the order of the sample file.
pub const ROWS: &[Row] = &[
    Row::new(
        "domain",
        Kind::Domain,
        Access {
            read: |c| {
                c.domains
                    .first()
                    .cloned()
                    .map_or(Value::Absent, Value::Text)
            },
            write: |c, v| c.domains = v.text().into_iter().collect(),
        },
        "The domain served: what stands after the @ of its users.",
    )
    .restart()
    .example("\"example.org\""),
    Row::new(
        "domains",
        Kind::Domains,
        texts!(domains),
        "The domains served, instead of `domain`, if there are several.",
    )
    .restart()
    .example("[\"example.org\", \"example.net\"]"),
    Row::new(
        "admins",
        Kind::Jids,
        texts!(admins),
        "Accounts with the rights of administrators.",
    )
    .example("[\"admin@example.org\"]"),
    Row::new(
        "data_dir",
        Kind::Path,
        Access {
            read: |c| Value::Text(c.data_dir.display().to_string()),
            write: |c, v| c.data_dir = v.text().unwrap_or_default().into(),
        },
        "The directory of everything that is kept; a relative path starts at the file's place.",
    )
    .restart()
    .example("\"/var/lib/encke\""),
    Row::new(
        "secret",
        Kind::Hexadecimal { octets: 32 },
        text!(secret),
        "What the answers to logins of unknown users are derived from; made on the first start.",
    )
    .restart()
    .masked(),
    Row::new(
        "private_descriptors",
        Kind::FlagOrAuto,
        Access {
            read: |c| c.private_descriptors.map_or(Value::Auto, Value::Flag),
            write: |c, v| c.private_descriptors = (v != Value::Auto).then(|| v.flag()),
        },
        "Whether each shard has a descriptor table of its own; auto: where limits.links needs it.",
    )
    .restart(),
    Row::new(
        "shutdown_timeout",
        span(1, 600),
        seconds!(shutdown_timeout),
        "How long a stop waits for clients and storage before it ends anyway.",
    ),
    Row::new(
        "listen.c2s",
        Kind::Addresses,
        texts!(listen_c2s),
        "Where clients connect in clear and begin TLS by STARTTLS.",
    )
    .restart(),
    Row::new(
        "listen.c2s_tls",
        Kind::Addresses,
        texts!(listen_c2s_tls),
        "Where clients connect with TLS from the first octet (XEP-0368).",
    )
    .restart(),
    Row::new(
        "listen.http",
        Kind::Addresses,
        texts!(listen_http),
        "Where browsers and reverse proxies connect in clear; from elsewhere than this machine and \
         http.proxies c2s.require_tls refuses a login.",
    )
    .restart()
    .example("[\"127.0.0.1:5280\", \"[::1]:5280\"]"),
    Row::new(
        "listen.https",
        Kind::Addresses,
        texts!(listen_https),
        "Where browsers connect with TLS.",
    )
    .restart()
    .example("[\"0.0.0.0:5443\", \"[::]:5443\"]"),
    Row::new(
        "tls.certificate",
        Kind::Path,
        path!(certificate),
        "The certificate chain in PEM; without one, a self-signed one is made in data_dir.",
    )
    .example("\"/etc/encke/fullchain.pem\""),
    Row::new(
        "tls.key",
        Kind::Path,
        path!(key),
        "The private key of the certificate in PEM.",
    )
    .example("\"/etc/encke/privkey.pem\""),
    Row::new(
        "c2s.require_tls",
        Kind::Flag,
        flag!(require_tls),
        "Whether login needs TLS; false admits passwords in clear: loopback and benchmarks only.",
    ),
    Row::new(
        "http.origins",
        Kind::Origins,
        texts!(http_origins),
        "Web sites whose pages may use this server, beside its own: scheme, host and port.",
    )
    .example("[\"https://chat.example.org\"]"),
    Row::new(
        "http.topics",
        Kind::Topics,
        texts!(http_topics),
        "Topics of the JSON protocol, each with the key of who may publish: name:key.",
    )
    .example("[\"news:a-key-of-sixteen-characters-or-more\"]"),
    Row::new(
        "http.proxies",
        Kind::Networks,
        texts!(http_proxies),
        "Networks of reverse proxies that are believed about where a request came from.",
    )
    .example("[\"127.0.0.0/8\", \"::1/128\"]"),
    Row::new(
        "http.proxy_header",
        Kind::Choice(&["x-forwarded-for", "forwarded"]),
        word!(http_proxy_header),
        "Where those proxies write the address of the client.",
    ),
    Row::new(
        "http.proxy_protocol",
        Kind::Flag,
        flag!(http_proxy_protocol),
        "Whether those proxies begin every connection with the PROXY protocol, as they then must.",
    ),
    Row::new(
        "http.public_url",
        Kind::Url,
        text!(http_public_url),
        "How browsers reach this server, where it is not as the request says (XEP-0156).",
    )
    .example("\"https://chat.example.org\""),
    Row::new(
        "shards.count",
        Kind::NumberOrAuto(Bounds::new("shards", 1, 1024)),
        number_or_auto!(shards),
        "Engines, one thread each; auto: one per core, more where limits.links needs them.",
    )
    .restart(),
    Row::new(
        "limits.links",
        Kind::NumberOrAuto(Bounds::new("links", 1, 10_000_000)),
        number_or_auto!(limits.links_max),
        "Connections at a time; auto: what one descriptor table per core holds.",
    )
    .restart(),
    Row::new(
        "limits.links_per_address_max",
        Kind::Number(Bounds::new("links", 1, 10_000_000).or_unlimited()),
        number!(limits.links_per_address_max),
        "Connections from one address that have not logged in yet.",
    ),
    Row::new(
        "limits.process_octets_max",
        Kind::Number(Bounds::new("octets", 1 << 26, 1 << 50).or_unlimited()),
        number!(limits.process_octets_max),
        "Memory of the process above which new connections are refused.",
    ),
    Row::new(
        "limits.preauth_stanza_octets_max",
        octets(1_000, 1_000_000),
        number!(limits.preauth_stanza_octets_max),
        "Size of one element, or of one body over HTTP, before login; more closes the connection.",
    ),
    Row::new(
        "limits.stanza_octets_max",
        octets(10_000, 16_777_216),
        number!(limits.stanza_octets_max),
        "Size of one stanza; more closes the stream.",
    ),
    Row::new(
        "limits.depth_max",
        count("levels", 8, 1_024),
        number!(limits.depth_max),
        "Nesting of elements in a stanza; more closes the stream.",
    ),
    Row::new(
        "limits.attributes_max",
        count("attributes", 8, 1_024),
        number!(limits.attributes_max),
        "Attributes of one element; more closes the stream.",
    ),
    Row::new(
        "limits.elements_max",
        count("elements", 64, 1_000_000),
        number!(limits.elements_max),
        "Elements in one stanza; more closes the stream.",
    ),
    Row::new(
        "limits.link_output_octets_max",
        octets(16_384, 1 << 30),
        number!(limits.link_output_octets_max),
        "What others may leave unsent for one client before it counts as slow.",
    ),
    Row::new(
        "limits.link_output_high_water_octets",
        octets(4_096, 1 << 30),
        number!(limits.link_output_high_water_octets),
        "Unsent answers to a client's own requests above which it is not read until they drain.",
    ),
    Row::new(
        "limits.queue_stanzas_max",
        count("stanzas", 10, 1_000_000),
        number!(limits.queue_stanzas_max),
        "Stanzas that wait for an acknowledgement; more ends the session, messages are stored.",
    ),
    Row::new(
        "limits.queue_octets_max",
        octets(65_536, 1 << 30),
        number!(limits.queue_octets_max),
        "Octets that wait for an acknowledgement; more ends the session, messages are stored.",
    ),
    Row::new(
        "limits.ack_request_octets",
        octets(256, 1_048_576),
        number!(limits.ack_request_octets),
        "Octets sent after which the server asks for an acknowledgement.",
    ),
    Row::new(
        "limits.resumption_timeout",
        span(1, 86_400),
        seconds!(limits.resumption_timeout),
        "How long a session waits for its client to come back.",
    ),
    Row::new(
        "limits.login_timeout",
        span(1, 600),
        seconds!(limits.login_timeout),
        "From connecting to a bound session; slower clients are closed.",
    ),
    Row::new(
        "limits.http_request_timeout",
        span(1, 600),
        seconds!(limits.http_request_timeout),
        "From the first octet of an HTTP request to its last.",
    ),
    Row::new(
        "limits.http_idle_timeout",
        span(1, 3_600),
        seconds!(limits.http_idle_timeout),
        "How long an HTTP connection may wait for its next request.",
    ),
    Row::new(
        "limits.json_grace",
        span(1, 3_600),
        seconds!(limits.json_grace),
        "How long a session of the JSON protocol outlives its last reader.",
    ),
    Row::new(
        "limits.json_poll_timeout",
        span(1, 600),
        seconds!(limits.json_poll_timeout),
        "How long a poll of the JSON protocol is held when nothing comes.",
    ),
    Row::new(
        "limits.http_head_octets_max",
        octets(1_024, 65_536),
        number!(limits.http_head_octets_max),
        "The head of one HTTP request; more is refused.",
    ),
    Row::new(
        "limits.silence_timeout",
        span(10, 86_400),
        seconds!(limits.silence_timeout),
        "Silence after which a client is asked for a sign of life, and closed after as long again.",
    ),
    Row::new(
        "limits.sasl_attempts_max",
        count("attempts", 1, 100),
        number!(limits.sasl_attempts_max),
        "Failed logins on one stream before it is closed.",
    ),
    Row::new(
        "limits.sessions_per_account_max",
        count("sessions", 1, 10_000),
        number!(limits.sessions_per_account_max),
        "Sessions of one account at a time. For the next one another ends that nobody has read for \
         5 seconds; where there is none, it is refused.",
    ),
    Row::new(
        "limits.roster_items_max",
        count("items", 1, 100_000),
        number!(limits.roster_items_max),
        "Contacts of one account.",
    ),
    Row::new(
        "limits.offline_messages_max",
        count("messages", 0, 1_000_000),
        number!(limits.offline_messages_max),
        "Messages kept for one absent account; more are returned to their senders.",
    ),
    Row::new(
        "limits.blocked_max",
        count("entries", 1, 100_000),
        number!(limits.blocked_max),
        "Entries of one block list.",
    ),
    Row::new(
        "limits.record_octets_max",
        octets(1_024, 16_777_216),
        number!(limits.record_octets_max),
        "Size of a vCard, of one private record, or of any other record of an account.",
    ),
    Row::new(
        "limits.private_records_max",
        count("records", 0, 100_000),
        number!(limits.private_records_max),
        "Private records of one account (XEP-0049).",
    ),
    Row::new(
        "limits.directed_max",
        count("addresses", 1, 100_000),
        number!(limits.directed_max),
        "Addresses that have directed presence of one session.",
    ),
    Row::new(
        "limits.loading_stanzas_max",
        count("stanzas", 1, 100_000),
        number!(limits.loading_stanzas_max),
        "Stanzas that wait while an account is read from storage; more are returned.",
    ),
    Row::new(
        "limits.account_idle_timeout",
        span(1, 86_400),
        seconds!(limits.account_idle_timeout),
        "How long an account without sessions stays in memory.",
    ),
    Row::new(
        "limits.read_octets_per_second",
        Kind::Number(Bounds::new("octets per second", 1_000, 1 << 40).or_unlimited()),
        number!(limits.read_octets_per_second),
        "What one client may send over time; above it the server reads more slowly.",
    ),
    Row::new(
        "log.level",
        Kind::Choice(&["error", "warn", "info", "debug"]),
        word!(log_level),
        "The least important events that are written.",
    ),
    Row::new(
        "log.format",
        Kind::Choice(&["text", "json"]),
        word!(log_format),
        "Lines for people, or one JSON object a line.",
    ),
    Row::new(
        "log.target",
        Kind::Target,
        word!(log_target),
        "Where the log goes; SIGHUP opens a file anew.",
    ),
    Row::new(
        "contact.abuse",
        Kind::Uris,
        texts!(contacts.abuse),
        "Where to report abuse (XEP-0157, as the others of this table).",
    )
    .example("[\"mailto:abuse@example.org\"]"),
    Row::new(
        "contact.admin",
        Kind::Uris,
        texts!(contacts.admin),
        "Who runs the server.",
    )
    .example("[\"xmpp:admin@example.org\"]"),
    Row::new(
        "contact.feedback",
        Kind::Uris,
        texts!(contacts.feedback),
        "Who hears praise.",
    ),
    Row::new(
        "contact.sales",
        Kind::Uris,
        texts!(contacts.sales),
        "Who sells accounts.",
    ),
    Row::new(
        "contact.security",
        Kind::Uris,
        texts!(contacts.security),
        "Who mends holes.",
    ),
    Row::new(
        "contact.status",
        Kind::Uris,
        texts!(contacts.status),
        "Where outages are told.",
    ),
    Row::new(
        "contact.support",
        Kind::Uris,
        texts!(contacts.support),
        "Who helps users.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::limits::Limits;

    /// A bound nobody can set is a bound nobody knows.
    #[test]
    fn every_field_of_limits_has_a_row() {
        let debug = format!("{:#?}", Limits::default());
        let fields = debug.lines().filter_map(|line| {
            let (name, _) = line.strip_prefix("    ")?.split_once(':')?;
            (!name.starts_with(' ')).then_some(name)
        });
        for field in fields {
            let name = match field {
                "links_max" => "limits.links".to_owned(),
                other => format!("limits.{other}"),
            };
            assert!(
                row(&name).is_some(),
                "{name} has no row in server/options.rs"
            );
        }
    }

    /// A default that its own row refuses could not be written into a file.
    #[test]
    fn every_default_is_within_the_bounds_of_its_row() {
        for row in ROWS {
            let text = row.default();
            if text.is_empty() {
                continue;
            }
            let value = toml::de::DeValue::parse(&text).expect(row.name);
            let read = row.kind.read_toml(value.get_ref()).expect(row.name);
            assert_eq!(read, row.read(&Config::default()), "{}", row.name);
        }
    }

    #[test]
    fn what_a_row_writes_it_reads_back() {
        for row in ROWS {
            let mut config = Config::default();
            let value = match row.kind {
                Kind::Number(bounds) | Kind::NumberOrAuto(bounds) => Value::Number(bounds.min),
                Kind::Flag | Kind::FlagOrAuto => Value::Flag(false),
                Kind::Choice(words) => Value::Text(words[0].into()),
                Kind::Domain | Kind::Path | Kind::Target | Kind::Url | Kind::Hexadecimal { .. } => {
                    Value::Text("x".into())
                }
                _ => Value::Texts(vec!["x".into(), "y".into()]),
            };
            row.write(&mut config, value.clone());
            assert_eq!(row.read(&config), value, "{}", row.name);
        }
    }
}
