import { APIError, Sprite, SpritesClient } from '@fly/sprites'
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { API_URL, client, failure, freshName, TOKEN, until, withSprite } from './helpers.mjs'

test('a sprite is created, found, changed and destroyed', async () => {
  const name = freshName()
  const sprite = await client.createSprite(name, {
    environment: { COLOUR: 'green' }, labels: ['one', 'two'], urlSettings: { auth: 'public' }, config: { ramMB: 512 },
  })
  try {
    assert.ok(sprite instanceof Sprite)
    assert.equal(sprite.name, name)
    assert.match(sprite.id, /^sprite-/)
    assert.match(sprite.url, new RegExp(`^https?://${name}\\.`))
    assert.ok(sprite.createdAt instanceof Date && sprite.organizationName)
    const got = await client.getSprite(name)
    assert.deepEqual(got.labels, ['one', 'two'])
    assert.equal(got.urlSettings.auth, 'public')
    assert.equal(got.status, 'running')
    assert.ok(got.lastRunningAt instanceof Date)
    assert.equal((await got.execFile('printenv', ['COLOUR'])).stdout, 'green\n')

    const changed = await got.update({ labels: ['three'], urlSettings: { auth: 'sprite', privateAccess: 'admins' } })
    assert.deepEqual(changed.labels, ['three'])
    assert.deepEqual(changed.urlSettings, { auth: 'sprite', privateAccess: 'admins' })
    await changed.updateURLSettings({ auth: 'public' })
    assert.equal((await client.getSprite(name)).urlSettings.auth, 'public')
  } finally {
    await sprite.destroy()
  }
  assert.equal((await failure(client.getSprite(name))).statusCode, 404)
  assert.equal((await failure(client.deleteSprite(name))).statusCode, 404)
})

test('lists are paged, filtered and counted', async () => {
  const prefix = freshName('list')
  const names = ['a', 'b', 'c'].map(c => `${prefix}-${c}`)
  await Promise.all(names.map(n => client.createSprite(n)))
  try {
    const first = await client.listSprites({ prefix, maxResults: 2 })
    assert.deepEqual(first.sprites.map(s => s.name), names.slice(0, 2))
    assert.ok(first.hasMore && first.running >= 3 && first.organizationName && first.runningLimit > 0)
    const rest = await client.listSprites({ prefix, maxResults: 2, continuationToken: first.nextContinuationToken })
    assert.deepEqual(rest.sprites.map(s => s.name), names.slice(2))
    assert.equal(rest.hasMore, false)
    assert.deepEqual((await client.listAllSprites(prefix)).map(s => s.name), names)
  } finally {
    await Promise.all(names.map(n => client.deleteSprite(n)))
  }
})

test('changes are watched', async () => {
  const name = freshName('watch')
  const stream = await client.watchSprites({ prefix: name })
  await client.createSprite(name)
  const born = await stream.next()
  assert.equal(born.name, name)
  assert.equal(born.status, 'running')
  assert.ok(born.organization.running >= 1 && born.timestamp instanceof Date)
  await client.deleteSprite(name)
  assert.equal((await stream.next()).status, 'destroyed')
  stream.close()
})

test('wrong requests are refused with reasons', async () => {
  for (const name of ['', 'Big', 'a.b', '-a', 'a-', 'x'.repeat(64), '80-abc', 'api', 'a/../b', 'ü']) {
    const error = await failure(client.createSprite(name))
    assert.ok(error instanceof APIError, `${name}: ${error}`)
    assert.equal(error.statusCode, 400, name)
    assert.match(error.message, /name/)
  }
  await withSprite(async sprite => {
    const twice = await failure(client.createSprite(sprite.name))
    assert.equal(twice.statusCode, 409)
    assert.match(twice.message, /already exists/)
  })
  const stranger = await failure(new SpritesClient('no/such/token', { baseURL: API_URL }).listSprites())
  assert.equal(stranger.statusCode, 401)
  assert.equal((await failure(client.createSprite(freshName(), { runtime: 'windows' }))).statusCode, 400)
})

test('a sprite restarts, upgrades and tells how it is', async () => {
  await withSprite(async sprite => {
    await sprite.execFile('sh', ['-c', 'echo kept > ~/file; echo lost > /dev/shm/gone'])
    const check = await sprite.check()
    assert.equal(check.status, 'healthy')
    assert.ok(check.checkedAt instanceof Date && check.elapsed >= 0)
    await sprite.upgrade()
    const restarted = await sprite.restart()
    assert.equal(restarted.spriteName, sprite.name)
    assert.ok(restarted.machineId && restarted.message)
    assert.equal((await sprite.execFile('sh', ['-c', 'cat ~/file; ls /dev/shm'])).stdout, 'kept\n')
    const logs = await fetch(`${API_URL}/v1/sprites/${sprite.name}/logs?limit=5`, { headers: { authorization: `Bearer ${TOKEN}` } })
    assert.equal(logs.status, 200)
    assert.ok(Array.isArray(await logs.json()))
  })
})

test('sprites of one name follow each other', async () => {
  const name = freshName('again')
  for (const round of [1, 2]) {
    const sprite = await client.createSprite(name)
    assert.equal((await sprite.execFile('sh', ['-c', `ls ~/mark 2>/dev/null; echo ${round} > ~/mark; cat ~/mark`])).stdout, `${round}\n`)
    await sprite.destroy()
    await until('the sprite to be gone', async () => (await failure(client.getSprite(name))).statusCode === 404)
  }
})
