"""Prosody behind the same interface: what a test expects can be compared with a second server.

    TESTS_SERVER=prosody tests/all e2e

It has no port 0, so free ports are asked of the kernel just before it starts.
"""

import select
import socket
import subprocess
import time

from .server import DOMAIN, START_DEADLINE, Account, Server

CONFIG = """
daemonize = false
run_as_root = true
pidfile = "{folder}/prosody.pid"
data_path = "{folder}/data"
admins = {{}}
modules_enabled = {{ "roster", "saslauth", "tls", "disco", "version", "uptime", "time", "ping",
  "private", "blocklist", "vcard_legacy", "pep", "carbons", "smacks", "csi_simple", "offline",
  "lastactivity", "server_contact_info", "http", "websocket", "bosh" }}
modules_disabled = {{ "s2s" }}
authentication = "internal_plain"
storage = "internal"
c2s_require_encryption = true
interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ {clear} }}
c2s_direct_tls_ports = {{ {tls} }}
smacks_hibernation_time = 300
http_interfaces = {{ "127.0.0.1" }}
http_ports = {{ {http} }}
https_interfaces = {{ "127.0.0.1" }}
https_ports = {{ {https} }}
http_paths = {{ websocket = "/ws"; bosh = "/http-bind" }}
http_default_host = "{domain}"
cross_domain_websocket = true
cross_domain_bosh = true
consider_websocket_secure = true
consider_bosh_secure = true
ssl = {{ certificate = "{chain}", key = "{key}" }}
log = {{ {{ levels = {{ min = "{level}" }}, to = "file", filename = "{folder}/server.log" }} }}
VirtualHost "{domain}"
"""


class Prosody(Server):
    kind = "prosody"

    def __init__(self, folder, authority, domain=DOMAIN, options=None, wrapper=()):
        """`options` are encke's; what Prosody does without them is what it is compared by."""
        super().__init__(folder, authority, domain)

    def start(self) -> "Prosody":
        (self.folder / "data").mkdir(exist_ok=True)
        chain, key = self.authority.issue(self.domain)
        self.clear = ("127.0.0.1", _free_port())
        self.tls = ("127.0.0.1", _free_port())
        self.http = ("127.0.0.1", _free_port())
        self.https = ("127.0.0.1", _free_port())
        config = self.folder / "prosody.cfg.lua"
        config.write_text(
            CONFIG.format(folder=self.folder, clear=self.clear[1], tls=self.tls[1],
                          http=self.http[1], https=self.https[1], chain=chain, key=key,
                          domain=self.domain, level="info")
        )
        self.process = subprocess.Popen(
            ["prosody", "-F", "--config", str(config)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        for port in (self.clear[1], self.tls[1], self.http[1]):
            self._await(port)
        return self

    def add_user(self, account: Account) -> None:
        folder = self.folder / "data" / self.domain.replace(".", "%2e") / "accounts"
        folder.mkdir(parents=True, exist_ok=True)
        record = f'return {{ ["password"] = "{account.password}"; }};\n'
        (folder / f"{account.name}.dat").write_text(record)

    def _await(self, port: int) -> None:
        deadline = time.monotonic() + START_DEADLINE
        while time.monotonic() < deadline and self.alive():
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                select.select([], [], [], 0.05)  # it has no readiness event to wait for
        raise AssertionError(f"prosody did not start:\n{self.log_tail()}")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]
