import assert from 'node:assert/strict'
import { test } from 'node:test'
import { withSprite } from './helpers.mjs'

// This SDK gives up on commands that say nothing for 45 seconds, unless the
// server does.
test('a command may be quiet for a minute', async () => {
  await withSprite(async sprite => {
    assert.equal((await sprite.execFile('sh', ['-c', 'sleep 47; echo awake'])).stdout, 'awake\n')
  })
})
