// Sandboxes that sleep: pause, resume and what survives them.
import { test, before, after, describe } from 'node:test'
import assert from 'node:assert/strict'
import { Sandbox, SandboxError, SandboxNotFoundError, TimeoutError } from 'e2b'
import { api, echoServer, fetchGuest, openByHeaders, serveInside, unknownId, until, withSandbox } from './helpers.mjs'

const bytes = (text) => new TextEncoder().encode(text)
const out = async (sbx, cmd, opts) => (await sbx.commands.run(cmd, opts)).stdout.trim()
const stateOf = async (sbx) => (await Sandbox.getInfo(sbx.sandboxId)).state

/** Waits until a sandbox that pauses at its time-out has done so. */
const paused = (sbx) => until('it to be paused', async () => (await stateOf(sbx)) === 'paused')

describe('pause and resume', () => {
  let sbx
  before(async () => { sbx = await Sandbox.create({ timeoutMs: 300_000, envs: { GREETING: 'hello' }, metadata: { kept: 'yes' } }) })
  after(() => sbx?.kill())

  test('once is true, twice is false', async () => {
    assert.equal(await sbx.pause(), true)
    assert.equal(await stateOf(sbx), 'paused')
    assert.equal(await sbx.isRunning(), false)
    assert.equal(await sbx.pause(), false)
    assert.equal(await Sandbox.pause(sbx.sandboxId), false)
    await sbx.connect()
    assert.equal(await stateOf(sbx), 'running')
    assert.equal(await sbx.isRunning(), true)
  })

  test('files, memory, environment and what it is called go on', async () => {
    await sbx.files.write('kept.txt', 'before the pause')
    await sbx.files.write('/dev/shm/in-memory', 'in memory')
    const identity = 'hostname; cat /etc/machine-id /proc/sys/kernel/random/boot_id; echo $E2B_SANDBOX_ID $GREETING'
    const was = await out(sbx, identity)
    const info = await sbx.getInfo()
    await sbx.pause()
    const same = await Sandbox.connect(sbx.sandboxId)
    assert.equal(same.sandboxId, sbx.sandboxId)
    assert.equal(same.envdAccessToken, sbx.envdAccessToken)
    assert.equal(await same.files.read('kept.txt'), 'before the pause')
    assert.equal(await same.files.read('/dev/shm/in-memory'), 'in memory')
    assert.equal(await out(same, identity), was)
    const now = await same.getInfo()
    assert.deepEqual([now.metadata, now.startedAt, now.templateId], [info.metadata, info.startedAt, info.templateId])
    assert.equal(await out(sbx, 'echo the old object works too'), 'the old object works too')
  })

  test('the clock is right after it', async () => {
    await sbx.pause()
    await sbx.connect()
    const now = Number(await out(sbx, 'date +%s%3N'))
    assert.ok(Math.abs(now - Date.now()) < 5000, `the clock is ${now - Date.now()} ms off`)
  })

  test('a process goes on and is connected to again', async () => {
    const first = await sbx.commands.run('i=0; while [ ! -e /tmp/stop ]; do i=$((i+1)); echo $i; sleep 0.02; done; echo last; exit 5', {
      background: true, timeoutMs: 0, stdin: false,
    })
    await until('some output', () => first.stdout.includes('5\n'))
    const ended = first.wait().catch((err) => err)
    await sbx.pause()
    assert.ok((await ended) instanceof Error, 'the stream ends with an error')
    await sbx.connect()
    const second = await sbx.commands.connect(first.pid, { timeoutMs: 0 })
    await until('output after the resume', () => /\n\d+\n/.test(second.stdout))
    const seen = second.stdout.split('\n').filter(Boolean).map(Number)
    assert.ok(seen[0] >= 5, 'it counts on from where it was')
    await sbx.files.write('/tmp/stop', '')
    const err = await second.wait().catch((e) => e)
    assert.equal(err.exitCode, 5)
    assert.match(second.stdout, /last\n$/)
  })

  test('standard input stays open', async () => {
    const handle = await sbx.commands.run('cat; echo end', { background: true, stdin: true, timeoutMs: 0 })
    handle.wait().catch(() => {})
    await sbx.commands.sendStdin(handle.pid, 'one\n')
    await until('the first line', () => handle.stdout === 'one\n')
    await sbx.pause()
    await sbx.connect()
    const again = await sbx.commands.connect(handle.pid, { timeoutMs: 0 })
    await sbx.commands.sendStdin(handle.pid, 'two\n')
    await sbx.commands.closeStdin(handle.pid)
    await again.wait()
    assert.equal(again.stdout, 'two\nend\n')
  })

  test('a terminal goes on', async () => {
    const first = await sbx.pty.create({ cols: 80, rows: 24, timeoutMs: 0, onData: () => {} })
    const ended = first.wait().catch((err) => err)
    await sbx.pty.sendInput(first.pid, bytes('KEPT=4\n'))
    await sbx.pause()
    assert.ok((await ended) instanceof Error)
    await sbx.connect()
    let text = ''
    const again = await sbx.pty.connect(first.pid, { timeoutMs: 0, onData: (d) => { text += new TextDecoder().decode(d) } })
    await sbx.pty.sendInput(first.pid, bytes('echo kept-$((KEPT+1)); stty size\n'))
    await until('the answer', () => /kept-5/.test(text) && /24 80/.test(text))
    await again.kill()
  })

  test('a watcher ends with an error, and a new one sees', async () => {
    await sbx.files.makeDir('watched')
    let exited
    await sbx.files.watchDir('watched', () => {}, { timeoutMs: 0, onExit: (err) => { exited = { err } } })
    await sbx.pause()
    await until('the watcher to end', () => exited)
    assert.ok(exited.err instanceof Error)
    await sbx.connect()
    const events = []
    const watcher = await sbx.files.watchDir('watched', (e) => { events.push(e.name) })
    await sbx.files.write('watched/after', 'x')
    await until('an event', () => events.includes('after'))
    await watcher.stop()
  })

  test('a server inside answers on the same address', async () => {
    await serveInside(sbx, 8000, echoServer)
    await serveInside(sbx, 8001, echoServer, '127.0.0.1')
    await sbx.pause()
    await sbx.connect()
    for (const port of [8000, 8001]) assert.equal((await fetchGuest(sbx, port)).status, 200)
  })

  test('what is asked of a paused sandbox is refused', async () => {
    await sbx.pause()
    await assert.rejects(sbx.commands.run('true'), SandboxNotFoundError)
    await assert.rejects(sbx.files.read('kept.txt'), TimeoutError)
    assert.equal((await fetchGuest(sbx, 8000)).status, 502)
    await assert.rejects(sbx.createSnapshot(), SandboxError)
    await assert.rejects(sbx.fork(), SandboxError)
    await assert.rejects(sbx.setTimeout(60_000), SandboxNotFoundError)
    const refresh = await api('POST', `/sandboxes/${sbx.sandboxId}/refreshes`, { body: { duration: 60 } })
    assert.equal(refresh.status, 404)
    assert.match(refresh.text, /is paused: resume it first/)
    assert.equal(await stateOf(sbx), 'paused', 'and none of it woke it')
    await sbx.connect()
    assert.equal(await sbx.files.read('kept.txt'), 'before the pause')
  })

  test('it is shown how deep it sleeps and what that takes', async () => {
    await sbx.pause()
    const { json } = await api('GET', `/sandboxes/${sbx.sandboxId}`)
    assert.equal(json.state, 'paused')
    assert.match(json.sleep, /^(frozen|stored)$/)
    assert.ok(json.memoryStoredBytes > 0, JSON.stringify(json))
    await sbx.connect()
    assert.ok(!(await api('GET', `/sandboxes/${sbx.sandboxId}`)).json.sleep)
  })

  test('by the routes of old SDKs', async () => {
    const path = `/sandboxes/${sbx.sandboxId}`
    assert.equal((await api('POST', `${path}/pause`, { body: {} })).status, 204)
    assert.equal((await api('POST', `${path}/pause`, { body: {} })).status, 409)
    const resumed = await api('POST', `${path}/resume`, { body: { timeout: 200 } })
    assert.equal(resumed.status, 201)
    assert.equal(resumed.json.sandboxID, sbx.sandboxId)
    assert.equal((await api('POST', `${path}/resume`, { body: { timeout: 200 } })).status, 409)
    await sbx.pause()
    assert.equal((await api('POST', `${path}/connect`, { body: { timeout: 200 } })).status, 201)
    assert.equal((await api('POST', `${path}/connect`, { body: { timeout: 200 } })).status, 200)
  })

  test('ten pauses in a row', async () => {
    for (let i = 0; i < 10; i++) {
      await sbx.files.write(`round-${i}`, `${i}`)
      assert.equal(await sbx.pause(), true)
      await sbx.connect()
      for (let j = 0; j <= i; j++) assert.equal(await sbx.files.read(`round-${j}`), `${j}`)
    }
  })

  test('ten resumes at once wake it once', async () => {
    await sbx.pause()
    const all = await Promise.all(Array.from({ length: 10 }, () =>
      api('POST', `/v2/sandboxes/${sbx.sandboxId}/connect`, { body: { timeout: 200 } })))
    assert.deepEqual(all.map((r) => r.status).sort(), [...Array(9).fill(200), 201])
    assert.equal(await out(sbx, 'echo awake'), 'awake')
  })

  test('pauses and resumes at once leave it in one state or the other', async () => {
    await Promise.all(Array.from({ length: 12 }, (_, i) => (i % 2 ? Sandbox.connect(sbx.sandboxId) : sbx.pause())))
    await sbx.connect()
    assert.equal(await out(sbx, 'cat kept.txt'), 'before the pause')
  })
})

