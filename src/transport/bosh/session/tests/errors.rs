use super::*;

/// What comes after a session began, and the condition with which its last request ends it; the
/// request before is still held.
const HELD: [(&str, &str); 4] = [
    // Beyond the window: far, and by one.
    ("rid='1011'", "item-not-found"),
    ("rid='14'", "item-not-found"),
    // An answer that is no longer kept, or never was.
    ("rid='9'", "item-not-found"),
    // An empty one while as many wait as may, at once (section 11).
    ("rid='12'", "policy-violation"),
];

/// SECURITY class 44: replays, jumps and parallel polls end the session, as section 17 says it.
#[test]
fn class_44_what_breaks_the_rules_ends_the_session() {
    for (request, condition) in HELD {
        begun(&format!(
            "> post rid='11'
            > post {request}
            #2 <body type='terminate' condition='other-request'/>
            lost
            #3 <body type='terminate' condition='{condition}'/>
            > post rid='12'
            #4 <body type='terminate' condition='item-not-found'/>"
        ));
    }
    // Too many at once: 11, 13 and 12 would all wait.
    begun(
        "> post rid='11'
        > post rid='13' | <a xmlns='urn:x'/>
        > post rid='12' | <a xmlns='urn:x'/>
        #2 <body type='terminate' condition='other-request'/>
        #3 <body type='terminate' condition='other-request'/>
        lost
        #4 <body type='terminate' condition='policy-violation'/>",
    );
}

/// Section 17.1: who named no version hears it by the status.
#[test]
fn legacy_clients_are_told_by_the_status() {
    let cases = [
        ("rid='1011'", "404", "item-not-found"),
        ("rid='12'", "403", "policy-violation"),
    ];
    for (request, status, condition) in cases {
        converse(&format!(
            "> post rid='10' to='a'
            open '1.0' to='a'>
            > out <a xmlns='urn:a'/>
            #1 <body sid='SID' ver='1.11' wait='60' hold='1' requests='2' ~>\
                <a xmlns='urn:a'/></body>
            > post rid='11'
            > post {request}
            #2 <body type='terminate' condition='other-request'/>
            lost
            #3 {status} <body type='terminate' condition='{condition}'/>"
        ));
    }
}

/// SECURITY class 44: requests that open nothing.
#[test]
fn class_44_what_opens_no_session() {
    let cases = [
        ("rid='10'", "improper-addressing"),
        ("rid='10' to=''", "improper-addressing"),
        ("rid='10' to='a' sid='x'", "bad-request"),
        ("rid='10' to='a' type='terminate'", "bad-request"),
        ("rid='10' to='a' pause='10'", "bad-request"),
        ("rid='10' to='a' newkey='xyz'", "bad-request"),
        ("to='a'", "bad-request"),
        ("rid='0' to='a'", "bad-request"),
        ("rid='9007199254740992' to='a'", "bad-request"),
        ("rid='99999999999999999999999999' to='a'", "bad-request"),
        ("rid='-1' to='a'", "bad-request"),
        ("rid='10' to='a' wait='soon'", "bad-request"),
        ("rid='10' to='a' hold=''", "bad-request"),
        ("rid='10' to='a' ver='2'", "bad-request"),
    ];
    for (attributes, condition) in cases {
        converse(&format!("> post {attributes}\n #1 refused: {condition}"));
    }
}

/// SECURITY class 44: a session without its number, or that nobody can read, changes nothing.
#[test]
fn class_44_unreadable_requests_leave_the_session_alone() {
    begun(
        "> post rid='11'
        > post sid='SID'
        #3 refused: bad-request
        > post rid='12' sid='SID' | text
        #4 refused: bad-request
        > out <message/>
        #2 <body><message xmlns='jabber:client'/></body>",
    );
}

