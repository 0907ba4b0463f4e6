"""The chat page from login to login. When several people log in with one browser, one after the
other, all tabs show the same account, and nothing of the one before stays, least of all what logs
them in. And what comes with a login is all there, however much it is."""

import json
import random

import pytest

from clients.cable import Cable
from clients.page import Chat
from harness.raw import Client

WAYS = ["socket", "events", "poll"]
CONTACTS = 1_000
# What a page knows, shows, or keeps in its form.
HERE = ("JSON.stringify([[...people.keys()], location.hash, $('text').value, "
        "$('chat').innerHTML, { ...sessionStorage }])")
FORM = "JSON.stringify([...new FormData(document.forms[0]).values()])"


@pytest.fixture
async def browser(new_server, server_options, window):
    """A browser, of which each call opens a tab, and a server that can be started anew."""
    server = new_server(options=server_options).start()
    first = await window("a browser")
    tabs = []
    async with Cable(lambda: server.http) as cable:

        async def tab(via="socket"):
            page = await first.tab() if tabs else first
            tabs.append(Chat(page, None, "http://{}:{}".format(*cable.address), via))
            return await tabs[-1].open()

        tab.server = server
        yield tab
        await first.close()
    assert server.stop() == 0


async def log_in(tab, account):
    await tab.page.see("#login form")
    await tab.page.fill("[name=user]", account.jid)
    await tab.page.fill("[name=password]", account.password)
    await tab.page.press("[name=password]", "Enter")
    await is_of(account, tab)


async def is_of(account, *tabs):
    """Waits until these tabs are this account's; with none, until somebody has to log in."""
    jid = account.jid if account else ""
    for tab in tabs:
        await tab.page.until(f"bare(me) === '{jid}'")
        if account:
            await tab.connected()
            await tab.page.see("#chat")
        else:
            await tab.page.see("#login form")


async def lose_session(tab):
    """What a tab shows that was away for longer than the grace time, and knows no password."""
    await tab.page.evaluate("void askToLogIn('')")


@pytest.mark.parametrize("via", WAYS)
async def test_who_logs_in_takes_the_place_of_who_was_there(browser, via):
    alice, dave = (browser.server.account(name) for name in ("alice", "dave"))
    one, two = await browser(via), await browser(via)
    await log_in(one, alice)
    await is_of(alice, two)
    await one.talk_with("confidant@elsewhere.test")
    await one.say("What alice says")
    await one.page.fill("#text", "what alice was about to say")
    await one.page.select("#shown", "dnd")

    await lose_session(two)
    await log_in(two, dave)
    await is_of(dave, one)
    await one.page.see(f"#toast:has-text('{dave.jid}')")
    for tab in (one, two):
        here = await tab.page.evaluate(HERE)
        assert "confidant" not in here and "alice" not in here, here
        assert await tab.page.evaluate("$('shown').value") == "online"

    # Nobody knows dave's password then, and nobody uses alice's.
    await two.page.reload()
    await is_of(dave, two)
    await two.talk_with("friend@elsewhere.test")
    browser.server.kill()
    browser.server.start()
    await is_of(None, one, two)
    await log_in(one, dave)
    await is_of(dave, two)
    assert await two.page.evaluate("partner().jid") == "friend@elsewhere.test"


@pytest.mark.parametrize("via", WAYS)
async def test_a_tab_that_slept_does_not_bring_back_who_was_there(browser, via):
    alice, dave = (browser.server.account(name) for name in ("alice", "dave"))
    one = await browser(via)
    await log_in(one, alice)
    await one.talk_with("confidant@elsewhere.test")
    two = await browser("socket")
    await is_of(alice, two)
    await one.page.evaluate("void (channel.onmessage = null)")
    await lose_session(two)
    await log_in(two, dave)
    await two.page.reload()
    await is_of(dave, two)
    browser.server.kill()
    browser.server.start()
    await is_of(None, one, two)
    # It still finds out who logs in, as soon as it looks.
    await log_in(two, dave)
    await one.page.evaluate("void main()")
    await is_of(dave, one)
    assert "confidant" not in await one.page.evaluate(HERE)


@pytest.mark.parametrize("via", WAYS)
async def test_a_connection_of_another_session_is_noticed(browser, via):
    """The cookie may change between the look for a session and the connection."""
    alice, dave = (browser.server.account(name) for name in ("alice", "dave"))
    one = await browser(via)
    await log_in(one, alice)
    await one.page.evaluate("void (channel.onmessage = null)")
    body = json.dumps({"user": dave.jid, "password": dave.password, "cookie": True})
    await one.page.evaluate(f"http('POST', '/v1/session', {body})")
    await one.page.evaluate("void main({ jid: me, cursor })")
    await is_of(dave, one)


