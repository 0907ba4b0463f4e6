"""The chat page at `/`, as a browser shows it: over each way to get events, with several tabs,
without a network, after the server was killed."""

import asyncio
from xml.etree import ElementTree

import pytest
from slixmpp.xmlstream.handler import Callback
from slixmpp.xmlstream.matcher import MatchXPath

from clients.cable import Cable
from clients.page import Chat, befriend
from harness.raw import CLIENT, DEADLINE
from harness.slix import Slix

WAYS = ["socket", "events", "poll"]
RECEIPTS = "urn:xmpp:receipts"
STATES = "http://jabber.org/protocol/chatstates"
# Somewhat more than what the server keeps of events that were given to some tab.
MORE_THAN_KEPT = [f"{number} " + "on and on " * 1_900 for number in range(16)]
# What a browser says by itself when it is refused something, or has no network.
EXPECTED = ("error: Failed to load resource", "error: WebSocket connection to")


@pytest.fixture
def chat(server, window):
    """Opens the page in a browser of somebody's own, and logs in."""
    windows = []

    async def login(account, via="socket", address=None):
        browser = await window(account.name)
        windows.append(browser)
        host, port = address or server.http
        return await Chat(browser, account, f"http://{host}:{port}", via).login()

    yield login
    for browser in windows:
        wrong = [line for line in browser.console if line.startswith(("error", "uncaught"))
                 and not line.startswith(EXPECTED)]
        assert not wrong, "\n".join(wrong)


@pytest.fixture
async def couple(server, chat):
    """Romeo and Juliet, each in a browser of their own, with the conversation open."""

    async def meet(via="socket", address=None):
        juliet = await chat(server.account("juliet"), via, address)
        romeo = await chat(server.account("romeo"))
        await befriend(romeo, juliet)
        return juliet, romeo

    return meet


async def friends(chat, slix):
    """The page asks somebody on TCP, who agrees and asks in turn."""
    me, other = chat.account.jid, slix.boundjid.bare
    await chat.add(other)
    await slix.wait("presence_subscribe", lambda p: p["from"].bare == me)
    slix.send_presence(pto=me, ptype="subscribed")
    slix.send_presence_subscription(me)
    await chat.page.click("#requests .main")
    await slix.wait("presence_subscribed", lambda p: p["from"].bare == me)
    await chat.sees(other, "online")
    await chat.talk_with(other)


@pytest.mark.parametrize("via", WAYS)
async def test_two_people_chat(couple, via):
    juliet, romeo = await couple(via)
    await romeo.say("But soft!\nWhat light?")
    await juliet.shows("But soft!\nWhat light?")
    await romeo.marks("received")
    await juliet.say("Ay me!")
    await romeo.shows("But soft!\nWhat light?", "Ay me!")
    await juliet.marks("received")

    # Typing, a pause, and the message that ends it.
    await juliet.page.fill("#text", "O Romeo")
    await romeo.page.see("#typing:not(:empty)")
    await romeo.page.see("#people small:text('is typing')")
    await juliet.page.key("Enter")
    await romeo.shows("But soft!\nWhat light?", "Ay me!", "O Romeo")
    await romeo.page.until("document.getElementById('typing').textContent === ''")

    # What they tell of themselves.
    await juliet.page.select("#shown", "dnd")
    await romeo.sees(juliet.account.jid, "dnd")
    tab = await juliet.page.tab()
    await tab.open(juliet.url)
    await tab.until("$('shown').value === 'dnd'")
    await juliet.page.click("#leave")
    await romeo.sees(juliet.account.jid, "offline")
    await juliet.page.see("#login form")
    assert await juliet.page.read("#messages .text") == []