/// SECURITY class 44: the same request again and again.
#[test]
fn class_44_repetitions_are_counted() {
    let rules = Rules {
        repeats_max: 2,
        ..Rules::default()
    };
    converse_by(
        rules.clone(),
        &format!(
            "{BEGUN}> post rid='10'
            #2 <body sid='SID' ver='1.6' wait='60' hold='1' requests='2' ~>\
                <a xmlns='urn:a'/></body>
            > post rid='11'
            > post rid='11'
            #3 <body type='error'/>
            > post rid='11'
            #4 <body type='error'/>
            > post rid='11'
            #5 <body type='terminate' condition='other-request'/>
            lost
            #6 <body type='terminate' condition='policy-violation'/>"
        ),
    );
    converse_by(
        rules,
        &format!(
            "{BEGUN}> post rid='12'
            > post rid='12'
            #2 <body type='error'/>
            > post rid='12'
            #3 <body type='error'/>
            > post rid='12'
            #4 <body type='terminate' condition='other-request'/>
            lost
            #5 <body type='terminate' condition='policy-violation'/>"
        ),
    );
}

/// SECURITY class 44: polls (sections 11 and 12).
#[test]
fn class_44_empty_requests_come_no_faster_than_allowed() {
    let created = CREATED.replace("'45'", "'55'");
    let begun = format!(
        "> post rid='10' to='a' ver='1.6' hold='0'
        open '1.0' to='a'>
        #1 <body sid='SID' ver='1.6' wait='60' hold='0' requests='1' {created}/>\n"
    );
    converse(&format!(
        "{begun}> post rid='11'
        #2 <body/>
        > wait 4
        > post rid='12'
        #3 <body/>
        > post rid='13' | <iq/>
        elements <iq/>
        #4 <body/>
        > post rid='14'
        #5 <body/>
        > out <iq/>
        > wait 4
        > post rid='15'
        #6 <body><iq xmlns='jabber:client'/></body>
        > post rid='16'
        #7 <body/>
        > wait 3
        > post rid='17'
        lost
        #8 <body type='terminate' condition='policy-violation'/>"
    ));
    converse(&format!(
        "{begun}> post rid='12'
        lost
        #2 <body type='terminate' condition='item-not-found'/>"
    ));
    begun_2(
        "> post rid='11'
        > post rid='12'
        > post rid='13'
        #2 <body type='terminate' condition='other-request'/>
        #3 <body type='terminate' condition='other-request'/>
        lost
        #4 <body type='terminate' condition='policy-violation'/>",
    );
}

/// Answers are kept as many as may be on their way.
#[test]
fn only_the_last_answers_are_kept() {
    let bring = |from: u64| {
        let rids = from..from + 3;
        let lines = rids.map(|rid| {
            let number = rid - 9;
            format!(
                "> post rid='{rid}'
                > out <iq/>
                #{number} <body><iq xmlns='jabber:client'/></body>\n"
            )
        });
        lines.collect::<String>()
    };
    begun(&format!(
        "{}> post rid='11'
        #5 <body><iq xmlns='jabber:client'/></body>
        > post rid='10'
        lost
        #6 <body type='terminate' condition='item-not-found'/>",
        bring(11)
    ));
}