describe('without its memory', () => {
  test('pause without memory starts it anew from its disk', async () => {
    await withSandbox({ envs: { GREETING: 'hello' } }, async (sbx) => {
      await sbx.files.write('kept.txt', 'on the disk')
      const handle = await sbx.commands.run('sleep 600', { background: true, timeoutMs: 0 })
      const ended = handle.wait().catch((err) => err)
      const boot = await out(sbx, 'cat /proc/sys/kernel/random/boot_id')
      assert.equal(await sbx.pause({ keepMemory: false }), true)
      assert.ok((await ended) instanceof Error)
      assert.equal(await stateOf(sbx), 'paused')
      await sbx.connect()
      assert.equal(await sbx.files.read('kept.txt'), 'on the disk')
      assert.equal(await out(sbx, 'echo $GREETING $E2B_SANDBOX_ID'), `hello ${sbx.sandboxId}`)
      assert.notEqual(await out(sbx, 'cat /proc/sys/kernel/random/boot_id'), boot)
      assert.equal(await out(sbx, 'pgrep -x sleep || echo none'), 'none')
    })
  })

  test('resume by reboot forgets the memory', async () => {
    await withSandbox({}, async (sbx) => {
      await sbx.files.write('kept.txt', 'on the disk')
      await sbx.files.write('/dev/shm/gone', 'in memory')
      await sbx.pause()
      const again = await Sandbox.connect(sbx.sandboxId, { onResume: 'reboot' })
      assert.equal(await again.files.read('kept.txt'), 'on the disk')
      assert.equal(await again.files.exists('/dev/shm/gone'), false)
      await again.pause()
      await again.connect()
      assert.equal(await again.files.read('kept.txt'), 'on the disk')
    })
  })

  test('a running sandbox is not rebooted', async () => {
    await withSandbox({}, async (sbx) => {
      await sbx.files.write('/dev/shm/still', 'there')
      const same = await Sandbox.connect(sbx.sandboxId, { onResume: 'reboot' })
      assert.equal(await same.files.read('/dev/shm/still'), 'there')
    })
  })
})

