"""What the tests of the Python SDK share: where the server is, plain HTTP to a
sandbox by name, and waiting on conditions."""

import contextlib
import http.client
import os
import time
import unittest
import urllib.parse

from e2b import Sandbox

API_URL = os.environ["E2B_API_URL"]
SANDBOX_URL = os.environ["E2B_SANDBOX_URL"]
API_KEY = os.environ["E2B_API_KEY"]

# How long a condition may take to come true before a test gives up, in seconds.
PATIENCE = 30

UNKNOWN = "i0000000000000000gone"


def until(what, condition, limit=PATIENCE):
    """Calls condition until it returns something true, and returns that."""
    end = time.monotonic() + limit
    while True:
        got = condition()
        if got:
            return got
        if time.monotonic() > end:
            raise AssertionError(f"waited {limit} s in vain for {what}")
        time.sleep(0.025)


@contextlib.contextmanager
def sandbox(**opts):
    """A sandbox that is removed whatever happens."""
    made = Sandbox.create(**{"timeout": 120, **opts})
    try:
        yield made
    finally:
        made.kill()


class WithSandbox(unittest.TestCase):
    """Tests that share one sandbox."""

    options = {}

    @classmethod
    def setUpClass(cls):
        cls.sbx = Sandbox.create(**{"timeout": 300, **cls.options})
        cls.addClassCleanup(cls.sbx.kill)


def request(method, path, headers=None, body=None, url=SANDBOX_URL):
    """One HTTP request to the server under test; returns status, headers, body."""
    at = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(at.hostname, at.port, timeout=PATIENCE)
    try:
        connection.request(method, path, body=body, headers=headers or {})
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()
    finally:
        connection.close()


def fetch(sbx, port, path="/", method="GET", headers=None, body=None):
    """A request to a port of a sandbox by its public name."""
    host = sbx if isinstance(sbx, str) else sbx.get_host(port)
    return request(method, path, {"Host": host, **(headers or {})}, body)


def fetch_signed(sbx, url, method="GET", headers=None, body=None):
    """A file URL of the SDK sent to the sandbox's own name on this server."""
    at = urllib.parse.urlsplit(url)
    return fetch(sbx, 49983, f"{at.path}?{at.query}", method, headers, body)


ECHO = """
import http.server, json, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        out = json.dumps({'path': self.path}).encode()
        self.send_response(200)
        self.send_header('Content-Length', str(len(out)))
        self.end_headers()
        self.wfile.write(out)
    def log_message(self, *args):
        pass
http.server.ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Handler).serve_forever()
"""


def serve(sbx, port, program=ECHO, address="0.0.0.0"):
    """Starts a program inside and waits until its port is open."""
    path = f"/tmp/serve-{port}.py"
    sbx.files.write(path, program)
    handle = sbx.commands.run(f"python3 {path} {address} {port}", background=True, timeout=0)
    probe = f"python3 -c \"import socket; socket.create_connection(('127.0.0.1', {port}), 1)\" && echo open || true"
    until(f"port {port}", lambda: "open" in sbx.commands.run(probe).stdout)
    return handle
