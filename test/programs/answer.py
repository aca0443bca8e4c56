"""What the programs under strain share: a server on port 8000 that runs the
program's check on each request, and tells what is wrong."""

import http.server
import traceback


def expect(what, got, want):
    if got != want:
        raise AssertionError(f"{what}: {got!r}, want {want!r}")


def serve(check, port=8000):
    """Answers GET / with "ok" if check returns, or with why it does not."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            try:
                status, body = 200, str(check() or "ok").encode()
            except Exception:
                status, body = 500, traceback.format_exc().encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    http.server.ThreadingHTTPServer(("0.0.0.0", port), Handler).serve_forever()
