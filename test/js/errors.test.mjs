// What a wrong request gets: the SDK's own error classes, a sentence that
// helps, and no side effect.
import { test, before, after, describe } from 'node:test'
import assert from 'node:assert/strict'
import {
  AuthenticationError, BuildError, InvalidArgumentError, Sandbox, SandboxError, SandboxNotFoundError, Secret,
  SecretError, Template, TemplateError, TimeoutError, Volume, VolumeError,
} from 'e2b'
import { api, apiKey, openByHeaders, bodyOf, rpc, until } from './helpers.mjs'

const gone = 'i0000000000000000gone'

async function refused(promise, words) {
  const err = await promise.then(() => assert.fail('was accepted'), (e) => e)
  assert.ok(err instanceof SandboxError, `${err?.constructor?.name}: ${err?.message}`)
  assert.ok(err.statusCode >= 400 && err.statusCode <= 501, `${err.statusCode} ${err.message}`)
  assert.match(err.message, words)
}

describe('wrong requests', () => {
  test('a wrong key', async () => {
    const wrong = 'e2b_' + '0'.repeat(40)
    await assert.rejects(Sandbox.create({ apiKey: wrong }), AuthenticationError)
    await assert.rejects(Sandbox.list({ apiKey: wrong }).nextItems(), AuthenticationError)
    const res = await api('GET', '/v2/sandboxes', { headers: {} })
    assert.equal(res.status, 401)
    assert.equal(res.json.code, 401)
    assert.equal(typeof res.json.message, 'string')
  })

  test('an unknown template', async () => {
    await refused(Sandbox.create('no-such-template'), /no-such-template/)
  })

  test('an unknown sandbox', async () => {
    await assert.rejects(Sandbox.getInfo(gone), SandboxNotFoundError)
    await assert.rejects(Sandbox.setTimeout(gone, 1000), SandboxNotFoundError)
    await assert.rejects(Sandbox.connect(gone), SandboxNotFoundError)
    await assert.rejects(Sandbox.getMetrics(gone), SandboxNotFoundError)
    assert.equal(await Sandbox.kill(gone), false)
    assert.equal((await api('GET', `/v2/sandboxes/${gone}/logs`)).status, 404)
  })

  test('time-outs out of bounds', async () => {
    await refused(Sandbox.create({ timeoutMs: 25 * 3600_000 }), /24|86400|timeout/i)
    const res = await api('POST', '/v2/sandboxes', { body: { templateID: 'base', timeout: -1 } })
    assert.equal(res.status, 400)
  })

  test('bodies that are not what they should be', async () => {
    for (const body of ['', '{', '[]', '"x"', '{"templateID": 1}', '{}', '{"templateID":"base","metadata":{"a":1}}']) {
      const res = await api('POST', '/v2/sandboxes', { body })
      assert.equal(res.status, 400, `${body}: ${res.status} ${res.text}`)
      assert.equal(res.json.code, 400)
    }
    const huge = JSON.stringify({ templateID: 'base', metadata: { a: 'x'.repeat(20 << 20) } })
    const res = await api('POST', '/v2/sandboxes', { body: huge }).catch(() => ({ status: 413 }))
    assert.ok(res.status === 400 || res.status === 413, `${res.status}`)
  })

  test('list parameters that make no sense', async () => {
    for (const query of ['limit=0', 'limit=x', 'limit=100000', 'nextToken=%00nonsense', 'state=sleeping']) {
      const res = await api('GET', `/v2/sandboxes?${query}`)
      assert.equal(res.status, 400, `${query}: ${res.status} ${res.text}`)
    }
  })

  test('unknown routes and methods', async () => {
    assert.equal((await api('GET', '/no/such/route')).status, 404)
    const res = await api('PUT', '/v2/sandboxes', { body: {} })
    assert.ok(res.status === 404 || res.status === 405)
  })

  test('what comes later says so', async () => {
    await refused(Sandbox.create({ volumeMounts: { '/data': 'some-volume' } }), /volume/i)
    await refused(Sandbox.create({ network: { rules: { 'example.com': [{ transform: { headers: { a: 'b' } } }] } } }), /rules/i)
    await refused(Sandbox.create({ network: { egressProxy: { address: 'proxy.example.com:1080' } } }), /proxy/i)
  })

  test('so do the other classes of the SDK, each with its error', async () => {
    const later = (kind, words) => (e) => e instanceof kind && words.test(e.message) && /501/.test(e.message)
    await assert.rejects(Volume.list(), later(VolumeError, /volumes are not available/))
    await assert.rejects(Volume.create('data'), later(VolumeError, /volumes are not available/))
    await assert.rejects(Secret.list().nextItems(), later(SecretError, /secrets are not available/))
    await assert.rejects(Template.build(Template().fromBaseImage(), 'mine'), later(BuildError, /building templates is not/))
    await assert.rejects(Template.assignTags('base:default', 'v1'), later(TemplateError, /tags of templates are not/))
    assert.equal(await Template.exists('base'), true)
    assert.equal(await Template.exists('no-such-template'), false)
  })

  test('nothing was made by all of this', async () => {
    const group = `refused-${process.pid}`
    await assert.rejects(Sandbox.create({ metadata: { group }, volumeMounts: { '/data': 'v' } }))
    const found = await Sandbox.list({ query: { metadata: { group } } }).nextItems()
    assert.deepEqual(found, [])
  })
})

describe('wrong requests to a sandbox', () => {
  let sbx
  before(async () => { sbx = await Sandbox.create({ timeoutMs: 120_000 }) })
  after(() => sbx?.kill())

  test('no token, wrong token', async () => {
    for (const headers of [{}, { 'X-Access-Token': 'nonsense' }]) {
      const res = await openByHeaders(sbx.sandboxId, 49983, {
        path: '/process.Process/List', method: 'POST',
        headers: { 'Content-Type': 'application/json', ...headers }, body: '{}',
      })
      await bodyOf(res)
      assert.equal(res.statusCode, 401)
      const files = await openByHeaders(sbx.sandboxId, 49983, { path: '/files?path=/etc/hostname', headers })
      await bodyOf(files)
      assert.equal(files.statusCode, 401)
    }
  })

  test('an unknown user', async () => {
    await assert.rejects(sbx.commands.run('true', { user: 'nobody-here' }), AuthenticationError)
    await assert.rejects(sbx.files.read('x', { user: 'nobody-here' }), AuthenticationError)
    await assert.rejects(sbx.files.list('/', { user: 'nobody-here' }), AuthenticationError)
  })

  test('a folder to work in that is not there', async () => {
    await assert.rejects(sbx.commands.run('true', { cwd: '/no/such/folder' }), InvalidArgumentError)
  })

  test('a call to the daemon that is not one', async () => {
    assert.equal((await rpc(sbx, 'process.Process/NoSuch', {})).status, 404)
    const res = await rpc(sbx, 'filesystem.Filesystem/Stat', { path: 7 })
    assert.equal(res.status, 400)
  })

  test('a sandbox that ends while a command runs', async () => {
    const brief = await Sandbox.create({ timeoutMs: 60_000 })
    const handle = await brief.commands.run('sleep 60', { background: true })
    await brief.kill()
    await assert.rejects(handle.wait(), (err) => err instanceof SandboxError)
    await assert.rejects(brief.commands.run('true'), SandboxNotFoundError)
    await assert.rejects(brief.files.read('/etc/hostname'), TimeoutError)
    assert.equal(await brief.isRunning(), false)
  })
})
