"""encke as a process of its own: started on free ports, awaited by event, ended by its pid."""

import contextlib
import json
import os
import select
import signal
import socket
import ssl
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from .certificates import Authority

ROOT = Path(__file__).resolve().parents[3]
START_DEADLINE = 20.0
STOP_DEADLINE = 20.0
DOMAIN = "encke.test"


@dataclass(frozen=True)
class Account:
    name: str
    domain: str
    password: str

    @property
    def jid(self) -> str:
        return f"{self.name}@{self.domain}"


class Server:
    """What every server under test offers; `Encke` and `Prosody` fill in the rest."""

    kind = "?"

    def __init__(self, folder: Path, authority: Authority, domain: str = DOMAIN):
        self.folder = folder
        self.domain = domain
        self.authority = authority
        self.log = folder / "server.log"
        self.clear: tuple[str, int] = ("127.0.0.1", 0)
        self.tls: tuple[str, int] = ("127.0.0.1", 0)
        # Nobody serves there unless the options have such a listener.
        self.http: tuple[str, int] = ("127.0.0.1", 0)
        self.https: tuple[str, int] = ("127.0.0.1", 0)
        self.process: subprocess.Popen | None = None
        self._names = 0

    # What a test asks for.

    def account(self, hint: str = "user") -> Account:
        """A fresh account whose name nobody else in this run has."""
        self._names += 1
        account = Account(f"{hint}{self._names}", self.domain, f"pw-{hint}-{self._names}")
        self.add_user(account)
        return account

    def trust(self) -> ssl.SSLContext:
        """A context that believes the run's authority and nobody else."""
        context = ssl.create_default_context(cafile=str(self.authority.file))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context

    @property
    def pid(self) -> int:
        return self.process.pid

    def pss(self) -> int:
        """Octets of memory that are this process's own share."""
        for line in Path(f"/proc/{self.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
        raise RuntimeError("no Pss line in smaps_rollup")

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """`kill -9`: no goodbye."""
        self.process.kill()
        self.process.wait(STOP_DEADLINE)

    def stop(self) -> int:
        """SIGTERM, then the exit code."""
        if not self.alive():
            return self.process.returncode if self.process else 0
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_DEADLINE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.kind} did not end within {STOP_DEADLINE:.0f} s of SIGTERM")

    def panics(self) -> int:
        """Panics that the server caught and survived; none is allowed."""
        return 0

    def log_tail(self, lines: int = 40) -> str:
        with contextlib.suppress(FileNotFoundError):
            text = self.log.read_text(errors="replace").splitlines()
            return "\n".join(text[-lines:])
        return ""

    # What a kind of server brings.

    def start(self) -> "Server":
        raise NotImplementedError

    def add_user(self, account: Account) -> None:
        raise NotImplementedError


class Encke(Server):
    kind = "encke"

    def __init__(self, folder, authority, domain=DOMAIN, binary: Path | None = None, options=None,
                 wrapper=()):
        super().__init__(folder, authority, domain)
        self.binary = binary or binary_path()
        self.wrapper = list(wrapper)
        self.data_dir = folder / "data"
        self.config = folder / "encke.toml"
        self.config.write_text(_config(self, options or {}))

    def command(self, *words: str) -> list[str]:
        return [str(self.binary), *words, "--config", str(self.config), "--data-dir",
                str(self.data_dir)]

    def start(self) -> "Encke":
        self._manager = _ReadySocket()  # kept: the server also tells it that it stops
        environment = {**os.environ, "NOTIFY_SOCKET": self._manager.path}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.wrapper + self.command("serve"), stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, env=environment, cwd=self.folder,
            )
        self._manager.wait(self)
        listeners = self.status()["listeners"]
        self.clear = _address(listeners["c2s"][0])
        self.tls = _address(listeners["c2s_tls"][0])
        for name in ("http", "https"):
            if listeners.get(name):
                setattr(self, name, _address(listeners[name][0]))
        return self

    def status(self) -> dict:
        done = self.run("status", "--json")
        assert done.returncode == 0, f"`encke status` said: {done.stderr}"
        return json.loads(done.stdout)

    def panics(self) -> int:
        return sum(shard["panics"] for shard in self.status()["shards"])

    def run(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess:
        """One administrative command, as a person would give it."""
        return subprocess.run(
            self.command(*words), input=stdin, capture_output=True, text=True, timeout=30,
            cwd=self.folder,
        )

    def add_user(self, account: Account) -> None:
        done = self.run(
            "user", "add", account.jid, "--password-stdin", stdin=account.password + "\n"
        )
        assert done.returncode == 0, f"`encke user add {account.jid}` said: {done.stderr}"


def binary_path() -> Path:
    """The release build that `tests/all` made, or what ENCKE_BINARY names."""
    named = os.environ.get("ENCKE_BINARY")
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    path = Path(named) if named else target / "release" / "encke"
    assert path.exists(), f"{path} is missing: run `cargo build --release` or tests/all first"
    return path


def _config(server: Encke, options: dict) -> str:
    chain, key = server.authority.issue(server.domain)
    tables: dict[str, dict] = {
        "": {"domain": server.domain, "data_dir": str(server.data_dir)},
        "listen": {"c2s": ["127.0.0.1:0"], "c2s_tls": ["127.0.0.1:0"]},
        "tls": {"certificate": str(chain), "key": str(key)},
    }
    for name, value in options.items():
        table, _, key_name = name.rpartition(".")
        tables.setdefault(table, {})[key_name] = value
    lines = []
    for table, entries in tables.items():
        if table:
            lines.append(f"\n[{table}]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in entries.items()]
    return "\n".join(lines) + "\n"


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


class _ReadySocket:
    """The socket on which a `Type=notify` service says READY=1: an event, so nobody polls."""

    def __init__(self):
        # The path of a socket is short; a test's folder may not be.
        self._folder = tempfile.TemporaryDirectory(prefix="encke-")
        self.path = f"{self._folder.name}/ready"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)

    def wait(self, server: Server) -> None:
        deadline = time.monotonic() + START_DEADLINE
        gone = os.pidfd_open(server.pid)
        try:
            while time.monotonic() < deadline:
                patience = deadline - time.monotonic()
                readable, _, _ = select.select([self._socket, gone], [], [], max(0, patience))
                if self._socket in readable:
                    if b"READY=1" in self._socket.recv(4096):
                        return
                elif gone in readable:
                    raise AssertionError(
                        f"{server.kind} ended while starting:\n{server.log_tail()}"
                    )
        finally:
            os.close(gone)
        server.kill()
        raise AssertionError(
            f"{server.kind} was not ready within {START_DEADLINE:.0f} s:\n{server.log_tail()}"
        )
