"""nginx in front of the server, as most people have it who run more than one thing on a host."""

import os
import shutil
import socket
import subprocess

CONFIG = """
daemon off;
worker_processes 1;
{user}
pid {folder}/nginx.pid;
error_log {folder}/error.log info;
events {{ worker_connections 256; }}
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


class Nginx:
    def __init__(self, folder, upstream, buffering=True):
        self.folder = folder
        program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
        assert program, "nginx is missing: run tests/all web"
        # It knows no port 0, but it inherits a socket that already listens, and nobody has to wait
        # for it: who connects before it is up is in the queue of that socket.
        with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
            self.address = listener.getsockname()
            config = folder / "nginx.conf"
            config.write_text(CONFIG.format(
                # Whoever may read the folder of a test: workers of root would be somebody else.
                user="user root;" if os.geteuid() == 0 else "",
                folder=folder, upstream="{}:{}".format(*upstream),
                address="{}:{}".format(*self.address), buffering="on" if buffering else "off",
            ))
            listener.set_inheritable(True)
            self._process = subprocess.Popen(
                [program, "-p", str(folder), "-c", str(config), "-e", f"{folder}/error.log"],
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