async def test_typing_is_told_to_those_who_know_it(server, chat, slix):
    """XEP-0085: composing, paused after five seconds, and active when the text is gone or sent."""
    juliet = await chat(server.account("juliet"))
    romeo = await slix(server.account("romeo"))
    await friends(juliet, romeo)
    states, fresh = [], asyncio.Event()

    def hear(stanza):
        states.append(next(child.tag for child in stanza.xml if STATES in child.tag))
        fresh.set()

    def tell(state, body=None):
        message = romeo.make_message(juliet.account.jid, body, mtype="chat")
        message.append(ElementTree.Element(f"{{{STATES}}}{state}"))
        message.send()

    async def told(*wanted):
        while [tag.partition("}")[2] for tag in states] != list(wanted):
            fresh.clear()
            await asyncio.wait_for(fresh.wait(), DEADLINE)

    names = ("active", "composing", "paused")
    for name in names:
        path = MatchXPath(f"{{{CLIENT}}}message/{{{STATES}}}{name}")
        romeo.register_handler(Callback(name, path, hear))
    # Not yet: who knows whether romeo's program understands it.
    await juliet.page.fill("#text", "But")
    await juliet.page.evaluate("ask('ping').then(() => 0)")
    await romeo.plugin["xep_0199"].send_ping(server.domain)
    assert states == []
    tell("active", "Speak")
    await juliet.shows("Speak")
    await juliet.page.type(" soft")
    await told("composing", "paused")
    await juliet.page.type("!")
    await told("composing", "paused", "composing")
    await juliet.page.fill("#text", "")
    await told("composing", "paused", "composing", "active")
    await juliet.page.type("Ay me")
    await juliet.page.key("Enter")
    await told("composing", "paused", "composing", "active", "composing", "active")

    tell("composing")
    await juliet.page.see("#typing:text('is typing')")
    tell("paused")
    await juliet.page.until("$('typing').textContent === ''")


@pytest.mark.parametrize("via", WAYS)
async def test_a_hundred_messages_keep_their_order(couple, via):
    juliet, romeo = await couple(via)
    texts = [f"{number}" for number in range(100)]
    # Faster than anybody types: what the page cannot send at once has to wait.
    await juliet.page.evaluate(
        f"for (const text of {texts}) {{ $('text').value = text; $('composer').requestSubmit(); }}"
    )
    await romeo.shows(*texts)
    await juliet.marks(*["received"] * 100)


async def test_a_wrong_password_is_refused_in_words(server, window):
    browser = await window("juliet")
    host, port = server.http
    account = server.account("juliet")
    chat = await Chat(browser, account, f"http://{host}:{port}").login(password="wrong")
    await browser.see("#login-problem:has-text('password is wrong')")
    await browser.type(account.password)
    await browser.key("Enter")
    await chat.connected()


async def test_an_address_of_the_same_server_needs_no_domain(server, chat):
    juliet, romeo = await chat(server.account("juliet")), server.account("romeo")
    await juliet.add(f" {romeo.name.title()} ")
    await juliet.page.until(f"partner()?.jid === '{romeo.jid}'")
    await juliet.page.see("#about:text('has not answered yet')")
    await juliet.page.click("#leave")
    await juliet.page.fill("[name=user]", romeo.jid)
    await juliet.page.fill("[name=password]", romeo.password)
    await juliet.page.press("[name=password]", "Enter")
    await juliet.page.see("#requests li")
    await juliet.page.gone("#alone")


async def test_contacts_come_and_go(server, chat, slix):
    juliet = await chat(server.account("juliet"))
    romeo = await slix(server.account("romeo"))
    await friends(juliet, romeo)
    romeo.send_presence(pshow="away", pstatus="under a balcony")
    await juliet.sees(romeo.boundjid.bare, "away")
    await juliet.page.see("#about:text-is('away: under a balcony')")
    await juliet.page.click("#remove")
    await juliet.page.wait("dialog", lambda words: romeo.boundjid.bare in words)
    await juliet.page.see("#about:has-text('not a contact')")
    await romeo.wait("presence_unsubscribed")

    # Somebody asks and is declined.
    paris = await slix(server.account("paris"))
    paris.send_presence_subscription(juliet.account.jid)
    await juliet.page.click("#requests button:text('Decline')")
    await paris.wait("presence_unsubscribed")
    await juliet.page.gone("#requests li")


async def test_what_comes_back_is_said_at_the_message(server, chat):
    juliet = await chat(server.account("juliet"))
    await juliet.talk_with(f"nobody@{server.domain}")
    await juliet.say("Is anybody there?")
    await juliet.marks("failed")
    await juliet.page.see(".trouble:has-text('Not delivered')")
    await juliet.page.click(".trouble button")
    await juliet.page.until("$('messages').querySelector('.mark').dataset.mark === 'failed'")


