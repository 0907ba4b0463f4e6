"""nginx in front of the server, as most people have it who run more than one thing on a host."""

import os
import re
import shutil
import socket
import subprocess

START = """
daemon off;
worker_processes 1;
{user}
pid {folder}/nginx.pid;
error_log {folder}/error.log info;
events {{ worker_connections 256; }}
"""
WEB = START + """
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}
    upstream encke {{ server {upstream}; }}
    server {{
        listen {address};
        location / {{
            proxy_pass http://encke;
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_buffering {buffering};
            proxy_read_timeout 1h;
        }}
    }}
}}
"""
STREAM = "load_module {modules}/ngx_stream_module.so;" + START + """
stream {{
    set_real_ip_from 127.0.0.0/8;
    server {{
        listen {address} {told};
        proxy_pass {upstream};
        proxy_protocol on;
    }}
}}
"""


class Nginx:
    """Passes requests on."""

    def __init__(self, folder, upstream, buffering=True):
        self._start(folder, WEB, upstream=upstream, buffering="on" if buffering else "off")

    def _start(self, folder, config, upstream, **words):
        self.folder = folder
        program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
        assert program, "nginx is missing: run tests/all web"
        # It knows no port 0, but it inherits a socket that already listens, and nobody has to wait
        # for it: who connects before it is up is in the queue of that socket.
        with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
            self.address = listener.getsockname()
            path = folder / "nginx.conf"
            path.write_text(config.format(
                # Whoever may read the folder of a test: workers of root would be somebody else.
                user="user root;" if os.geteuid() == 0 else "",
                folder=folder, upstream="{}:{}".format(*upstream),
                address="{}:{}".format(*self.address), modules=_modules(program), **words,
            ))
            listener.set_inheritable(True)
            self._process = subprocess.Popen(
                [program, "-p", str(folder), "-c", str(path), "-e", f"{folder}/error.log"],
                env={**os.environ, "NGINX": f"{listener.fileno()};"},
                pass_fds=[listener.fileno()], stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )

    def log(self):
        file = self.folder / "error.log"
        return file.read_text() if file.exists() else ""

    def close(self):
        self._process.terminate()
        self._process.wait(20)


class Relay(Nginx):
    """Passes octets on, and says before the first of them whose they are (PROXY protocol).

    With `listens_for_it` it wants to be told so itself, and passes on what it is told.
    """

    def __init__(self, folder, upstream, listens_for_it=False):
        self._start(folder, STREAM, upstream=upstream,
                    told="proxy_protocol" if listens_for_it else "")


def _modules(program):
    """Where Debian's package of the stream module puts it."""
    said = subprocess.run([program, "-V"], capture_output=True, text=True, check=True).stderr
    return re.search(r"--modules-path=(\S+)", said).group(1)
