//! The part of `encke check` about the kernel: the rows of `tuning/`, for the configured links.

use std::path::Path;

use encke_tuning::{Concern, Grade, Look, Need, Server, Setting, State, concerns, look};

use super::check::Findings;
use super::plan::{Machine, Plan};

const SUBJECT: &str = "kernel";

/// Compares this machine with what the planned links need.
pub fn check(plan: Plan, machine: Machine, findings: &mut Findings) {
    match concerns() {
        Ok(concerns) => compare(Path::new("/"), &concerns, (plan, machine), findings),
        Err(fault) => findings.error(SUBJECT, fault.to_string()),
    }
}

/// A bound that loses connections is a warning; what only costs more is a note. `root` stands
/// for `/`.
fn compare(
    root: &Path,
    concerns: &[Concern],
    (plan, machine): (Plan, Machine),
    findings: &mut Findings,
) {
    let links = plan.links_max as u64;
    // A small table of descriptors costs nothing while a table for each core suffices.
    let crowded = plan.private_descriptors && usize::from(plan.shards) > machine.cores;
    let server = Server {
        sessions: links,
        clients_here: false,
    };
    let (mut limits, mut absent) = (0, 0);
    for concern in concerns {
        let settings = concern.settings.iter();
        for setting in settings.filter(|setting| crowded || setting.need != Need::Unit) {
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

    fn said(links_max: usize, somaxconn: &str, huge_pages: &str) -> String {
        said_with(2, links_max, somaxconn, huge_pages)
    }

    fn said_with(shards: u16, links_max: usize, somaxconn: &str, huge_pages: &str) -> String {
        let plan = Plan {
            shards,
            links_max,
            private_descriptors: true,
        };
        let machine = Machine {
            cores: 2,
            descriptors_max: 20_000,
        };
        let root = tempfile::tempdir().expect("a directory");
        for (path, text) in [
            ("proc/sys/net/core/somaxconn", somaxconn),
            ("sys/kernel/mm/transparent_hugepage/enabled", huge_pages),
            (
                "proc/self/limits",
                "Max open files    1024    20000    files\n",
            ),
        ] {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            std::fs::write(path, text).expect("a file");
        }
        let mut findings = Findings::default();
        let concerns = concerns().expect("a table");
        compare(root.path(), &concerns, (plan, machine), &mut findings);
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
    fn small_tables_of_descriptors_matter_once_there_are_more_shards_than_cores() {
        let enough = ("4096\n", "never\n");
        let said = |shards| said_with(shards, 100_000, enough.0, enough.1);
        assert!(!said(2).contains("unit.LimitNOFILE"));
        assert!(said(6).contains("unit.LimitNOFILE = 20000, should be 131072"));
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