async def test_other_programs_of_the_same_person_are_seen(server, chat, slix):
    account = server.account("juliet")
    juliet, desk = await chat(account), await slix(account, "desk")
    romeo = await slix(server.account("romeo"))
    await desk.plugin["xep_0280"].enable()
    other = romeo.boundjid.bare
    await juliet.talk_with(other)
    desk.send_message(other, "from the desk", mtype="chat")
    await juliet.shows("from the desk")
    romeo.send_message(desk.boundjid, "to the desk", mtype="chat")
    await juliet.shows("from the desk", "to the desk")
    await juliet.say("from the page")
    await desk.wait("carbon_sent", lambda c: c["carbon_sent"]["body"] == "from the page")


@pytest.mark.parametrize("via", WAYS)
async def test_twelve_tabs_are_one_session(server, chat, slix, via):
    """Over HTTP one of them reads for all: a browser has but six connections to a server."""
    juliet = await chat(server.account("juliet"), via)
    romeo = await slix(server.account("romeo"))
    await friends(juliet, romeo)
    other = romeo.boundjid.bare
    romeo.send_message(juliet.account.jid, "before", mtype="chat")
    await juliet.shows("before")

    tabs = [juliet]
    for _ in range(11):
        page = await juliet.page.tab()
        tabs.append(await Chat(page, juliet.account, juliet.url.partition("/?")[0], via).open())
    for tab in tabs:
        await tab.connected()
        await tab.talk_with(other)
        await tab.shows("before")
    said = [f"{number}" for number in range(20)]
    for text in said:
        romeo.send_message(juliet.account.jid, text, mtype="chat")
    await tabs[5].say("from the sixth")
    await romeo.body("from the sixth")
    for tab in tabs:
        await tab.page.until("document.querySelectorAll('#messages .text').length === 22")
        texts = await tab.page.read("#messages .text")
        assert texts[0] == "before" and "from the sixth" in texts
        assert [text for text in texts if text in said] == said
        await tab.marks("stored")
    if via == "events":
        assert await juliet.page.asked("eventsource") == 1

    # All of them see that a receipt is wanted; it goes out once.
    receipts = []
    romeo.register_handler(Callback(
        "receipts", MatchXPath(f"{{{CLIENT}}}message/{{{RECEIPTS}}}received"), receipts.append))
    request = romeo.make_message(juliet.account.jid, "last", mtype="chat")
    request.append(ElementTree.Element(f"{{{RECEIPTS}}}request"))
    request.send()
    for tab in tabs:
        await tab.page.until("partner().messages.at(-1).body === 'last'")
        await tab.page.evaluate("ask('ping').then(() => 0)")
    await romeo.plugin["xep_0199"].send_ping(server.domain)
    received = [stanza.xml.find(f"{{{RECEIPTS}}}received").get("id") for stanza in receipts]
    assert received == [request["id"]]
    assert romeo.count("presence_available", lambda p: p["from"].bare == juliet.account.jid) == 1

    # The tab that read goes away: another one takes its place, and nothing is lost.
    if via != "socket":
        await tabs[0].page.open("about:blank")
    for number in range(20, 40):
        romeo.send_message(juliet.account.jid, f"{number}", mtype="chat")
    await romeo.plugin["xep_0199"].send_ping(server.domain)
    for tab in tabs[1:]:
        await tab.page.until("document.querySelectorAll('#messages .text').length === 43")
    if via == "events":
        assert await juliet.page.asked("eventsource") == 2

    # Who logs out in one tab is out in all.
    await tabs[7].page.click("#leave")
    for tab in tabs[1:]:
        await tab.page.see("#login form")


