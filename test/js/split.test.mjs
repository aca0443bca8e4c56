// One sandbox that becomes many: forks, and snapshots that others start from.
import { test, before, after, describe } from 'node:test'
import assert from 'node:assert/strict'
import { Sandbox, SandboxError, SandboxNotFoundError } from 'e2b'
import { api, echoServer, fetchGuest, openByHeaders, serveInside, unknownId, until, withSandbox } from './helpers.mjs'

const out = async (sbx, cmd, opts) => (await sbx.commands.run(cmd, opts)).stdout.trim()
const mark = `split-${process.pid}-${Date.now()}`
const address = `python3 -c "
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect(('45.45.45.45', 1))
print(s.getsockname()[0])"`

/** Forks a sandbox, hands the copies to f and removes them. */
async function withForks(sbx, opts, f) {
  const copies = await sbx.fork({ timeoutMs: 120_000, ...opts })
  try {
    for (const c of copies) assert.ok(c instanceof Sandbox, `${c}`)
    return await f(copies)
  } finally {
    await Promise.all(copies.map((c) => c.kill?.()))
  }
}

describe('fork', () => {
  let sbx
  before(async () => {
    sbx = await Sandbox.create({ timeoutMs: 300_000, envs: { GREETING: 'hello' }, metadata: { mark } })
    await serveInside(sbx, 8000, echoServer)
    await sbx.files.write('shared.txt', 'before the fork')
    await sbx.files.write('/dev/shm/shared', 'in memory')
  })
  after(() => sbx?.kill())

  test('five copies, each on its own', async () => {
    await withForks(sbx, { count: 5 }, async (copies) => {
      assert.equal(copies.length, 5)
      const all = [sbx, ...copies]
      await Promise.all(all.map(async (s, i) => {
        assert.equal(await s.files.read('shared.txt'), 'before the fork')
        assert.equal(await s.files.read('/dev/shm/shared'), 'in memory')
        await s.files.write('shared.txt', `mine is ${i}`)
        await s.files.write(`only-${i}`, '')
        await s.commands.run(`echo ${i} > /dev/shm/shared`)
      }))
      for (const [i, s] of all.entries()) {
        assert.equal(await s.files.read('shared.txt'), `mine is ${i}`)
        assert.equal(await s.files.read('/dev/shm/shared'), `${i}\n`)
        assert.equal(await out(s, 'ls -d only-*'), `only-${i}`)
        await s.commands.run(`rm only-${i}`)
      }
      await sbx.files.write('shared.txt', 'before the fork')
      await sbx.files.write('/dev/shm/shared', 'in memory')
    })
  })

  test('what names a sandbox differs between copies', async () => {
    await withForks(sbx, { count: 3 }, async (copies) => {
      const all = [sbx, ...copies]
      const different = (what, values) => assert.equal(new Set(values).size, all.length, `${what}: ${values}`)
      different('id', all.map((s) => s.sandboxId))
      different('token', all.map((s) => s.envdAccessToken))
      for (const [what, cmd] of Object.entries({
        'host name': 'hostname',
        'machine id': 'cat /etc/machine-id',
        'id in the environment': 'echo $E2B_SANDBOX_ID',
        address,
      })) different(what, await Promise.all(all.map((s) => out(s, cmd))))
      for (const s of all) assert.equal(await out(s, 'echo $E2B_SANDBOX_ID $GREETING'), `${s.sandboxId} hello`)
    })
  })

  test('a token opens its own sandbox only', async () => {
    await withForks(sbx, {}, async ([copy]) => {
      for (const [id, token] of [[copy.sandboxId, sbx.envdAccessToken], [sbx.sandboxId, copy.envdAccessToken]]) {
        const res = await openByHeaders(id, 49983, { path: '/files?path=/etc/hostname', headers: { 'X-Access-Token': token } })
        res.resume()
        assert.equal(res.statusCode, 401)
      }
    })
  })

  test('processes and ports go on in each', async () => {
    const handle = await sbx.commands.run('i=0; while :; do i=$((i+1)); echo $i > /tmp/count; sleep 0.05; done', { background: true, timeoutMs: 0 })
    handle.wait().catch(() => {})
    await withForks(sbx, { count: 2 }, async (copies) => {
      for (const s of [sbx, ...copies]) {
        assert.equal((await fetchGuest(s, 8000)).status, 200)
        assert.ok((await s.commands.list()).some((p) => p.pid === handle.pid))
        const was = await out(s, 'cat /tmp/count')
        await until('it to count on', async () => { const now = await out(s, 'cat /tmp/count'); return now && now !== was })
      }
      await handle.kill()
      for (const s of copies) assert.ok((await s.commands.list()).some((p) => p.pid === handle.pid))
    })
  })

  test('streams to the first go on', async () => {
    const handle = await sbx.commands.run('cat', { background: true, stdin: true, timeoutMs: 0 })
    await sbx.commands.sendStdin(handle.pid, 'one\n')
    await until('one', () => handle.stdout === 'one\n')
    await withForks(sbx, {}, async () => {
      await sbx.commands.sendStdin(handle.pid, 'two\n')
      await sbx.commands.closeStdin(handle.pid)
      assert.equal((await handle.wait()).stdout, 'one\ntwo\n')
    })
  })

  test('its own life is untouched, those of the copies are as asked', async () => {
    const end = (await sbx.getInfo()).endAt
    await withForks(sbx, { timeoutMs: 77_000 }, async ([copy]) => {
      assert.deepEqual((await sbx.getInfo()).endAt, end)
      const info = await copy.getInfo()
      const left = info.endAt - Date.now()
      assert.ok(left > 70_000 && left < 78_000, `${left} ms left`)
      assert.equal(info.metadata.mark, mark)
      assert.equal(info.state, 'running')
    })
  })

  test('a copy is a sandbox like any other', async () => {
    await withForks(sbx, {}, async ([copy]) => {
      await copy.files.write('mine', 'x')
      await copy.pause()
      await copy.connect()
      assert.equal(await copy.files.read('mine'), 'x')
      await withForks(copy, { count: 2 }, async (grandchildren) => {
        for (const g of grandchildren) assert.equal(await g.files.read('mine'), 'x')
        await copy.kill()
        for (const g of grandchildren) assert.equal(await g.files.read('shared.txt'), 'before the fork')
      })
    })
  })

  test('copies outlive the first', async () => {
    const first = await Sandbox.create({ timeoutMs: 60_000 })
    await first.files.write('kept', 'kept')
    const [copy] = await first.fork({ timeoutMs: 60_000 })
    await first.kill()
    assert.equal(await copy.files.read('kept'), 'kept')
    await copy.pause()
    await copy.connect()
    assert.equal(await copy.files.read('kept'), 'kept')
    await copy.kill()
  })

  test('a short life of a copy ends', async () => {
    const [brief] = await sbx.fork({ timeoutMs: 1000 })
    await until('it to end', async () => !(await brief.isRunning()))
  })

  test('wrong requests', async () => {
    for (const count of [0, -1, 101, 1.5, 'two']) {
      const res = await api('POST', `/sandboxes/${sbx.sandboxId}/fork`, { body: { count } })
      assert.equal(res.status, 400, `${count}: ${res.text}`)
    }
    await assert.rejects(Sandbox.fork(unknownId), SandboxNotFoundError)
    const found = await Sandbox.list({ query: { metadata: { mark } } }).nextItems()
    assert.equal(found.length, 1, 'nothing was made')
  })
})

