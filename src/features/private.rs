//! XEP-0049 Private XML Storage: what a client keeps for itself, by name and namespace.

use super::{Asked, Feature, IqRoute, Xep};
use crate::session::account::AccountKey;
use crate::session::ctx::{Ctx, Iq, Kept, Return};
use crate::session::roster::Reader;
use crate::store::{Change, Kind as Table, Op, Reply, Require};
use crate::xmpp::error::Condition;
use crate::xmpp::jid;
use crate::xmpp::ns;
use crate::xmpp::xml::Tree;
use crate::xmpp::xml::writer::Writer;

pub const FEATURE: Feature = Feature {
    xep: Some(Xep {
        number: 49,
        version: "1.2",
    }),
    disco: &[ns::PRIVATE],
    account_disco: &[ns::PRIVATE],
    iq: &[
        IqRoute {
            namespace: ns::PRIVATE,
            name: "query",
            asked: Asked::Own,
            get: Some(get),
            set: Some(set),
        },
        IqRoute {
            namespace: ns::PRIVATE,
            name: "query",
            asked: Asked::Account,
            get: Some(forbid),
            set: Some(forbid),
        },
    ],
    ..Feature::NONE
};

/// Octets of a record's namespace and name.
const KEY_OCTETS_MAX: usize = 1_023;

fn forbid(ctx: &mut Ctx<'_>, iq: &Iq<'_>) {
    ctx.refuse(iq, Condition::Forbidden);
}

/// Answers with the record, or with the element as it was asked for.
fn get(ctx: &mut Ctx<'_>, iq: &Iq<'_>) {
    let mut children = iq.payload.children();
    let Some(wanted) = children.next().filter(|_| children.next().is_none()) else {
        return ctx.refuse(iq, Condition::BadRequest);
    };
    let Some(key) = key_of(wanted) else {
        return ctx.refuse(iq, Condition::NotAcceptable);
    };
    let Some(owner) = iq
        .account
        .and_then(|key| ctx.accounts.get(key))
        .map(|a| a.jid.clone())
    else {
        return;
    };
    let mut empty = Vec::new();
    Tree::new(wanted.namespace().to_owned(), wanted.local().to_owned()).write(&mut empty);
    let kept = Kept::IqWith(Box::new(iq.way_back()), empty.into());
    ctx.ask_then(kept, found, |ops| Op::Get {
        owner: ops.keep(owner.as_bytes()),
        kind: Table::Private,
        key: ops.keep(key.as_bytes()),
    });
}

fn found(ctx: &mut Ctx<'_>, kept: Kept, reply: Reply) {
    let Kept::IqWith(back, empty) = kept else {
        return;
    };
    let Reply::Value(record) = reply else {
        return ctx.refuse_to(&back, Condition::ResourceConstraint);
    };
    let mut query = Vec::new();
    let mut writer = Writer::new(&mut query);
    writer.open("query").attr("xmlns", ns::PRIVATE);
    writer.raw(record.as_deref().unwrap_or(&empty));
    writer.end("query");
    ctx.reply_to(&back, query);
}

/// Each child is a record. How many an account has is known only when its list of them is read.
fn set(ctx: &mut Ctx<'_>, iq: &Iq<'_>) {
    let maximum = ctx.policy.limits.record_octets_max;
    let mut entries = Vec::new();
    for child in iq.payload.children() {
        let Some(key) = key_of(child) else {
            return ctx.refuse(iq, Condition::NotAcceptable);
        };
        let mut record = Vec::new();
        child.write(&mut record);
        if record.len() > maximum {
            return ctx.refuse(iq, Condition::ResourceConstraint);
        }
        put(&mut entries, key.as_bytes());
        put(&mut entries, &record);
    }
    if entries.is_empty() {
        return ctx.refuse(iq, Condition::BadRequest);
    }
    let Some(key) = iq.account else { return };
    let Some(account) = ctx.accounts.get(key) else {
        return;
    };
    if account.private.is_some() {
        return write(ctx, key, iq.way_back(), &entries);
    }
    let owner = account.jid.clone();
    let kept = Kept::IqWith(Box::new(iq.way_back()), entries.into());
    ctx.ask_then(kept, listed, |ops| Op::Get {
        owner: ops.keep(owner.as_bytes()),
        kind: Table::Private,
        key: ops.keep(b""),
    });
}

/// The list of records came. Another request may have had it first and changed it since.
fn listed(ctx: &mut Ctx<'_>, kept: Kept, reply: Reply) {
    let Kept::IqWith(back, entries) = kept else {
        return;
    };
    let Reply::Value(list) = reply else {
        return ctx.refuse_to(&back, Condition::ResourceConstraint);
    };
    let (bare, _) = jid::split_resource(&back.to);
    let Some(key) = ctx.accounts.find(bare) else {
        return;
    };
    if let Some(account) = ctx.core.accounts.get_mut(key) {
        account
            .private
            .get_or_insert_with(|| Box::new(decode_list(list.as_deref())));
    }
    write(ctx, key, *back, &entries);
}

