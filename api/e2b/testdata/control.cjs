// Drives the control API with the published SDK for JavaScript.
const assert = require('node:assert/strict')
const { Sandbox, Template, AuthenticationError, RateLimitError, SandboxNotFoundError, SandboxError } = require('e2b')

async function main() {
  const sandbox = await Sandbox.create('base', {
    timeoutMs: 60_000,
    metadata: { user: 'ann', 'odd &=%+ key': 'a/b ✓ 100%' },
    envs: { A: '1' },
    network: { denyOut: ['8.8.8.8'], allowOut: ['1.1.1.0/24'], allowPublicTraffic: false },
  })
  assert.match(sandbox.sandboxId, /^i/)
  assert.equal(sandbox.sandboxDomain, 'atoll.test')
  assert.ok(sandbox.trafficAccessToken)

  const info = await sandbox.getInfo()
  assert.equal(info.templateId, 'base')
  assert.equal(info.name, 'base')
  assert.equal(info.state, 'running')
  assert.equal(info.cpuCount, 2)
  assert.deepEqual(info.metadata, { user: 'ann', 'odd &=%+ key': 'a/b ✓ 100%' })
  assert.equal(info.endAt - info.startedAt, 60_000)
  assert.deepEqual(info.network.denyOut, ['8.8.8.8/32'])
  assert.equal(info.network.allowPublicTraffic, false)
  assert.equal(info.allowInternetAccess, undefined)
  assert.deepEqual(info.lifecycle, { onTimeout: 'kill', autoResume: false })

  await sandbox.setTimeout(120_000)
  assert.ok((await sandbox.getInfo()).endAt - info.startedAt >= 120_000)
  await assert.rejects(sandbox.setTimeout(25 * 3600_000), (e) => e instanceof SandboxError && /400.*86400/.test(e.message))
  await sandbox.updateNetwork({ allowInternetAccess: false })
  assert.deepEqual((await sandbox.getInfo()).network.denyOut, ['0.0.0.0/0'])
  await sandbox.updateNetwork({ allowOut: ['*.example.com', '1.1.1.1'], denyOut: ({ allTraffic }) => [allTraffic] })
  assert.deepEqual((await sandbox.getInfo()).network.allowOut, ['1.1.1.1/32', '*.example.com'])

  const again = await Sandbox.connect(sandbox.sandboxId, { timeoutMs: 300_000 })
  assert.equal(again.sandboxId, sandbox.sandboxId)
  const metrics = await sandbox.getMetrics()
  assert.equal(metrics.length, 1)
  assert.equal(metrics[0].memUsed, 1234)
  assert.ok(metrics[0].timestamp instanceof Date && !isNaN(metrics[0].timestamp))

  // Lists: filters, order, pages.
  const made = [sandbox.sandboxId]
  for (let n = 0; n < 4; n++) made.push((await Sandbox.create({ metadata: { user: 'bob', n: String(n) } })).sandboxId)
  const all = async (opts) => {
    const ids = []
    const pages = Sandbox.list(opts)
    while (pages.hasNext) ids.push(...(await pages.nextItems()).map((s) => s.sandboxId))
    return ids
  }
  assert.deepEqual(await all({ limit: 2, order: 'asc' }), made)
  assert.deepEqual(await all({ limit: 3 }), [...made].reverse())
  assert.deepEqual(await all({ query: { metadata: { 'odd &=%+ key': 'a/b ✓ 100%' } } }), [made[0]])
  assert.deepEqual(await all({ query: { metadata: { user: 'bob', n: '2' }, state: ['running', 'paused'] } }), [made[3]])
  assert.deepEqual(await all({ query: { state: ['paused'] } }), [])
  assert.deepEqual(await all({ query: { template: 'nothing' } }), [])
  assert.deepEqual(await all({ query: { startedAfter: new Date(Date.now() + 3600_000) } }), [])

  // What is missing is named.
  const names = (what) => (e) => e instanceof SandboxError && e.message.includes(what)
  await assert.rejects(Sandbox.create({ volumeMounts: { '/v': 'v' } }), names('volumeMounts'))
  await assert.rejects(Sandbox.create({ network: { allowOut: ['example.com'] } }), names('example.com'))
  await Sandbox.create({ lifecycle: { onTimeout: 'kill', autoResume: false }, allowInternetAccess: true }).then((s) => s.kill())

  // Errors are the SDK's own.
  await assert.rejects(Sandbox.create('nothing'), names('404'))
  await assert.rejects(Sandbox.create({ apiKey: 'e2b_' + '0'.repeat(40) }), AuthenticationError)
  await assert.rejects(Sandbox.getInfo('inothing'), SandboxNotFoundError)
  await assert.rejects(Sandbox.connect('inothing'), SandboxNotFoundError)
  assert.equal(await Template.exists('base'), true)
  assert.equal(await Template.exists('nothing'), false)
  assert.equal((await Template.getTags('base'))[0].tag, 'default')

  await Sandbox.create()
  await assert.rejects(Sandbox.create(), RateLimitError) // the test's limit is 6
  for (const id of await all({})) assert.equal(await Sandbox.kill(id), true)
  assert.equal(await Sandbox.kill(made[0]), false)
}

main().then(() => process.exit(0), (e) => { console.error(e); process.exit(1) })
