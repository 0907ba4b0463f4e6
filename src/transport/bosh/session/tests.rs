//! Conversations. A line that begins with `>` is what happens, the lines below are what comes of
//! it; answers are told by the number of their request, all requests having been counted.
//!
//! - `> post ATTRIBUTES | ELEMENTS`: a request. The first opens the session.
//! - `> out ITEMS`: the stream writes.
//! - `> wait SECONDS`: time passes.
//! - `> gone NUMBER`: the link of a request breaks.
//! - `> down CONDITION`: the server ends the session.

/// SECURITY class 44, and every error of the XEPs.
mod errors;
/// Whatever the order.
mod order;
/// The stream of a client behind a session.
mod streams;

use super::*;
use crate::transport::bosh::request;
use crate::xmpp::xml::Bounds;

const BOUNDS: Bounds = Bounds {
    octets_max: 10_000,
    depth_max: 16,
    attributes_max: 32,
    elements_max: 100,
};
const NAMESPACE: &str = " xmlns='http://jabber.org/protocol/httpbind'";

struct Talk {
    session: Option<Session<u32>>,
    posts: u32,
    output: Vec<u8>,
    scanner: Scanner,
    scratch: Vec<u8>,
    now: Moment,
    rules: Rules,
    transcript: String,
}

impl Talk {
    fn new(rules: Rules) -> Self {
        Self {
            session: None,
            posts: 0,
            output: Vec::new(),
            scanner: Scanner::new(),
            scratch: Vec::new(),
            now: Moment(1_000),
            rules,
            transcript: String::new(),
        }
    }

    fn event(&mut self, event: &str) {
        self.transcript += &format!("> {event}\n");
        let (verb, rest) = event.split_once(' ').unwrap_or((event, ""));
        match verb {
            "post" => self.post(rest),
            "out" => {
                self.output.extend_from_slice(rest.as_bytes());
                self.settle();
            }
            "wait" => {
                let end = self.now.after(Duration::from_secs(rest.parse().unwrap()));
                while let Some(at) = self.deadline().filter(|deadline| *deadline <= end) {
                    self.now = self.now.max(at);
                    let mut actions = Vec::new();
                    self.session
                        .as_mut()
                        .unwrap()
                        .expire(self.now, &mut actions);
                    self.tell(&actions);
                    self.settle();
                }
                self.now = end;
            }
            "gone" => {
                let ticket = rest.parse().unwrap();
                self.session.as_mut().unwrap().gone(ticket, self.now);
                self.settle();
            }
            "down" => {
                let mut actions = Vec::new();
                let session = self.session.as_mut().unwrap();
                session.terminate(Condition::SystemShutdown, &mut actions);
                self.tell(&actions);
            }
            _ => panic!("{event}"),
        }
    }

    fn deadline(&self) -> Option<Moment> {
        self.session.as_ref().and_then(Session::next_deadline)
    }

    fn post(&mut self, rest: &str) {
        self.posts += 1;
        let (attributes, content) = rest.split_once('|').unwrap_or((rest, ""));
        let payload = format!("<body{NAMESPACE} {attributes}>{}</body>", content.trim());
        let mut actions = Vec::new();
        let request = request::read(payload.as_bytes(), &mut self.scanner, &BOUNDS);
        let refused = match (request, &mut self.session) {
            (Ok(request), Some(session)) => {
                session.receive(request, self.posts, self.now, &mut actions);
                None
            }
            (Ok(request), None) => {
                let (rules, now) = (&self.rules, self.now);
                match Session::create(request, self.posts, "SID", rules, now, &mut actions) {
                    Ok(session) => {
                        self.session = Some(session);
                        None
                    }
                    Err(condition) => Some(condition),
                }
            }
            (Err(condition), _) => Some(condition),
        };
        if let Some(condition) = refused {
            self.transcript += &format!("#{} refused: {}\n", self.posts, condition.as_str());
        }
        self.tell(&actions);
        self.settle();
    }

