//! `encke user …`, with and without a running server.

mod cli_common;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cli_common::Home;

/// Everything a person does with one account; the same words in both situations.
fn life_of_an_account(home: &Home) {
    let added = home.run_with(
        &["user", "add", "Romeo@B.example", "--password-stdin"],
        &[],
        "pw\n",
    );
    assert_eq!(
        added.done(),
        "romeo@b.example: added\n",
        "names are kept in normal form"
    );

    let again = home.run(&["user", "add", "romeo@b.example", "--generate"]);
    assert_eq!(again.code, 1);
    assert_eq!(
        again.err,
        "encke: romeo@b.example exists already; nothing was changed\n"
    );

    let json = home
        .run(&["user", "add", "juliet@b.example", "--generate", "--json"])
        .done();
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["state"], "added");
    assert_eq!(json["password"].as_str().map(str::len), Some(16));

    assert_eq!(
        home.run(&["user", "list"]).done(),
        "juliet@b.example\nromeo@b.example\n"
    );
    let json = home.run(&["user", "list", "--json"]).done();
    assert_eq!(json, "[\"juliet@b.example\",\"romeo@b.example\"]\n");

    let changed = home.run_with(
        &["user", "passwd", "romeo@b.example", "--password-stdin"],
        &[],
        "x",
    );
    assert_eq!(
        changed.done(),
        "romeo@b.example: password changed, sessions ended\n"
    );
    home.run(&["user", "delete", "romeo@b.example"]).done();
    let gone = home.run(&["user", "delete", "romeo@b.example"]);
    assert_eq!(
        (gone.code, gone.err.as_str()),
        (1, "encke: there is no account romeo@b.example\n")
    );
    let gone = home.run(&["user", "passwd", "romeo@b.example", "--generate"]);
    assert_eq!(gone.code, 1);
    home.run(&["user", "delete", "juliet@b.example"]).done();
}

#[test]
fn accounts_are_kept_while_the_server_is_down() {
    life_of_an_account(&Home::configured(""));
}

#[test]
fn accounts_are_kept_while_the_server_runs() {
    let home = Home::configured("");
    let server = home.serve(&[]);
    life_of_an_account(&home);
    home.run(&["user", "add", "kept@b.example", "--generate"])
        .done();
    assert_eq!(server.stop(), 0);
    assert_eq!(home.run(&["user", "list"]).done(), "kept@b.example\n");
}

#[test]
fn what_is_no_account_here_is_refused() {
    let home = Home::configured("");
    for (jid, reason) in [
        ("romeo", "has no localpart"),
        (
            "romeo@c.example",
            "is not of a domain served here (b.example)",
        ),
        ("a b@b.example", "is no bare JID"),
        ("romeo@b.example/orchard", "is no bare JID"),
    ] {
        let said = home.run(&["user", "add", jid, "--generate"]);
        assert_eq!(said.code, 1, "{jid}");
        assert!(said.err.contains(reason), "{jid}: {}", said.err);
    }
    let empty = home.run_with(
        &["user", "add", "a@b.example", "--password-stdin"],
        &[],
        "\n",
    );
    assert_eq!(empty.code, 1);
    let nobody = home.run(&["user", "add", "a@b.example"]);
    assert_eq!(nobody.code, 2, "no terminal: {nobody:?}");
    assert_eq!(home.run(&["user", "list"]).done(), "");
}

fn keyed(number: usize) -> String {
    let key = STANDARD.encode([number as u8; 32]);
    format!(
        "{{\"jid\":\"u{number}@b.example\",\"scram-sha-256\":{{\"salt\":\"c2FsdA==\",\
         \"iterations\":4096,\"stored_key\":\"{key}\",\"server_key\":\"{key}\"}}}}\n"
    )
}

#[test]
fn an_import_takes_passwords_and_keys() {
    let home = Home::configured("");
    let keyed: String = (0..2_500).map(keyed).collect();
    home.write(
        "users",
        &format!("# ours\nromeo@b.example pen cil\n{keyed}"),
    );
    let said = home.run(&["user", "import", "users"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.starts_with("2501 accounts added in "), "{said:?}");
    assert!(
        said.err.contains("2501"),
        "progress on a plain line: {said:?}"
    );
    assert_eq!(home.run(&["user", "list"]).done().lines().count(), 2_501);

    let again = home.run_with(
        &["user", "import", "-", "--json"],
        &[],
        "romeo@b.example x\n",
    );
    assert_eq!(again.code, 1);
    assert_eq!(
        again.out,
        "{\"added\":0,\"existing\":[\"romeo@b.example\"]}\n"
    );
}

#[test]
fn a_bad_line_is_named_and_nothing_is_imported() {
    let home = Home::configured("");
    let text = "romeo@b.example pw\njuliet@b.example\nx@c.example pw\n{\"jid\":\"y@b.example\"}\n";
    home.write("users", text);
    let said = home.run(&["user", "import", "users"]);
    assert_eq!(said.code, 1);
    let lines: Vec<&str> = said
        .err
        .lines()
        .filter(|line| line.starts_with("encke: "))
        .collect();
    assert_eq!(
        lines,
        [
            "encke: users:2: has no password; write `JID password`",
            "encke: users:3: x@c.example is not of a domain served here (b.example)",
            "encke: users:4: has neither keys nor a password",
            "encke: nothing was imported; mend the lines and import again",
        ]
    );
    assert_eq!(home.run(&["user", "list"]).done(), "");
}

/// A password in the list of processes is everybody's.
#[test]
fn no_command_takes_a_password_as_an_argument() {
    let home = Home::configured("");
    for words in [
        &["user", "add", "a@b.example", "secret"][..],
        &["user", "passwd", "a@b.example", "secret"],
        &["user", "add", "a@b.example", "--password-stdin=secret"],
    ] {
        assert_eq!(home.run(words).code, 2, "{words:?}");
    }
}
