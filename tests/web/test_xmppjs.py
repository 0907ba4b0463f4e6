"""@xmpp/client in Node, over WebSocket: it reconnects and resumes by itself."""

import asyncio

import pytest

from clients.cable import Cable


@pytest.fixture
def service(cable):
    return "ws://{}:{}/ws".format(*cable.address)


@pytest.fixture
async def juliet(server, xmppjs, service):
    """Logged in, present, with stream management."""
    juliet = await xmppjs()
    juliet.jid = await juliet.ask("start", service, *words(server.account("juliet")))
    await juliet.wait("presence", lambda p: p["from"] == juliet.jid)
    return juliet


def words(account):
    return account.domain, account.name, account.password, "node"


async def test_logs_in_and_has_a_roster(server, slix, xmppjs, service):
    account = server.account("juliet")
    desk = await slix(account, "desk")
    await desk.update_roster("romeo@elsewhere.test", name="Romeo")
    juliet = await xmppjs()
    jid = await juliet.ask("start", service, *words(account))
    assert jid == f"{account.jid}/node"
    assert (await juliet.wait("mechanism")).startswith("SCRAM-")
    assert await juliet.ask("roster") == ["romeo@elsewhere.test"]
    await juliet.ask("stop")


async def test_messages_go_both_ways(juliet, slix):
    romeo = await slix()
    for number, text in enumerate(["Ay me!", "<&>\"'", "𝄞" * 3000]):
        romeo.send_message(juliet.jid, text, mtype="chat")
        assert (await juliet.body(text))["from"] == str(romeo.boundjid)
        await juliet.ask("message", str(romeo.boundjid), f"m{number}", text)
        assert (await romeo.body(text))["from"] == juliet.jid
        await juliet.wait("acked", lambda ident, number=number: ident == f"m{number}")


@pytest.mark.parametrize("server_notices", [True, False], ids=["reset", "unnoticed"])
@pytest.mark.parametrize("lost", ["requests", "answers"])
async def test_reconnects_and_loses_nothing(juliet, slix, server, cable, lost, server_notices):
    """`requests`: what Juliet said never arrived. `answers`: it did, but she was not told so."""
    romeo = await slix()
    full = str(romeo.boundjid)
    assert await juliet.ask("managed")
    assert not (await juliet.wait("ready"))["resumed"]
    heard = []
    for turn in range(3):
        cable.hold("up" if lost == "requests" else "down")
        for number in range(3):
            await juliet.ask("message", full, f"{turn}.{number}", f"{turn}.{number}")
            romeo.send_message(juliet.jid, f"{turn}.{number}", mtype="chat")
        if lost == "answers":
            heard += [(await romeo.wait("message"))["body"] for _ in range(3)]
        await romeo.plugin["xep_0199"].send_ping(server.domain)
        cable.cut(server_notices)
        ready = await juliet.wait("ready")
        assert ready == {"jid": juliet.jid, "resumed": True}
    romeo.send_message(juliet.jid, "the end", mtype="chat")
    await juliet.body("the end")
    await juliet.ask("message", full, "end", "the end")
    await romeo.body("the end")
    await juliet.wait("acked", lambda ident: ident == "end")

    everything = [f"{turn}.{number}" for turn in range(3) for number in range(3)]
    assert [m["body"] for m in juliet.all("message")] == everything
    assert heard + [m["body"] for name, m in romeo.heard if name == "message"] == everything
    assert juliet.all("lost") == []
    assert cable.connections == 4


async def test_reconnects_to_a_server_that_was_restarted(
    new_server, server_options, xmppjs, people
):
    """In the middle of a conversation, as for an update."""
    server = new_server(options=server_options).start()
    cable = await people.enter_async_context(Cable(lambda: server.http))
    juliet = await xmppjs()
    account, romeo = server.account("juliet"), await xmppjs()
    service = "ws://{}:{}/ws".format(*cable.address)
    juliet.jid = await juliet.ask("start", service, *words(account))
    romeo.jid = await romeo.ask("start", service, *words(server.account("romeo")))
    for client in (juliet, romeo):
        await client.wait("presence", lambda p, jid=client.jid: p["from"] == jid)
    await romeo.ask("message", juliet.jid, "1", "before")
    await juliet.body("before")
    await romeo.wait("acked", lambda ident: ident == "1")

    await asyncio.to_thread(server.stop)
    for client in (juliet, romeo):
        await client.wait("ready")  # as it was at first
        await client.wait("status", lambda status: status == "disconnect")
    server.start()
    for client in (juliet, romeo):
        await client.wait("ready")  # resumed or begun anew
    await romeo.ask("message", account.jid, "2", "after")
    await juliet.body("after")
    assert juliet.all("message") == [], "nothing came twice"
    assert await asyncio.to_thread(server.stop) == 0 or server.kind != "encke"
