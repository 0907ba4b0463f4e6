//! `encke config` and `encke check`, as somebody types them.

mod cli_common;

use cli_common::Home;

#[test]
fn config_show_tells_values_and_where_they_came_from() {
    let home = Home::configured("[limits]\ndepth_max = 32\n");
    let secret = "ab".repeat(32);
    let variables = [
        ("ENCKE__LOG__LEVEL", "debug"),
        ("ENCKE__SECRET", secret.as_str()),
    ];
    let text = home.run_with(&["config", "show"], &variables, "").done();
    assert!(text.contains("depth_max = 32"), "{text}");
    assert!(text.contains("# line 6"), "{text}");
    assert!(text.contains("# ENCKE__LOG__LEVEL"), "{text}");
    assert!(text.contains("secret = \"********\""), "{text}");
    assert!(!text.contains(&secret), "a secret is masked");

    let json = home
        .run_with(&["config", "show", "--json"], &variables, "")
        .done();
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["limits.depth_max"]["value"], 32);
    assert_eq!(json["limits.depth_max"]["source"], "line 6");
    assert_eq!(json["secret"]["value"], "********");
}

/// What `config show` prints is a configuration again.
#[test]
fn config_show_can_be_read_back() {
    let home = Home::configured("");
    let shown = home.run(&["config", "show"]).done();
    home.write("again.toml", &shown);
    home.run(&["config", "show", "--config", "again.toml"])
        .done();
}

#[test]
fn the_sample_is_a_configuration() {
    let home = Home::bare();
    let sample = home.run(&["config", "sample"]).done();
    home.write("encke.toml", &sample);
    let shown = home.run(&["config", "show"]).done();
    assert!(shown.contains("domains = [\"example.org\"]"), "{shown}");
}

#[test]
fn a_mistake_ends_with_code_3_and_one_line_each() {
    let home = Home::bare();
    home.write(
        "encke.toml",
        "domain = \"b.example\"\n[limts]\nlinks = 3\n[tls]\nkye = \"x\"\n",
    );
    for command in [
        &["serve"][..],
        &["config", "show"],
        &["user", "list"],
        &["status"],
    ] {
        let said = home.run(command);
        assert_eq!(said.code, 3, "{command:?}: {said:?}");
        assert_eq!(said.out, "");
        let lines: Vec<&str> = said.err.lines().collect();
        assert_eq!(
            lines,
            [
                "encke: encke.toml:2: limts is unknown; did you mean limits?",
                "encke: encke.toml:5: tls.kye is unknown; did you mean tls.key?",
            ]
        );
    }
    let said = home.run(&["check"]);
    assert_eq!(said.code, 2, "{said:?}");
}

#[test]
fn a_missing_file_is_named() {
    let home = Home::bare();
    let said = home.run(&["serve", "--config", "nowhere.toml"]);
    assert_eq!(said.code, 3);
    assert!(said.err.starts_with("encke: nowhere.toml: "), "{said:?}");
}

#[test]
fn the_standalone_mode_stays_on_this_machine() {
    let home = Home::bare();
    let said = home.run_with(&["serve"], &[("ENCKE__LISTEN__C2S", "0.0.0.0:0")], "");
    assert_eq!(said.code, 3);
    assert!(
        said.err.contains("standalone mode is for loopback"),
        "{said:?}"
    );
}

#[test]
fn wrong_usage_ends_with_code_2() {
    let home = Home::bare();
    assert_eq!(home.run(&["dance"]).code, 2);
    assert_eq!(home.run(&["user", "add", "a@b.example", "secret"]).code, 2);
    assert_eq!(home.run(&["--help"]).code, 0);
    assert_eq!(home.run(&["--version"]).code, 0);
}

#[test]
fn check_finds_a_port_in_use_and_a_key_that_everybody_may_read() {
    let home = Home::bare();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address");
    home.write(
        "encke.toml",
        &format!("domain = \"b.example\"\n[listen]\nc2s = [\"{address}\"]\nc2s_tls = []\n"),
    );
    let said = home.run(&["check"]);
    assert_eq!(said.code, 2, "{said:?}");
    assert!(
        said.out
            .contains(&format!("{address}: another program listens there")),
        "{said:?}"
    );
    let json: serde_json::Value =
        serde_json::from_str(&home.run(&["check", "--json"]).out).expect("JSON");
    let graded = json.as_array().expect("a list").iter();
    assert_eq!(
        graded.filter(|finding| finding["grade"] == "error").count(),
        1
    );
}

#[test]
fn check_without_a_certificate_is_a_warning() {
    let home = Home::configured("");
    let said = home.run(&["check"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.out.contains("warning  certificate"), "{said:?}");
}

#[test]
fn check_tells_the_end_of_a_certificate_and_a_foreign_key() {
    let home = Home::configured("[tls]\ncertificate = \"c.pem\"\nkey = \"k.pem\"\n");
    assert_eq!(home.run(&["check"]).code, 2, "the files are missing");

    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::new(["b.example".to_owned()]).expect("a name");
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    home.write("c.pem", &params.self_signed(&key).expect("signed").pem());
    home.write("k.pem", &key.serialize_pem());
    let said = home.run(&["check"]);
    assert_eq!(said.code, 2, "{said:?}");
    assert!(said.out.contains("has ended on 2020-01-01"), "{said:?}");
    assert!(said.out.contains("everybody may read"), "{said:?}");

    home.write(
        "k.pem",
        &rcgen::KeyPair::generate().expect("a key").serialize_pem(),
    );
    let said = home.run(&["check"]);
    assert_eq!(said.code, 2, "{said:?}");
    assert!(
        said.out.contains("the private key cannot be used"),
        "{said:?}"
    );
}
