"""One session on two transports: begun on TCP it goes on over WebSocket, and back."""

import pytest

from clients.websocket import WebClient
from harness.raw import CLIENT, SM, Client


def on(transport, server, account, name):
    kind = {"tcp": Client, "websocket": WebClient}[transport]
    return kind(server, account, "roaming", name=name)


@pytest.fixture
async def romeo(server, slix):
    return await slix(server.account("romeo"))


async def say(romeo, jid, texts):
    """Romeo's words, and that the server has them."""
    for text in texts:
        romeo.send_message(jid, text, mtype="chat")
    await romeo.plugin["xep_0199"].send_ping(romeo.place.domain)


async def bodies(client, count):
    messages = [await client.expect(f"{{{CLIENT}}}message") for _ in range(count)]
    return [message.findtext(f"{{{CLIENT}}}body") for message in messages]


@pytest.mark.parametrize("alive", [False, True], ids=["cut", "still connected"])
@pytest.mark.parametrize("first, second", [("tcp", "websocket"), ("websocket", "tcp")])
async def test_a_session_goes_from_one_to_the_other_and_back(
    server, people, romeo, first, second, alive
):
    account = server.account("juliet")
    client = on(first, server, account, f"juliet on {first}")
    people.push_async_callback(client.close)
    await client.login(managed=True)
    for turn, transport in enumerate([second, first, second]):
        await say(romeo, client.jid, [f"{turn} heard"])
        assert await bodies(client, 1) == [f"{turn} heard"]
        client.answers_requests = False
        if not alive:
            client.cut()
        await say(romeo, client.jid, [f"{turn} missed {n}" for n in range(5)])

        again = on(transport, server, account, f"juliet on {transport}, turn {turn}")
        people.push_async_callback(again.close)
        await again.authenticate()
        answer = await again.resume(client)
        assert answer.tag == f"{{{SM}}}resumed", again.story()
        assert int(answer.get("h")) == client.sent, "everything she sent was counted"
        assert await bodies(again, 5) == [f"{turn} missed {n}" for n in range(5)]
        await again.message(romeo.boundjid, f"{turn} answered", f"a{turn}")
        assert (await romeo.body(f"{turn} answered"))["from"] == client.jid
        client = again
    await client.ping()
    assert romeo.count("presence_unavailable") == 0


async def test_what_was_not_acknowledged_comes_again_on_the_other_transport(server, people, romeo):
    """With its own framing: what was written for TCP must be a document of its own now."""
    account = server.account("juliet")
    tcp = on("tcp", server, account, "juliet on tcp")
    people.push_async_callback(tcp.close)
    await tcp.login(managed=True)
    tcp.answers_requests = False
    before = tcp.handled
    await say(romeo, tcp.jid, ["into the dark 0", "into the dark 1"])
    assert await bodies(tcp, 2) == ["into the dark 0", "into the dark 1"]
    tcp.cut()

    web = on("websocket", server, account, "juliet on websocket")
    people.push_async_callback(web.close)
    await web.authenticate()
    await web.resume(tcp, handled=before)
    assert await bodies(web, 2) == ["into the dark 0", "into the dark 1"]
    web.cut()

    back = on("tcp", server, account, "juliet back on tcp")
    people.push_async_callback(back.close)
    await back.authenticate()
    await back.resume(web, handled=before)
    assert await bodies(back, 2) == ["into the dark 0", "into the dark 1"]


async def test_slixmpp_takes_up_on_tcp_what_went_over_websocket_meanwhile(
    server, slix, people, romeo
):
    account = server.account("juliet")
    juliet = await slix(account, "roaming")
    await juliet.wait("sm_enabled")
    full, managed = str(juliet.boundjid), juliet.plugin["xep_0198"]
    juliet.abort()
    await juliet.wait("disconnected")
    await say(romeo, full, ["while away 0", "while away 1"])

    web = on("websocket", server, account, "juliet on websocket")
    people.push_async_callback(web.close)
    web.handled, web.sent, web.resumption, web.jid = managed.handled, managed.seq, \
        managed.sm_id, full
    await web.authenticate()
    answer = await web.resume(web)
    assert answer.tag == f"{{{SM}}}resumed", web.story()
    assert await bodies(web, 2) == ["while away 0", "while away 1"]
    await web.message(romeo.boundjid, "from the page", "p1")
    await romeo.body("from the page")
    web.cut()
    await say(romeo, full, ["while away 2"])

    # slixmpp goes on counting where the page was.
    managed.handled, managed.seq = web.handled, web.sent
    managed.last_ack = web.sent
    managed.unacked_queue.clear()
    juliet.reach()
    await juliet.wait("session_resumed")
    await juliet.body("while away 2")
    assert juliet.count("message") == 0, "what the page had did not come again"
    romeo.send_message(full, "live again", mtype="chat")
    await juliet.body("live again")
    assert romeo.count("presence_unavailable") == 0

