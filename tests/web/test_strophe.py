"""strophe.js in Chromium: what a page with a chat does, over each of the transports it knows."""

import pytest

from harness.raw import DEADLINE

# Each is a service URL that strophe understands; "http://{http}/http-bind" is BOSH.
TRANSPORTS = {
    "websocket": "ws://{http}/ws",
    "websocket and TLS": "wss://{https}/ws",
    "BOSH": "http://{http}/http-bind",
    "BOSH and TLS": "https://{https}/http-bind",
}
# Stream management is of WebSocket alone in strophe.js.
MANAGED = {"enableStreamManagement": True}


@pytest.fixture(params=list(TRANSPORTS))
def service(request, server):
    where = {name: "{}:{}".format(*getattr(server, name)) for name in ("http", "https")}
    return TRANSPORTS[request.param].format(**where)


@pytest.fixture
def strophe(window, site, people):
    """Logs a page in and returns it, with its `jid`."""

    async def login(service, account, options=None, password=None):
        page = await window(f"strophe of {account.name}")
        await page.open(f"{site.origin}/strophe.html")
        await page.call("login", service, f"{account.jid}/page", password or account.password,
                        options or {})
        if password is None:
            page.jid = (await page.wait("connected"))["jid"]
            await page.call("roster")  # who asks for it is told of its changes
            await page.call("presence")
            await page.wait("presence", lambda p: p["from"] == page.jid)
        return page

    return login


async def befriend(page, slix):
    """The page asks, the other agrees and asks in turn."""
    bare, other = page.jid.split("/")[0], slix.boundjid.bare
    await page.call("presence", {"type": "subscribe", "to": other})
    await slix.wait("presence_subscribe", lambda p: p["from"].bare == bare)
    slix.send_presence(pto=bare, ptype="subscribed")
    await page.wait("presence", lambda p: p["type"] == "subscribed")
    slix.send_presence_subscription(bare)
    await page.wait("presence", lambda p: p["type"] == "subscribe")
    await page.call("presence", {"type": "subscribed", "to": other})
    await slix.wait("presence_subscribed", lambda p: p["from"].bare == bare)


async def test_logs_in_by_scram(server, strophe, service):
    page = await strophe(service, server.account("juliet"))
    mechanism = await page.wait("mechanism")
    assert mechanism.startswith("SCRAM-SHA-"), mechanism
    assert page.jid.endswith("/page")


async def test_a_wrong_password_is_refused(server, strophe, service):
    page = await strophe(service, server.account("juliet"), password="wrong")
    await page.wait("status", lambda s: s["status"] == "authfail")


async def test_messages_go_both_ways(server, strophe, service, slix):
    page = await strophe(service, server.account("juliet"))
    romeo = await slix(server.account("romeo"))
    texts = ["But soft, what light?", "<&>\"' ]]>",
             "👩‍👩‍👧 e\u0301 \ufdd0\tand\na line", "𝄞" * 5000]
    for number, text in enumerate(texts):
        romeo.send_message(page.jid, text, mtype="chat")
        heard = await page.wait("message")
        assert (heard["body"], heard["from"]) == (text, str(romeo.boundjid))
        await page.call("message", str(romeo.boundjid), f"m{number}", text)
        assert (await romeo.body(text))["from"] == page.jid


async def test_a_hundred_messages_each_way_keep_their_order(server, strophe, service, slix):
    page = await strophe(service, server.account("juliet"))
    romeo = await slix(server.account("romeo"))
    for number in range(100):
        romeo.send_message(page.jid, f"{number}", mtype="chat")
        await page.call("message", str(romeo.boundjid), f"{number}", f"{number}")
    await romeo.body("99")
    rest = [int(m["body"]) for name, m in romeo.heard if name == "message"]
    assert rest == list(range(99))
    await page.body("99")
    assert [int(m["body"]) for m in page.all("message")] == list(range(99))


