"""What a session finds after the server went: by SIGTERM it is still there, by `kill -9` its
messages are."""

import asyncio

import pytest

from harness.raw import CLIENT, SM, Client


@pytest.fixture
async def world(new_server):
    """Romeo and Juliet, managed, available, and subscribed to each other."""
    server = new_server().start()
    links = []

    async def login(account, **how):
        link = Client(server, account, "home")
        links.append(link)
        return await link.login(managed=True, **how)

    romeo = await login(server.account("romeo"))
    juliet = await login(server.account("juliet"))
    for one, other in ((romeo, juliet), (juliet, romeo)):
        await one.send_stanza(f"<presence type='subscribe' to='{other.account.jid}'/>")
        await other.expect(f"{{{CLIENT}}}presence", where=lambda p: p.get("type") == "subscribe")
        await other.send_stanza(f"<presence type='subscribed' to='{one.account.jid}'/>")
        await one.expect(f"{{{CLIENT}}}presence", where=lambda p: p.get("from") == other.jid)
    yield server, romeo, juliet, links
    for link in links:
        await link.close()


async def back(server, before, links, name):
    link = Client(server, before.account, "home", name)
    links.append(link)
    await link.authenticate()
    return link, await link.resume(before)


async def test_sessions_live_through_a_graceful_restart(world):
    server, romeo, juliet, links = world
    juliet.answers_requests = False
    await romeo.message(juliet.jid, "unacknowledged", "u1")
    await juliet.body("unacknowledged")
    heard_before = juliet.handled - 1
    await romeo.acknowledged()

    assert await asyncio.to_thread(server.stop) == 0, server.log_tail()
    assert await juliet.ended() == "system-shutdown"
    assert await romeo.ended() == "system-shutdown"
    server.start()

    again, answer = await back(server, juliet, links, "juliet again")
    assert answer.tag == f"{{{SM}}}resumed", again.story()
    romeo_again, answer = await back(server, romeo, links, "romeo again")
    assert answer.tag == f"{{{SM}}}resumed", romeo_again.story()
    assert int(answer.get("h")) == romeo.sent, "what was acknowledged counts after the restart"
    # The resumed session is whole: full address, presence, roster.
    await romeo_again.message(juliet.jid, "after the restart", "u2")
    await again.body("after the restart")
    await again.send_stanza("<presence><show>away</show></presence>")
    await romeo_again.expect(
        f"{{{CLIENT}}}presence",
        where=lambda p: p.get("from") == juliet.jid and p.findtext(f"{{{CLIENT}}}show") == "away",
    )
    assert heard_before < juliet.handled


async def test_what_was_unacknowledged_is_replayed_after_a_graceful_restart(world):
    server, romeo, juliet, links = world
    juliet.answers_requests = False
    before = juliet.handled
    await romeo.message(juliet.jid, "heard but not acknowledged", "u1")
    await juliet.body("heard but not acknowledged")
    await asyncio.to_thread(server.stop)
    server.start()
    link = Client(server, juliet.account, "home", "juliet again")
    links.append(link)
    await link.authenticate()
    answer = await link.resume(juliet, handled=before)
    assert answer.tag == f"{{{SM}}}resumed", link.story()
    await link.body("heard but not acknowledged")


async def test_after_a_crash_a_resumption_fails_with_what_was_handled(world):
    server, romeo, juliet, links = world
    juliet.answers_requests = False
    await romeo.message(juliet.jid, "survives", "u1")
    await juliet.body("survives")
    await romeo.acknowledged()
    handled = romeo.acked
    server.kill()
    server.start()

    link, answer = await back(server, romeo, links, "romeo again")
    assert answer.tag == f"{{{SM}}}failed", link.story()
    assert answer.get("h") is not None and int(answer.get("h")) >= handled, link.story()

    again = Client(server, juliet.account, "home", "juliet again")
    links.append(again)
    await again.login()
    await again.body("survives")
