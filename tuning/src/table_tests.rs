use std::collections::BTreeSet;

use super::*;

const ROW: &str = "# Why\n\n[net.core.somaxconn]\ncompare = at-least\n10k = 1\n100k = 2\n1M = 3\n\
                   2M = - 4\ngrade = limit\nlow = refused\nwhy = a\n b\nmeasured = c\n";

fn parse(text: &str) -> Result<Concern, String> {
    let text = String::from(text).leak();
    concern("x.conf", text).map_err(|fault| fault.to_string())
}

fn here(sessions: u64) -> Server {
    Server {
        sessions,
        clients_here: true,
    }
}

#[test]
fn every_row_is_written_as_it_should_be() {
    let concerns = concerns().unwrap_or_else(|fault| panic!("{fault}"));
    let names: Vec<_> = concerns
        .iter()
        .flat_map(|concern| &concern.settings)
        .collect();
    assert!(names.len() >= 10);
    let unique: BTreeSet<_> = names.iter().map(|setting| setting.name).collect();
    assert_eq!(unique.len(), names.len(), "a name comes twice");
    for setting in names {
        let measured = &setting.measured;
        let said = ["Command: ", "not measured: ", "see "]
            .iter()
            .any(|word| measured.contains(word));
        assert!(said, "{}: neither a command nor a reason", setting.name);
    }
}

#[test]
fn every_file_of_the_folder_is_in_the_program() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/table");
    let names = std::fs::read_dir(folder).expect("a folder").map(|entry| {
        let name = entry.expect("a file").file_name();
        name.to_string_lossy().into_owned()
    });
    let there: BTreeSet<String> = names.collect();
    let known = FILES.iter().map(|(file, _)| (*file).to_owned()).collect();
    assert_eq!(there, known);
}

#[test]
fn values_never_fall_with_the_size() {
    for concern in concerns().expect("a table") {
        for setting in &concern.settings {
            if setting.compare != Compare::AtLeast {
                continue;
            }
            let sums = SIZES.iter().map(|(_, size)| {
                let value = setting.value(here(*size)).expect("a value");
                value
                    .split(' ')
                    .filter_map(|word| word.parse::<u64>().ok())
                    .sum::<u64>()
            });
            assert!(sums.is_sorted(), "{}", setting.name);
        }
    }
}

#[test]
fn a_server_takes_the_first_size_that_is_not_smaller() {
    let setting = &parse(ROW).expect("a row").settings[0];
    let value = |sessions| setting.value(here(sessions)).expect("a value");
    assert_eq!([value(1), value(10_000), value(10_001)], ["1", "1", "2"]);
    assert_eq!([value(1_000_000), value(9_000_000)], ["3", "- 4"]);
    assert_eq!(setting.why, "a b");
}

#[test]
fn both_ends_on_a_machine_count_twice_where_the_row_says_so() {
    let double = parse(&ROW.replace("grade", "clients = double\ngrade")).expect("a row");
    assert_eq!(
        double.settings[0].value(here(2_000_000)).as_deref(),
        Some("- 8")
    );
    let only = parse(&ROW.replace("grade", "clients = only\ngrade")).expect("a row");
    let elsewhere = Server {
        sessions: 1,
        clients_here: false,
    };
    assert_eq!(only.settings[0].value(elsewhere), None);
}

#[test]
fn mistakes_are_told_with_file_and_line() {
    for (from, to, told) in [
        ("# Why", "a = b", "x.conf:1: a field before the first row"),
        (
            "low = ",
            "lwo = ",
            "x.conf:3: net.core.somaxconn: `lwo` is unknown",
        ),
        ("10k = 1\n", "", "a value for each size"),
        ("grade = limit", "grade = hot", "`grade = hot` is not known"),
        ("why = a\n b\n", "", "`why` is missing"),
        ("10k = 1\n", "10k = 1\n10k = 1\n", "`10k` comes twice"),
        ("compare = at-least", "compare", "x.conf:4: no `=`"),
        ("grade", "needs = reboot\ngrade", "`how` is missing"),
    ] {
        let fault = parse(&ROW.replacen(from, to, 1)).expect_err(told);
        assert!(fault.contains(told), "{fault}");
    }
}