async def test_presence_and_rosters_go_both_ways(server, strophe, service, slix):
    account = server.account("juliet")
    page = await strophe(service, account)
    romeo = await slix(server.account("romeo"))
    await befriend(page, romeo)

    # What they tell each other while both are there.
    full = str(romeo.boundjid)
    await page.wait("presence", lambda p: p["from"] == full and p["type"] is None)
    romeo.send_presence(pshow="away")
    await page.wait("presence", lambda p: p["from"] == full and p["show"] == "away")
    await page.call("presence", {}, "away")
    await romeo.wait("presence_away", lambda p: p["from"] == page.jid)

    # One account on two transports: what the page writes into the roster, TCP is told, and back.
    desk = await slix(account, "desk")
    await page.call("contact", romeo.boundjid.bare, "Romeo")
    pushed = await desk.wait(
        "roster_update", lambda r: any(i["name"] == "Romeo" for i in r["roster"]["items"].values())
    )
    assert pushed["type"] == "set"
    await desk.update_roster(romeo.boundjid.bare, name="Romeo Montague")
    await page.wait("push", lambda items: items[0]["name"] == "Romeo Montague")
    assert await page.call("roster") == [
        {"jid": romeo.boundjid.bare, "name": "Romeo Montague", "subscription": "both"}
    ]

    # And that they are gone.
    await romeo.leave()
    await page.wait("presence", lambda p: p["from"] == full and p["type"] == "unavailable")


async def test_leaving_the_page_is_seen_by_contacts(server, strophe, service, slix):
    page = await strophe(service, server.account("juliet"))
    romeo = await slix(server.account("romeo"))
    await befriend(page, romeo)
    await page.call("leave")
    await page.wait("status", lambda s: s["status"] == "disconnected")
    await romeo.wait("presence_unavailable", lambda p: p["from"] == page.jid)


async def test_a_closed_tab_without_stream_management_is_gone_at_once(
    server, strophe, slix
):
    page = await strophe("ws://{}:{}/ws".format(*server.http), server.account("juliet"))
    romeo = await slix(server.account("romeo"))
    await befriend(page, romeo)
    await page.close()
    await romeo.wait("presence_unavailable", lambda p: p["from"] == page.jid)


@pytest.mark.parametrize("server_notices", [True, False], ids=["reset", "unnoticed"])
async def test_a_session_is_resumed_after_the_network_was_away(
    server, strophe, slix, cable, server_notices
):
    """Nothing is lost, nothing comes twice, and the contact saw nothing of it."""
    account = server.account("juliet")
    service = "ws://{}:{}/ws".format(*cable.address)
    page = await strophe(service, account, MANAGED)
    romeo = await slix(server.account("romeo"))
    await befriend(page, romeo)
    await romeo.wait("presence_available", lambda p: p["from"] == page.jid)
    await page.call("ping", server.domain)
    assert await page.call("managed")
    romeo.heard.clear()

    # Both speak into a dead cable, then it breaks, and Romeo goes on.
    cable.hold("down")
    cable.hold("up")
    for number in range(3):
        await page.call("message", str(romeo.boundjid), f"p{number}", f"from the page {number}")
        romeo.send_message(page.jid, f"to the page {number}", mtype="chat")
    await romeo.plugin["xep_0199"].send_ping(server.domain)
    cable.cut(server_notices)
    await page.wait("status", lambda s: s["status"] == "disconnected")
    romeo.send_message(page.jid, "to the page 3", mtype="chat")
    await romeo.plugin["xep_0199"].send_ping(server.domain)

    await page.call("reach", page.jid, account.password)
    connected = await page.wait("connected")
    assert connected == {"jid": page.jid, "resumed": True}
    romeo.send_message(page.jid, "to the page 4", mtype="chat")
    await page.wait("message", lambda m: m["body"] == "to the page 4")
    earlier = [m["body"] for m in page.all("message")]
    assert earlier == [f"to the page {number}" for number in range(4)]

    await page.call("message", str(romeo.boundjid), "p3", "from the page 3")
    await romeo.body("from the page 3", timeout=DEADLINE)
    earlier = [m["body"] for name, m in romeo.heard if name == "message"]
    assert earlier == [f"from the page {number}" for number in range(3)]
    assert romeo.count("presence_unavailable") == 0
    assert cable.connections == 2
