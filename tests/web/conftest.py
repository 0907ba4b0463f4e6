"""A site with pages, a browser, and a server that speaks HTTP."""

import contextlib

import pytest
import pytest_asyncio

from clients.cable import Cable
from clients.node import Chromium, XmppJs, versions
from clients.site import Site
from clients.websocket import WebClient
from harness.raw import CLIENT
from harness.slix import Slix


def pytest_report_header(config):
    return f"packages: {versions()}"


@pytest.fixture(scope="session")
def site():
    site = Site()
    yield site
    site.close()


@pytest.fixture(scope="module")
def server_options(site):
    return {
        "listen.http": ["127.0.0.1:0"],
        "listen.https": ["127.0.0.1:0"],
        "http.origins": [site.origin],
    }


@pytest.fixture(scope="session")
def chromium():
    chromium = Chromium()
    yield chromium
    chromium.close()


@pytest.fixture
async def people():
    """Whoever is put in here is sent away after the test, whatever happened."""
    async with contextlib.AsyncExitStack() as stack:
        yield stack


@pytest.fixture
def window(chromium, people):
    """Opens windows of people who do not know each other."""

    async def new(name="a browser"):
        window = await chromium.window(name)
        people.push_async_callback(window.close)
        return window

    return new


@pytest.fixture
def slix(server, people):
    """Logs slixmpp in on TCP."""

    async def login(account=None, resource="slix"):
        client = Slix(server, account or server.account("slix"), resource)
        people.push_async_callback(client.leave)
        return await client.login()

    return login


@pytest.fixture
def web(server, people):
    """Makes bare clients on WebSocket and logs them in."""

    async def login(account=None, **how):
        making = {name: how.pop(name) for name in ("resource", "url", "origin", "headers")
                  if name in how}
        client = WebClient(server, account or server.account("web"), **making)
        people.push_async_callback(client.close)
        return await client.login(**how)

    return login


@pytest.fixture
async def xmppjs(people):
    """Starts @xmpp/client, without logging in."""

    async def new():
        client = await XmppJs.new()
        people.push_async_callback(client.close)
        return client

    return new


@pytest.fixture
async def cable(server):
    """Leads to the server's HTTP, and can be pulled."""
    async with Cable(lambda: server.http) as cable:
        yield cable


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def chatting(server):
    """Somebody who only wants to chat, on one connection from the first row of a file to the last.
    """
    async with WebClient(server, server.account("bystander")) as bystander:
        yield await bystander.login()


@pytest_asyncio.fixture(loop_scope="module")
async def unnoticed(chatting):
    """When the hostile peer is gone, the bystander has noticed nothing."""
    yield chatting
    await chatting.message(chatting.jid, "still here?", "alive")
    heard = await chatting.next()
    assert heard.findtext(f"{{{CLIENT}}}body") == "still here?", chatting.story()
