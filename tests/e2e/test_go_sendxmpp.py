"""go-sendxmpp, a client in Go: one message from a script, over both ports."""

import asyncio
import os
import shutil

import pytest

pytestmark = pytest.mark.skipif(
    not shutil.which("go-sendxmpp"), reason="go-sendxmpp is not installed"
)


async def send(server, account, to, text, direct_tls, password=None):
    host, port = server.tls if direct_tls else server.clear
    process = await asyncio.create_subprocess_exec(
        "go-sendxmpp", "-u", account.jid, "-p", password or account.password,
        "-j", f"{host}:{port}", *(["-t"] if direct_tls else []), to,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "SSL_CERT_FILE": str(server.authority.file),
             "HOME": str(server.folder)},
    )
    said, _ = await asyncio.wait_for(process.communicate(text.encode() + b"\n"), 30)
    return process.returncode, said.decode()


@pytest.mark.parametrize("direct_tls", [False, True], ids=["STARTTLS", "Direct TLS"])
async def test_a_message_from_a_script_arrives(server, connect, direct_tls):
    juliet = await connect(server.account("juliet"))
    script = server.account("script")
    code, said = await send(server, script, juliet.account.jid, "disk almost full", direct_tls)
    assert code == 0, said
    heard = await juliet.hear("disk almost full")
    assert heard and script.jid.encode() in juliet.received


async def test_a_wrong_password_is_an_error(server):
    script = server.account("script")
    code, said = await send(server, script, script.jid, "x", False, password="wrong")
    assert code != 0, said
