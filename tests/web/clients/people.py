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


async def befriend(juliet, romeo, reader):
    """Juliet speaks JSON, Romeo is slixmpp; each asks, each agrees, and they see each other."""
    bare, his = juliet.account.jid, romeo.boundjid.bare
    await juliet.do("POST", "/v1/subscriptions", {"to": his, "action": "subscribe"}, 204)
    await romeo.wait("presence_subscribe", lambda p: p["from"].bare == bare)
    romeo.send_presence(pto=bare, ptype="subscribed")
    await reader.wait("subscription", lambda event: event["action"] == "subscribed")
    romeo.send_presence_subscription(bare)
    await reader.wait("subscription", lambda event: event["action"] == "subscribe")
    await juliet.do("POST", "/v1/subscriptions", {"to": his, "action": "subscribed"}, 204)
    await romeo.wait("presence_subscribed", lambda p: p["from"].bare == bare)
    await romeo.wait("presence_available", lambda p: p["from"] == juliet.jid)
    await reader.wait("presence", lambda event: event["from"] == str(romeo.boundjid))
