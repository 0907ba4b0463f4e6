//! What is written for people agrees with the program.

use encke::server::exit::EXITS;

fn read(path: &str) -> String {
    std::fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).expect(path)
}

#[test]
fn every_exit_code_is_documented() {
    let page = read("docs/administration.md");
    for (exit, meaning) in EXITS {
        let row = format!("| {} | {meaning} |", *exit as u8);
        assert!(page.contains(&row), "docs/administration.md lacks {row}");
    }
}

#[test]
fn every_dependency_has_a_row() {
    let page = read("docs/dependencies.md");
    let manifest: toml::Table = read("Cargo.toml").parse().expect("TOML");
    for table in ["dependencies", "dev-dependencies"] {
        for (name, _) in manifest[table].as_table().expect(table) {
            let listed = page
                .lines()
                .filter_map(|line| line.strip_prefix("| "))
                .any(|row| {
                    let names = row.split(" | ").next().unwrap_or_default();
                    names.split(", ").any(|listed| listed == name)
                });
            assert!(listed, "docs/dependencies.md lacks {name}");
        }
    }
}
