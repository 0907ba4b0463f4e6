//! The part of `encke check` about the kernel: the rows of `tuning/`, for the configured links.

use std::path::Path;

use encke_tuning::{Concern, Grade, Look, Need, Server, Setting, State, concerns, look};

use super::check::Findings;

const SUBJECT: &str = "kernel";

/// Compares this machine with what `links` connections need.
pub fn check(links: u64, findings: &mut Findings) {
    match concerns() {
        Ok(concerns) => compare(Path::new("/"), &concerns, links, findings),
        Err(fault) => findings.error(SUBJECT, fault.to_string()),
    }
}

/// A bound that loses connections is a warning; what only costs more is a note. `root` stands
/// for `/`.
fn compare(root: &Path, concerns: &[Concern], links: u64, findings: &mut Findings) {
    let server = Server {
        sessions: links,
        clients_here: false,
    };
    let (mut limits, mut absent) = (0, 0);
    for concern in concerns {
        for setting in &concern.settings {
            let found = look(root, setting, server);
            match (found.state, setting.grade) {
                (State::Low, Grade::Limit) => {
                    limits += 1;
                    findings.warning(SUBJECT, sentence(concern, setting, &found));
                }
                (State::Low, Grade::Speed) => {
                    findings.note(SUBJECT, sentence(concern, setting, &found));
                }
                (State::Absent, _) => absent += 1,
                _ => {}
            }
        }
    }
    if limits == 0 {
        let unseen = match absent {
            0 => String::new(),
            count => format!("; {count} settings cannot be seen from here"),
        };
        findings.good(
            SUBJECT,
            format!("its limits suffice for {links} links{unseen}"),
        );
    } else {
        let text = format!("tuning/apply --for {links} sets what can be set, and remembers it");
        findings.note(SUBJECT, text);
    }
}

/// One line: what is, what should be, what follows, and where to read on.
fn sentence(concern: &Concern, setting: &Setting, found: &Look) -> String {
    let is = found.found.as_deref().unwrap_or_default();
    let needed = found.needed.as_deref().unwrap_or_default();
    let how = match (setting.need, setting.how) {
        (Need::Reboot, Some(how)) => format!(": {how}"),
        _ => String::new(),
    };
    format!(
        "{} = {is}, should be {needed}: {}; tuning/table/{}{how}",
        setting.name, setting.low, concern.file
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::cli::Form;

    fn said(links: u64, somaxconn: &str, huge_pages: &str) -> String {
        let root = tempfile::tempdir().expect("a directory");
        for (path, text) in [
            ("proc/sys/net/core/somaxconn", somaxconn),
            ("sys/kernel/mm/transparent_hugepage/enabled", huge_pages),
        ] {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            std::fs::write(path, text).expect("a file");
        }
        let mut findings = Findings::default();
        let concerns = concerns().expect("a table");
        compare(root.path(), &concerns, links, &mut findings);
        findings.render(Form::People)
    }

    #[test]
    fn a_limit_is_a_warning_and_names_the_file_that_helps() {
        let said = said(100_000, "128\n", "always [madvise] never\n");
        assert!(
            said.contains("warning  kernel         net.core.somaxconn = 128"),
            "{said}"
        );
        assert!(said.contains("tuning/table/backlog.conf"), "{said}");
        assert!(said.contains("tuning/apply --for 100000"), "{said}");
        assert!(said.contains("0 errors, 1 warning"), "{said}");
    }

    #[test]
    fn what_only_costs_more_is_a_note() {
        let said = said(10_000, "4096\n", "[always] madvise never\n");
        assert!(
            said.contains("note     kernel         /sys/kernel/mm"),
            "{said}"
        );
        assert!(
            said.contains("its limits suffice for 10000 links"),
            "{said}"
        );
        assert!(said.contains("0 errors, 0 warnings"), "{said}");
    }
}