@pytest.mark.parametrize("via", WAYS)
async def test_nothing_is_lost_or_shown_twice_when_the_network_breaks(
    server, couple, cable, via
):
    juliet, romeo = await couple(via, cable.address)
    said = []
    for turn, server_notices in enumerate([True, False, True]):
        # Both speak into a dead cable, then it breaks.
        cable.hold("down")
        cable.hold("up")
        for number in range(3):
            await juliet.say(f"{turn} juliet {number}")
            await romeo.say(f"{turn} romeo {number}")
        await romeo.page.until("!document.querySelector('.mine [data-mark=sending]')")
        cable.cut(server_notices)
        said += [f"{turn} {who} {number}" for who in ("juliet", "romeo") for number in range(3)]
        for person in (juliet, romeo):
            await person.page.until(
                f"document.querySelectorAll('#messages .text').length === {len(said)}"
            )
            texts = await person.page.read("#messages .text")
            assert sorted(texts) == sorted(said)
            for who in ("juliet", "romeo"):
                assert [t for t in texts if who in t] == [t for t in said if who in t]
        await juliet.marks(*["received"] * (3 * turn + 3))


@pytest.mark.parametrize("via", WAYS)
async def test_a_browser_without_network_sends_later(couple, via):
    juliet, romeo = await couple(via)
    await juliet.page.offline(True)
    await juliet.page.until("document.getElementById('state').dataset.state !== 'online'")
    await juliet.say("written in a tunnel")
    await romeo.say("sent into it")
    await romeo.marks("stored")
    await juliet.marks("sending")
    await juliet.page.offline(False)
    await romeo.shows("sent into it", "written in a tunnel")
    await romeo.marks("received")
    await juliet.marks("received")


@pytest.mark.parametrize("via", WAYS)
async def test_the_server_is_killed_in_the_middle(new_server, server_options, window, via):
    """The page logs in again by itself; what was stored comes, what was not sent goes."""
    server = new_server(options=server_options).start()
    async with Cable(lambda: server.http) as cable:
        host, port = cable.address
        account, other = server.account("juliet"), server.account("romeo")
        juliet = await Chat(await window("juliet"), account, f"http://{host}:{port}", via).login()
        romeo = await Slix(server, other).login()
        await friends(juliet, romeo)
        romeo.send_message(account.jid, "one", mtype="chat")
        await juliet.shows("one")
        await juliet.say("two")
        await juliet.marks("stored")
        await romeo.body("two")
        # A tab that does not know the password: it comes back with the one that does.
        tab = await Chat(await juliet.page.tab(), account, f"http://{host}:{port}", via).open()
        await tab.connected()

        server.kill()
        await juliet.page.until("document.getElementById('state').dataset.state !== 'online'")
        await juliet.say("three")
        server.start()
        again = await Slix(server, other).login()
        again.send_message(account.jid, "four", mtype="chat")
        # Which of the two comes first nobody can say.
        await again.body("three")
        await juliet.page.until("document.querySelectorAll('#messages .text').length === 4")
        texts = await juliet.page.read("#messages .text")
        assert texts[:2] == ["one", "two"] and sorted(texts[2:]) == ["four", "three"]
        await juliet.marks("stored", "stored")
        await juliet.sees(other.jid, "online")
        for page in (juliet, tab):
            await page.page.evaluate("ask('ping').then(() => 0)")
            await page.connected()
        await tab.talk_with(other.jid)
        await tab.page.until("document.querySelectorAll('#messages .text').length === 4")
        await romeo.leave()
        await again.leave()
        await juliet.page.close()
    assert server.stop() == 0


@pytest.mark.parametrize("via", WAYS)
async def test_a_page_that_is_loaded_again_goes_on(server, couple, via):
    juliet, romeo = await couple(via)
    said = MORE_THAN_KEPT
    for text in said:
        await romeo.say(text)
    await juliet.shows(*said)
    await juliet.page.fill("#text", "half of what")
    await juliet.page.reload()
    await romeo.say("meanwhile")
    await juliet.connected()
    await juliet.shows(*said, "meanwhile")
    assert await juliet.page.evaluate("$('text').value") == "half of what"
    await juliet.say("after")
    await romeo.shows(*said, "meanwhile", "after")
    await juliet.marks("received")


