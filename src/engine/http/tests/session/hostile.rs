//! Peers and networks that a session of the JSON protocol has to withstand.

use super::*;

fn types_in(text: &str, name: &str) -> usize {
    text.matches(&format!("\"type\":\"{name}\"")).count()
}

/// SECURITY class 27: only the server makes copies.
#[test]
fn a_carbon_of_a_stranger_is_none() {
    let mut house = House::with(1, Limits::default());
    let session = house.open("");
    house.world.sends(
        "romeo",
        "<message to='juliet@localhost/tab' type='chat'>\
         <received xmlns='urn:xmpp:carbons:2'><forwarded xmlns='urn:xmpp:forward:0'>\
         <message xmlns='jabber:client' from='nurse@localhost/x' to='juliet@localhost' type='chat'>\
         <body>forged</body></message></forwarded></received><body>mine</body></message>",
    );
    house.world.settle();
    let events = house.poll(&session, "");
    assert_eq!(types_in(&events.to_string(), "carbon"), 0, "{events}");
}

/// Of several identifiers the server's own is the one that counts.
#[test]
fn the_servers_stanza_id_is_told() {
    let mut house = House::with(1, Limits::default());
    let session = house.open("");
    house.world.sends(
        "romeo",
        "<message to='juliet@localhost' type='chat'>\
         <stanza-id xmlns='urn:xmpp:sid:0' by='evil.example' id='fake'/><body>b</body></message>",
    );
    house.world.settle();
    let events = house.poll(&session, "");
    let message = events["events"].as_array().unwrap().iter();
    let message = message
        .filter(|event| event["type"] == "message")
        .next_back()
        .unwrap();
    assert_eq!(message["stanza_id"]["by"], "juliet@localhost", "{message}");
}

/// An attribute is no text.
#[test]
fn a_body_is_what_is_inside_of_it() {
    let mut house = House::with(1, Limits::default());
    let session = house.open("");
    house.world.sends(
        "romeo",
        "<message to='juliet@localhost' type='chat'>\
         <body a='>nothing of this'/></message>",
    );
    house.world.settle();
    let events = house.poll(&session, "");
    assert!(!events.to_string().contains("\"body\":\"noth"), "{events}");
}
