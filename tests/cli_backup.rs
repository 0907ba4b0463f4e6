//! `encke backup` and `encke restore`, with and without a running server.

mod cli_common;

use cli_common::Home;

fn add(home: &Home, jid: &str) {
    home.run(&["user", "add", jid, "--generate"]).done();
}

fn former_stores(home: &Home) -> usize {
    let entries = std::fs::read_dir(home.path().join("encke-data")).expect("read");
    let names = entries.map(|entry| entry.expect("read").file_name());
    names
        .filter(|name| name.to_string_lossy().starts_with("store.before-"))
        .count()
}

#[test]
fn what_was_backed_up_comes_back_while_the_server_is_down() {
    let home = Home::configured("");
    add(&home, "romeo@b.example");
    let said = home.run(&["backup", "kept"]).done();
    assert!(said.contains("kept: 1 rows"), "{said}");
    add(&home, "juliet@b.example");
    let said = home.run(&["restore", "kept"]).done();
    assert!(
        said.starts_with("restored; the former data are in "),
        "{said}"
    );
    assert_eq!(home.run(&["user", "list"]).done(), "romeo@b.example\n");
    assert_eq!(former_stores(&home), 1);

    let moved = Home::configured("");
    std::fs::copy(home.path().join("kept"), moved.path().join("kept")).expect("copied");
    assert_eq!(moved.run(&["restore", "kept"]).done(), "restored\n");
    assert_eq!(former_stores(&moved), 0);
    assert_eq!(moved.run(&["user", "list"]).done(), "romeo@b.example\n");
}

#[test]
fn a_running_server_is_backed_up_and_restored() {
    let home = Home::configured("");
    let server = home.serve(&[]);
    add(&home, "romeo@b.example");
    let said = home.run(&["backup", "kept", "--json"]).done();
    let said: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(said["rows"], 1);
    add(&home, "juliet@b.example");
    for _ in 0..2 {
        let said = home.run(&["restore", "kept"]);
        assert_eq!(said.code, 0, "{said:?}\n{}", home.read("log"));
        assert_eq!(home.run(&["user", "list"]).done(), "romeo@b.example\n");
        add(&home, "juliet@b.example");
    }
    assert!(
        std::net::TcpStream::connect(home.address("c2s")).is_ok(),
        "it listens again"
    );
    assert_eq!(server.stop(), 0);
    assert_eq!(
        home.run(&["user", "list"]).done(),
        "juliet@b.example\nromeo@b.example\n"
    );
}

#[test]
fn a_damaged_backup_changes_nothing() {
    let home = Home::configured("");
    add(&home, "romeo@b.example");
    home.run(&["backup", "kept"]).done();
    let mut octets = std::fs::read(home.path().join("kept")).expect("read");
    let middle = octets.len() / 2;
    octets[middle] ^= 1;
    std::fs::write(home.path().join("kept"), &octets).expect("written");
    home.write("nonsense", "nonsense");
    let server = home.serve(&[]);
    for name in ["kept", "nonsense", "missing"] {
        let said = home.run(&["restore", name]);
        assert_eq!(said.code, 1, "{said:?}");
        assert_eq!(said.err.lines().count(), 1, "{said:?}");
    }
    assert_eq!(home.run(&["user", "list"]).done(), "romeo@b.example\n");
    assert_eq!(server.stop(), 0);
    assert_eq!(home.run(&["restore", "kept"]).code, 1);
    assert_eq!(home.run(&["user", "list"]).done(), "romeo@b.example\n");
    assert_eq!(former_stores(&home), 0);
}
