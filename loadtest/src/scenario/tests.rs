use super::*;

fn read(text: &str) -> Result<Kind, String> {
    Scenario::read("a.toml", text)?.finish("a.toml", &[])
}

fn fault(text: &str) -> String {
    match read(text) {
        Ok(_) => String::new(),
        Err(fault) => fault,
    }
}

#[test]
fn every_shipped_scenario_is_read() {
    for (name, text) in SHIPPED {
        if let Err(fault) = read(text) {
            panic!("{name}: {fault}");
        }
        assert!(text.starts_with("# "), "{name} says nothing about itself");
    }
}

#[test]
fn a_file_gives_what_the_options_give() {
    let text = "kind = 'idle'\nsessions = 5_00\nkeepalive = 1.5\n[connect]\nsm = true\n\
                server = ['127.0.0.1:1', '127.0.0.1:2']\ntls = 'direct'\n[report]\npid = 7\n";
    let Ok(Kind::Idle(idle)) = read(text) else {
        panic!("{}", fault(text));
    };
    assert_eq!((idle.sessions, idle.hold), (500, 15));
    assert_eq!(idle.keepalive, Some(1.5));
    assert!(idle.connect.sm);
    assert_eq!(idle.connect.server, ["127.0.0.1:1", "127.0.0.1:2"]);
    assert_eq!(idle.report.pid, Some(7));
}

#[test]
fn later_words_override_the_file() {
    let text = "kind = 'chat'\npairs = 1\nwindow = 2\n[connect]\nsm = true\nserver = 'a:1'\n\
                user_prefix = 'u'\n";
    let mut scenario = Scenario::read("a.toml", text).unwrap();
    for setting in ["window=3", "connect.sm=false", "tls=starttls"] {
        scenario.set(setting);
    }
    let options = [
        "--pairs",
        "4",
        "--pid=5",
        "--server",
        "b:2",
        "--user-prefix=v",
    ];
    let options = options.map(str::to_owned);
    let Ok(Kind::Chat(chat)) = scenario.finish("a.toml", &options) else {
        panic!("not read");
    };
    assert_eq!((chat.pairs, chat.window), (4, 3));
    assert_eq!(chat.connect.server, ["b:2"]);
    assert_eq!(chat.connect.user_prefix, "v");
    assert!(!chat.connect.sm);
    assert_eq!(chat.connect.tls, crate::args::Security::Starttls);
    assert_eq!(chat.report.pid, Some(5));
}

#[test]
fn faults_name_file_line_and_mend() {
    let cases = [
        (
            "kind = 'idle'\n\nsesions = 1\n",
            "a.toml:3: idle has no key `sesions`, did you mean `sessions`?",
        ),
        (
            "kind = 'idle'\n[connect]\nserve = 'x'\n",
            "a.toml:3: idle has no key `connect.serve`, did you mean `server`?",
        ),
        (
            "kind = 'idle'\n[conect]\ntls = 'direct'\n",
            "a.toml:2: there is no table [conect], did you mean `connect`?",
        ),
        (
            "kind = 'idle'\ntls = 'direct'\n",
            "a.toml:2: idle has no key `tls`: it belongs into the table [connect]",
        ),
        (
            "kind = 'idel'\n",
            "a.toml:1: there is no kind \"idel\", did you mean `idle`?",
        ),
        (
            "kind = 'idle'\n[connect]\nsm = 1\n",
            "a.toml:3: connect.sm: it is true or false",
        ),
        (
            "kind = 'idle'\nsessions = {}\n",
            "a.toml:2: sessions: it is a text or a number",
        ),
        (
            "kind = 'idle'\n[connect]\ni_own_the_target = '192.0.2.1'\n",
            "a.toml:3: `i_own_the_target` is said on the command line only",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(fault(text), expected, "{text}");
    }
    let wrong = fault("kind = 'idle'\nsessions = -1\nhold = 'long'\n");
    let lines: Vec<&str> = wrong.lines().collect();
    assert_eq!(lines.len(), 2, "{wrong}");
    assert!(
        lines[0].starts_with("a.toml:2: sessions: invalid value '-1'"),
        "{wrong}"
    );
    assert!(
        lines[1].contains("a.toml:3: hold: invalid value 'long'"),
        "{wrong}"
    );
    let wrong = fault("kind = 'idle'\n[connect]\ntls = 'on'\n");
    assert!(
        wrong.contains("possible values: none, starttls, direct"),
        "{wrong}"
    );
    assert!(fault("kind = \n").starts_with("a.toml:1: no TOML"));
    assert!(fault("sessions = 1\n").starts_with("a.toml: `kind` is missing"));
}

#[test]
fn set_may_stand_behind_other_options() {
    let args = RunArgs {
        scenario: "idle".to_owned(),
        set: vec!["sessions=1".to_owned()],
        options: ["--hold", "2", "--set", "tls=none", "--set=rate=5"]
            .map(str::to_owned)
            .into(),
    };
    let (set, options) = split_off_set(&args);
    assert_eq!(set, ["sessions=1", "tls=none", "rate=5"]);
    assert_eq!(options, ["--hold", "2"]);
}

/// `ENCKE_WRITE_DOCS=1 cargo test -p encke-loadtest` writes it.
#[test]
fn the_reference_is_fresh() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/KEYS.md");
    let text = reference();
    if std::env::var_os("ENCKE_WRITE_DOCS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == text,
        "scenarios/KEYS.md is stale: ENCKE_WRITE_DOCS=1 cargo test -p encke-loadtest"
    );
}
