"""Everything random that programs share in a running Python process, which has
used it before."""

import http.server
import json
import os
import random
import secrets
import ssl
import uuid


def draw():
    return {
        "random": repr(random.random()),
        "randbytes": random.randbytes(8).hex(),
        "SystemRandom": repr(random.SystemRandom().random()),
        "shuffle": repr(random.sample(range(1000), 10)),
        "uuid4": str(uuid.uuid4()),
        "uuid1": str(uuid.uuid1()),
        "urandom": os.urandom(8).hex(),
        "getrandom": os.getrandom(8).hex(),
        "secrets": secrets.token_hex(8),
        "ssl": ssl.RAND_bytes(8).hex(),
    }


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps(draw()).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


for _ in range(3):
    draw()
http.server.ThreadingHTTPServer(("0.0.0.0", 8000), Handler).serve_forever()
