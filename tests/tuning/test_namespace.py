"""The same on a real kernel, in network namespaces that vanish with the test."""

import json
import os
import subprocess

import pytest

from harness.namespace import namespace
from harness.server import binary_path
from programs import ROOT, run, states

#: What belongs to a namespace, at least in part. Nothing else is touched on a real kernel.
NETWORK = [
    word
    for name in ("tcp-memory", "backlog", "ports", "hash-size", "conntrack")
    for word in ("--only", name)
]
SIZE = ("--for", "100k", "--with-clients", *NETWORK)
SET_HERE = (
    "net.core.somaxconn",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_child_ehash_entries",
)


@pytest.fixture
def inside():
    with namespace("--net") as words:
        yield words


def path_of(name):
    return "/proc/sys/" + name.replace(".", "/")


def there(name):
    return os.path.exists(path_of(name))


def read(name, inside=()):
    command = [*inside, "cat", path_of(name)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def write(name, value, inside):
    command = f"echo '{value}' >{path_of(name)}"
    subprocess.run([*inside, "sh", "-c", command], check=True)


def test_apply_and_revert_on_a_real_kernel(inside, tmp_path):
    missing = [name for name in SET_HERE if not there(name)]
    if missing:
        pytest.skip(f"this kernel has no {', '.join(missing)}")
    write("net.core.somaxconn", 128, inside)
    write("net.ipv4.ip_local_reserved_ports", "8080,9000-9002", inside)
    write("net.ipv4.ip_local_port_range", "40000 50000", inside)
    here = ("--state", tmp_path / "state")
    former = {name: read(name, inside) for name in SET_HERE}
    host = {name: read(name) for name in SET_HERE}

    tried = run("apply", "--dry-run", *here, *SIZE, inside=inside)
    assert tried.returncode == 0 and not (tmp_path / "state").exists()
    assert {name: read(name, inside) for name in SET_HERE} == former

    done = run("apply", "--until-reboot", *here, *SIZE, inside=inside)
    assert done.returncode == 0, done.stdout + done.stderr
    found = states(*SIZE, inside=inside)
    assert {found[name]["state"] for name in SET_HERE} == {"ok"}
    assert "9000-9002" in read("net.ipv4.ip_local_reserved_ports", inside)
    assert found["net.ipv4.tcp_mem"]["state"] == "n/a", "it belongs to the host"

    now = {name: read(name, inside) for name in SET_HERE}
    again = run("apply", "--until-reboot", *here, *SIZE, inside=inside)
    assert again.returncode == 0 and "0 settings changed" in again.stdout
    assert {name: read(name, inside) for name in SET_HERE} == now

    back = run("revert", *here, inside=inside)
    assert back.returncode == 0, back.stdout + back.stderr
    assert {name: read(name, inside) for name in SET_HERE} == former
    assert not (tmp_path / "state").exists()
    assert {name: read(name) for name in SET_HERE} == host, "the host has what it had"


def test_a_larger_hash_comes_with_the_next_namespace(inside, tmp_path):
    if not there("net.ipv4.tcp_child_ehash_entries"):
        pytest.skip("this kernel has no tcp_child_ehash_entries")
    write("net.ipv4.tcp_child_ehash_entries", 0, inside)
    size = ("--for", "100k", "--with-clients", "--only", "hash-size")
    done = run("apply", "--until-reboot", "--state", tmp_path, *size, inside=inside)
    assert "namespaces that are made from now on" in done.stdout
    nested = [*inside, "unshare", "--net", "cat", "/proc/sys/net/ipv4/tcp_ehash_entries"]
    said = subprocess.run(nested, capture_output=True, text=True, check=True).stdout
    assert int(said) == 131_072


def test_what_a_container_may_not_write_is_said(tmp_path):
    with namespace("--net", "--mount") as inside:
        write("net.core.somaxconn", 128, inside)
        frozen = "mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys"
        subprocess.run([*inside, "sh", "-c", frozen], check=True)
        size = ("--for", "100k", "--only", "backlog", "--until-reboot")
        done = run("apply", "--state", tmp_path / "state", *size, inside=inside)
        assert done.returncode == 1
        assert "read-only here: set it on the host" in done.stdout
        assert read("net.core.somaxconn", inside) == "128\n"
        assert not (tmp_path / "state").exists(), "nothing was changed, nothing is remembered"


@pytest.mark.skipif(
    os.environ.get("TESTS_SERVER", "encke") != "encke", reason="encke's own commands"
)
@pytest.mark.parametrize("sessions", [10_000, 100_000, 1_000_000, 2_000_000])
def test_encke_and_the_programs_see_the_same(inside, tmp_path, sessions):
    write("net.core.somaxconn", 1_024, inside)
    config = tmp_path / "encke.toml"
    config.write_text(f'domain = "example.org"\n[limits]\nlinks = {sessions}\n')
    command = [*inside, str(binary_path()), "check", "--json", "--config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    findings = [one for one in json.loads(done.stdout) if one["subject"] == "kernel"]
    low = {"limit": set(), "speed": set()}
    for finding in findings:
        name, mark, _ = finding["text"].partition(" = ")
        if mark and name != "unit.LimitNOFILE":
            low["limit" if finding["grade"] == "warning" else "speed"].add(name)

    expected = {"limit": set(), "speed": set()}
    for name, row in states("--for", sessions, inside=inside).items():
        # The server looks at its own limit, the program at the unit.
        if row["state"] == "low" and name != "unit.LimitNOFILE":
            expected[row["grade"]].add(name)
    assert low == expected
    assert ("net.core.somaxconn" in low["limit"]) == (sessions > 10_000)


def test_an_experiment_shows_what_its_file_claims():
    if os.geteuid() != 0:
        pytest.skip("only root may make network namespaces")
    done = run("measure", "reserved-ports", cwd=ROOT)
    assert done.returncode == 0, done.stderr
    _, free, reserved = done.stdout.splitlines()
    assert "EADDRINUSE" in free and reserved.endswith("yes")
