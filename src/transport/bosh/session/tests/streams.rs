use super::*;
use crate::base::limits::Limits;
use crate::stream::c2s::{Negotiation, Offer, Tls};
use crate::xmpp::error::StreamError;
use crate::xmpp::xml::{Progress, StreamScope};

/// What the first request says becomes a header, and what a stream of ours answers, or with which
/// error it ends, becomes the first answer.
#[test]
fn a_stream_of_ours_is_carried() {
    let features = first_answer("a.example");
    let begin = format!(
        "<body{NAMESPACE} sid='SID' ver='1.6' wait='60' hold='1' requests='2' {CREATED} \
         authid='s1' from='a.example' xmlns:stream='http://etherx.jabber.org/streams'>\
         <stream:features>"
    );
    assert!(features.starts_with(&begin), "{features}");
    assert!(features.contains("<mechanisms xmlns="), "{features}");
    let unknown = first_answer("b.example");
    let expected = format!(
        "<body{NAMESPACE} type='terminate' condition='host-unknown' \
         xmlns:stream='http://etherx.jabber.org/streams'><stream:error><host-unknown \
         xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></body>"
    );
    assert_eq!(unknown, expected);
}

fn first_answer(to: &str) -> String {
    let (domains, limits) = (["a.example".to_owned()], Limits::default());
    let offer = Offer {
        domains: &domains,
        tls: Tls::Unavailable,
        limits: &limits,
        secret: &[7; 32],
        iterations: 4_096,
        stream_id: "s1",
        nonce: "n",
        caps: None,
    };
    let mut scanner = Scanner::new();
    let (rules, now) = (Rules::default(), Moment(0));
    let payload = format!("<body{NAMESPACE} rid='1' to='{to}' ver='1.6' xml:lang='de'/>");
    let request = request::read(payload.as_bytes(), &mut scanner, &BOUNDS).unwrap();
    let mut actions = Vec::new();
    let mut session = Session::create(request, 1, "SID", &rules, now, &mut actions).unwrap();
    let Some(Action::Open(opening)) = actions.pop() else {
        panic!("the stream opens");
    };
    let mut octets = Vec::new();
    opening.write(&mut octets);
    let scope = StreamScope::closed();
    let progress = scanner.next(&octets, &scope, &BOUNDS);
    assert_eq!(progress, Ok(Progress::Header(octets.len())));
    let header = scanner.header(&octets);
    assert_eq!(scope.open(&header).lang(), Some("de"));
    let mut negotiation = Negotiation::clear();
    let mut out = Vec::new();
    let outcome = negotiation.header(header, &offer, &mut out);
    if let Err(error) = outcome {
        assert_eq!(error, StreamError::HostUnknown);
        negotiation.close(error, &offer, &mut out);
    }
    let mut actions = Vec::new();
    let taken = session.settle(&out, &mut scanner, &mut Vec::new(), now, &mut actions);
    assert_eq!(taken, out.len());
    assert_eq!(session.is_over(), outcome.is_err());
    let [Action::Answer { body, .. }] = &actions[..] else {
        panic!("{actions:?}");
    };
    String::from_utf8(body.to_vec()).unwrap()
}