@pytest.mark.parametrize("via", WAYS)
async def test_what_was_missed_for_good_is_said(server, chat, slix, via):
    """One tab of a session is away while another one reads more than the server keeps."""
    where = [server.http]
    async with Cable(lambda: where[0]) as cable:
        juliet = await chat(server.account("juliet"), via, cable.address)
        romeo = await slix(server.account("romeo"))
        await friends(juliet, romeo)
        romeo.send_message(juliet.account.jid, "before", mtype="chat")
        await juliet.shows("before")
        # Of another origin, so that the tabs cannot help each other.
        other = await juliet.page.tab()
        other = await Chat(other, juliet.account, "http://{}:{}".format(*server.http)).open()
        await other.connected()
        await other.talk_with(romeo.boundjid.bare)

        where[0] = ("127.0.0.1", 1)
        cable.cut()
        await juliet.page.until("document.getElementById('state').dataset.state !== 'online'")
        said = MORE_THAN_KEPT
        for text in said:
            romeo.send_message(juliet.account.jid, text, mtype="chat")
        romeo.send_presence(pshow="away")
        await other.shows("before", *said)
        await other.sees(romeo.boundjid.bare, "away")
        where[0] = server.http
        await juliet.connected()
        await juliet.page.see(".note:has-text('may be missing')")
        await juliet.sees(romeo.boundjid.bare, "away")
        await juliet.page.until(f"partner().messages.at(-1).body === {said[-1]!r}")
        texts = await juliet.page.read("#messages .text")
        assert texts[0] == "before" and "may be missing" in texts[1]
        assert 0 < len(texts) - 2 < len(said)


async def test_where_there_is_no_websocket_it_takes_an_event_stream(server, window, chat):
    browser = await window("juliet")
    await browser.before("""window.WebSocket = class {
        constructor() { setTimeout(() => this.onclose?.()); }
        close() {}
    };""")
    host, port = server.http
    juliet = await Chat(browser, server.account("juliet"), f"http://{host}:{port}").login()
    await browser.see("#state:text('event stream')")
    romeo = await chat(server.account("romeo"))
    await befriend(romeo, juliet)
    await romeo.say("Can you hear me?")
    await juliet.shows("Can you hear me?")


HOSTILE = [
    "<img src=x onerror=\"tell('code', 1)\">",
    "<script>tell('code', 2)</script>",
    "javascript:tell('code',3) https://example.net/\"onmouseover=\"tell('code',4)",
    "\"><svg onload=tell('code',5)>&amp;&lt;",
    "${tell('code', 6)} {{tell('code', 7)}} \u202ereversed",
]


async def test_what_others_write_is_text(server, chat, slix):
    juliet = await chat(server.account("juliet"))
    romeo = await slix(server.account("romeo"), HOSTILE[0])
    await friends(juliet, romeo)
    tags = "JSON.stringify([...document.body.querySelectorAll('*')].map((e) => e.tagName).sort())"
    known = set(eval(await juliet.page.evaluate(tags)))
    for text in HOSTILE:
        romeo.send_presence(pstatus=text, pshow="away")
        romeo.send_message(juliet.account.jid, text, mtype="chat")
    await juliet.shows(*HOSTILE)
    await juliet.page.until(f"$('about').textContent.endsWith({HOSTILE[-1]!r})")
    await juliet.page.evaluate(f"ask('roster.set', {{ jid: partner().jid, name: {HOSTILE[0]!r} }})")
    await juliet.page.until(f"$('name').textContent === {HOSTILE[0]!r}")
    await juliet.page.see("#people .name:has-text('<img')")
    # Somebody with such words in their request, and one who is not asked for: a subject.
    paris = await slix(server.account("paris"))
    paris.send_presence(pto=juliet.account.jid, ptype="subscribe", pstatus=HOSTILE[3])
    await juliet.page.see("#requests li:has-text('svg onload')")
    there = set(eval(await juliet.page.evaluate(tags)))
    assert there - known <= {"LI", "A", "B", "BUTTON", "DIV", "SMALL", "SPAN", "P", "TIME"}
    links = await juliet.page.evaluate("[...$('messages').querySelectorAll('a')].map((a) => "
                                       "[a.href, a.rel, a.target])")
    assert links == [["https://example.net/", "noopener noreferrer", "_blank"]]
    assert juliet.page.all("code") == []
    handlers = "document.querySelectorAll('[onerror], [onload], [onmouseover]').length"
    assert await juliet.page.evaluate(handlers) == 0