    fn settle(&mut self) {
        let Some(session) = &mut self.session else {
            return;
        };
        let mut actions = Vec::new();
        let (scanner, scratch) = (&mut self.scanner, &mut self.scratch);
        let taken = session.settle(&self.output, scanner, scratch, self.now, &mut actions);
        self.output.drain(..taken);
        self.tell(&actions);
        let session = self.session.as_ref().unwrap();
        assert_eq!(session.is_over(), session.next_deadline().is_none());
    }

    fn tell(&mut self, actions: &[Action<'_, u32>]) {
        let text = |octets: &[u8]| String::from_utf8(octets.to_vec()).unwrap();
        for action in actions {
            let line = match action {
                Action::Open(opening) => format!("open {}", header(opening)),
                Action::Restart(opening) => format!("restart {}", header(opening)),
                Action::Elements(elements) => format!("elements {}", text(elements)),
                Action::End => "end".to_owned(),
                Action::Lost => "lost".to_owned(),
                Action::Answer {
                    ticket,
                    status,
                    body,
                } => {
                    let body = text(body).replace(NAMESPACE, "");
                    match status {
                        200 => format!("#{ticket} {body}"),
                        _ => format!("#{ticket} {status} {body}"),
                    }
                }
            };
            self.transcript += &(line + "\n");
        }
    }
}

fn header(opening: &Opening<'_>) -> String {
    let mut written = Vec::new();
    opening.write(&mut written);
    let written = String::from_utf8(written).unwrap();
    let rest = written.strip_prefix(
        "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' \
         version=",
    );
    rest.unwrap().to_owned()
}

/// Plays a conversation and compares.
fn converse(conversation: &str) {
    converse_by(Rules::default(), conversation);
}

fn converse_by(rules: Rules, conversation: &str) {
    let mut talk = Talk::new(rules);
    let mut expected = String::new();
    for line in conversation
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
    {
        let line = line.replace('~', CREATED);
        expected += &format!("{line}\n");
        if let Some(event) = line.strip_prefix("> ") {
            talk.event(event);
        }
    }
    similar(&talk.transcript, &expected);
}

/// Fails at the first line that differs.
fn similar(transcript: &str, expected: &str) {
    for (at, (is, should)) in transcript.lines().zip(expected.lines()).enumerate() {
        let before: Vec<_> = transcript.lines().take(at).collect();
        assert_eq!(is, should, "after\n{}", before.join("\n"));
    }
    assert_eq!(transcript, expected);
}

/// In conversations `~`: what the first answer says beside what was asked for.
const CREATED: &str = "inactivity='45' polling='5' maxpause='120' xmlns:xmpp='urn:xmpp:xbosh' \
    xmpp:version='1.0' xmpp:restartlogic='true'";

/// One is kept per client, beside its answers.
const _: () = assert!(size_of::<Session<u64>>() <= 400);

/// XEP-0124 section 7, XEP-0206 sections 3 to 5: from nothing to a stream that was restarted.
#[test]
fn a_session_begins() {
    converse(
        "> post rid='10' to='a.example' from='me@a.example' ver='1.6' wait='30' hold='1' \
            xml:lang='de' xmlns:x='urn:xmpp:xbosh' x:version='1.0' content='text/html' \
            route='xmpp:b.example:9'
        open '1.0' to='a.example' from='me@a.example' xml:lang='de'>
        > out <?xml version='1.0'?><stream:stream xmlns='jabber:client' \
            xmlns:stream='http://etherx.jabber.org/streams' id='ID' from='a.example'>
        > out <stream:features><x xmlns='urn:x'/></stream:features>
        #1 <body sid='SID' ver='1.6' wait='30' hold='1' requests='2' ~ authid='ID' \
            from='a.example' xmlns:stream='http://etherx.jabber.org/streams'>\
            <stream:features><x xmlns='urn:x'/></stream:features></body>
        > post rid='11' sid='SID' | <auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>AA==</auth>
        elements <auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>AA==</auth>
        > out <success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>
        #2 <body><success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/></body>
        > post rid='12' sid='SID' to='b.example' xmlns:p='urn:xmpp:xbosh' p:restart='true' \
            | <message/>
        restart '1.0' to='b.example'>
        > out <?xml version='1.0'?><stream:stream xmlns='jabber:client' \
            xmlns:stream='http://etherx.jabber.org/streams' id='NEW'><stream:features/>
        #3 <body xmlns:stream='http://etherx.jabber.org/streams'><stream:features/></body>
        > post rid='13' sid='SID' xmlns:p='urn:xmpp:xbosh' p:restart='1'
        restart '1.0' to='a.example'>",
    );
}

/// SECURITY class 44: what is not asked for gets a default, what is asked for a bound (section 7).
#[test]
fn class_44_a_session_is_granted_no_more_than_the_rules_allow() {
    let cases = [
        ("", "ver='1.11' wait='60' hold='1' requests='2' ~"),
        (
            "wait='1000000000' hold='99999999999999999999' ver='9.0'",
            "ver='1.11' wait='60' hold='2' requests='3' ~",
        ),
        (
            "wait='7' hold='2' ver='1.6' ack='1'",
            "ver='1.6' wait='7' hold='2' requests='3' ~ ack='10'",
        ),
        ("ver='1.9'", "ver='1.9' wait='60' hold='1' requests='2' ~"),
    ];
    for (asked, granted) in cases {
        converse(&format!(
            "> post rid='10' to='a.example' {asked}
            open '1.0' to='a.example'>
            > out <a xmlns='urn:a'/>
            #1 <body sid='SID' {granted}><a xmlns='urn:a'/></body>"
        ));
    }
    // Section 12: polls are answered at once, and the session lives longer without any.
    for (asked, granted) in [
        ("hold='0'", "wait='60' hold='0' requests='1'"),
        ("wait='0'", "wait='0' hold='1' requests='2'"),
    ] {
        let created = CREATED.replace("'45'", "'55'");
        converse(&format!(
            "> post rid='10' to='a.example' {asked}
            open '1.0' to='a.example'>
            #1 <body sid='SID' ver='1.11' {granted} {created}/>"
        ));
    }
}

/// A session with one held request, whose first answer was given.
const BEGUN: &str = "> post rid='10' to='a' ver='1.6'
    open '1.0' to='a'>
    > out <a xmlns='urn:a'/>
    #1 <body sid='SID' ver='1.6' wait='60' hold='1' requests='2' ~><a xmlns='urn:a'/></body>\n";

/// The same with two.
const BEGUN_2: &str = "> post rid='10' to='a' ver='1.6' hold='2'
    open '1.0' to='a'>
    > out <a xmlns='urn:a'/>
    #1 <body sid='SID' ver='1.6' wait='60' hold='2' requests='3' ~><a xmlns='urn:a'/></body>\n";

fn begun(conversation: &str) {
    converse(&format!("{BEGUN}{conversation}"));
}

fn begun_2(conversation: &str) {
    converse(&format!("{BEGUN_2}{conversation}"));
}

/// Section 8: one request is held, answered when there is something, when another comes, or when
/// it has waited.
#[test]
fn requests_are_held() {
    begun(
        "> post rid='11'
        > out <message/>
        #2 <body><message xmlns='jabber:client'/></body>
        > out <iq/><presence/>
        > post rid='12' | <message to='b'/>
        elements <message to='b'/>
        #3 <body><iq xmlns='jabber:client'/><presence xmlns='jabber:client'/></body>
        > post rid='13'
        > wait 59
        > wait 1
        #4 <body/>
        > post rid='14'
        > post rid='15' | <iq/>
        elements <iq/>
        #5 <body/>
        > out <iq/>
        #6 <body><iq xmlns='jabber:client'/></body>
        > wait 44
        > post rid='16'
        > wait 60
        #7 <body/>
        > wait 45
        lost",
    );
    begun_2(
        "> post rid='11'
        > wait 6
        > post rid='12'
        > wait 6
        > post rid='13'
        #2 <body/>
        > out <iq/>
        #3 <body><iq xmlns='jabber:client'/></body>
        > wait 60
        #4 <body/>
        > wait 45
        lost",
    );
}

/// Section 14.2: taken and answered by their numbers, not as they come.
#[test]
fn requests_wait_for_those_before_them() {
    begun_2(
        "> post rid='13' | <c xmlns='urn:x'/>
        > post rid='12' | <b xmlns='urn:x'/>
        > out <message/>
        > post rid='11' | <a xmlns='urn:x'/>
        elements <a xmlns='urn:x'/>
        elements <b xmlns='urn:x'/>
        elements <c xmlns='urn:x'/>
        #4 <body><message xmlns='jabber:client'/></body>
        > out <iq/>
        #3 <body><iq xmlns='jabber:client'/></body>",
    );
    // What is missing does not come: the client is told to send all again.
    begun_2(
        "> post rid='13' | <c xmlns='urn:x'/>
        > wait 45
        #2 <body type='error'/>
        > wait 20
        > post rid='11' | <a xmlns='urn:x'/>
        elements <a xmlns='urn:x'/>
        > post rid='12' | <b xmlns='urn:x'/>
        elements <b xmlns='urn:x'/>
        > post rid='13' | <c xmlns='urn:x'/>
        elements <c xmlns='urn:x'/>
        #3 <body/>",
    );
    begun_2("> post rid='13'\n > gone 2\n > wait 45\n lost");
}

/// Section 14.3: the former answer, octet by octet, and nothing is taken twice.
#[test]
fn repeated_requests_get_the_former_answer() {
    begun(
        "> post rid='10' to='a' ver='1.6'
        #2 <body sid='SID' ver='1.6' wait='60' hold='1' requests='2' ~><a xmlns='urn:a'/></body>
        > post rid='11' | <iq/>
        elements <iq/>
        > out <iq/>
        #3 <body><iq xmlns='jabber:client'/></body>
        > post rid='11' | <iq/>
        #4 <body><iq xmlns='jabber:client'/></body>
        > post rid='12'
        > post rid='12'
        #5 <body type='error'/>
        > out <message/>
        #6 <body><message xmlns='jabber:client'/></body>
        > post rid='12'
        #7 <body><message xmlns='jabber:client'/></body>",
    );
    // Before its turn: the first copy is what is taken.
    begun(
        "> post rid='12' | <b xmlns='urn:x'/>
        > post rid='12' | <other xmlns='urn:x'/>
        #2 <body type='error'/>
        > post rid='11'
        elements <b xmlns='urn:x'/>
        #4 <body/>",
    );
}

/// A link that breaks takes nothing with it: what could not be sent waits, or is asked for again.
#[test]
fn broken_links_are_replaced() {
    begun(
        "> post rid='11'
        > gone 2
        > out <message/>
        > wait 44
        > post rid='11'
        #3 <body><message xmlns='jabber:client'/></body>",
    );
    // The client does not ask for the old one at once: it finds it answered when it does.
    begun(
        "> post rid='11'
        > gone 2
        > out <message/>
        > post rid='12' | <iq/>
        elements <iq/>
        #3 <body><message xmlns='jabber:client'/></body>
        > post rid='11'
        #4 <body/>",
    );
    begun("> post rid='11'\n > wait 9\n > gone 2\n > wait 44\n > wait 1\n lost");
    begun("> post rid='11'\n > gone 1\n > wait 60\n #2 <body/>");
}

/// Section 10.
#[test]
fn sessions_pause() {
    begun(
        "> post rid='11'
        > post rid='12' pause='70' | <presence/>
        elements <presence/>
        #2 <body/>
        #3 <body/>
        > out <message/>
        > wait 69
        > post rid='13'
        #4 <body><message xmlns='jabber:client'/></body>
        > wait 45
        lost",
    );
    // Nothing rides on the answer to a pause, and it takes no longer than the rules allow.
    begun(
        "> out <message/>
        > post rid='11' pause='1000000000000'
        #2 <body/>
        > wait 119
        > wait 1
        lost",
    );
    begun("> post rid='11' pause='3'\n #2 <body/>\n > wait 3\n lost");
    // No time at all is none that a session could end after: only the requests are let go.
    begun(
        "> post rid='11'
        > post rid='12' pause='0'
        #2 <body/>
        #3 <body/>
        > wait 44
        > post rid='13'
        > wait 60
        #4 <body/>
        > wait 45
        lost",
    );
    // It may be one request more than are allowed, and so may the end.
    begun_2(
        "> post rid='11'
        > wait 9
        > post rid='12'
        > post rid='14' pause='60'
        > wait 9
        > post rid='13'
        #2 <body/>
        #3 <body/>
        #5 <body/>
        #4 <body/>",
    );
}

/// Section 9: what the server has, and what the client has.
#[test]
fn both_sides_acknowledge() {
    let begun = "> post rid='10' to='a' ver='1.6' hold='2' ack='1'
        open '1.0' to='a'>
        > out <a xmlns='urn:a'/>
        #1 <body sid='SID' ver='1.6' wait='60' hold='2' requests='3' ~ ack='10'>\
            <a xmlns='urn:a'/></body>\n";
    let rest = "> post rid='11'
        > post rid='12' | <iq/>
        elements <iq/>
        > out <message/>
        #2 <body ack='12'><message xmlns='jabber:client'/></body>
        > out <message/>
        #3 <body><message xmlns='jabber:client'/></body>
        > wait 3
        > post rid='13' ack='10'
        #4 <body report='11' time='3000'/>
        > post rid='11'
        #5 <body ack='12'><message xmlns='jabber:client'/></body>
        > post rid='14'
        > post rid='13'
        #6 <body type='terminate' condition='other-request'/>
        lost
        #7 <body type='terminate' condition='item-not-found'/>";
    converse(&format!("{begun}{rest}"));
}

/// Section 13, and what ends a stream from our side.
#[test]
fn sessions_end() {
    begun(
        "> post rid='11'
        > post rid='12' type='terminate' | <presence type='unavailable'/>
        elements <presence type='unavailable'/>
        end
        #2 <body type='terminate'/>
        #3 <body/>",
    );
    begun(
        "> out <message/></stream:stream>
        > post rid='11' type='terminate'
        end
        #2 <body type='terminate'><message xmlns='jabber:client'/></body>
        > post rid='12'
        #3 <body type='terminate' condition='item-not-found'/>",
    );
    // What comes behind the end is not taken, early or late.
    begun_2(
        "> post rid='12' type='terminate' | <a xmlns='urn:x'/>
        > post rid='13' | <b xmlns='urn:x'/>
        > gone 2
        > post rid='11'
        elements <a xmlns='urn:x'/>
        end
        #4 <body type='terminate'/>
        #3 <body/>",
    );
    begun(
        "> post rid='11' type='terminate'
        end
        #2 <body type='terminate'/>
        > post rid='11' type='terminate'
        #3 <body type='terminate' condition='item-not-found'/>",
    );
    begun("> post rid='11'\n > out </stream:stream>\n #2 <body type='terminate'/>");
    // Nobody waits: the next one hears it.
    begun(
        "> out </stream:stream>
        > post rid='11'
        #2 <body type='terminate'/>",
    );
    begun(
        "> post rid='11'
        > gone 2
        > post rid='12' type='terminate'
        end
        #3 <body type='terminate'/>",
    );
    begun("> post rid='11'\n > down\n #2 <body type='terminate' condition='system-shutdown'/>");
}