@pytest.mark.parametrize("via", WAYS)
async def test_who_logs_out_leaves_nothing_in_any_tab(browser, via):
    alice, dave = (browser.server.account(name) for name in ("alice", "dave"))
    one, two = await browser(via), await browser(via)
    await log_in(one, alice)
    await is_of(alice, two)
    for tab in (one, two):
        await tab.talk_with("confidant@elsewhere.test")
        await tab.say("What alice says")
    await one.page.click("#leave")
    await is_of(None, one, two)
    for tab in (one, two):
        assert json.loads(await tab.page.evaluate(FORM)) == ["", ""]
        here = await tab.page.evaluate(HERE)
        assert "confidant" not in here and "alice" not in here, here
    browser.server.kill()
    browser.server.start()
    await log_in(two, dave)
    await is_of(dave, one)


@pytest.mark.parametrize("via", WAYS)
async def test_a_session_that_ended_leaves_the_conversation_to_its_owner_only(browser, via):
    """Also if the page is loaded anew while it asks to log in."""
    alice, dave = (browser.server.account(name) for name in ("alice", "dave"))
    tab = await browser(via)
    for later in (alice, dave):
        await log_in(tab, alice)
        await tab.talk_with("confidant@elsewhere.test")
        await tab.page.reload()
        await is_of(alice, tab)
        browser.server.kill()
        browser.server.start()
        await is_of(None, tab)
        await tab.page.reload()
        await log_in(tab, later)
        opened = await tab.page.evaluate("partner()?.jid ?? null")
        assert opened == ("confidant@elsewhere.test" if later is alice else None)
        if later is alice:
            await tab.page.click("#leave")


@pytest.mark.parametrize("via", WAYS)
@pytest.mark.parametrize("seed", range(2))
async def test_all_tabs_agree_whatever_happens(browser, via, seed):
    chance = random.Random(f"{via} {seed}")
    people = [browser.server.account(name) for name in ("alice", "bob", "carol")]
    tabs = [await browser(via) for _ in range(3)]
    now, last, knowing = None, None, set()  # whose it is; whose it was; who knows the password

    for _ in range(12):
        tab = chance.choice(tabs)
        step = chance.choice(["log in", "log in", "log out", "reload", "restart", "restart"])
        if step == "log in":
            if now:
                await lose_session(tab)
                knowing.discard(tab)
            before, now = now, chance.choice(people)
            await log_in(tab, now)
            last, knowing = now, {tab} | (knowing if before is now else set())
        elif step == "log out" and now:
            await tab.page.click("#leave")
            now, last, knowing = None, None, set()
        elif step == "reload":
            await tab.page.reload()
            knowing.discard(tab)
        elif step == "restart":
            browser.server.kill()
            browser.server.start()
            now = now if knowing else None
        await is_of(now, *tabs)
        for tab in tabs:
            here = await tab.page.evaluate(HERE)
            others = [person for person in people if person is not last]
            assert not any(f"friend-of-{person.name}" in here for person in others), (step, here)
            assert await tab.page.evaluate("Boolean(secret)") == (tab in knowing)
        if now:
            await tabs[0].talk_with(f"friend-of-{now.jid}")
            await tabs[0].say("How are you?")


@pytest.mark.parametrize("via", WAYS)
async def test_all_contacts_come_with_a_login(browser, via):
    """They are more than is kept while nobody reads, so the server says that there is a gap. But
    messages are not missing then."""
    server = browser.server
    account = server.account("juliet")
    async with Client(server, account, "desk") as desk:
        await desk.login()
        for number in range(CONTACTS):
            await desk.send(
                f"<iq type='set' id='c{number}'><query xmlns='jabber:iq:roster'>"
                f"<item jid='contact{number}@{server.domain}' name='{f'Number {number} ' * 6}'>"
                "<group>Colleagues of the second floor</group></item></query></iq>")
            if number % 100 == 99:
                await desk.ping()
    tab = await browser(via)
    await log_in(tab, account)
    await tab.page.until(f"$('people').children.length === {CONTACTS}")
    await tab.sees(f"contact{CONTACTS - 1}@{server.domain}", "offline")
    await tab.page.until("$('my-avatar').dataset.show === 'online'")

    await tab.talk_with(f"contact1@{server.domain}")
    await tab.say("Are you there?")
    await tab.marks("failed")
    other = await browser(via)
    await is_of(account, other)
    await other.talk_with(f"contact1@{server.domain}")
    await tab.say("Is anybody there?")
    await other.page.until("partner().messages.length > 0")
    server.kill()
    server.start()
    await is_of(account, tab, other)
    for each in (tab, other):
        await each.page.until(f"!isStale && $('people').children.length === {CONTACTS}")
        assert "may be missing" not in await each.page.evaluate("$('messages').textContent")

    # In a tab for which another one reads.
    await tab.page.click("#leave")
    await is_of(None, other)
    await log_in(other, account)
    for each in (tab, other):
        await each.page.until(f"$('people').children.length === {CONTACTS}")
