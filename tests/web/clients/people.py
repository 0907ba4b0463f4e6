"""Fixtures and habits of the tests of the JSON protocol: people who speak it, clients on TCP."""

from xml.sax.saxutils import escape

import pytest

from harness.raw import Client

from .chat import User


@pytest.fixture
def user(server, people):
    """Logs in people who speak JSON."""

    async def login(account=None, resource="tab", place=None, **how):
        place = place or server
        address = how.pop("address", None)
        user = User(place, account or place.account("json"), resource, address)
        people.push_async_callback(user.leave)
        return await user.login(**how)

    return login


@pytest.fixture
def raw(server, people):
    """Logs in bare clients on TCP."""

    async def login(account=None, resource="tcp", place=None, **how):
        place = place or server
        client = Client(place, account or place.account("raw"), resource)
        people.push_async_callback(client.close)
        return await client.login(**how)

    return login


async def settle(reader):
    """Until the reader has what comes with a login."""
    await reader.begin()
    await reader.wait("roster", lambda event: event.get("whole"))
    await reader.wait("presence", lambda event: event["from"] == reader.user.jid)
    return reader


async def say(romeo, jid, texts, first=0):
    """A bare client's words, and that the server has them."""
    for number, text in enumerate(texts, first):
        await romeo.message(jid, escape(text), f"r{number}")
    await romeo.ping()