/// An answer that the client may not have is kept however large: then the next ones carry nothing,
/// until the numbers of its requests show what it has.
#[test]
fn what_may_be_lost_is_not_pushed_out() {
    let rules = Rules {
        replay_octets_max: 150,
        ..Rules::default()
    };
    let big = |name: &str| format!("<{name} xmlns='urn:x'>{}</{name}>", "x".repeat(200));
    let (a, b, c) = (big("a"), big("b"), big("c"));
    let begun = "> post rid='10' to='a' ver='1.6' hold='2'
        open '1.0' to='a'>
        > out <s/>
        #1 <body sid='SID' ver='1.6' wait='60' hold='2' requests='3' ~>\
            <s xmlns='jabber:client'/></body>
        > post rid='11' | <iq/>
        elements <iq/>
        > post rid='12' | <iq/>
        elements <iq/>
        > post rid='13' | <iq/>
        elements <iq/>
        #2 <body/>\n";
    // Two answers on their way, and both links break.
    converse_by(
        rules.clone(),
        &format!(
            "{begun}> out {a}
            #3 <body>{a}</body>
            > out {b}
            #4 <body/>
            > gone 3
            > gone 4
            > post rid='12' | <iq/>
            #5 <body>{a}</body>
            > post rid='13' | <iq/>
            #6 <body/>
            > post rid='14'
            #7 <body/>
            > post rid='15'
            #8 <body>{b}</body>
            > out {c}
            > post rid='16'
            #9 <body/>
            > post rid='15'
            #10 <body>{b}</body>
            > post rid='17'
            #11 <body/>
            > post rid='18'
            #12 <body>{c}</body>"
        ),
    );
    // The last answer takes all that is left, and what is acknowledged is not waited for.
    converse_by(
        rules.clone(),
        &format!(
            "{begun}> out {a}
            #3 <body>{a}</body>
            > out {b}
            #4 <body/>
            > post rid='14' type='terminate'
            end
            #5 <body type='terminate'>{b}</body>"
        ),
    );
    converse_by(
        rules,
        &format!(
            "> post rid='10' to='a' ver='1.6' ack='1'
            open '1.0' to='a'>
            > out {a}
            #1 <body sid='SID' ver='1.6' wait='60' hold='1' requests='2' ~ ack='10'>{a}</body>
            > post rid='11'
            > out {b}
            #2 <body>{b}</body>
            > post rid='12' ack='10'
            > out {c}
            #3 <body/>
            > post rid='13' ack='11'
            #4 <body>{c}</body>"
        ),
    );
}

/// Section 15. The seed is `seed`: K(1) to K(4) were computed elsewhere.
#[test]
fn keys_follow_each_other() {
    let [k1, k2, k3, k4] = K;
    let begun = format!(
        "> post rid='10' to='a' ver='1.6' newkey='{k4}'
        open '1.0' to='a'>
        > out <a xmlns='urn:a'/>
        #1 <body sid='SID' ver='1.6' wait='60' hold='1' requests='2' ~>\
            <a xmlns='urn:a'/></body>\n"
    );
    // Out of order, repeated, and a new sequence at the end of the old one.
    converse(&format!(
        "{begun}> post rid='12' key='{k2}' | <iq/>
        > post rid='11' key='{k3}'
        elements <iq/>
        #3 <body/>
        > post rid='11' key='{k3}'
        #4 <body/>
        > post rid='13' key='{k1}' newkey='{}' | <iq/>
        elements <iq/>
        #2 <body/>
        > post rid='14' key='{k2}' | <iq/>
        elements <iq/>
        #5 <body/>",
        k3.to_ascii_uppercase()
    ));
    // Wrong, missing, no key at all, a later one.
    for key in [
        format!("key='{k4}'"),
        String::new(),
        "key='x'".into(),
        format!("key='{k2}'"),
    ] {
        converse(&format!(
            "{begun}> post rid='11' {key} | <iq/>
            lost
            #2 <body type='terminate' condition='item-not-found'/>"
        ));
    }
    // Nobody gets another's answer by its number.
    for rid in [10, 11, 12] {
        let mut talk = Talk::new(Rules::default());
        for event in [
            format!("post rid='10' to='a' newkey='{k4}'"),
            "out <iq/>".to_owned(),
            format!("post rid='11' key='{k3}'"),
            format!("post rid='12' key='{k2}' | <iq/>"),
            "out <iq/>".to_owned(),
            format!("post rid='{rid}' key='{k1}'"),
        ] {
            talk.event(&event);
        }
        let is_lost = talk.transcript.ends_with("condition='item-not-found'/>\n");
        assert_eq!(is_lost, rid != 10, "{}", talk.transcript);
    }
}

const K: [&str; 4] = [
    "92713d4709377111cf31f2a71986c411bd6cb5b0",
    "c62acc6f8c0c715ca7c1c81bec6fea819c9c3c62",
    "e51fd1b46928409a0fdbd44bdae28d2d7741813b",
    "ee9d80e206e7496c89fc34c85bd3998b3cf2b741",
];
