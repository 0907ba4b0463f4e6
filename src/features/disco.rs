//! XEP-0030 Service Discovery, derived from [`FEATURES`]: what is announced is what is served.
//! With it the server's own capabilities (XEP-0115) and contacts (XEP-0157).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

use super::{Asked, FEATURES, Feature, IqRoute, Xep};
use crate::session::account::AccountKey;
use crate::session::ctx::{Ctx, Iq};
use crate::session::policy::Policy;
use crate::session::session::Flags;
use crate::xmpp::error::Condition;
use crate::xmpp::ns;
use crate::xmpp::xml::writer::Writer;

pub const FEATURE: Feature = Feature {
    xep: Some(Xep {
        number: 30,
        version: "2.5.0",
    }),
    disco: &[ns::DISCO_INFO, ns::DISCO_ITEMS],
    account_disco: &[ns::DISCO_INFO, ns::DISCO_ITEMS],
    iq: &[
        route(ns::DISCO_INFO, Asked::Server, server_info),
        route(ns::DISCO_INFO, Asked::Account, account_info),
        route(ns::DISCO_ITEMS, Asked::Server, server_items),
        route(ns::DISCO_ITEMS, Asked::Account, account_items),
    ],
    ..Feature::NONE
};

/// XEP-0115 Entity Capabilities, as far as the server has any.
pub const CAPS: Feature = Feature {
    xep: Some(Xep {
        number: 115,
        version: "1.6.0",
    }),
    disco: &[ns::CAPS],
    ..Feature::NONE
};

/// XEP-0157 Contact Addresses.
pub const CONTACTS: Feature = Feature {
    xep: Some(Xep {
        number: 157,
        version: "1.1.1",
    }),
    ..Feature::NONE
};

/// What XEP-0115 calls the node: the software.
pub const CAPS_NODE: &str = "urn:x-encke";

const fn route(namespace: &'static str, asked: Asked, get: fn(&mut Ctx<'_>, &Iq<'_>)) -> IqRoute {
    IqRoute {
        namespace,
        name: "query",
        asked,
        get: Some(get),
        set: None,
    }
}

/// What an entity says about itself.
struct Info<'a> {
    /// Category and type.
    identity: (&'static str, &'static str),
    name: &'static str,
    features: Vec<&'static str>,
    contacts: &'a [(String, Vec<String>)],
}

impl<'a> Info<'a> {
    fn of_server(policy: &'a Policy) -> Self {
        Self {
            identity: ("server", "im"),
            name: "encke",
            features: announced(|feature| feature.disco),
            contacts: &policy.contacts,
        }
    }

    fn of_account() -> Self {
        Self {
            identity: ("account", "registered"),
            name: "",
            features: announced(|feature| feature.account_disco),
            contacts: &[],
        }
    }

    fn write(&self, node: Option<&str>) -> Vec<u8> {
        let mut query = Vec::new();
        let mut writer = Writer::new(&mut query);
        writer.open("query").attr("xmlns", ns::DISCO_INFO);
        if let Some(node) = node {
            writer.attr("node", node);
        }
        let (category, class) = self.identity;
        writer
            .open("identity")
            .attr("category", category)
            .attr("type", class);
        if !self.name.is_empty() {
            writer.attr("name", self.name);
        }
        writer.end("identity");
        for feature in &self.features {
            writer.open("feature").attr("var", feature).end("feature");
        }
        if !self.contacts.is_empty() {
            write_contacts(&mut writer, self.contacts);
        }
        writer.end("query");
        query
    }

    /// XEP-0115 section 5.1.
    fn verification(&self) -> String {
        let (category, class) = self.identity;
        let mut text = format!("{category}/{class}//{}<", self.name);
        for feature in &self.features {
            text.push_str(feature);
            text.push('<');
        }
        if self.contacts.is_empty() {
            return text;
        }
        text.push_str(ns::SERVERINFO);
        text.push('<');
        let mut fields: Vec<_> = self.contacts.iter().collect();
        fields.sort_by(|a, b| a.0.cmp(&b.0));
        for (field, values) in fields {
            text.push_str(field);
            text.push('<');
            let mut values: Vec<_> = values.iter().collect();
            values.sort();
            for value in values {
                text.push_str(value);
                text.push('<');
            }
        }
        text
    }
}

/// The form of XEP-0157.
fn write_contacts(writer: &mut Writer<'_>, contacts: &[(String, Vec<String>)]) {
    writer
        .open("x")
        .attr("xmlns", ns::XDATA)
        .attr("type", "result");
    writer
        .open("field")
        .attr("var", "FORM_TYPE")
        .attr("type", "hidden");
    writer
        .open("value")
        .text(ns::SERVERINFO)
        .end("value")
        .end("field");
    for (field, values) in contacts {
        writer
            .open("field")
            .attr("var", field)
            .attr("type", "list-multi");
        for value in values {
            writer.open("value").text(value).end("value");
        }
        writer.end("field");
    }
    writer.end("x");
}

/// Sorted, each once.
fn announced(of: fn(&Feature) -> &'static [&'static str]) -> Vec<&'static str> {
    let mut features: Vec<_> = FEATURES
        .iter()
        .flat_map(|feature| of(feature))
        .copied()
        .collect();
    features.sort_unstable();
    features.dedup();
    features
}

