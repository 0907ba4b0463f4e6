//! What people see of a run: the file, the page that is drawn from it, and two runs side by side.

#[allow(dead_code, reason = "this file needs one of its faults only")]
mod fake;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use fake::Fault;
use serde_json::Value;

fn loadtest(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_encke-loadtest"))
        .args(arguments)
        .output()
        .unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A short chat; where its report and its page are.
fn chat(folder: &Path, name: &str) -> (PathBuf, PathBuf) {
    let address = fake::start(Fault::None).to_string();
    let (json, html) = (
        folder.join(name).with_extension("json"),
        folder.join(name).with_extension("html"),
    );
    let output = loadtest(&[
        "chat",
        "--pairs",
        "3",
        "--window",
        "4",
        "--warmup",
        "1",
        "--seconds",
        "2",
        "--server",
        &address,
        "--label",
        name,
        "--json",
        text(&json),
        "--html",
        text(&html),
    ]);
    assert!(output.status.success(), "{output:?}");
    (json, html)
}

fn sum(column: &Value) -> f64 {
    let values = column.as_array().unwrap().iter();
    values.filter_map(Value::as_f64).sum()
}

#[test]
fn a_report_shows_the_course_of_its_run_and_the_page_is_drawn_from_it_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (json, html) = chat(folder.path(), "one");
    let report: Value = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();

    let phases = report["timeline"]["phases"].as_array().unwrap();
    let names: Vec<_> = phases.iter().map(|p| p["name"].as_str().unwrap()).collect();
    assert!(
        names.starts_with(&["logging in", "warming up", "measuring", "draining"]),
        "{names:?}"
    );
    let columns = &report["timeline"]["columns"];
    assert_eq!(sum(&columns["logins"]), 6.0);
    assert!(sum(&columns["messages"]) >= report["median"]["messages"].as_f64().unwrap());
    assert!(sum(&columns["message_p99"]) > 0.0);
    assert!(sum(&columns["generator_cpu"]) > 0.0);
    // The server is a thread of this test, and a process is known for its address.
    assert!(sum(&columns["server_cpu"]) > 0.0);

    let message = &report["distributions"][0];
    assert_eq!(message["name"], "message");
    let quantiles = message["quantiles"].as_array().unwrap();
    let rising = |pair: &[Value]| pair[0][1].as_u64() <= pair[1][1].as_u64();
    assert!(quantiles.windows(2).all(rising));
    assert_eq!(quantiles.last().unwrap()[1], message["max"]);

    let again = folder.path().join("again.html");
    let output = loadtest(&["html", text(&json), "--out", text(&again)]);
    assert!(output.status.success(), "{output:?}");
    let (first, second) = (
        std::fs::read(&html).unwrap(),
        std::fs::read(&again).unwrap(),
    );
    assert!(
        first == second,
        "the page of the run and the one from its file differ"
    );
}

#[test]
fn two_runs_stand_side_by_side() {
    let folder = tempfile::tempdir().unwrap();
    let (first, _) = chat(folder.path(), "first");
    let (second, _) = chat(folder.path(), "second");
    let page = folder.path().join("compare.html");
    let output = loadtest(&[
        "compare",
        text(&first),
        text(&second),
        "--html",
        text(&page),
    ]);
    assert!(output.status.success(), "{output:?}");
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(
        table.contains("A: first") && table.contains("B: second"),
        "{table}"
    );
    assert!(table.contains("messages per second"), "{table}");
    assert!(
        std::fs::read_to_string(&page)
            .unwrap()
            .contains("data-compare=\"0-2\"")
    );
}

#[test]
fn what_is_no_report_is_one_clear_line() {
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken.json");
    std::fs::write(&broken, "{\"tool\": \"encke-loadtest\", \"scenario\"").unwrap();
    let missing = folder.path().join("missing.json");
    for file in [&broken, &missing] {
        let output = loadtest(&["compare", text(file), text(file)]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(
            said.contains(text(file)) && said.lines().count() == 1,
            "{said}"
        );
    }
}
