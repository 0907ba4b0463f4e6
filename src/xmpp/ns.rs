//! Every namespace, once.

/// Elements of a client's stream (RFC 6120 section 4.8.2).
pub const CLIENT: &str = "jabber:client";
/// Elements of a server's stream.
pub const SERVER: &str = "jabber:server";
/// The stream header and its features (RFC 6120 section 4.8.1).
pub const STREAMS: &str = "http://etherx.jabber.org/streams";
/// Conditions of stream errors (RFC 6120 section 4.9).
pub const STREAM_ERRORS: &str = "urn:ietf:params:xml:ns:xmpp-streams";
/// Conditions of stanza errors (RFC 6120 section 8.3).
pub const STANZA_ERRORS: &str = "urn:ietf:params:xml:ns:xmpp-stanzas";
/// STARTTLS (RFC 6120 section 5).
pub const TLS: &str = "urn:ietf:params:xml:ns:xmpp-tls";
/// SASL (RFC 6120 section 6).
pub const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";
/// Resource binding (RFC 6120 section 7).
pub const BIND: &str = "urn:ietf:params:xml:ns:xmpp-bind";
/// Session establishment, obsolete and still asked for (RFC 3921).
pub const SESSION: &str = "urn:ietf:params:xml:ns:xmpp-session";
/// Bound to the prefix `xml` in every document.
pub const XML: &str = "http://www.w3.org/XML/1998/namespace";
/// Bound to the prefix `xmlns` in every document, and to nothing else.
pub const XMLNS: &str = "http://www.w3.org/2000/xmlns/";

/// Rosters (RFC 6121 section 2).
pub const ROSTER: &str = "jabber:iq:roster";
/// Roster versions (RFC 6121 section 2.6).
pub const ROSTERVER: &str = "urn:xmpp:features:rosterver";
/// Pre-approved subscriptions (RFC 6121 section 3.4).
pub const PREAPPROVAL: &str = "urn:xmpp:features:pre-approval";

/// XEP-0004 data forms.
pub const XDATA: &str = "jabber:x:data";
/// XEP-0012 last activity.
pub const LAST: &str = "jabber:iq:last";
/// XEP-0013 flexible offline retrieval, and the disco feature of XEP-0160.
pub const OFFLINE: &str = "msgoffline";
/// XEP-0030 service discovery: what is here.
pub const DISCO_INFO: &str = "http://jabber.org/protocol/disco#info";
/// XEP-0030 service discovery: what is below.
pub const DISCO_ITEMS: &str = "http://jabber.org/protocol/disco#items";
/// XEP-0045 rooms, as seen by an occupant.
pub const MUC_USER: &str = "http://jabber.org/protocol/muc#user";
/// XEP-0049 private storage.
pub const PRIVATE: &str = "jabber:iq:private";
/// XEP-0054 vcard-temp.
pub const VCARD: &str = "vcard-temp";
/// XEP-0059 result sets.
pub const RSM: &str = "http://jabber.org/protocol/rsm";
/// XEP-0085 chat states.
pub const CHATSTATES: &str = "http://jabber.org/protocol/chatstates";
/// XEP-0092 software version.
pub const VERSION: &str = "jabber:iq:version";
/// XEP-0115 capabilities.
pub const CAPS: &str = "http://jabber.org/protocol/caps";
/// XEP-0128 and 0157: the server's contacts.
pub const SERVERINFO: &str = "http://jabber.org/network/serverinfo";
/// XEP-0153 avatar hash in presence.
pub const VCARD_UPDATE: &str = "vcard-temp:x:update";
/// XEP-0184 delivery receipts.
pub const RECEIPTS: &str = "urn:xmpp:receipts";
/// XEP-0191 blocking.
pub const BLOCKING: &str = "urn:xmpp:blocking";
/// XEP-0191 the reason of a refusal.
pub const BLOCKING_ERRORS: &str = "urn:xmpp:blocking:errors";
/// XEP-0198 stream management.
pub const SM: &str = "urn:xmpp:sm:3";
/// XEP-0199 ping.
pub const PING: &str = "urn:xmpp:ping";
/// XEP-0202 entity time.
pub const TIME: &str = "urn:xmpp:time";
/// XEP-0203 delayed delivery.
pub const DELAY: &str = "urn:xmpp:delay";
/// XEP-0280 carbons.
pub const CARBONS: &str = "urn:xmpp:carbons:2";
/// XEP-0280 the server's rules of what is copied.
pub const CARBONS_RULES: &str = "urn:xmpp:carbons:rules:0";
/// XEP-0297 forwarded stanzas.
pub const FORWARD: &str = "urn:xmpp:forward:0";
/// XEP-0333 chat markers.
pub const MARKERS: &str = "urn:xmpp:chat-markers:0";
/// XEP-0334 processing hints.
pub const HINTS: &str = "urn:xmpp:hints";
/// XEP-0352 client state.
pub const CSI: &str = "urn:xmpp:csi:0";
/// XEP-0353 call set-up in messages.
pub const JINGLE_MESSAGE: &str = "urn:xmpp:jingle-message:0";
/// XEP-0359 stable stanza identities.
pub const SID: &str = "urn:xmpp:sid:0";
/// XEP-0377 spam reports.
pub const REPORTING: &str = "urn:xmpp:reporting:1";
/// XEP-0380 explicit encryption.
pub const ENCRYPTION: &str = "urn:xmpp:eme:0";
/// XEP-0388 SASL in its second version.
pub const SASL2: &str = "urn:xmpp:sasl:2";
/// XEP-0440 channel binding types.
pub const SASL_CB: &str = "urn:xmpp:sasl-cb:0";
/// XEP-0478 stream limits.
pub const STREAM_LIMITS: &str = "urn:xmpp:stream-limits:0";
/// RFC 7395 framing over WebSocket.
pub const FRAMING: &str = "urn:ietf:params:xml:ns:xmpp-framing";