describe('the time-out', () => {
  test('pauses instead of ending', async () => {
    await withSandbox({ timeoutMs: 1000, lifecycle: { onTimeout: 'pause' } }, async (sbx) => {
      assert.deepEqual((await sbx.getInfo()).lifecycle, { onTimeout: 'pause', autoResume: false })
      await sbx.files.write('/dev/shm/kept', 'in memory')
      await paused(sbx)
      assert.equal(await sbx.isRunning(), false)
      await sbx.connect({ timeoutMs: 60_000 })
      assert.equal(await sbx.files.read('/dev/shm/kept'), 'in memory')
      const left = (await sbx.getInfo()).endAt - Date.now()
      assert.ok(left > 50_000 && left < 65_000, `${left} ms left`)
      await sbx.setTimeout(1000)
      await paused(sbx)
      await sbx.connect({ timeoutMs: 60_000 })
      assert.equal(await sbx.files.read('/dev/shm/kept'), 'in memory')
    })
  })

  test('pauses without memory', async () => {
    await withSandbox({ timeoutMs: 1000, lifecycle: { onTimeout: { action: 'pause', keepMemory: false } } }, async (sbx) => {
      await sbx.files.write('kept.txt', 'on the disk')
      await sbx.files.write('/dev/shm/gone', 'in memory')
      await paused(sbx)
      await sbx.connect({ timeoutMs: 60_000 })
      assert.equal(await sbx.files.read('kept.txt'), 'on the disk')
      assert.equal(await sbx.files.exists('/dev/shm/gone'), false)
    })
  })

  test('does not end a paused sandbox, and is not used up by sleep', async () => {
    await withSandbox({ timeoutMs: 5000 }, async (sbx) => {
      await sbx.pause()
      const slept = Date.now()
      await until('more than its time to pass', () => Date.now() - slept > 6000)
      assert.equal(await stateOf(sbx), 'paused')
      const { status, json } = await api('POST', `/v2/sandboxes/${sbx.sandboxId}/connect`, { body: { timeout: 1 } })
      assert.equal(status, 201, JSON.stringify(json))
      const left = (await sbx.getInfo()).endAt - Date.now()
      assert.ok(left > 1500 && left < 5100, `${left} ms left of 5000`)
      await until('it to end', async () => !(await sbx.isRunning()))
      await assert.rejects(sbx.getInfo(), SandboxNotFoundError)
    })
  })

  test('refuses what makes no sense', async () => {
    for (const body of [
      { autoResume: { enabled: true } },
      { autoPause: true, autoPauseMemory: false, autoResume: { enabled: true } },
    ]) assert.equal((await api('POST', '/sandboxes', { body: { templateID: 'base', timeout: 30, ...body } })).status, 400)
  })
})

