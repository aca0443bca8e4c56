import { ExecError } from '@fly/sprites'
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { after, before, suite, test } from 'node:test'
import { client, failure, messages, shared, text, until } from './helpers.mjs'

suite('exec', () => {
  const held = shared(before, after)

  test('output, errors and exit codes', async () => {
    const { sprite } = held
    assert.deepEqual(await sprite.exec('echo hello world'), { stdout: 'hello world\n', stderr: '', exitCode: 0 })
    const error = await failure(sprite.execFile('sh', ['-c', 'echo out; echo err >&2; exit 42']))
    assert.ok(error instanceof ExecError)
    assert.deepEqual([error.exitCode, error.stdout, error.stderr], [42, 'out\n', 'err\n'])
    assert.equal((await failure(sprite.execFile('no-such-program'))).exitCode, 127)
  })

  test('directory, environment and user', async () => {
    const { sprite } = held
    const run = async (script, options) => (await sprite.execFile('sh', ['-c', script], options)).stdout.trim()
    assert.equal(await run('whoami'), 'sprite')
    assert.equal(await run('pwd'), '/home/sprite')
    assert.equal(await run('pwd', { cwd: '/usr' }), '/usr')
    assert.equal(await run('echo $A:$B', { env: { A: '1', B: 'two words' } }), '1:two words')
    assert.equal(await run('test -n "$PATH" && test -n "$HOME" && echo set', { env: { A: '1' } }), 'set')
    assert.ok((await failure(sprite.execFile('true', [], { cwd: '/nowhere' }))) instanceof Error)
  })

  test('input is passed on and ends', async () => {
    const { sprite } = held
    const command = sprite.spawn('wc', ['-c'])
    const out = text(command.stdout)
    await once(command, 'spawn')
    command.stdin.write('x'.repeat(300_000))
    command.stdin.end('y')
    assert.equal(await command.wait(), 0)
    assert.equal(out().trim(), '300001')
  })

  test('large output arrives whole', async () => {
    const { sprite } = held
    const { stdout } = await sprite.execFile('sh', ['-c', 'head -c 4000000 /dev/zero | tr "\\0" x'])
    assert.equal(stdout.length, 4_000_000)
  })

  test('fast commands lose nothing', async () => {
    const { sprite } = held
    const all = await Promise.all(Array.from({ length: 20 }, (_, i) => sprite.execFile('echo', [String(i)])))
    assert.deepEqual(all.map(r => r.stdout), Array.from({ length: 20 }, (_, i) => `${i}\n`))
  })

  test('over plain HTTP', async () => {
    const { sprite } = held
    // This SDK takes what it reads at once for one frame. The server pauses
    // between frames, but where the host is busy two may be read as one.
    const patiently = async check => {
      for (let left = 8; ; left--) {
        try {
          return await check()
        } catch (error) {
          if (left === 0) throw error
        }
      }
    }
    await patiently(async () => {
      const got = await sprite.execFileHTTP('sh', ['-c', 'cat; echo err >&2'], { input: 'some input' })
      assert.deepEqual([got.stdout, got.stderr, got.exitCode], ['some input', 'err\n', 0])
    })
    await patiently(async () => assert.equal((await failure(sprite.execFileHTTP('sh', ['-c', 'exit 7']))).exitCode, 7))
  })

  test('signals', async () => {
    const { sprite } = held
    const command = sprite.spawn('sh', ['-c', 'trap "exit 9" TERM; echo ready; while :; do sleep 0.05; done'])
    const out = text(command.stdout)
    await until('the program', () => out().includes('ready'))
    command.kill('SIGTERM')
    assert.equal(await command.wait(), 9)
  })

  test('a terminal', async () => {
    const { sprite } = held
    const command = sprite.spawn('sh', ['-c', 'tty; stty size; read line; stty size; echo "got $line"'], { tty: true, rows: 33, cols: 99 })
    const out = text(command.stdout)
    await until('the first size', () => /\/dev\/\S+\r\n33 99/.test(out()))
    command.resize(120, 40)
    command.stdin.write('hello\n')
    assert.equal(await command.wait(), 0)
    assert.match(out(), /40 120[^]*got hello/)
    const failing = sprite.spawn('sh', ['-c', 'exit 3'], { tty: true })
    assert.notEqual(await failing.wait(), 0) // this SDK knows no more of a terminal's code
  })

  test('sessions outlive their clients', async () => {
    const { sprite } = held
    const command = sprite.createSession('sh', ['-c', 'echo started; while read l; do echo "you said $l"; [ "$l" = bye ] && exit; done'])
    const info = new Promise(r => command.on('message', m => { if (m.type === 'session_info') r(m) }))
    const out = text(command.stdout)
    const { session_id: id, tty } = await info
    assert.equal(typeof id, 'string')
    assert.equal(tty, true)
    await until('the session', () => out().includes('started'))
    command.wsCmd.close() // leaves without a word to the program

    const found = await until('the session in the list', async () => (await sprite.listSessions()).find(s => s.id === id))
    assert.ok(found.command.includes('sh') && found.tty && found.created instanceof Date)
    const again = sprite.attachSession(id)
    const replay = text(again.stdout)
    await until('what it said before', () => replay().includes('started'))
    again.stdin.write('bye\n')
    assert.equal(await again.wait(), 0)
    assert.match(replay(), /you said bye/)
    await until('the session to be gone', async () => !(await sprite.listSessions()).some(s => s.id === id))
    assert.ok(await failure(sprite.killSession(id)))
  })

  test('sessions are killed', async () => {
    const { sprite } = held
    const command = sprite.createSession('sleep', ['1000'])
    const { session_id: id } = await new Promise(r => command.on('message', m => { if (m.type === 'session_info') r(m) }))
    const events = await messages(sprite.killSession(id, 'TERM', '5s'))
    assert.equal(events[0].type, 'signal')
    assert.equal(events.at(-1).type, 'complete')
    assert.equal(events.at(-1).exitCode, 143)
    assert.notEqual(await command.wait(), 0)
  })

  test('control connections', async () => {
    const { SpritesClient } = await import('@fly/sprites')
    const sprite = new SpritesClient(client.token, { baseURL: client.baseURL, controlMode: true }).sprite(held.sprite.name)
    try {
      for (const i of [1, 2, 3]) assert.equal((await sprite.execFile('echo', [`${i}`])).stdout, `${i}\n`)
      assert.ok(sprite.hasControlConnection())
      assert.equal((await failure(sprite.execFile('sh', ['-c', 'exit 5']))).exitCode, 5)
    } finally {
      const closed = once(await sprite.getControlConnection(), 'close')
      sprite.closeControlConnection()
      await closed.catch(() => {}) // its end is not what is tested
    }
  })
})
