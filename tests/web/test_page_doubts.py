"""What the chat page believes of what others say, and what it tells those who ask."""

import json
from xml.etree import ElementTree

from slixmpp.xmlstream.handler import Callback
from slixmpp.xmlstream.matcher import MatchXPath
from test_page import RECEIPTS, STATES, chat  # noqa: F401

from clients.people import raw  # noqa: F401
from harness.raw import CLIENT


async def hear(chat, what, **members):
    """An event, as the server might send it, and later than the last one."""
    event = json.dumps({"type": what, **members})
    now = await chat.page.evaluate(f"(receive({event}), Date.now())")
    await chat.page.until(f"Date.now() > {now}")


async def test_nothing_is_later_than_now(server, chat):
    juliet = await chat(server.account("juliet"))
    stamp, ours = {"stamp": "2099-01-01T00:00:00Z"}, {"from": server.domain}
    await hear(
        juliet, "message", **{"from": "early@elsewhere.test/a"}, body="early", delay=stamp | ours)
    await hear(juliet, "message", **{"from": "late@elsewhere.test/a"}, body="late")
    old = {"stamp": "2020-01-01T00:00:00Z"}
    await hear(juliet, "message", **{"from": "old@elsewhere.test/a"}, body="old", delay=old | ours)
    copy = {"from": juliet.account.jid + "/b", "to": "own@elsewhere.test", "body": "own"}
    await hear(juliet, "carbon", direction="sent", message=copy, **stamp)
    await hear(juliet, "message", **{"from": "last@elsewhere.test/a"}, body="last")
    await juliet.page.until("$('people').children.length === 5")
    names = await juliet.page.read("#people .name")
    assert names[-1] == "old" and names.index("late") < names.index("early")
    assert names.index("last") < names.index("own")
    messages = "[...people.values()].flatMap(({ messages }) => messages)"
    assert await juliet.page.evaluate(f"{messages}.every(({{ at }}) => at <= Date.now())")


async def test_when_it_was_our_own_server_says(server, chat):
    juliet = await chat(server.account("juliet"))
    old = {"stamp": "2020-01-01T00:00:00Z", "from": "elsewhere.test"}
    await hear(juliet, "message", **{"from": "romeo@elsewhere.test/a"}, body="new", delay=old)
    await juliet.talk_with("romeo@elsewhere.test")
    await juliet.page.see("#messages .day:text-is('Today')")


async def test_a_message_is_known_by_the_name_that_our_own_server_gave_it(server, chat):
    juliet = await chat(server.account("juliet"))
    own, romeo, room = juliet.account.jid, "romeo@elsewhere.test/a", "room@elsewhere.test"
    await juliet.talk_with(romeo.partition("/")[0])

    async def said(body, by, name="1", message_id=None, sender=romeo, kind="chat"):
        event = {"from": sender, "kind": kind, "body": body, "stanza_id": {"id": name, "by": by}}
        await hear(juliet, "message", **event, message_id=message_id)

    # What others wrote into it makes no two messages one, and no one message two.
    await said("one", "romeo@elsewhere.test", message_id="m1")
    await said("two", "romeo@elsewhere.test", message_id="m2")
    await said("two, once more", "romeo@elsewhere.test", "another", message_id="m2")
    await said("three", room)
    await said("four", room)
    await said("five", own, "5")
    await said("five, once more", own, "5")
    await juliet.shows("one", "two", "three", "four", "five")

    await juliet.talk_with(room)
    await said("one", room, sender=f"{room}/nick", kind="groupchat")
    await said("one, once more", room, sender=f"{room}/nick", kind="groupchat")
    await said("two", own, sender=f"{room}/nick", kind="groupchat")
    await said("three", own, sender=f"{room}/nick", kind="groupchat")
    await juliet.shows("one", "two", "three")


async def test_messages_of_another_program_need_no_names(server, chat, raw):
    account = server.account("juliet")
    juliet, desk = await chat(account), await raw(account, "desk")
    romeo = server.account("romeo").jid
    await juliet.talk_with(romeo)
    for body in ("one", "two"):
        await desk.send_stanza(f"<message to='{romeo}' type='chat'><body>{body}</body></message>")
    await juliet.shows("one", "two")


async def test_a_stranger_learns_nothing_before_they_are_answered(server, chat, slix):
    juliet, romeo = await chat(server.account("juliet")), await slix(server.account("romeo"))
    told = []
    for name in (f"{{{STATES}}}composing", f"{{{RECEIPTS}}}received"):
        def hear(stanza, name=name):
            told.append(stanza.xml.find(name).get("id", "typing"))

        path = MatchXPath(f"{{{CLIENT}}}message/{name}")
        romeo.register_handler(Callback(name, path, hear))

    async def say(name, text):
        message = romeo.make_message(juliet.account.jid, text, mtype="chat")
        message["id"] = name
        message.append(ElementTree.Element(f"{{{RECEIPTS}}}request"))
        message.append(ElementTree.Element(f"{{{STATES}}}active"))
        message.send()

    async def settled():
        """What either of them had to tell is told."""
        await juliet.page.until("!isSending && !receipts.length")
        await juliet.page.evaluate("ask('ping').then(() => 0)")
        await romeo.plugin["xep_0199"].send_ping(server.domain)

    await juliet.talk_with(romeo.boundjid.bare)
    await say("one", "Who are you?")
    await juliet.shows("Who are you?")
    await juliet.page.click("#text")
    await juliet.page.type("Nobody")
    await settled()
    assert told == []
    await juliet.page.key("Enter")
    await romeo.body("Nobody")
    await say("two", "Are you there?")
    await juliet.shows("Who are you?", "Nobody", "Are you there?")
    await settled()
    assert told == ["two"]
    await juliet.page.type("Yes")
    await settled()
    assert told == ["two", "typing"]
