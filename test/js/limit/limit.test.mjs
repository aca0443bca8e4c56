// The limit on sandboxes that run at once; the server was started with a
// limit of three.
import { test } from 'node:test'
import assert from 'node:assert/strict'
import { RateLimitError, Sandbox } from 'e2b'

test('one sandbox too many is refused, and room is made by ending one', async () => {
  const made = []
  try {
    for (let i = 0; i < 3; i++) made.push(await Sandbox.create({ timeoutMs: 60_000 }))
    const err = await Sandbox.create({ timeoutMs: 60_000, retries: 0 }).catch((e) => e)
    assert.ok(err instanceof RateLimitError, `${err}`)
    assert.match(err.message, /3/)
    assert.equal((await Sandbox.list().nextItems()).length, 3)
    await made.pop().kill()
    made.push(await Sandbox.create({ timeoutMs: 60_000 }))
  } finally {
    await Promise.all(made.map((s) => s.kill()))
  }
})

test('of ten asked for at once exactly three are made', async () => {
  const results = await Promise.allSettled(Array.from({ length: 10 }, () => Sandbox.create({ timeoutMs: 60_000, retries: 0 })))
  const made = results.filter((r) => r.status === 'fulfilled').map((r) => r.value)
  try {
    assert.equal(made.length, 3)
    for (const r of results) if (r.status === 'rejected') assert.ok(r.reason instanceof RateLimitError, `${r.reason}`)
  } finally {
    await Promise.all(made.map((s) => s.kill()))
  }
})
