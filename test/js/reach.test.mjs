// Reaching programs inside a sandbox from outside, by name and by headers.
import { test, before, after, describe } from 'node:test'
import assert from 'node:assert/strict'
import crypto from 'node:crypto'
import http2 from 'node:http2'
import { Sandbox } from 'e2b'
import {
  api, bodyOf, echoServer, fetchGuest, openByHeaders, openGuest, sandboxUrl, serveInside, until, webSocketServer, withSandbox,
} from './helpers.mjs'

const MiB = 1 << 20

describe('reaching a guest', () => {
  let sbx
  before(async () => {
    sbx = await Sandbox.create({ timeoutMs: 300_000 })
    await serveInside(sbx, 8000, echoServer)
    await serveInside(sbx, 8001, echoServer, '127.0.0.1')
    await serveInside(sbx, 8002, webSocketServer)
  })
  after(() => sbx?.kill())

  test('a server on all addresses', async () => {
    const res = await fetchGuest(sbx, 8000, { path: '/some/path?q=1&r=a%20b', headers: { 'X-Mine': 'yes' } })
    assert.equal(res.status, 200)
    const seen = JSON.parse(res.text)
    assert.equal(seen.path, '/some/path?q=1&r=a%20b')
    assert.equal(seen.headers['x-mine'], 'yes')
    assert.equal(seen.headers.host, sbx.getHost(8000))
  })

  test('a server on localhost only', async () => {
    const res = await fetchGuest(sbx, 8001, { path: '/local' })
    assert.deepEqual([res.status, JSON.parse(res.text).path], [200, '/local'])
  })

  test('by the two headers', async () => {
    const res = await openByHeaders(sbx.sandboxId, 8000, { path: '/by-headers' })
    assert.equal(res.statusCode, 200)
    assert.equal(JSON.parse(await bodyOf(res)).path, '/by-headers')
  })

  test('a .localhost name needs no DNS', async () => {
    const res = await fetchGuest(`8000-${sbx.sandboxId}.localhost`, 8000, { path: '/x' })
    assert.equal(res.status, 200)
  })

  test('the names and ids that SDKs before version 2 make', async () => {
    const made = await api('POST', '/sandboxes', { body: { templateID: 'base', timeout: 60 } })
    const id = `${made.json.sandboxID}-${made.json.clientID}`
    try {
      const { port } = new URL(sandboxUrl)
      const res = await fetchGuest(`49983-${id}.localhost:${port}`, 49983, { path: '/metrics' })
      assert.equal(res.status, 200, res.text)
      assert.equal((await openByHeaders(id, 49983, { path: '/health' })).statusCode, 204)
      assert.equal((await api('POST', `/sandboxes/${id}/timeout`, { body: { timeout: 60 } })).status, 204)
    } finally {
      assert.equal((await api('DELETE', `/sandboxes/${id}`)).status, 204)
    }
  })

  test('methods and bodies', async () => {
    for (const method of ['POST', 'PUT', 'PATCH']) {
      const res = await fetchGuest(sbx, 8000, { method, body: Buffer.alloc(5 * MiB), path: '/up' })
      assert.deepEqual([JSON.parse(res.text).method, JSON.parse(res.text).size], [method, 5 * MiB])
    }
    assert.equal((await fetchGuest(sbx, 8000, { method: 'DELETE' })).status, 200)
    assert.equal((await fetchGuest(sbx, 8000, { method: 'HEAD' })).status, 200)
  })

  test('a body of 64 MiB comes out whole', async () => {
    const res = await openGuest(sbx, 8000, { path: `/big/${64 * MiB}` })
    let size = 0
    for await (const part of res) size += part.length
    assert.equal(size, 64 * MiB)
  })

  test('what is sent arrives at once, not at the end', async () => {
    const res = await openGuest(sbx, 8000, { path: '/slow' })
    const reader = res[Symbol.asyncIterator]()
    assert.equal((await reader.next()).value.toString(), 'data: first\n\n')
    await sbx.files.write('/tmp/go-on', '')
    assert.equal((await reader.next()).value.toString(), 'data: second\n\n')
    assert.equal((await reader.next()).done, true)
  })

  test('a WebSocket', async () => {
    const key = crypto.randomBytes(16).toString('base64')
    const res = await openGuest(sbx, 8002, {
      headers: { Connection: 'Upgrade', Upgrade: 'websocket', 'Sec-WebSocket-Version': '13', 'Sec-WebSocket-Key': key },
    })
    assert.equal(res.statusCode, 101)
    const expected = crypto.createHash('sha1').update(key + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11').digest('base64')
    assert.equal(res.headers['sec-websocket-accept'], expected)
    const replies = []
    res.socket.on('data', (d) => replies.push(d))
    for (const text of ['hello', 'again']) {
      const mask = crypto.randomBytes(4)
      const data = Buffer.from(text).map((b, i) => b ^ mask[i % 4])
      res.socket.write(Buffer.concat([Buffer.from([0x81, 0x80 | text.length]), mask, data]))
      await until(text, () => Buffer.concat(replies).includes(text))
    }
    res.socket.destroy()
  })

  test('HTTP/2 without TLS', async () => {
    const client = http2.connect(sandboxUrl)
    try {
      const answer = await new Promise((resolve, reject) => {
        client.on('error', reject)
        const req = client.request({ ':path': '/two', ':authority': sbx.getHost(8000) })
        let text = ''
        let status
        req.on('response', (h) => { status = h[':status'] })
        req.on('data', (d) => { text += d })
        req.on('end', () => resolve({ status, text }))
        req.on('error', reject)
        req.end()
      })
      assert.deepEqual([answer.status, JSON.parse(answer.text).path], [200, '/two'])
    } finally {
      client.close()
    }
  })

  test('many requests at once', async () => {
    const all = await Promise.all(Array.from({ length: 50 }, (_, i) => fetchGuest(sbx, 8000, { path: `/${i}` })))
    assert.deepEqual(all.map((r) => JSON.parse(r.text).path), all.map((_, i) => `/${i}`))
  })

  test('a closed port says so, to programs and to people', async () => {
    const res = await fetchGuest(sbx, 9, {})
    assert.equal(res.status, 502)
    const answer = JSON.parse(res.text)
    assert.match(answer.message, /port is not open/)
    assert.deepEqual([answer.code, answer.port, answer.sandboxId], [502, 9, sbx.sandboxId])
    const page = await fetchGuest(sbx, 9, { headers: { Accept: 'text/html', 'User-Agent': 'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/126 Safari/537.36' } })
    assert.equal(page.status, 502)
    assert.match(page.headers['content-type'], /text\/html/)
    assert.ok(page.text.includes(sbx.sandboxId))
  })

  test('an unknown sandbox says so', async () => {
    const id = 'i0000000000000000gone'
    for (const res of [
      await fetchGuest(`8000-${id}.localhost`, 8000, {}),
      await openByHeaders(id, 8000).then(async (r) => ({ status: r.statusCode, text: (await bodyOf(r)).toString() })),
    ]) {
      assert.equal(res.status, 502)
      assert.match(JSON.parse(res.text).message, /was not found/)
      assert.equal(JSON.parse(res.text).sandboxId, id)
    }
  })

  test('names that are not names', async () => {
    for (const host of [`x-${sbx.sandboxId}.localhost`, `0-${sbx.sandboxId}.localhost`, `70000-${sbx.sandboxId}.localhost`, `-1-${sbx.sandboxId}.localhost`]) {
      const res = await fetchGuest(host, 0, {})
      assert.ok(res.status >= 400 && res.status < 503, `${host}: ${res.status}`)
      assert.ok(!res.text.includes('"path"'), host)
    }
  })

  test('the daemon’s routes for the host are closed', async () => {
    const token = { 'X-Access-Token': sbx.envdAccessToken }
    for (const [method, path] of [
      ['POST', '/init'], ['POST', '/init/'], ['POST', '//init'], ['POST', '/./init'], ['POST', '/%69nit'], ['POST', '/files/../init'],
      ['GET', '/atoll/tunnel?port=22'], ['POST', '/freeze'], ['POST', '/fsfreeze'], ['POST', '/collapse'],
    ]) {
      const res = await fetchGuest(sbx, 49983, { method, path, headers: { ...token, 'Content-Type': 'application/json' }, body: method === 'POST' ? '{"envVars":{"HACKED":"1"}}' : undefined })
      assert.ok(res.status >= 400, `${method} ${path}: ${res.status}`)
    }
    assert.equal((await sbx.commands.run('echo "[$HACKED]"')).stdout, '[]\n')
  })

  test('health of the daemon', async () => {
    const res = await fetchGuest(sbx, 49983, { path: '/health' })
    assert.ok(res.status === 204 || res.status === 200)
  })

  test('a private sandbox asks for its traffic token', async () => {
    await withSandbox({ network: { allowPublicTraffic: false } }, async (shut) => {
      assert.ok(shut.trafficAccessToken)
      await serveInside(shut, 8000, echoServer)
      assert.equal((await fetchGuest(shut, 8000, {})).status, 403)
      assert.equal((await fetchGuest(shut, 8000, { headers: { 'e2b-traffic-access-token': 'wrong' } })).status, 403)
      const res = await fetchGuest(shut, 8000, { headers: { 'e2b-traffic-access-token': shut.trafficAccessToken } })
      assert.equal(res.status, 200)
      const again = await Sandbox.connect(shut.sandboxId)
      assert.equal(again.trafficAccessToken, shut.trafficAccessToken)
      assert.equal((await shut.commands.run('echo sdk')).stdout, 'sdk\n')
    })
  })

  test('a server that stops and starts again', async () => {
    const handle = await serveInside(sbx, 8003, echoServer)
    assert.equal((await fetchGuest(sbx, 8003, {})).status, 200)
    await handle.kill()
    await until('the port to close', async () => (await fetchGuest(sbx, 8003, {})).status === 502)
    await serveInside(sbx, 8003, echoServer)
    assert.equal((await fetchGuest(sbx, 8003, {})).status, 200)
  })
})
