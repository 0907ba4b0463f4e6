"""The programs of `tuning/`, and machines for them."""

import json
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
TUNING = ROOT / "tuning"

#: A machine that is too small in everything.
SMALL = {
    "proc/sys/fs/file-max": "100000\n",
    "proc/sys/net/core/somaxconn": "128\n",
    "proc/sys/net/ipv4/tcp_mem": "1000\t2000\t3000\n",
    "proc/sys/net/ipv4/tcp_syncookies": "1\n",
    "proc/sys/net/ipv4/ip_local_reserved_ports": "8080\n",
    "proc/sys/net/ipv4/ip_local_port_range": "32768\t60999\n",
    "proc/sys/net/ipv4/tcp_ehash_entries": "16384\n",
    "proc/sys/net/ipv4/tcp_child_ehash_entries": "0\n",
    "proc/sys/net/netfilter/nf_conntrack_max": "65536\n",
    "proc/sys/net/netfilter/nf_conntrack_count": "7\n",
    "sys/kernel/mm/transparent_hugepage/enabled": "always\n",
    "usr/lib/systemd/system/encke.service": "[Service]\nLimitNOFILE=1024:4096\n",
}


def run(program, *arguments, inside=(), **how):
    """Runs a program of `tuning/`; `inside` is what enters a namespace first."""
    command = [*inside, str(TUNING / program), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **how)


def states(*arguments, inside=()):
    """What `tuning/check` finds, by the name of the setting."""
    done = run("check", "--json", *arguments, inside=inside)
    assert done.returncode in (0, 1), done.stderr
    return {row["setting"]: row for row in json.loads(done.stdout)}


def machine(folder, texts=None):
    """A directory that stands for `/`."""
    for path, text in (SMALL if texts is None else texts).items():
        path = folder / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for path in ("etc/sysctl.d", "etc/tmpfiles.d", "etc/systemd/system", "var/lib"):
        (folder / path).mkdir(parents=True, exist_ok=True)
    return folder


def content(folder):
    """All files below, with the blanks of their texts made one; and all folders."""
    return {
        str(path.relative_to(folder)): " ".join(path.read_text().split())
        if path.is_file()
        else None
        for path in sorted(folder.rglob("*"))
    }
