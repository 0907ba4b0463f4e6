"""Fixtures for everything that runs against a real process."""

import os

import pytest

from harness.certificates import Authority
from harness.prosody import Prosody
from harness.raw import Client
from harness.server import Encke

KINDS = {"encke": Encke, "prosody": Prosody}


def pytest_report_header(config):
    return f"server: {os.environ.get('TESTS_SERVER', 'encke')}"


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def new_server(authority, tmp_path_factory):
    """Makes a server that is not started yet; all are ended when the run ends."""
    made = []

    def make(**how):
        kind = KINDS[os.environ.get("TESTS_SERVER", "encke")]
        server = kind(tmp_path_factory.mktemp(kind.kind), authority, **how)
        made.append(server)
        return server

    yield make
    for server in made:
        if server.alive():
            server.kill()


@pytest.fixture(scope="module")
def server_options():
    """What the server of a file is configured with; a folder may have its own."""
    return {}


@pytest.fixture(scope="module")
def server(new_server, server_options):
    """One server for all tests of a file. It must still live, and end well, at the end."""
    server = new_server(options=server_options).start()
    yield server
    assert server.alive(), f"the server died during these tests:\n{server.log_tail()}"
    assert server.panics() == 0, f"a panic was caught:\n{server.log_tail()}"
    code = server.stop()
    if server.kind == "encke":
        assert code == 0, f"SIGTERM ended with {code}:\n{server.log_tail()}"


@pytest.fixture
async def connect(server):
    """Makes logged-in bare clients; closes them after the test."""
    clients = []

    async def login(account, resource="bare", **how):
        client = Client(server, account, resource)
        clients.append(client)
        return await client.login(**how)

    yield login
    for client in clients:
        await client.close()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failing test shows what the server logged meanwhile."""
    outcome = yield
    report = outcome.get_result()
    server = getattr(item, "funcargs", {}).get("server")
    if report.failed and server is not None:
        report.sections.append((f"log of {server.kind}", server.log_tail(25)))
