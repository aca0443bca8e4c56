// What the tests of the JavaScript SDK share: where the server is, plain HTTP
// to a sandbox by name, raw calls to the daemon inside, and waiting on conditions.
import http from 'node:http'
import crypto from 'node:crypto'
import { Sandbox } from 'e2b'

export const apiUrl = need('E2B_API_URL')
export const sandboxUrl = need('E2B_SANDBOX_URL')
export const apiKey = need('E2B_API_KEY')
export const adminToken = need('ATOLL_ADMIN_TOKEN')

/** How long a condition may take to come true before a test gives up. */
export const patience = 30_000

/** The id of a sandbox that never was. */
export const unknownId = 'i0000000000000000gone'

function need(name) {
  const value = process.env[name]
  if (!value) throw new Error(`${name} is not set: these tests are started by "go test ./test/..."`)
  return value
}

/** Calls f until it returns something truthy. */
export async function until(what, f, limit = patience) {
  const end = Date.now() + limit
  for (;;) {
    const got = await f()
    if (got) return got
    if (Date.now() > end) throw new Error(`waited ${limit} ms in vain for ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 25))
  }
}

/** Runs f with a sandbox of its own, which is removed whatever happens. */
export async function withSandbox(opts, f) {
  const sbx = await Sandbox.create({ timeoutMs: 120_000, ...opts })
  try {
    return await f(sbx)
  } finally {
    await sbx.kill().catch(() => {})
  }
}

/** One call to the control API, outside the SDK. */
export async function api(method, path, { body, headers = { 'X-API-Key': apiKey } } = {}) {
  const res = await fetch(apiUrl + path, {
    method,
    headers: { ...headers, ...(body === undefined ? {} : { 'Content-Type': 'application/json' }) },
    body: body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body),
  })
  const text = await res.text()
  let json
  try {
    json = JSON.parse(text)
  } catch {
    json = undefined
  }
  return { status: res.status, headers: res.headers, text, json }
}

/**
 * A request to a port of a sandbox by its public name, as a browser would make
 * it where the name resolves to the server. Returns the response as it starts.
 */
export function openGuest(sbx, port, { path = '/', method = 'GET', headers = {}, body } = {}) {
  return request(path, { method, headers: { Host: hostOf(sbx, port), ...headers }, body })
}

/** Like openGuest, with the two routing headers in place of the name. */
export function openByHeaders(id, port, { path = '/', method = 'GET', headers = {}, body } = {}) {
  return request(path, {
    method,
    headers: { 'E2b-Sandbox-Id': id, 'E2b-Sandbox-Port': String(port), ...headers },
    body,
  })
}

export function hostOf(sbx, port) {
  return typeof sbx === 'string' ? sbx : sbx.getHost(port)
}

export function request(path, { method = 'GET', headers = {}, body }) {
  const url = new URL(sandboxUrl)
  return new Promise((resolve, reject) => {
    const req = http.request(
      { host: url.hostname, port: url.port, path, method, headers, agent: false },
      (res) => resolve(res)
    )
    req.on('error', reject)
    req.on('upgrade', (res, socket, head) => resolve(Object.assign(res, { socket, head })))
    if (body && typeof body.pipe === 'function') body.pipe(req)
    else req.end(body)
  })
}

export async function bodyOf(res) {
  const parts = []
  for await (const part of res) parts.push(part)
  return Buffer.concat(parts)
}

export async function fetchGuest(sbx, port, opts) {
  const res = await openGuest(sbx, port, opts)
  const body = await bodyOf(res)
  return { status: res.statusCode, headers: res.headers, body, text: body.toString() }
}

/** A file URL of the SDK sent to the sandbox's own name on the server under test. */
export async function fetchSigned(sbx, url, { method = 'GET', headers = {}, body } = {}) {
  const { pathname, search } = new URL(url)
  return fetchGuest(sbx, 49983, { path: pathname + search, method, headers, body })
}

/** One unary call to the daemon inside, in the Connect protocol's JSON form. */
export async function rpc(sbx, procedure, message, headers = {}) {
  const res = await openByHeaders(sbx.sandboxId, 49983, {
    path: `/${procedure}`,
    method: 'POST',
    headers: { ...daemonHeaders(sbx), 'Content-Type': 'application/json', ...headers },
    body: JSON.stringify(message),
  })
  const text = (await bodyOf(res)).toString()
  const json = /^application\/json/.test(res.headers['content-type'] ?? '') ? JSON.parse(text) : undefined
  return { status: res.statusCode, json, text }
}

/** One server-streaming call; yields each message, then { end } with the trailer. */
export async function* rpcStream(sbx, procedure, message, headers = {}) {
  const payload = Buffer.from(JSON.stringify(message))
  const envelope = Buffer.alloc(5 + payload.length)
  envelope.writeUInt32BE(payload.length, 1)
  payload.copy(envelope, 5)
  const res = await openByHeaders(sbx.sandboxId, 49983, {
    path: `/${procedure}`,
    method: 'POST',
    headers: {
      ...daemonHeaders(sbx),
      'Content-Type': 'application/connect+json',
      'Connect-Protocol-Version': '1',
      ...headers,
    },
    body: envelope,
  })
  let buffer = Buffer.alloc(0)
  for await (const part of res) {
    buffer = Buffer.concat([buffer, part])
    while (buffer.length >= 5 && buffer.length >= 5 + buffer.readUInt32BE(1)) {
      const size = buffer.readUInt32BE(1)
      const json = JSON.parse(buffer.subarray(5, 5 + size).toString() || '{}')
      if (buffer[0] & 2) yield { end: json }
      else yield json
      buffer = buffer.subarray(5 + size)
    }
  }
}

export function daemonHeaders(sbx) {
  return sbx.envdAccessToken ? { 'X-Access-Token': sbx.envdAccessToken } : {}
}

/** Starts a Python program inside and waits until its port is open. */
export async function serveInside(sbx, port, program, address = '0.0.0.0') {
  const path = `/tmp/serve-${port}.py`
  await sbx.files.write(path, program)
  const handle = await sbx.commands.run(`python3 ${path} ${address} ${port}`, {
    background: true,
    timeoutMs: 0,
  })
  await until(`port ${port} to open`, async () => {
    const probe = await sbx.commands
      .run(`python3 -c "import socket; socket.create_connection(('127.0.0.1', ${port}), 1)"`)
      .catch((err) => err)
    return probe.exitCode === 0
  })
  return handle
}

export function sha256(data) {
  return crypto.createHash('sha256').update(data).digest('hex')
}

/** A shared program for servers inside: answers with what it was asked. */
export const echoServer = `
import http.server, json, os, sys, time
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def answer(self, body=b''):
        out = json.dumps({'method': self.command, 'path': self.path, 'size': len(body),
            'headers': {k.lower(): v for k, v in self.headers.items()}}).encode()
        self.send_response(200)
        self.send_header('Content-Type', 'application/json')
        self.send_header('Content-Length', str(len(out)))
        self.end_headers()
        if self.command != 'HEAD':
            self.wfile.write(out)
    def do_GET(self):
        if self.path == '/slow':
            return self.slow()
        if self.path.startswith('/big/'):
            return self.big(int(self.path.split('/')[2]))
        self.answer()
    do_HEAD = do_DELETE = do_GET
    def do_POST(self):
        length = self.headers.get('Content-Length')
        if length is not None:
            left, body = int(length), b''
            while left:
                part = self.rfile.read(min(left, 1 << 16))
                left -= len(part)
                body += part
        else:
            body = b''
            while True:
                size = int(self.rfile.readline(), 16)
                body += self.rfile.read(size)
                self.rfile.readline()
                if size == 0:
                    break
        self.answer(body)
    do_PUT = do_PATCH = do_POST
    def slow(self):
        self.send_response(200)
        self.send_header('Content-Type', 'text/event-stream')
        self.send_header('Transfer-Encoding', 'chunked')
        self.end_headers()
        def chunk(data):
            self.wfile.write(b'%x\\r\\n%s\\r\\n' % (len(data), data))
            self.wfile.flush()
        chunk(b'data: first\\n\\n')
        while not os.path.exists('/tmp/go-on'):
            time.sleep(0.02)
        chunk(b'data: second\\n\\n')
        chunk(b'')
    def big(self, size):
        self.send_response(200)
        self.send_header('Content-Length', str(size))
        self.end_headers()
        block = b'x' * 65536
        while size:
            self.wfile.write(block[:size])
            size -= min(size, len(block))
    def log_message(self, *args):
        pass
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
Server((sys.argv[1], int(sys.argv[2])), Handler).serve_forever()
`

/** A WebSocket server that sends every message back. */
export const webSocketServer = `
import base64, hashlib, socketserver, sys
class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        key = ''
        while True:
            line = self.rfile.readline().decode().strip()
            if not line:
                break
            name, _, value = line.partition(':')
            if name.lower() == 'sec-websocket-key':
                key = value.strip()
        accept = base64.b64encode(hashlib.sha1((key + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11').encode()).digest()).decode()
        self.wfile.write(('HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n'
            'Sec-WebSocket-Accept: %s\\r\\n\\r\\n' % accept).encode())
        while True:
            head = self.rfile.read(2)
            if len(head) < 2 or head[0] & 15 == 8:
                return
            size = head[1] & 127
            mask = self.rfile.read(4)
            data = bytes(b ^ mask[i % 4] for i, b in enumerate(self.rfile.read(size)))
            self.wfile.write(bytes([head[0], size]) + data)
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
Server((sys.argv[1], int(sys.argv[2])), Handler).serve_forever()
`