describe('snapshots', () => {
  let sbx
  const name = mark.toLowerCase()
  before(async () => {
    sbx = await Sandbox.create({ timeoutMs: 300_000, envs: { GREETING: 'hello' } })
    await serveInside(sbx, 8000, echoServer)
    await sbx.files.write('kept.txt', 'first')
    await sbx.files.write('/dev/shm/kept', 'in memory')
  })
  after(() => sbx?.kill())

  /** Takes a snapshot, hands it to f and removes it. */
  async function withSnapshot(opts, f) {
    const snapshot = await sbx.createSnapshot(opts)
    try {
      return await f(snapshot)
    } finally {
      await Sandbox.deleteSnapshot(snapshot.snapshotId)
    }
  }

  const all = async (opts) => {
    const pager = Sandbox.listSnapshots(opts)
    const found = []
    while (pager.hasNext) found.push(...await pager.nextItems())
    return found.map((s) => s.snapshotId)
  }

  test('sandboxes start from one where it was taken', async () => {
    await withSnapshot(undefined, async ({ snapshotId }) => {
      assert.ok(snapshotId)
      await sbx.files.write('kept.txt', 'later')
      const made = await Promise.all(Array.from({ length: 3 }, (_, i) =>
        Sandbox.create(snapshotId, { timeoutMs: 60_000, envs: { MINE: `${i}` } })))
      try {
        const names = new Set()
        for (const [i, s] of made.entries()) {
          assert.equal(await s.files.read('kept.txt'), 'first')
          assert.equal(await s.files.read('/dev/shm/kept'), 'in memory')
          assert.equal((await fetchGuest(s, 8000)).status, 200)
          assert.equal(await out(s, 'echo $MINE $E2B_SANDBOX_ID'), `${i} ${s.sandboxId}`)
          names.add(await out(s, 'hostname; cat /etc/machine-id'))
          await s.files.write('kept.txt', `changed by ${i}`)
        }
        assert.equal(names.size, 3)
        assert.equal(await sbx.files.read('kept.txt'), 'later')
        await withSandboxOf(snapshotId, async (s) => assert.equal(await s.files.read('kept.txt'), 'first'))
      } finally {
        await Promise.all(made.map((s) => s.kill()))
        await sbx.files.write('kept.txt', 'first')
      }
    })
  })

  async function withSandboxOf(snapshotId, f) {
    const s = await Sandbox.create(snapshotId, { timeoutMs: 60_000 })
    try {
      return await f(s)
    } finally {
      await s.kill()
    }
  }

  test('one with a name', async () => {
    await withSnapshot({ name }, async (snapshot) => {
      assert.ok(snapshot.names.some((n) => n.includes(name)), `${snapshot.names}`)
      await withSandboxOf(name, async (s) => assert.equal(await s.files.read('kept.txt'), 'first'))
      await withSandboxOf(snapshot.names[0], async (s) => assert.equal(await s.files.read('kept.txt'), 'first'))
      assert.deepEqual(await all({ name }), [snapshot.snapshotId])
      await sbx.files.write('kept.txt', 'second')
      await sbx.createSnapshot({ name })
      await withSandboxOf(name, async (s) => assert.equal(await s.files.read('kept.txt'), 'second', 'the name moved on'))
      await sbx.files.write('kept.txt', 'first')
    })
    for (const id of await all({ sandboxId: sbx.sandboxId })) await Sandbox.deleteSnapshot(id)
  })

  test('are listed in pages, by sandbox and by name', async () => {
    const made = []
    try {
      for (let i = 0; i < 3; i++) made.push((await sbx.createSnapshot({ name: `${name}-${i}` })).snapshotId)
      assert.deepEqual((await all({ sandboxId: sbx.sandboxId })).sort(), [...made].sort())
      assert.deepEqual((await all({ sandboxId: sbx.sandboxId, limit: 2 })).sort(), [...made].sort())
      assert.deepEqual(await all({ name: `${name}-1` }), [made[1]])
      assert.deepEqual(await all({ sandboxId: unknownId }), [])
      assert.deepEqual((await sbx.listSnapshots().nextItems()).map((s) => s.snapshotId).sort(), [...made].sort())
    } finally {
      await Promise.all(made.map((id) => Sandbox.deleteSnapshot(id)))
    }
    assert.deepEqual(await all({ sandboxId: sbx.sandboxId }), [])
  })

  test('are deleted once, and nothing starts from them then', async () => {
    const { snapshotId } = await sbx.createSnapshot()
    const child = await Sandbox.create(snapshotId, { timeoutMs: 60_000 })
    try {
      assert.equal(await Sandbox.deleteSnapshot(snapshotId), true)
      assert.equal(await Sandbox.deleteSnapshot(snapshotId), false)
      await assert.rejects(Sandbox.create(snapshotId), SandboxError)
      assert.equal(await child.files.read('kept.txt'), 'first', 'children go on')
      await child.pause()
      await child.connect()
      assert.equal(await child.files.read('/dev/shm/kept'), 'in memory')
    } finally {
      await child.kill()
    }
  })

  test('outlive their sandbox', async () => {
    const first = await Sandbox.create({ timeoutMs: 60_000 })
    await first.files.write('kept.txt', 'outlived')
    const { snapshotId } = await first.createSnapshot()
    await first.kill()
    try {
      await withSandboxOf(snapshotId, async (s) => assert.equal(await s.files.read('kept.txt'), 'outlived'))
    } finally {
      await Sandbox.deleteSnapshot(snapshotId)
    }
  })

  test('of a sandbox that has been paused, and of one made from a snapshot', async () => {
    await sbx.pause()
    await sbx.connect()
    await withSnapshot({}, async ({ snapshotId }) => {
      await withSandboxOf(snapshotId, async (s) => {
        await s.files.write('deeper', 'second floor')
        const deeper = await s.createSnapshot()
        try {
          await withSandboxOf(deeper.snapshotId, async (d) => {
            assert.equal(await d.files.read('deeper'), 'second floor')
            assert.equal(await d.files.read('kept.txt'), 'first')
          })
        } finally {
          await Sandbox.deleteSnapshot(deeper.snapshotId)
        }
      })
    })
  })

  test('the sandbox runs on', async () => {
    const handle = await sbx.commands.run('cat', { background: true, stdin: true, timeoutMs: 0 })
    await sbx.commands.sendStdin(handle.pid, 'one\n')
    await withSnapshot({}, async () => {
      await sbx.commands.sendStdin(handle.pid, 'two\n')
      await sbx.commands.closeStdin(handle.pid)
      assert.equal((await handle.wait()).stdout, 'one\ntwo\n')
    })
  })

  test('wrong requests', async () => {
    await assert.rejects(Sandbox.createSnapshot(unknownId), SandboxNotFoundError)
    assert.equal(await Sandbox.deleteSnapshot('no-such-snapshot'), false)
    for (const bad of ['UPPER case', '../up', 'base', 'a b', 'x'.repeat(300)]) {
      await assert.rejects(sbx.createSnapshot({ name: bad }), SandboxError, bad)
    }
    assert.deepEqual(await all({ sandboxId: sbx.sandboxId }), [])
    const builtIn = await api('DELETE', '/templates/base')
    assert.ok(builtIn.status >= 400 && builtIn.status < 500, `${builtIn.status}`)
    await withSandbox({}, async (s) => assert.equal(await out(s, 'echo base is there'), 'base is there'))
  })
})
