// The life of a sandbox as the SDK sees it: create, look, list, prolong, end.
import { test, before, after, describe } from 'node:test'
import assert from 'node:assert/strict'
import { Sandbox, SandboxNotFoundError, SandboxError } from 'e2b'
import { api, apiKey, adminToken, until, withSandbox } from './helpers.mjs'

describe('lifecycle', () => {
  let sbx
  const started = Date.now()
  const mark = `mark-${process.pid}-${started}`
  before(async () => {
    sbx = await Sandbox.create('base', {
      timeoutMs: 300_000,
      metadata: { mark, owner: 'lifecycle test', 'k&y': 'v=1 + 2' },
      envs: { GREETING: 'hello there', MULTI: 'two\nlines' },
      secure: true,
      allowInternetAccess: true,
    })
  })
  after(() => sbx?.kill())

  test('create answers with what a client needs', () => {
    assert.match(sbx.sandboxId, /^[a-z0-9]+$/)
    assert.ok(sbx.sandboxDomain)
    assert.ok(sbx.envdAccessToken, 'a sandbox is secure unless told otherwise')
    assert.equal(sbx.getHost(3000), `3000-${sbx.sandboxId}.${sbx.sandboxDomain}`)
  })

  test('environment given at create is seen by commands', async () => {
    const { stdout } = await sbx.commands.run('echo "$GREETING"; echo "$MULTI"')
    assert.equal(stdout, 'hello there\ntwo\nlines\n')
  })

  test('the sandbox tells itself who it is', async () => {
    const { stdout } = await sbx.commands.run('echo $E2B_SANDBOX $E2B_SANDBOX_ID')
    assert.equal(stdout.trim(), `true ${sbx.sandboxId}`)
  })

  test('info', async () => {
    const info = await sbx.getInfo()
    assert.equal(info.sandboxId, sbx.sandboxId)
    assert.equal(info.name, 'base')
    assert.ok(info.templateId)
    assert.equal(info.state, 'running')
    assert.deepEqual(info.metadata, { mark, owner: 'lifecycle test', 'k&y': 'v=1 + 2' })
    assert.ok(info.cpuCount >= 1)
    assert.ok(info.memoryMB >= 128)
    assert.ok(info.startedAt.getTime() >= started - 2000)
    const life = info.endAt - info.startedAt
    assert.ok(life > 295_000 && life < 310_000, `lives ${life} ms`)
    assert.match(info.envdVersion, /^\d+\.\d+\.\d+$/)
    assert.deepEqual(await Sandbox.getInfo(sbx.sandboxId).then((i) => i.metadata), info.metadata)
  })

  test('is running', async () => {
    assert.equal(await sbx.isRunning(), true)
  })

  test('list finds it by metadata', async () => {
    const found = await Sandbox.list({ query: { metadata: { mark } } }).nextItems()
    assert.deepEqual(found.map((s) => s.sandboxId), [sbx.sandboxId])
    assert.equal(found[0].metadata.mark, mark)
    assert.equal(found[0].state, 'running')
    const odd = await Sandbox.list({ query: { metadata: { mark, 'k&y': 'v=1 + 2' } } }).nextItems()
    assert.equal(odd.length, 1)
    const none = await Sandbox.list({ query: { metadata: { mark, owner: 'somebody else' } } }).nextItems()
    assert.equal(none.length, 0)
  })

  test('list filters by state', async () => {
    const query = { metadata: { mark } }
    const running = await Sandbox.list({ query: { ...query, state: ['running'] } }).nextItems()
    assert.equal(running.length, 1)
    const paused = await Sandbox.list({ query: { ...query, state: ['paused'] } }).nextItems()
    assert.equal(paused.length, 0)
  })

  test('list pages through all of them, each once', async () => {
    const group = `${mark}-pages`
    const made = await Promise.all(
      Array.from({ length: 5 }, (_, i) => Sandbox.create({ timeoutMs: 60_000, metadata: { group, i: `${i}` } }))
    )
    try {
      const seen = []
      const pager = Sandbox.list({ limit: 2, query: { metadata: { group } } })
      let pages = 0
      while (pager.hasNext) {
        const items = await pager.nextItems()
        assert.ok(items.length <= 2)
        seen.push(...items.map((s) => s.sandboxId))
        pages++
      }
      assert.equal(pages, 3)
      assert.deepEqual(seen.sort(), made.map((s) => s.sandboxId).sort())
    } finally {
      await Promise.all(made.map((s) => s.kill()))
    }
  })

  test('list of the first version', async () => {
    const res = await api('GET', `/sandboxes?metadata=${encodeURIComponent(`mark=${mark}`)}`)
    assert.equal(res.status, 200)
    assert.deepEqual(res.json.map((s) => s.sandboxID), [sbx.sandboxId])
    for (const field of ['templateID', 'clientID', 'startedAt', 'endAt', 'cpuCount', 'memoryMB', 'diskSizeMB', 'envdVersion'])
      assert.ok(field in res.json[0], field)
  })

  test('set time-out moves the end', async () => {
    await sbx.setTimeout(600_000)
    const left = (await sbx.getInfo()).endAt - Date.now()
    assert.ok(left > 590_000 && left < 605_000, `${left} ms left`)
    await Sandbox.setTimeout(sbx.sandboxId, 120_000)
    const less = (await sbx.getInfo()).endAt - Date.now()
    assert.ok(less < 125_000, `${less} ms left`)
  })

  test('connect prolongs and never shortens', async () => {
    await sbx.setTimeout(400_000)
    const same = await Sandbox.connect(sbx.sandboxId, { timeoutMs: 10_000 })
    assert.ok((await same.getInfo()).endAt - Date.now() > 390_000)
    await Sandbox.connect(sbx.sandboxId, { timeoutMs: 900_000 })
    assert.ok((await same.getInfo()).endAt - Date.now() > 890_000)
    assert.equal((await same.commands.run('echo "$GREETING"')).stdout, 'hello there\n')
  })

  test('refresh prolongs', async () => {
    await sbx.setTimeout(60_000)
    const res = await api('POST', `/sandboxes/${sbx.sandboxId}/refreshes`, { body: { duration: 300 } })
    assert.equal(res.status, 204)
    assert.ok((await sbx.getInfo()).endAt - Date.now() > 290_000)
  })

  test('metrics', async () => {
    const metrics = await until('a first measurement', async () => {
      const got = await sbx.getMetrics()
      return got.length > 0 && got
    })
    const last = metrics.at(-1)
    assert.ok(last.cpuCount >= 1)
    assert.ok(last.cpuUsedPct >= 0)
    assert.ok(last.memTotal > 100 << 20)
    assert.ok(last.memUsed > 0 && last.memUsed < last.memTotal)
    assert.ok(last.diskTotal > last.diskUsed && last.diskUsed >= 0)
    assert.ok(Math.abs(last.timestamp - Date.now()) < 60_000)
    const many = await api('GET', `/sandboxes/metrics?sandbox_ids=${sbx.sandboxId}`)
    assert.equal(many.status, 200)
    assert.ok(many.json.sandboxes[sbx.sandboxId])
  })

  test('logs of both versions tell of commands', async () => {
    await sbx.commands.run('true # a-command-to-find')
    const id = sbx.sandboxId
    const second = await until('a log line', async () => {
      const { status, json } = await api('GET', `/v2/sandboxes/${id}/logs?limit=100`)
      assert.equal(status, 200)
      return json.logs.length > 0 && json.logs
    })
    for (const line of second) {
      assert.ok(!Number.isNaN(Date.parse(line.timestamp)))
      assert.match(line.level, /^(debug|info|warn|error)$/)
      assert.equal(typeof line.message, 'string')
    }
    const first = await api('GET', `/sandboxes/${id}/logs`)
    assert.equal(first.status, 200)
    assert.ok(Array.isArray(first.json.logs))
    assert.ok(Array.isArray(first.json.logEntries))
    const line = JSON.parse(first.json.logs[0].line) // as E2B's command line does
    assert.equal(line.message, first.json.logEntries[0].message)
    assert.equal(typeof line.logger, 'string')
    assert.match(line.level, /^(debug|info|warn|error)$/)
    const back = await api('GET', `/v2/sandboxes/${id}/logs?direction=backward&limit=1`)
    assert.ok(back.json.logs.length <= 1)
  })

  test('a sandbox ends when its time is over', async () => {
    const brief = await Sandbox.create({ timeoutMs: 1000 })
    await until('the sandbox to end', async () => !(await brief.isRunning()))
    await assert.rejects(brief.getInfo(), SandboxNotFoundError)
    assert.equal(await brief.kill(), false)
  })

  test('kill ends it, once', async () => {
    const other = await Sandbox.create()
    assert.equal(await other.kill(), true)
    assert.equal(await other.kill(), false)
    assert.equal(await Sandbox.kill(other.sandboxId), false)
    assert.equal(await other.isRunning(), false)
    const left = (await Sandbox.list().nextItems()).map((s) => s.sandboxId)
    assert.ok(!left.includes(other.sandboxId))
  })

  test('the default time to live is the SDK’s', async () => {
    await withSandbox({ timeoutMs: undefined }, async (plain) => {
      const info = await plain.getInfo()
      const life = info.endAt - info.startedAt
      assert.ok(life >= 10_000 && life <= 310_000, `${life} ms`)
    })
  })

  test('a sandbox of the first version without security', async () => {
    const res = await api('POST', '/sandboxes', { body: { templateID: 'base', timeout: 60, secure: false } })
    assert.equal(res.status, 201)
    assert.ok(!res.json.envdAccessToken)
    const open = await Sandbox.connect(res.json.sandboxID)
    try {
      assert.equal(open.envdAccessToken, undefined)
      assert.equal((await open.commands.run('echo open')).stdout, 'open\n')
      await open.files.write('a.txt', 'a')
      assert.ok(!(await open.downloadUrl('a.txt')).includes('signature'))
    } finally {
      await open.kill()
    }
  })

  test('copies of one snapshot differ where they must', async () => {
    await withSandbox({}, async (twin) => {
      const probe = 'hostname; cat /etc/machine-id; cat /proc/sys/kernel/random/uuid; ' +
        'python3 -c "import random; print(random.random())"; hostname -I 2>/dev/null || true'
      const [a, b] = await Promise.all([sbx, twin].map((s) => s.commands.run(probe).then((r) => r.stdout.split('\n'))))
      for (const i of [0, 1, 2, 3]) assert.notEqual(a[i], b[i])
      const now = Number((await twin.commands.run('date +%s%3N')).stdout)
      assert.ok(Math.abs(now - Date.now()) < 5000, `the clock is ${now - Date.now()} ms off`)
    })
  })
})

