import assert from 'node:assert/strict'
import { once } from 'node:events'
import { after, before, suite, test } from 'node:test'
import { API_URL, client, failure, freshName, messages, shared, TOKEN, until } from './helpers.mjs'

const post = (path, body) => fetch(`${API_URL}${path}`, {
  method: 'POST', body: body && JSON.stringify(body), headers: { authorization: `Bearer ${TOKEN}`, 'content-type': 'application/json' },
})

// take makes a checkpoint and returns its id, which only its messages tell.
async function take(sprite, comment) {
  const said = await messages(sprite.createCheckpoint(comment))
  return /\bv\d+\b/.exec(said.at(-1).data)[0]
}

suite('checkpoints and policies', () => {
  const held = shared(before, after)
  const run = async script => (await held.sprite.execFile('sh', ['-c', script])).stdout

  test('a restore goes back exactly', async () => {
    const { sprite } = held
    await run('echo one > ~/state; sync')
    const id = await take(sprite, 'the first')
    await run('echo two > ~/state; touch ~/later')
    const said = await messages(sprite.restoreCheckpoint(id))
    assert.equal(said.at(-1).type, 'complete')
    assert.equal(await run('cat ~/state; ls ~/later 2>&1 | grep -c cannot'), 'one\n1\n')
    const all = await sprite.listCheckpoints()
    assert.deepEqual(all.map(c => [c.id, c.comment]), [[id, 'the first']])
    assert.ok(all[0].createTime instanceof Date)
    const auto = await (await fetch(`${API_URL}/v1/sprites/${sprite.name}/checkpoints?includeAuto=true`, { headers: { authorization: `Bearer ${TOKEN}` } })).json()
    assert.ok(auto.some(c => c.is_auto && c.id.startsWith('pre-restore-')))
    assert.equal((await sprite.getCheckpoint(id)).comment, 'the first')
    assert.equal(await run(`cat /.sprite/checkpoints/${id}/home/sprite/state`), 'one\n')
  })

  test('restoring while commands run, and twice at once', async () => {
    const { sprite } = held
    const id = await take(sprite)
    const running = sprite.spawn('sleep', ['1000'])
    running.on('error', () => {})
    await once(running, 'spawn')
    const ended = running.wait()
    const both = await Promise.all([1, 2].map(async () => {
      try {
        return (await messages(sprite.restoreCheckpoint(id))).at(-1)
      } catch (error) {
        return { type: 'error', error: error.message }
      }
    }))
    assert.ok(both.some(m => m.type === 'complete'), JSON.stringify(both))
    assert.ok(both.every(m => m.type === 'complete' || m.error), JSON.stringify(both))
    assert.notEqual(await ended, 0)
    assert.equal(await run('cat ~/state'), 'one\n')
  })

  test('services start from what was restored', async () => {
    const { sprite } = held
    await messages(sprite.createService('mine', { cmd: 'sleep', args: ['1000'] }, '1s'))
    const id = await take(sprite)
    await sprite.deleteService('mine')
    await messages(sprite.restoreCheckpoint(id))
    await until('the service', async () => (await sprite.getService('mine').catch(() => null))?.state.status === 'running')
  })

  test('a new sprite from a checkpoint', async () => {
    const id = await take(held.sprite)
    const name = freshName()
    const made = await post('/v1/sprites', { name, from_checkpoint: { sprite: held.sprite.name, checkpoint: id } })
    assert.equal(made.status, 201, await made.text())
    const copy = client.sprite(name)
    try {
      assert.equal((await copy.execFile('sh', ['-c', 'cat ~/state'])).stdout, 'one\n')
    } finally {
      await copy.destroy()
    }
  })

  test('what is not there', async () => {
    const { sprite } = held
    assert.match((await failure(sprite.restoreCheckpoint('v999'))).message, /404/)
    assert.match((await failure(sprite.getCheckpoint('v999'))).message, /not found/)
    assert.match((await failure(sprite.restoreCheckpoint('../../x'))).message, /404/)
    const path = `/v1/sprites/${sprite.name}/checkpoints`
    const remove = async id => (await fetch(`${API_URL}${path}/${id}`, { method: 'DELETE', headers: { authorization: `Bearer ${TOKEN}` } })).status
    const id = await take(sprite)
    assert.equal(await remove(id), 204)
    assert.equal(await remove(id), 404)
  })

  test('the network policy', async () => {
    const { sprite } = held
    assert.deepEqual(await sprite.getNetworkPolicy(), { rules: [] })
    const rules = [{ include: 'defaults' }, { domain: 'forbidden.test', action: 'deny' }, { domain: '*.allowed.test', action: 'allow' }]
    await sprite.updateNetworkPolicy({ rules })
    assert.deepEqual(await sprite.getNetworkPolicy(), { rules })
    assert.deepEqual(JSON.parse(await run('cat /.sprite/policy/network.json')).rules, rules)
    assert.match((await failure(sprite.updateNetworkPolicy({ rules: [{ domain: '10.0.0.1', action: 'allow' }] }))).message, /Invalid policy/)
    assert.match((await failure(sprite.updateNetworkPolicy({ rules: [{ domain: 'a.test' }] }))).message, /Invalid policy/)
    assert.deepEqual(await sprite.getNetworkPolicy(), { rules })
    await sprite.updateNetworkPolicy({ rules: [] })
  })

  test('the other policies', async () => {
    const { sprite } = held
    await sprite.updatePrivilegesPolicy({ profile: 'standard' })
    assert.equal((await sprite.getPrivilegesPolicy()).profile, 'standard')
    assert.match((await failure(sprite.updatePrivilegesPolicy({ profile: 'minimal' }))).message, /not available/)
    const { memory } = await sprite.getResourcesPolicy()
    await sprite.updateResourcesPolicy({ memory })
    assert.match((await failure(sprite.updateResourcesPolicy({ memory: { limitMB: 1, autoscale: true } }))).message, /not available/)
    await sprite.deletePrivilegesPolicy()
    await sprite.deleteResourcesPolicy()
  })
})
