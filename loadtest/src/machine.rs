//! What a run stands on: the machine, the kernel, the versions of the programs.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::document::{Machine, Server};
use crate::{process, sys};

pub fn machine() -> Machine {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .unwrap_or("");
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = meminfo
        .split_whitespace()
        .nth(1)
        .and_then(|kib| kib.parse::<u64>().ok());
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let system = release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))
        .unwrap_or("");
    Machine {
        cores: sys::cores() as u64,
        cpu: model.trim_start_matches([' ', '\t', ':']).to_owned(),
        memory_bytes: memory.unwrap_or(0) * 1024,
        kernel: sys::kernel(),
        system: system.trim_matches('"').to_owned(),
    }
}

impl Machine {
    /// In a few words.
    pub fn line(&self) -> String {
        let memory = self.memory_bytes as f64 / f64::from(1 << 30);
        format!(
            "{} cores, {memory:.1} GiB, {}, generator on the same machine",
            self.cores, self.kernel
        )
    }
}

/// What is known about the server's process.
pub fn server(pid: Option<u32>) -> Server {
    Server {
        pid,
        command: pid.map(process::command_line),
        version: pid.and_then(version),
    }
}

/// The version of a server that is encke. Other programs are not run to be asked: nobody knows what
/// they would do.
fn version(pid: u32) -> Option<String> {
    let link = format!("/proc/{pid}/exe");
    let program = std::fs::read_link(&link).ok()?;
    if !Path::new(program.file_name()?)
        .to_str()?
        .starts_with("encke")
    {
        return None;
    }
    // By the link, which also reaches a file that was replaced meanwhile.
    let output = Command::new(&link)
        .arg("--version")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let line = text.lines().next()?.trim();
    (output.status.success() && !line.is_empty()).then(|| line.to_owned())
}

/// The command that runs now, without the path of the program and without the password.
pub fn own_command() -> String {
    let arguments = std::env::args_os().map(|a| a.to_string_lossy().into_owned());
    without_password(arguments.skip(1))
}

fn without_password(arguments: impl Iterator<Item = String>) -> String {
    let mut words = vec!["encke-loadtest".to_owned()];
    let mut secret = false;
    for argument in arguments {
        let word = if std::mem::take(&mut secret) {
            "***".to_owned()
        } else if argument.starts_with("--password=") {
            "--password=***".to_owned()
        } else {
            secret = argument == "--password";
            quoted(&argument)
        };
        words.push(word);
    }
    words.join(" ")
}

/// As a shell would want it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,=@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_never_gets_into_a_report() {
        for arguments in [["--password", "secret"], ["--password=secret", "x"]] {
            let line = without_password(arguments.into_iter().map(str::to_owned));
            assert!(!line.contains("secret"), "{line}");
        }
    }

    #[test]
    fn a_command_can_be_pasted_into_a_shell() {
        let words = ["--label", "it's 5 %", "--server", "127.0.0.1:5222"];
        let line = without_password(words.into_iter().map(str::to_owned));
        let expected = r"encke-loadtest --label 'it'\''s 5 %' --server 127.0.0.1:5222";
        assert_eq!(line, expected);
    }
}