describe('waking by use', () => {
  let sbx
  before(async () => {
    sbx = await Sandbox.create({ timeoutMs: 300_000, lifecycle: { onTimeout: 'pause', autoResume: true } })
    await serveInside(sbx, 8000, echoServer)
    await sbx.files.write('kept.txt', 'kept')
  })
  after(() => sbx?.kill())

  for (const [what, use] of [
    ['a file read', async () => assert.equal(await sbx.files.read('kept.txt'), 'kept')],
    ['a file written', () => sbx.files.write('other.txt', 'x')],
    ['a command', async () => assert.equal(await out(sbx, 'echo woken'), 'woken')],
    ['a command in the background', async () => (await sbx.commands.run('true', { background: true })).wait()],
    ['a request to a port', async () => assert.equal((await fetchGuest(sbx, 8000)).status, 200)],
    ['a request by headers', async () => {
      const res = await openByHeaders(sbx.sandboxId, 8000)
      res.resume()
      assert.equal(res.statusCode, 200)
    }],
    ['a terminal', async () => (await sbx.pty.create({ cols: 80, rows: 24, onData: () => {} })).kill()],
  ]) {
    test(what, async () => {
      assert.equal(await sbx.pause(), true)
      await use()
      assert.equal(await stateOf(sbx), 'running')
    })
  }

  test('fifty at once are all answered', async () => {
    await sbx.pause()
    const all = await Promise.all(Array.from({ length: 50 }, (_, i) => fetchGuest(sbx, 8000, { path: `/${i}` })))
    for (const r of all) assert.equal(r.status, 200, r.text)
    assert.deepEqual(all.map((r) => JSON.parse(r.text).path), all.map((_, i) => `/${i}`))
  })

  test('looking does not wake it', async () => {
    await sbx.pause()
    await sbx.getInfo()
    await Sandbox.list().nextItems()
    await api('GET', `/sandboxes/${sbx.sandboxId}/metrics`)
    await api('GET', `/v2/sandboxes/${sbx.sandboxId}/logs`)
    assert.equal(await stateOf(sbx), 'paused')
    await sbx.connect()
  })

  test('somebody without its token gets nothing', async () => {
    await sbx.pause()
    const res = await openByHeaders(sbx.sandboxId, 49983, { path: '/files?path=/etc/hostname' })
    res.resume()
    assert.ok(res.statusCode >= 400, `${res.statusCode}`)
    await sbx.connect()
  })

  test('after a time-out, and it pauses again', async () => {
    await sbx.setTimeout(1000)
    await paused(sbx)
    assert.equal(await out(sbx, 'cat kept.txt'), 'kept')
    const left = (await sbx.getInfo()).endAt - Date.now()
    assert.ok(left > 500, `${left} ms left`)
    await sbx.setTimeout(1000)
    await paused(sbx)
    await sbx.connect({ timeoutMs: 300_000 })
  })
})

