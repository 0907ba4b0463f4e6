use super::*;
use crate::table::concerns;

#[test]
fn numbers_are_compared_one_by_one() {
    let enough = |found, needed| suffices(Compare::AtLeast, found, needed);
    assert!(enough("4096", "4096") && !enough("4095", "4096"));
    assert!(enough("1 2 30", "- - 30") && !enough("1 2 29", "- - 30"));
    assert!(
        enough("-262144", "262144"),
        "a table that another namespace shares"
    );
    assert!(enough("unlimited", "1048576"));
}

#[test]
fn a_range_must_cover_the_needed_one() {
    let covers = |found| suffices(Compare::Covers, found, "1024 65535");
    assert!(covers("1024 65535") && covers("1000 65535"));
    assert!(!covers("32768 65535") && !covers("1024 60999"));
}

#[test]
fn ports_are_sets() {
    let has = |found| suffices(Compare::Contains, found, "5222-5223,5269");
    assert!(has("5200-5300") && has("80,5222,5223,5269"));
    assert!(!has("") && !has("5222,5269"));
}

#[test]
fn the_word_in_brackets_is_the_chosen_one() {
    let chosen = |found| suffices(Compare::OneOf, found, "madvise never");
    assert!(chosen("always [madvise] never") && chosen("never"));
    assert!(!chosen("[always] madvise never"));
}

/// A directory stands for the machine: nothing of this one is read.
#[test]
fn a_machine_is_looked_at_row_by_row() {
    let root = std::env::temp_dir().join(format!("encke-tuning-look-{}", std::process::id()));
    let write = |path: &str, text: &str| {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    };
    write("proc/sys/net/core/somaxconn", "128\n");
    write("proc/sys/net/ipv4/tcp_mem", "10\t20\t2000000\n");
    write("proc/sys/net/netfilter/nf_conntrack_max", "10\n");
    write("proc/sys/net/netfilter/nf_conntrack_count", "0\n");
    write(
        "proc/self/limits",
        "Max open files            1024      20000     files\n",
    );
    let concerns = concerns().expect("a table");
    let at = |name: &str, sessions| {
        let mut rows = concerns.iter().flat_map(|concern| &concern.settings);
        let setting = rows.find(|setting| setting.name == name).expect(name);
        let server = Server {
            sessions,
            clients_here: false,
        };
        look(&root, setting, server)
    };
    let conntrack = at("net.netfilter.nf_conntrack_max", 100_000);
    let somaxconn = at("net.core.somaxconn", 100_000);
    assert_eq!(somaxconn.state, State::Low);
    assert_eq!(somaxconn.found.as_deref(), Some("128"));
    assert_eq!(somaxconn.needed.as_deref(), Some("4096"));
    assert_eq!(at("net.ipv4.tcp_mem", 100_000).state, State::Enough);
    assert_eq!(conntrack.state, State::Idle, "nothing is tracked");
    assert_eq!(
        at("net.ipv4.ip_local_port_range", 100_000).state,
        State::Idle
    );
    assert_eq!(at("fs.file-max", 100_000).state, State::Absent);
    assert_eq!(at("busy polling", 100_000).state, State::ByHand);
    assert_eq!(at("unit.LimitNOFILE", 10_000).state, State::Enough);
    assert_eq!(at("unit.LimitNOFILE", 100_000).state, State::Low);
    std::fs::remove_dir_all(&root).expect("removed");
}