/// The `ver` of the server's `<c/>` (XEP-0115 section 6.3).
pub fn caps_ver(policy: &Policy) -> String {
    STANDARD.encode(Sha1::digest(Info::of_server(policy).verification()))
}

fn server_info(ctx: &mut Ctx<'_>, iq: &Iq<'_>) {
    let policy = ctx.policy.clone();
    let node = iq.payload.attr("node");
    let known = node.is_none_or(|node| {
        node.strip_prefix(CAPS_NODE)
            .and_then(|rest| rest.strip_prefix('#'))
            .is_some_and(|ver| ver == caps_ver(&policy))
    });
    if !known {
        return ctx.refuse(iq, Condition::ItemNotFound);
    }
    ctx.reply(iq, Info::of_server(&policy).write(node));
}

/// Nothing is below the server yet.
fn server_items(ctx: &mut Ctx<'_>, iq: &Iq<'_>) {
    if iq.payload.attr("node").is_some() {
        return ctx.refuse(iq, Condition::ItemNotFound);
    }
    ctx.reply(iq, items(std::iter::empty()));
}

/// Section 8: an account that the asker may not see answers like one that does not exist.
fn account_info(ctx: &mut Ctx<'_>, iq: &Iq<'_>) {
    if may_see(ctx, iq).is_none() {
        return ctx.refuse(iq, Condition::ServiceUnavailable);
    }
    if iq.payload.attr("node").is_some() {
        return ctx.refuse(iq, Condition::ItemNotFound);
    }
    ctx.reply(iq, Info::of_account().write(None));
}

/// The available sessions.
fn account_items(ctx: &mut Ctx<'_>, iq: &Iq<'_>) {
    let Some(account) = may_see(ctx, iq) else {
        return ctx.refuse(iq, Condition::ServiceUnavailable);
    };
    if iq.payload.attr("node").is_some() {
        return ctx.refuse(iq, Condition::ItemNotFound);
    }
    let sessions = ctx.sessions_with(account, Flags::AVAILABLE);
    let jids = sessions
        .iter()
        .filter_map(|key| ctx.session(*key))
        .map(|session| &*session.jid);
    let items = items(jids);
    ctx.reply(iq, items);
}

fn items<'a>(jids: impl Iterator<Item = &'a str>) -> Vec<u8> {
    let mut query = Vec::new();
    let mut writer = Writer::new(&mut query);
    writer.open("query").attr("xmlns", ns::DISCO_ITEMS);
    for jid in jids {
        writer.open("item").attr("jid", jid).end("item");
    }
    writer.end("query");
    query
}

fn may_see(ctx: &Ctx<'_>, iq: &Iq<'_>) -> Option<AccountKey> {
    let account = ctx.accounts.get(iq.account?)?;
    (iq.own || account.is_seen_by(iq.stanza.from))
        .then_some(iq.account)
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(info: &Info<'_>) -> String {
        STANDARD.encode(Sha1::digest(info.verification()))
    }

    /// The example of XEP-0115 section 5.2.
    #[test]
    fn the_hash_is_that_of_the_specification() {
        let info = Info {
            identity: ("client", "pc"),
            name: "Exodus 0.9.1",
            features: vec![
                "http://jabber.org/protocol/caps",
                "http://jabber.org/protocol/disco#info",
                "http://jabber.org/protocol/disco#items",
                "http://jabber.org/protocol/muc",
            ],
            contacts: &[],
        };
        assert_eq!(hash(&info), "QgayPKawpkPSDYmwT/WM94uAlu0=");
    }

    #[test]
    fn contacts_are_part_of_the_hash_in_order() {
        let contacts = vec![
            (
                "support-addresses".to_owned(),
                vec!["xmpp:b@x".to_owned(), "mailto:a@x".to_owned()],
            ),
            ("abuse-addresses".to_owned(), vec!["mailto:c@x".to_owned()]),
        ];
        let info = Info {
            identity: ("server", "im"),
            name: "",
            features: vec!["f"],
            contacts: &contacts,
        };
        assert_eq!(
            info.verification(),
            "server/im//<f<http://jabber.org/network/serverinfo<abuse-addresses<mailto:c@x<\
             support-addresses<mailto:a@x<xmpp:b@x<"
        );
    }

    /// Clients gate their own features on these strings.
    #[test]
    fn what_clients_look_for_is_announced() {
        let server = announced(|feature| feature.disco);
        for feature in [
            "http://jabber.org/protocol/disco#info",
            "http://jabber.org/protocol/disco#items",
            "jabber:iq:last",
            "jabber:iq:private",
            "jabber:iq:version",
            "msgoffline",
            "urn:xmpp:blocking",
            "urn:xmpp:carbons:2",
            "urn:xmpp:ping",
            "urn:xmpp:time",
            "vcard-temp",
        ] {
            assert!(server.contains(&feature), "{feature}");
        }
        let account = announced(|feature| feature.account_disco);
        assert!(account.contains(&"urn:xmpp:sid:0"));
    }
}