describe('paused sandboxes', () => {
  test('are listed, filtered, paged and killed as such', async () => {
    const group = `sleep-${process.pid}-${Date.now()}`
    const made = await Promise.all(Array.from({ length: 5 }, () => Sandbox.create({ timeoutMs: 120_000, metadata: { group } })))
    const ids = (list) => list.map((s) => s.sandboxId).sort()
    const find = async (state) => Sandbox.list({ query: { metadata: { group }, state } }).nextItems()
    try {
      const asleep = made.slice(0, 3)
      await Promise.all(asleep.map((s) => s.pause()))
      assert.deepEqual(ids(await find(['paused'])), ids(asleep))
      assert.deepEqual(ids(await find(['running'])), ids(made.slice(3)))
      assert.deepEqual(ids(await find(['running', 'paused'])), ids(made))
      assert.deepEqual(ids(await find(undefined)), ids(made))
      assert.deepEqual(new Set((await find(['paused'])).map((s) => s.state)), new Set(['paused']))
      const pager = Sandbox.list({ limit: 2, query: { metadata: { group }, state: ['paused'] } })
      const seen = []
      while (pager.hasNext) seen.push(...await pager.nextItems())
      assert.deepEqual(ids(seen), ids(asleep))
      const old = await api('GET', `/sandboxes?metadata=${encodeURIComponent(`group=${group}`)}`)
      assert.deepEqual(old.json.map((s) => s.sandboxID).sort(), ids(made.slice(3)), 'the first version lists those that run')
      assert.equal(await asleep[0].kill(), true)
      assert.equal(await asleep[0].kill(), false)
      await assert.rejects(asleep[0].connect(), SandboxNotFoundError)
      assert.deepEqual(ids(await find(['paused'])), ids(asleep.slice(1)))
    } finally {
      await Promise.all(made.map((s) => s.kill()))
    }
    assert.deepEqual(await find(undefined), [])
  })

  test('a sandbox that is not', async () => {
    await assert.rejects(Sandbox.pause(unknownId), SandboxNotFoundError)
    await assert.rejects(Sandbox.connect(unknownId), SandboxNotFoundError)
    assert.equal((await api('POST', `/sandboxes/${unknownId}/resume`, { body: { timeout: 10 } })).status, 404)
    const gone = await Sandbox.create({ timeoutMs: 60_000 })
    await gone.kill()
    await assert.rejects(gone.pause(), SandboxNotFoundError)
  })
})
