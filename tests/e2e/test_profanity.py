"""profanity, a client in C on libstrophe, used as a person uses it: keys and a screen."""

import asyncio
import shutil

import pytest

from harness.raw import CLIENT
from harness.terminal import Terminal

pytestmark = pytest.mark.skipif(not shutil.which("profanity"), reason="profanity is not installed")

SETTINGS = """
[ui]
splash=false
[notifications]
message=false
[alias]
[logging]
chlog=false
"""


@pytest.fixture
def profanity(server, tmp_path):
    terminals = []

    def start(account, tls="force"):
        home = tmp_path / account.name
        (home / "config" / "profanity").mkdir(parents=True)
        (home / "data").mkdir()
        (home / "config" / "profanity" / "profrc").write_text(SETTINGS)
        environment = {
            "HOME": str(home), "XDG_CONFIG_HOME": str(home / "config"),
            "XDG_DATA_HOME": str(home / "data"), "SSL_CERT_FILE": str(server.authority.file),
            "LANG": "C.UTF-8", "TERM": "xterm-256color",
        }
        terminal = Terminal(["profanity"], environment)
        terminals.append(terminal)
        terminal.sees("Profanity")
        host, port = server.tls if tls == "legacy" else server.clear
        terminal.type(f"/connect {account.jid} server {host} port {port} tls {tls}")
        terminal.sees("password")
        terminal.type(account.password)
        terminal.sees("logged in successfully")
        return terminal

    yield start
    for terminal in terminals:
        terminal.close()


@pytest.mark.parametrize("tls", ["force", "legacy"], ids=["STARTTLS", "Direct TLS"])
async def test_logs_in_and_talks_both_ways(server, connect, profanity, tls):
    romeo = await connect(server.account("romeo"))
    account = server.account("prof")
    screen = await asyncio.to_thread(profanity, account, tls)
    screen.type(f"/msg {romeo.account.jid} hello from a terminal")
    heard = await romeo.body("hello from a terminal", timeout=20)
    assert heard.get("from").startswith(account.jid + "/")

    await romeo.message(heard.get("from"), "hello from a test", "1")
    await asyncio.to_thread(screen.sees, "hello from a terminal", "hello from a test")


async def test_shows_contacts_and_their_presence(server, connect, profanity):
    romeo = await connect(server.account("romeo"))
    account = server.account("prof")
    screen = await asyncio.to_thread(profanity, account)
    screen.type(f"/roster add {romeo.account.jid} Montague")
    await asyncio.to_thread(screen.sees, "Roster item added")
    screen.type(f"/sub request {romeo.account.jid}")
    await romeo.expect(
        f"{{{CLIENT}}}presence", 20, where=lambda p: p.get("type") == "subscribe"
    )
    await romeo.send_stanza(f"<presence type='subscribed' to='{account.jid}'/>")
    await romeo.send_stanza("<presence><show>dnd</show><status>in Mantua</status></presence>")
    await asyncio.to_thread(screen.sees, "Montague", "in Mantua")

    await romeo.close()
    await asyncio.to_thread(screen.sees, "offline")


async def test_a_wrong_certificate_is_noticed(server, tmp_path):
    """The tests above verify for real: without the authority, profanity asks the user."""
    account = server.account("prof")
    home = tmp_path / "home"
    home.mkdir()
    terminal = Terminal(["profanity"], {"HOME": str(home), "LANG": "C.UTF-8"})
    try:
        await asyncio.to_thread(terminal.sees, "Profanity")
        host, port = server.clear
        terminal.type(f"/connect {account.jid} server {host} port {port} tls force")
        await asyncio.to_thread(terminal.sees, "password")
        terminal.type(account.password)
        await asyncio.to_thread(terminal.sees, "TLS certificate")
    finally:
        terminal.close()
