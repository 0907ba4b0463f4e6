"""`tuning/check`, `apply` and `revert` on directories that stand for a machine."""

import os
import pty
import subprocess

import pytest

from programs import SMALL, TUNING, content, machine, run, states

BIG = ("--for", "1M", "--with-clients")
SYSCTL = "etc/sysctl.d/90-encke-tuning.conf"
TMPFILES = "etc/tmpfiles.d/encke-tuning.conf"
DROP_IN = "etc/systemd/system/encke.service.d/90-encke-tuning.conf"


@pytest.fixture
def small(tmp_path):
    return machine(tmp_path / "root")


def test_what_is_too_low_is_raised_and_comes_back_with_the_next_boot(small):
    assert run("check", "--root", small, *BIG).returncode == 1
    done = run("apply", "--root", small, *BIG)
    assert done.returncode == 0, done.stdout + done.stderr
    now = content(small)
    assert now["proc/sys/net/core/somaxconn"] == "4096"
    assert now["proc/sys/net/ipv4/tcp_mem"] == "1000 1572864 2097152"
    assert now["proc/sys/net/ipv4/ip_local_port_range"] == "1024 65535"
    assert now["proc/sys/net/ipv4/ip_local_reserved_ports"].startswith("8080,5222-5223")
    assert now["sys/kernel/mm/transparent_hugepage/enabled"] == "madvise"
    assert "net.core.somaxconn = 4096" in now[SYSCTL]
    assert "transparent_hugepage/enabled - - - - madvise" in now[TMPFILES]
    assert "[Service] LimitNOFILE=1048576" in now[DROP_IN]

    left = {name for name, row in states("--root", small, *BIG).items() if row["state"] == "low"}
    assert left == {"net.ipv4.tcp_ehash_entries"}, "only the kernel's command line can"
    assert "thash_entries=" in done.stdout


def test_applying_again_changes_nothing(small):
    run("apply", "--root", small, *BIG)
    before = {path: path.stat().st_mtime_ns for path in small.rglob("*")}
    again = run("apply", "--root", small, *BIG)
    assert again.returncode == 0 and "0 settings changed" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in small.rglob("*")} == before


def test_revert_gives_every_former_value_back(small):
    former = content(small)
    run("apply", "--root", small, "--for", "10k")
    run("apply", "--root", small, *BIG)
    done = run("revert", "--root", small)
    assert done.returncode == 0, done.stdout + done.stderr
    assert content(small) == former
    again = run("revert", "--root", small)
    assert again.returncode == 0 and "nothing was applied" in again.stdout


@pytest.mark.parametrize("program", ["apply", "revert"])
def test_a_dry_run_writes_nothing(small, program):
    if program == "revert":
        run("apply", "--root", small, *BIG)
    former = content(small)
    done = run(program, "--root", small, "--dry-run", *(BIG if program == "apply" else ()))
    assert done.returncode == 0 and "would set" in done.stdout
    assert content(small) == former


def test_nothing_that_is_higher_is_lowered(tmp_path):
    high = {
        "proc/sys/fs/file-max": "9000000\n",
        "proc/sys/net/core/somaxconn": "65535\n",
        "proc/sys/net/ipv4/tcp_mem": "5000000 100 7000000\n",
        "proc/sys/net/ipv4/ip_local_port_range": "1000 65000\n",
    }
    root = machine(tmp_path, high)
    assert run("apply", "--root", root, *BIG).returncode == 0
    now = content(root)
    assert now["proc/sys/fs/file-max"] == "9000000"
    assert now["proc/sys/net/core/somaxconn"] == "65535"
    assert now["proc/sys/net/ipv4/tcp_mem"] == "5000000 1572864 7000000"
    assert now["proc/sys/net/ipv4/ip_local_port_range"] == "1000 65535"


def test_what_somebody_changed_since_is_left(small):
    run("apply", "--root", small, *BIG)
    (small / "proc/sys/net/core/somaxconn").write_text("8192\n")
    (small / SYSCTL).write_text("net.core.somaxconn = 8192\n")
    done = run("revert", "--root", small)
    assert "somebody has made it 8192 since" in done.stdout
    assert "somebody has edited it since" in done.stdout
    now = content(small)
    assert now["proc/sys/net/core/somaxconn"] == "8192" and SYSCTL in now
    assert now["proc/sys/fs/file-max"] == "100000"


def test_until_the_next_boot_leaves_no_files(small):
    done = run("apply", "--root", small, "--until-reboot", *BIG)
    assert done.returncode == 0
    assert not {SYSCTL, TMPFILES, DROP_IN} & set(content(small))


def test_settings_that_are_not_there_are_said_and_harm_nothing(tmp_path):
    texts = {"proc/sys/net/core/somaxconn": SMALL["proc/sys/net/core/somaxconn"]}
    root = machine(tmp_path, texts)
    done = run("apply", "--root", root, *BIG)
    assert done.returncode == 0, done.stdout
    assert "belongs to the host: this is not the first network namespace" in done.stdout
    assert "no unit encke.service is installed" in done.stdout
    found = states("--root", root, *BIG)
    assert found["net.core.somaxconn"]["state"] == "ok"
    assert found["net.ipv4.tcp_mem"]["state"] == "n/a"


def test_only_what_was_chosen_is_touched(small):
    former = content(small)
    run("apply", "--root", small, "--only", "backlog", "--until-reboot", *BIG)
    changed = {path for path, text in content(small).items() if former.get(path, text) != text}
    assert changed == {"proc/sys/net/core/somaxconn"}


def test_a_table_that_nobody_fills_does_not_matter(small):
    (small / "proc/sys/net/netfilter/nf_conntrack_count").write_text("0\n")
    found = states("--root", small, *BIG)
    assert found["net.netfilter.nf_conntrack_max"]["state"] == "idle"


@pytest.mark.parametrize("program", ["check", "apply", "revert", "measure"])
def test_wrong_usage_is_one_line(program):
    done = run(program, "--nonsense")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith(f"tuning/{program}: ") and done.stderr.count("\n") == 1


def test_a_size_is_a_number(small):
    done = run("apply", "--root", small, "--for", "many")
    assert done.returncode == 2 and "'many' is no number of sessions" in done.stderr


def test_a_root_is_a_directory(tmp_path):
    done = run("check", "--root", tmp_path / "nowhere")
    assert done.returncode == 2 and "is no directory" in done.stderr


def test_a_broken_state_is_refused_before_anything_is_written(small):
    (small / "var/lib/encke-tuning").mkdir()
    (small / "var/lib/encke-tuning/state.json").write_text("{")
    former = content(small)
    for program in ("apply", "revert"):
        done = run(program, "--root", small)
        assert done.returncode == 3 and "state.json cannot be read" in done.stderr
    assert content(small) == former


@pytest.mark.parametrize(("no_color", "coloured"), [(None, True), ("1", False)])
def test_colour_is_for_terminals_that_want_it(small, no_color, coloured):
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    if no_color:
        environment["NO_COLOR"] = no_color
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [TUNING / "check", "--root", small, "--only", "backlog"], stdout=theirs, env=environment
    ) as process:
        os.close(theirs)
        seen = b""
        while True:
            try:
                seen += os.read(ours, 65_536)
            except OSError:
                break
        assert process.wait() == 1
    os.close(ours)
    assert (b"\x1b[33mlow" in seen) == coloured
    assert b"somaxconn" in seen
    assert "\x1b" not in run("check", "--root", small).stdout
