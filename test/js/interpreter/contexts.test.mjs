// Contexts of the code-interpreter SDK, and what becomes of them in copies.
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { NotFoundError, Sandbox } from '@e2b/code-interpreter'

const ids = async (sbx) => (await sbx.listCodeContexts()).map((c) => c.id)
const text = async (sbx, code, opts) => (await sbx.runCode(code, opts)).text

describe('contexts', () => {
  let sbx
  before(async () => {
    sbx = await Sandbox.create({ timeoutMs: 300_000 })
  })
  after(() => sbx?.kill())

  test('life', async () => {
    const context = await sbx.createCodeContext({ cwd: '/tmp', language: 'python' })
    assert.deepEqual([context.cwd, context.language], ['/tmp', 'python'])
    assert.ok((await ids(sbx)).includes(context.id))
    assert.equal(await text(sbx, 'mine = 1; import os; os.getcwd()', { context }), '/tmp')
    assert.equal((await sbx.runCode('mine')).error.name, 'NameError')
    await sbx.restartCodeContext(context)
    assert.equal((await sbx.runCode('mine', { context })).error.name, 'NameError')
    await sbx.removeCodeContext(context)
    assert.ok(!(await ids(sbx)).includes(context.id))
    await assert.rejects(sbx.runCode('1', { context }), NotFoundError)
  })

  test('one default for each language', async () => {
    for (const [language, code] of [['javascript', 'var n = 9001; n'], ['typescript', 'const n: number = 9001; n'], ['python', '9001']]) {
      assert.equal(await text(sbx, code, { language }), '9001', language)
    }
    await sbx.runCode('kept=hello', { language: 'bash' })
    assert.deepEqual((await sbx.runCode('echo $kept', { language: 'bash' })).logs.stdout, ['hello\n'])
    const languages = (await sbx.listCodeContexts()).map((c) => c.language)
    assert.equal(new Set(languages).size, languages.length)
  })

  test('results of R', async () => {
    const { results, error } = await sbx.runCode('x <- c(1, 2, 3); mean(x)', { language: 'r' })
    assert.equal(error, undefined)
    assert.match(results[0].text, /2/)
  })

  test('a language that is not in the template', async () => {
    await assert.rejects(sbx.runCode('1', { language: 'java' }), /template/)
  })

  test('one after another within, side by side across', async () => {
    await sbx.runCode('order = []')
    await Promise.all([1, 2, 3].map(() => sbx.runCode("import time; order.append('in'); time.sleep(0.2); order.append('out')")))
    assert.deepEqual((await sbx.runCode('print(*order)')).logs.stdout, ['in out in out in out\n'])

    const meet = (mine, other) => `import os, time
open('/tmp/${mine}', 'w').close()
while not os.path.exists('/tmp/${other}'): time.sleep(0.01)
'met'`
    const contexts = await Promise.all([sbx.createCodeContext(), sbx.createCodeContext()])
    assert.deepEqual(
      await Promise.all([
        text(sbx, meet('a', 'b'), { context: contexts[0] }),
        text(sbx, meet('b', 'a'), { context: contexts[1] }),
      ]),
      ['met', 'met']
    )
  })
})

describe('copies', () => {
  let sbx
  before(async () => {
    sbx = await Sandbox.create({ timeoutMs: 300_000 })
    await sbx.runCode('import random, uuid\nkept = [1, 2]\nrandom.random()')
  })
  after(() => sbx?.kill())

  const draw = (s) => text(s, 'random.random(), uuid.uuid4()')

  test('pause and resume', async () => {
    for (let i = 0; i < 2; i++) {
      await sbx.pause()
      await sbx.connect()
      assert.equal(await text(sbx, 'kept'), '[1, 2]')
    }
  })

  test('forks', async () => {
    const copies = await sbx.fork({ count: 3, timeoutMs: 120_000 })
    try {
      const all = [sbx, ...copies]
      for (const s of all) assert.equal(await text(s, 'kept'), '[1, 2]')
      assert.equal(new Set(await Promise.all(all.map(draw))).size, 4)
    } finally {
      await Promise.all(copies.map((c) => c.kill?.()))
    }
  })

  test('snapshot', async () => {
    const { snapshotId } = await sbx.createSnapshot()
    const copies = []
    try {
      for (let i = 0; i < 2; i++) copies.push(await Sandbox.create(snapshotId, { timeoutMs: 120_000 }))
      for (const c of copies) assert.equal(await text(c, 'kept'), '[1, 2]')
      assert.equal(new Set(await Promise.all([sbx, ...copies].map(draw))).size, 3)
    } finally {
      await Promise.all(copies.map((c) => c.kill()))
      await Sandbox.deleteSnapshot(snapshotId)
    }
  })
})