describe('control API outside the SDK', () => {
  test('health', async () => {
    const res = await api('GET', '/health', { headers: {} })
    assert.ok(res.status === 200 || res.status === 204)
  })

  test('templates name base', async () => {
    const res = await api('GET', '/templates')
    assert.equal(res.status, 200)
    const base = res.json.find((t) => t.names?.some((n) => n === 'base' || n.endsWith('/base')))
    assert.ok(base, res.text)
    for (const field of ['templateID', 'buildID', 'cpuCount', 'memoryMB', 'envdVersion', 'buildStatus']) assert.ok(field in base, field)
    const alias = await api('GET', '/templates/aliases/base')
    assert.equal(alias.status, 200)
    assert.equal(alias.json.templateID, base.templateID)
  })

  test('nodes are for the operator', async () => {
    const res = await api('GET', '/nodes', { headers: { 'X-Admin-Token': adminToken } })
    assert.equal(res.status, 200)
    assert.equal(res.json.length, 1)
    assert.equal(res.json[0].status, 'ready')
    const denied = await api('GET', '/nodes')
    assert.ok(denied.status === 401 || denied.status === 403)
  })

  test('API keys are made, listed masked, used and removed', async () => {
    const headers = { 'X-Admin-Token': adminToken }
    const teams = await api('GET', '/teams', { headers })
    assert.equal(teams.status, 200)
    const team = teams.json.find((t) => t.isDefault) ?? teams.json[0]
    const as = { ...headers, 'X-Team-ID': team.teamID }
    const made = await api('POST', '/api-keys', { headers: as, body: { name: 'made by a test' } })
    assert.equal(made.status, 201)
    const { key, id } = made.json
    assert.match(key, /^e2b_[0-9a-f]{40}$/)
    assert.equal((await api('GET', '/v2/sandboxes', { headers: { 'X-API-Key': key } })).status, 200)
    const list = await api('GET', '/api-keys', { headers: as })
    assert.ok(list.json.some((k) => k.id === id && k.name === 'made by a test'))
    assert.ok(!list.text.includes(key.slice(8, 36)), 'a key is shown once')
    assert.equal((await api('PATCH', `/api-keys/${id}`, { headers: as, body: { name: 'renamed' } })).status, 200)
    assert.equal((await api('DELETE', `/api-keys/${id}`, { headers: as })).status, 204)
    assert.equal((await api('GET', '/v2/sandboxes', { headers: { 'X-API-Key': key } })).status, 401)
    assert.equal((await api('DELETE', `/api-keys/${id}`, { headers: as })).status, 404)
  })

  test('the operator counts and ends sandboxes of teams', async () => {
    const headers = { 'X-Admin-Token': adminToken }
    const counts = await api('GET', '/admin/sandboxes/running-counts', { headers })
    assert.equal(counts.status, 200, counts.text)
    assert.equal(typeof counts.json, 'object')
    const { teamID } = (await api('GET', '/teams')).json[0]
    const made = await api('POST', `/admin/teams/${teamID}/api-keys`, { headers, body: { name: 'of the operator' } })
    assert.equal(made.status, 201, made.text)
    assert.equal((await api('DELETE', `/admin/teams/${teamID}/api-keys/${made.json.id}`, { headers })).status, 204)
    const unknown = await api('POST', '/admin/teams/no-such-team/sandboxes/kill', { headers })
    assert.equal(unknown.status, 404)
    assert.equal(unknown.json.code, 404)
    for (const path of ['/admin/sandboxes/running-counts', '/admin/nothing']) {
      const denied = await api('GET', path)
      assert.ok(denied.json.code === 401 || denied.json.code === 404, `${path}: ${denied.status} ${denied.text}`)
    }
  })

  test('a program in a browser may call the API', async () => {
    const preflight = await fetch(`${process.env.E2B_API_URL}/v2/sandboxes`, {
      method: 'OPTIONS',
      headers: {
        Origin: 'https://app.example',
        'Access-Control-Request-Method': 'POST',
        'Access-Control-Request-Headers': 'content-type,x-api-key',
      },
    })
    assert.equal(preflight.status, 204)
    assert.equal(preflight.headers.get('access-control-allow-origin'), '*')
    assert.match(preflight.headers.get('access-control-allow-headers'), /x-api-key/)
    const page = await api('GET', '/v2/sandboxes?limit=1', { headers: { 'X-API-Key': apiKey, Origin: 'https://app.example' } })
    assert.equal(page.headers.get('access-control-allow-origin'), '*')
    assert.equal(page.headers.get('access-control-expose-headers'), '*')
  })

  test('an answer carries the id of its request', async () => {
    const res = await api('GET', '/v2/sandboxes')
    const names = [...res.headers.keys()].filter((n) => n.includes('request-id') || n.includes('trace-id'))
    assert.ok(names.length > 0, 'X-Request-Id')
  })

  test('numbers for Prometheus are for the operator', async () => {
    const denied = await api('GET', '/admin/metrics', { headers: {} })
    assert.ok(denied.status === 401 || denied.status === 403, `${denied.status}`)
    const res = await api('GET', '/admin/metrics', { headers: { Authorization: `Bearer ${adminToken}` } })
    assert.equal(res.status, 200)
    assert.match(res.text, /^atoll_/m)
  })
})
