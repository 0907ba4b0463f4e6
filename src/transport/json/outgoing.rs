//! What is asked for, as stanzas.

use super::request::{Kind, Message, Presence, Show};
use super::writer::{Object, write_string};
use crate::xmpp::ns;
use crate::xmpp::xml::writer::Writer;

/// Appends the message.
pub fn write_message(out: &mut Vec<u8>, message: &Message<'_>, id: &str) {
    let mut writer = Writer::new(out);
    writer.open("message");
    if message.kind != Kind::Normal {
        writer.attr("type", message.kind.as_str());
    }
    writer.attr("to", &message.to).attr("id", id);
    let texts = [
        ("subject", &message.subject),
        ("body", &message.body),
        ("thread", &message.thread),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            writer.open(name).text(text).end(name);
        }
    }
    if let Some(state) = message.state {
        writer.open(state).attr("xmlns", ns::CHATSTATES);
        writer.close_empty();
    }
    if message.wants_receipt {
        writer.open("request").attr("xmlns", ns::RECEIPTS);
        writer.close_empty();
    }
    if let Some(received) = &message.received {
        writer.open("received").attr("xmlns", ns::RECEIPTS);
        writer.attr("id", received).close_empty();
    }
    for element in &message.xml {
        writer.raw(element.as_bytes());
    }
    writer.end("message");
}

/// Appends what readers are told of it once it is stored, as members behind others.
pub fn describe_message(out: &mut Vec<u8>, message: &Message<'_>, id: &str) {
    let mut object = Object::go_on(out);
    object
        .text("message_id", id)
        .text("to", &message.to)
        .text("kind", message.kind.as_str())
        .text_if("subject", message.subject.as_ref())
        .text_if("body", message.body.as_ref())
        .text_if("thread", message.thread.as_ref())
        .text_if("state", message.state)
        .flag("wants_receipt", message.wants_receipt)
        .text_if("received", message.received.as_ref());
    if !message.xml.is_empty() {
        object.array("xml", &message.xml, |out, xml| write_string(out, xml));
    }
}

/// Appends the presence.
pub fn write_presence(out: &mut Vec<u8>, presence: &Presence<'_>) {
    let mut writer = Writer::new(out);
    writer.open("presence");
    if let Some(to) = &presence.to {
        writer.attr("to", to);
    }
    let show = match presence.show {
        Show::Online => None,
        Show::Offline => {
            writer.attr("type", "unavailable");
            None
        }
        Show::Chat => Some("chat"),
        Show::Away => Some("away"),
        Show::Dnd => Some("dnd"),
        Show::Xa => Some("xa"),
    };
    if let Some(show) = show {
        writer.open("show").text(show).end("show");
    }
    if let Some(status) = &presence.status {
        writer.open("status").text(status).end("status");
    }
    if let Some(priority) = presence.priority {
        writer.open("priority").text(&priority.to_string());
        writer.end("priority");
    }
    for element in &presence.xml {
        writer.raw(element.as_bytes());
    }
    writer.end("presence");
}

/// Appends a presence that asks for a subscription or answers.
pub fn write_subscription(out: &mut Vec<u8>, to: &str, action: &str, status: Option<&str>) {
    let mut writer = Writer::new(out);
    writer.open("presence").attr("type", action).attr("to", to);
    if let Some(status) = status {
        writer.open("status").text(status).end("status");
    }
    writer.end("presence");
}

/// Appends an iq with what `content` writes in it.
pub fn write_iq(
    out: &mut Vec<u8>,
    class: &str,
    id: &str,
    to: Option<&str>,
    content: impl FnOnce(&mut Writer<'_>),
) {
    let mut writer = Writer::new(out);
    writer.open("iq").attr("type", class).attr("id", id);
    if let Some(to) = to {
        writer.attr("to", to);
    }
    content(&mut writer);
    writer.end("iq");
}

/// One item of a roster (RFC 6121 section 2.1.2).
pub struct Item<'a, G> {
    pub address: &'a str,
    pub name: Option<&'a str>,
    pub removed: bool,
    pub groups: G,
}

/// Writes a roster with this item, or with none.
pub fn write_roster<'a, G>(writer: &mut Writer<'_>, item: Option<Item<'_, G>>)
where
    G: IntoIterator<Item = &'a str>,
{
    writer.open("query").attr("xmlns", ns::ROSTER);
    if let Some(item) = item {
        writer.open("item").attr("jid", item.address);
        if let Some(name) = item.name {
            writer.attr("name", name);
        }
        if item.removed {
            writer.attr("subscription", "remove");
        }
        for group in item.groups {
            writer.open("group").text(group).end("group");
        }
        writer.end("item");
    }
    writer.end("query");
}
