"""Converse.js in Chromium, used with mouse and keyboard as a person does."""

import urllib.parse

import pytest


@pytest.fixture
def converse(window, site, server):
    async def login(account):
        page = await window(f"Converse.js of {account.name}")
        service = urllib.parse.quote("ws://{}:{}/ws".format(*server.http))
        await page.open(f"{site.origin}/converse.html?websocket={service}")
        await page.fill("input[name=jid]", account.jid)
        await page.fill("input[name=password]", account.password)
        await page.click("input[type=submit], button[type=submit]")
        await page.see("converse-rosterview, #converse-roster")
        return page

    return login


async def test_a_conversation(server, converse, slix, tmp_path_factory):
    account = server.account("juliet")
    romeo = await slix(server.account("romeo"))
    # They know each other from earlier on.
    desk = await slix(account, "desk")
    for one, other in ((desk, romeo), (romeo, desk)):
        one.send_presence_subscription(other.boundjid.bare)
        await other.wait("presence_subscribe")
        other.send_presence(pto=one.boundjid.bare, ptype="subscribed")
        await one.wait("presence_subscribed")
    await desk.update_roster(romeo.boundjid.bare, name="Romeo Montague")
    await desk.leave()
    romeo.heard.clear()

    page = await converse(account)
    await page.see("converse-roster-contact >> text=Romeo Montague")
    online = await romeo.wait("presence_available", lambda p: p["from"].bare == account.jid)

    await page.click("converse-roster-contact >> text=Romeo Montague")
    await page.see("textarea.chat-textarea")
    await page.fill("textarea.chat-textarea", "Wherefore art thou Romeo?")
    await page.press("textarea.chat-textarea", "Enter")
    heard = await romeo.body("Wherefore art thou Romeo?")
    assert heard["from"] == online["from"]

    romeo.send_message(heard["from"], "Call me but love", mtype="chat")
    await page.see("converse-chat-message >> text=Call me but love")
    said = await page.read(".chat-msg__text")
    assert [text.strip() for text in said] == ["Wherefore art thou Romeo?", "Call me but love"]

    picture = tmp_path_factory.mktemp("converse") / "conversation.png"
    await page.screenshot(picture)
    print(f"a picture of it: {picture}")

    # Logging out, which is more than closing the tab: that may come back.
    await page.click("a.show-profile")
    await page.click("button >> text=Log out")
    await page.click("converse-confirm-modal button[type=submit]")
    await romeo.wait("presence_unavailable", lambda p: p["from"] == online["from"])
