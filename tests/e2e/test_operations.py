"""What an administrator does to a server that people are using."""

import asyncio
import os
import re
import signal
import ssl

import pytest

from harness.certificates import Authority
from harness.raw import DELAY, Client, Closed
from harness.server import Account, Encke, binary_path

pytestmark = pytest.mark.skipif(
    os.environ.get("TESTS_SERVER", "encke") != "encke", reason="encke's own commands"
)


async def certificate_of(server):
    """The certificate that a new connection is shown."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection(*server.tls, ssl=context)
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return shown


async def until(condition, what):
    """For what has no event of its own: asks again until a deadline."""
    for _ in range(100):
        if await condition():
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"never: {what}")


async def test_accounts_are_managed_while_the_server_runs(server, connect):
    account = server.account("anna")
    listed = server.run("user", "list")
    assert account.jid in listed.stdout and listed.returncode == 0

    anna = await connect(account)
    done = server.run("user", "passwd", account.jid, "--password-stdin", stdin="another\n")
    assert done.returncode == 0, done.stderr
    with pytest.raises(Closed):
        await anna.expect("nothing more")
    anna = await connect(Account(account.name, account.domain, "another"))

    done = server.run("user", "delete", account.jid)
    assert done.returncode == 0, done.stderr
    with pytest.raises(Closed):
        await anna.expect("nothing more")
    assert account.jid not in server.run("user", "list").stdout


async def test_an_account_cannot_be_added_twice_or_elsewhere(server):
    account = server.account("anna")
    again = server.run("user", "add", account.jid, "--password-stdin", stdin="x\n")
    assert again.returncode != 0 and account.jid in again.stderr
    elsewhere = server.run("user", "add", "a@elsewhere.test", "--password-stdin", stdin="x\n")
    assert elsewhere.returncode != 0


async def test_accounts_are_imported(server, connect, tmp_path):
    file = tmp_path / "accounts"
    file.write_text("".join(f"imported{n}@{server.domain} secret{n}\n" for n in range(50)))
    done = server.run("user", "import", str(file))
    assert done.returncode == 0, done.stderr
    await (await connect(Account("imported49", server.domain, "secret49"))).ping()


async def test_status_counts_who_is_there(server, connect):
    before = sum(shard["sessions"] for shard in server.status()["shards"])
    await connect(server.account("anna"))
    after = server.status()
    assert sum(shard["sessions"] for shard in after["shards"]) == before + 1
    assert after["pid"] == server.pid


async def test_sighup_shows_a_new_certificate_and_drops_nobody(new_server, tmp_path):
    server = new_server().start()
    async with Client(server, server.account("anna")) as anna:
        await anna.login()
        old = await certificate_of(server)
        server.authority.issue(server.domain)
        os.kill(server.pid, signal.SIGHUP)

        async def changed():
            return await certificate_of(server) != old

        await until(changed, "the new certificate is shown")
        await anna.ping()
    assert await asyncio.to_thread(server.stop) == 0


async def test_sighup_with_a_broken_file_keeps_the_old_one(new_server):
    server = new_server().start()
    good = server.config.read_text()
    async with Client(server, server.account("anna")) as anna:
        await anna.login()
        old = await certificate_of(server)
        server.config.write_text(good + "\n[listen\nnonsense = yes\n")
        os.kill(server.pid, signal.SIGHUP)

        async def complained():
            return "encke.toml" in server.log_tail()

        await until(complained, "the log says what is wrong with the file")
        assert await certificate_of(server) == old
        await anna.ping()
        server.config.write_text(good)
    assert await asyncio.to_thread(server.stop) == 0


async def test_a_backup_brings_everything_back(new_server, tmp_path):
    server = new_server().start()
    anna, bert = server.account("anna"), server.account("bert")
    async with Client(server, anna) as sender:
        await sender.login(managed=True)
        await sender.message(bert.jid, "kept in the backup", "1")
        await sender.acknowledged()
        file = tmp_path / "backup"
        done = server.run("backup", str(file))
        assert done.returncode == 0, done.stderr
        await sender.message(bert.jid, "came after the backup", "2")
        await sender.acknowledged()
    assert await asyncio.to_thread(server.stop) == 0

    other = new_server()
    done = other.run("restore", str(file))
    assert done.returncode == 0, done.stderr
    other.start()
    async with Client(other, bert) as receiver:
        await receiver.login()
        letter = await receiver.body("kept in the backup")
        assert letter.find(f"{{{DELAY}}}delay") is not None
        await receiver.ping()
        assert b"came after" not in receiver.received


async def test_a_mistake_in_the_file_is_named_with_its_line(new_server):
    server = new_server()
    server.config.write_text(server.config.read_text() + "\n[c2s]\nrequire_tsl = true\n")
    done = server.run("serve")
    assert done.returncode == 3
    line = len(server.config.read_text().splitlines())
    assert re.search(rf"encke\.toml:{line}\b", done.stderr), done.stderr
    assert "require_tls" in done.stderr, "it should say what was meant"


async def test_check_finds_a_healthy_server_healthy(server):
    done = server.run("check")
    assert done.returncode in (0, 1), done.stdout + done.stderr


async def test_the_first_start_tells_a_newcomer_how_to_connect(new_server, tmp_path):
    """Standalone mode, as `cargo run --release` on a fresh clone: no file, demo accounts."""
    server = Standalone(tmp_path, Authority(tmp_path))
    try:
        server.start()
        banner = server.log.read_text()
        lines = banner.split("\n\n\n")[0].splitlines()
        assert len([line for line in lines if "INFO" not in line]) <= 16, banner
        password = re.search(r"password\s+(\S+)", banner).group(1)
        assert str(server.clear[1]) in banner
        account = Account("romeo", "localhost", password)
        async with Client(server, account) as romeo:
            await romeo.login(direct_tls=False)
            await romeo.ping()
        assert server.stop() == 0
    finally:
        if server.alive():
            server.kill()


class Standalone(Encke):
    """No configuration file; only the ports are asked of the kernel, not of the manual."""

    def __init__(self, folder, authority):
        super().__init__(folder, authority, "localhost", binary_path())
        self.config.unlink()
        self.data_dir = folder / "encke-data"

    def command(self, *words):
        return [str(self.binary), *(word for word in words if word != "serve")]

    def start(self):
        os.environ["ENCKE__LISTEN__C2S"] = "127.0.0.1:0"
        os.environ["ENCKE__LISTEN__C2S_TLS"] = "127.0.0.1:0"
        try:
            return super().start()
        finally:
            del os.environ["ENCKE__LISTEN__C2S"], os.environ["ENCKE__LISTEN__C2S_TLS"]

    def trust(self):
        """The certificate that it made for itself is trusted as one trusts it by hand."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context
