"""A cable between a client and the server that a test can pull: the network of mobile people."""

import asyncio
import contextlib
import socket
import struct

# Directions.
UP, DOWN = "up", "down"


class Cable:
    """Passes octets on to wherever `target()` says at the moment; counts who came."""

    def __init__(self, target):
        self._target = target
        self._flowing = {UP: asyncio.Event(), DOWN: asyncio.Event()}
        self._tasks: set[asyncio.Task] = set()
        self._near: list[asyncio.StreamWriter] = []
        self._far: list[asyncio.StreamWriter] = []
        self.connections = 0
        for direction in (UP, DOWN):
            self._flowing[direction].set()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = self._server.sockets[0].getsockname()
        return self

    async def __aexit__(self, *_):
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def hold(self, direction):
        """What is sent in this direction from now on is on its way, until it is lost or let go."""
        self._flowing[direction].clear()

    def release(self):
        for flowing in self._flowing.values():
            flowing.set()

    def cut(self, server_notices=True):
        """The client's end is reset, and what was on its way is lost. The server sees a reset too,
        or it sees nothing, as when a phone leaves the network.
        """
        gone = self._near + (self._far if server_notices else [])
        for writer in gone:
            _reset(writer)
        self._near.clear()
        if server_notices:
            self._far.clear()
        for task in self._tasks:
            task.cancel()
        self.release()

    async def _serve(self, near_reader, near):
        self.connections += 1
        try:
            far_reader, far = await asyncio.open_connection(*self._target())
        except OSError:
            _reset(near)  # nobody listens there at the moment
            return
        self._near.append(near)
        self._far.append(far)
        loop = asyncio.get_running_loop()
        for reader, writer, direction in ((near_reader, far, UP), (far_reader, near, DOWN)):
            task = loop.create_task(self._pass(reader, writer, direction))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass(self, reader, writer, direction):
        with contextlib.suppress(ConnectionError):
            while octets := await reader.read(65536):
                await self._flowing[direction].wait()
                writer.write(octets)
                await writer.drain()
            writer.close()


def _reset(writer):
    raw = writer.get_extra_info("socket")
    with contextlib.suppress(OSError, AttributeError):
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