LONG = "W" * 60


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [(320, 568), (390, 844), (768, 1024), (1440, 900)], ids=str)
async def test_everything_fits(server, chat, slix, size, scheme):
    juliet = await chat(server.account("juliet"))
    romeo = await slix(server.account("romeo"))
    await friends(juliet, romeo)
    await juliet.page.look(*size, scheme)
    await juliet.page.evaluate(f"ask('roster.set', {{ jid: partner().jid, name: '{LONG}' }})")
    romeo.send_presence(pstatus=LONG * 3, pshow="dnd")
    romeo.send_message(juliet.account.jid, LONG * 5, mtype="chat")
    await juliet.say("https://example.net/" + "a" * 300)
    paris = await slix(server.account("paris"))
    paris.send_presence(pto=juliet.account.jid, ptype="subscribe", pstatus=LONG * 2)
    await juliet.page.until("people.size === 3 || [...people.values()].some((w) => w.request)")
    await juliet.page.until("document.querySelectorAll('#messages .text').length === 2")
    await juliet.page.until(f"$('name').textContent === '{LONG}'")
    await no_overflow(juliet.page, size[0])
    if size[0] <= 640:
        await juliet.page.gone("#side")
        await juliet.page.click("#back")
        await juliet.page.gone("#talk")
    await juliet.page.see("#requests li")
    await no_overflow(juliet.page, size[0])
    await juliet.page.click("#add")
    await no_overflow(juliet.page, size[0])
    ground = await juliet.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(238, 241, 246)", "dark": "rgb(14, 17, 24)"}[scheme]
    await juliet.page.key("Escape")
    await juliet.page.click("#theme")
    turned = await juliet.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert turned != ground


async def no_overflow(page, width):
    """Nothing that is to be seen is beyond the right edge, and nothing scrolls sideways."""
    beyond = await page.evaluate(f"""[...document.body.querySelectorAll('*')]
        .filter((e) => e.checkVisibility() && !e.closest('.cut, select'))
        .filter((e) => e.getBoundingClientRect().right > {width} + 0.5)
        .map((e) => `${{e.tagName}}#${{e.id}}.${{e.className}}`)""")
    assert beyond == []
    assert await page.evaluate("document.documentElement.scrollWidth") <= width


async def test_a_keyboard_is_enough(server, window, slix):
    browser = await window("juliet")
    host, port = server.http
    account = server.account("juliet")
    chat = await Chat(browser, account, f"http://{host}:{port}").open()
    await browser.until("document.activeElement?.name === 'user'")
    await browser.type(account.jid)
    await browser.key("Tab")
    await browser.type(account.password)
    await browser.key("Enter")
    await chat.connected()

    others = [await slix(server.account(name)) for name in ("nurse", "romeo")]
    for other in others:
        other.send_message(account.jid, f"I am {other.boundjid.user}", mtype="chat")
        await browser.see(f'#people a[title="{other.boundjid.bare}"] .badge')
    assert await browser.evaluate("document.title") == "(2) encke"

    # To the list, down to the second of it, in, write, and back.
    await browser.until("document.activeElement !== null")
    for _ in range(12):
        if await browser.evaluate("Boolean(document.activeElement.closest('#people'))"):
            break
        await browser.key("Tab")
    first = others[1].boundjid.bare
    assert await browser.evaluate("document.activeElement.title") == first
    await browser.key("ArrowDown", "ArrowUp", "Enter")
    await browser.until("document.activeElement.id === 'text'")
    await chat.shows(f"I am {others[1].boundjid.user}")
    await browser.type("one")
    await browser.key("Shift+Enter")
    await browser.type("two")
    await browser.key("Enter")
    await others[1].body("one\ntwo")
    # Who composes a sign out of several keys takes only that back.
    composing = "{ key: 'Escape', isComposing: true, bubbles: true }"
    await browser.evaluate(f"$('text').dispatchEvent(new KeyboardEvent('keydown', {composing}))")
    assert await browser.evaluate("document.activeElement.id") == "text"
    assert await browser.evaluate("Boolean(partner())")
    await browser.key("Escape")
    await browser.until(f"document.activeElement.title === '{first}'")
    assert await browser.evaluate("document.title") == "(1) encke"
    assert await browser.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
