// Drives pause, resume, fork and snapshots with the published SDK for JavaScript.
const assert = require('node:assert/strict')
const { Sandbox, Template, RateLimitError, SandboxNotFoundError, SandboxError } = require('e2b')

const names = (what) => (e) => e instanceof SandboxError && e.message.includes(what)

async function all(pages) {
  const items = []
  while (pages.hasNext) items.push(...(await pages.nextItems()))
  return items
}
const ids = async (opts) => (await all(Sandbox.list(opts))).map((s) => s.sandboxId)

async function pauseAndResume() {
  const sandbox = await Sandbox.create('base', { timeoutMs: 60_000, lifecycle: { onTimeout: 'pause', autoResume: true } })
  assert.deepEqual((await sandbox.getInfo()).lifecycle, { onTimeout: 'pause', autoResume: true })
  assert.equal(await sandbox.pause(), true)
  assert.equal(await sandbox.pause(), false)
  assert.equal((await sandbox.getInfo()).state, 'paused')
  await assert.rejects(sandbox.setTimeout(60_000), SandboxNotFoundError)
  await assert.rejects(sandbox.updateNetwork({ allowInternetAccess: false }), names('is paused'))
  await assert.rejects(sandbox.fork(), names('is paused'))
  await assert.rejects(sandbox.createSnapshot(), SandboxNotFoundError)

  const again = await Sandbox.connect(sandbox.sandboxId, { timeoutMs: 600_000 })
  assert.equal(again.sandboxId, sandbox.sandboxId)
  const info = await again.getInfo()
  assert.equal(info.state, 'running')
  assert.ok(info.endAt - info.startedAt >= 600_000)
  await sandbox.connect() // a running one stays
  assert.equal(await Sandbox.pause(sandbox.sandboxId, { keepMemory: false }), true)
  await sandbox.connect({ onResume: 'reboot' })
  await sandbox.kill()

  const diskOnly = await Sandbox.create({ lifecycle: { onTimeout: { action: 'pause', keepMemory: false } } })
  assert.deepEqual((await diskOnly.getInfo()).lifecycle, { onTimeout: 'pause', autoResume: false })
  await diskOnly.pause()
  assert.equal(await Sandbox.kill(diskOnly.sandboxId), true)
  await assert.rejects(diskOnly.pause(), SandboxNotFoundError)
  await assert.rejects(diskOnly.connect(), SandboxNotFoundError)
}

async function damage() {
  const sandbox = await Sandbox.create({ metadata: { wake: 'damaged' } })
  await sandbox.pause()
  await assert.rejects(sandbox.connect(), (e) => names('onResume "reboot"')(e) && e.statusCode === 409)
  await sandbox.connect({ onResume: 'reboot' })
  assert.equal((await sandbox.getInfo()).state, 'running')
  await sandbox.kill()
}

async function lists() {
  const made = []
  for (let n = 0; n < 5; n++) {
    const sandbox = await Sandbox.create({ metadata: { list: 'yes' } })
    if (n % 2) await sandbox.pause()
    made.push(sandbox.sandboxId)
  }
  const newest = [...made].reverse()
  assert.deepEqual(await ids({ limit: 2 }), newest)
  assert.deepEqual(await ids({ limit: 1, query: { state: ['paused'] } }), [made[3], made[1]])
  assert.deepEqual(await ids({ query: { state: ['running'], metadata: { list: 'yes' } } }), [made[4], made[2], made[0]])
  assert.deepEqual(await ids({ limit: 2, order: 'asc', query: { state: ['running', 'paused'] } }), made)
  const states = (await all(Sandbox.list())).map((s) => s.state)
  assert.deepEqual(states, ['running', 'paused', 'running', 'paused', 'running'])

  // Paused ones do not count against the limit of 6; three run.
  for (let n = 0; n < 3; n++) await Sandbox.create()
  await assert.rejects(Sandbox.connect(made[1]), RateLimitError)
  for (const id of await ids({})) assert.equal(await Sandbox.kill(id), true)
  assert.deepEqual(await ids({}), [])
}

async function forks() {
  const sandbox = await Sandbox.create({ metadata: { user: 'ann' } })
  const [one] = await sandbox.fork()
  assert.ok(one instanceof Sandbox && one.sandboxId !== sandbox.sandboxId)
  const copies = await Sandbox.fork(sandbox.sandboxId, { count: 6, timeoutMs: 120_000 })
  assert.equal(copies.filter((c) => c instanceof Sandbox).length, 4) // of 6 that the team may have
  assert.ok(copies[4] instanceof RateLimitError && copies[5] instanceof RateLimitError)
  assert.equal(new Set((await ids({}))).size, 6)
  assert.deepEqual((await copies[0].getInfo()).metadata, { user: 'ann' })
  await assert.rejects(Sandbox.fork('inothing'), SandboxNotFoundError)
  await assert.rejects(sandbox.fork({ count: 101 }), names('1 to 100'))
  for (const id of await ids({})) await Sandbox.kill(id)
}

async function snapshots() {
  const sandbox = await Sandbox.create()
  const plain = await sandbox.createSnapshot()
  assert.deepEqual(plain.names, [])
  const named = await Sandbox.createSnapshot(sandbox.sandboxId, { name: 'my-snapshot' })
  assert.equal(named.snapshotId, 'default/my-snapshot:default')
  assert.deepEqual(named.names, [named.snapshotId])
  await assert.rejects(sandbox.createSnapshot({ name: 'No Name' }), names('lower-case'))
  await assert.rejects(Sandbox.createSnapshot('inothing'), SandboxNotFoundError)

  const listed = async (opts) => (await all(Sandbox.listSnapshots(opts))).map((s) => s.snapshotId)
  assert.deepEqual(await listed({ limit: 1 }), [named.snapshotId, plain.snapshotId])
  assert.deepEqual(await listed({ name: 'my-snapshot' }), [named.snapshotId])
  assert.deepEqual(await listed({ name: named.snapshotId }), [named.snapshotId])
  assert.deepEqual(await listed({ sandboxId: 'inothing' }), [])
  assert.equal((await sandbox.listSnapshots().nextItems()).length, 2)

  await sandbox.kill()
  for (const ref of [plain.snapshotId, named.snapshotId, 'my-snapshot', 'default/my-snapshot']) {
    const from = await Sandbox.create(ref)
    assert.equal(await Template.exists(ref), true)
    await from.kill()
  }
  assert.equal(await Sandbox.deleteSnapshot(named.snapshotId), true)
  assert.equal(await Sandbox.deleteSnapshot(named.snapshotId), false)
  await assert.rejects(Sandbox.deleteSnapshot('base'), names('built in'))
  await assert.rejects(Sandbox.create('my-snapshot'), names('404'))
  assert.deepEqual(await listed({}), [plain.snapshotId])
}

async function main() {
  for (const part of [pauseAndResume, damage, lists, forks, snapshots]) await part()
}

main().then(() => process.exit(0), (e) => { console.error(e); process.exit(1) })
