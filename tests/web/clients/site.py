"""A web site on loopback: the pages of these tests, and the packages that they use."""

import functools
import http.server
import threading
from pathlib import Path

from .node import MODULES

PAGES = Path(__file__).resolve().parents[1] / "pages"


class Site:
    """Another origin than the XMPP server's, as it is for most people who have a chat on a page."""

    def __init__(self):
        handler = functools.partial(_Handler, directory=str(PAGES))
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.origin = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()


class _Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def translate_path(self, path):
        path = path.partition("?")[0]
        if path.startswith("/modules/"):
            path = path.removeprefix("/modules")
            self.directory = str(MODULES / "node_modules")
        else:
            self.directory = str(PAGES)
        return super().translate_path(path)

    def log_message(self, *_):
        pass
