"""What the chat page believes of what others say."""

import json

from test_page import chat  # noqa: F401


async def hear(chat, what, **members):
    """An event, as the server might send it, and later than the last one."""
    event = json.dumps({"type": what, **members})
    now = await chat.page.evaluate(f"(receive({event}), Date.now())")
    await chat.page.until(f"Date.now() > {now}")


async def test_nothing_is_later_than_now(server, chat):
    juliet = await chat(server.account("juliet"))
    stamp = {"stamp": "2099-01-01T00:00:00Z"}
    await hear(juliet, "message", **{"from": "early@elsewhere.test/a"}, body="early", delay=stamp)
    await hear(juliet, "message", **{"from": "late@elsewhere.test/a"}, body="late")
    old = {"stamp": "2020-01-01T00:00:00Z"}
    await hear(juliet, "message", **{"from": "old@elsewhere.test/a"}, body="old", delay=old)
    copy = {"from": juliet.account.jid + "/b", "to": "own@elsewhere.test", "body": "own"}
    await hear(juliet, "carbon", direction="sent", message=copy, **stamp)
    await hear(juliet, "message", **{"from": "last@elsewhere.test/a"}, body="last")
    await juliet.page.until("$('people').children.length === 5")
    names = await juliet.page.read("#people .name")
    assert names[-1] == "old" and names.index("late") < names.index("early")
    assert names.index("last") < names.index("own")
    messages = "[...people.values()].flatMap(({ messages }) => messages)"
    assert await juliet.page.evaluate(f"{messages}.every(({{ at }}) => at <= Date.now())")