/// Writes the records and the list of all.
fn write(ctx: &mut Ctx<'_>, account: AccountKey, back: Return, entries: &[u8]) {
    let maximum = ctx.policy.limits.private_records_max;
    let Some(account) = ctx.core.accounts.get_mut(account) else {
        return;
    };
    let owner = account.jid.clone();
    let list = account.private.get_or_insert_default();
    let known = list.len();
    let records: Vec<(&str, &[u8])> = Entries(Reader(entries)).collect();
    for (key, _) in &records {
        if !list.iter().any(|known| **known == **key) {
            list.push((*key).into());
        }
    }
    if list.len() > maximum && list.len() > known {
        list.truncate(known);
        return ctx.refuse_to(&back, Condition::ResourceConstraint);
    }
    let mut added = Vec::new();
    for key in &list[known..] {
        put(&mut added, key.as_bytes());
    }
    let list = (list.len() > known).then(|| encode_list(list));
    let kept = Kept::IqWith(Box::new(back), added.into());
    ctx.ask_then(kept, stored, |ops| {
        let owner = ops.keep(owner.as_bytes());
        let kind = Table::Private;
        let mut changes = Vec::new();
        for (key, record) in records {
            let (key, value) = (ops.keep(key.as_bytes()), ops.keep(record));
            changes.push(Change::Put {
                owner: owner.clone(),
                kind,
                key,
                value,
            });
        }
        let empty = ops.keep(b"");
        if let Some(list) = list {
            let value = ops.keep(&list);
            changes.push(Change::Put {
                owner: owner.clone(),
                kind,
                key: empty.clone(),
                value,
            });
        }
        Op::Write {
            require: Require::Present {
                owner,
                kind: Table::Credentials,
                key: empty,
            },
            changes,
        }
    });
}

fn stored(ctx: &mut Ctx<'_>, kept: Kept, reply: Reply) {
    let Kept::IqWith(back, added) = kept else {
        return;
    };
    if reply == Reply::Done {
        return ctx.reply_to(&back, Vec::new());
    }
    let (bare, _) = jid::split_resource(&back.to);
    let key = ctx.accounts.find(bare);
    let account = key.and_then(|key| ctx.core.accounts.get_mut(key));
    if let Some(list) = account.and_then(|account| account.private.as_mut()) {
        let mut reader = Reader(&added);
        while let Some(key) = reader.text() {
            list.retain(|known| **known != *key);
        }
    }
    ctx.refuse_to(&back, Condition::ResourceConstraint);
}

/// `namespace NUL name`. `None`: no namespace of its own, or too long.
fn key_of(element: &Tree) -> Option<String> {
    let (namespace, name) = (element.namespace(), element.local());
    let own = !matches!(namespace, "" | ns::CLIENT | ns::PRIVATE);
    (own && namespace.len() + name.len() < KEY_OCTETS_MAX).then(|| format!("{namespace}\0{name}"))
}

/// The list of an account's records: a version, then each key with its length before it.
fn encode_list(list: &[Box<str>]) -> Vec<u8> {
    let mut record = vec![LIST_VERSION];
    for key in list {
        put(&mut record, key.as_bytes());
    }
    record
}

fn decode_list(record: Option<&[u8]>) -> Vec<Box<str>> {
    let mut reader = Reader(record.unwrap_or_default());
    if reader.octet() != Some(LIST_VERSION) {
        return Vec::new();
    }
    std::iter::from_fn(|| reader.text().map(Box::from)).collect()
}

const LIST_VERSION: u8 = 1;

/// Keys and records, each with its length before it.
struct Entries<'a>(Reader<'a>);

impl<'a> Iterator for Entries<'a> {
    type Item = (&'a str, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        Some((self.0.text()?, self.0.octets()?))
    }
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_named_by_namespace_and_name() {
        let key = |xml: &str| {
            let query = format!("<query xmlns='jabber:iq:private'>{xml}</query>");
            key_of(&Tree::parse(query.as_bytes()).into_only_child().unwrap())
        };
        assert_eq!(key("<a xmlns='u:x'/>").as_deref(), Some("u:x\0a"));
        assert_eq!(key("<a/>"), None, "it has no namespace of its own");
        assert_eq!(
            key(&format!("<a xmlns='{}'/>", "x".repeat(KEY_OCTETS_MAX))),
            None
        );
    }

    #[test]
    fn a_list_comes_back_as_it_was() {
        let list: Vec<Box<str>> = vec!["u:x\0a".into(), "u:y\0b".into()];
        assert_eq!(decode_list(Some(&encode_list(&list))), list);
        assert!(decode_list(None).is_empty());
    }
}
