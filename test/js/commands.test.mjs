// Commands in a sandbox: output, input, identity, time, and reconnecting.
import { test, before, after, describe } from 'node:test'
import assert from 'node:assert/strict'
import { CommandExitError, NotFoundError, Sandbox, SandboxError, TimeoutError } from 'e2b'
import { rpc, rpcStream, until } from './helpers.mjs'

describe('commands', () => {
  let sbx
  before(async () => {
    sbx = await Sandbox.create({ timeoutMs: 300_000, envs: { FROM_SANDBOX: 'sandbox', BOTH: 'sandbox' } })
  })
  after(() => sbx?.kill())

  test('output, error output and exit code', async () => {
    const r = await sbx.commands.run('echo out; echo err >&2')
    assert.deepEqual([r.stdout, r.stderr, r.exitCode, r.error], ['out\n', 'err\n', 0, undefined])
  })

  test('an exit code that is not zero throws with everything said before', async () => {
    const err = await sbx.commands.run('echo before; echo why >&2; exit 3').catch((e) => e)
    assert.ok(err instanceof CommandExitError)
    assert.deepEqual([err.exitCode, err.stdout, err.stderr], [3, 'before\n', 'why\n'])
    const missing = await sbx.commands.run('no-such-program').catch((e) => e)
    assert.equal(missing.exitCode, 127)
  })

  test('callbacks come while the command runs', async () => {
    const seen = []
    await sbx.commands.run('echo first; while [ ! -e /tmp/seen ]; do sleep 0.02; done; echo second; echo third >&2', {
      onStdout: async (text) => {
        seen.push(text)
        if (text === 'first\n') await sbx.files.write('/tmp/seen', '')
      },
      onStderr: (text) => { seen.push(`err ${text}`) },
    })
    assert.deepEqual(seen.sort(), ['err third\n', 'first\n', 'second\n'])
  })

  test('in the background', async () => {
    const handle = await sbx.commands.run('echo started; sleep 0.1; exit 7', { background: true })
    assert.ok(handle.pid > 0)
    await assert.rejects(handle.wait(), (e) => e instanceof CommandExitError && e.exitCode === 7)
    assert.equal(handle.stdout, 'started\n')
  })

  test('kill', async () => {
    const handle = await sbx.commands.run('sleep 600', { background: true, timeoutMs: 0 })
    assert.equal(await handle.kill(), true)
    const err = await handle.wait().catch((e) => e)
    assert.ok(err instanceof CommandExitError)
    assert.notEqual(err.exitCode, 0)
    assert.match(err.error, /kill/)
    await until('the process to be gone', async () => !(await sbx.commands.list()).some((p) => p.pid === handle.pid))
    assert.equal(await sbx.commands.kill(handle.pid), false)
  })

  test('kill reaches children of the shell', async () => {
    const handle = await sbx.commands.run('sleep 4242 & sleep 4242; true', { background: true, timeoutMs: 0 })
    const running = () => sbx.commands.run('pgrep -cf "sleep 424[2]" || true').then((r) => Number(r.stdout))
    await until('both to run', async () => (await running()) >= 2)
    await handle.kill()
    await handle.wait().catch(() => {})
    assert.ok(!(await sbx.commands.list()).some((p) => p.pid === handle.pid))
  })

  test('SIGTERM by the raw call can be handled', async () => {
    const handle = await sbx.commands.run('trap "echo bye; exit 9" TERM; echo ready; while :; do sleep 0.05; done', { background: true })
    await until('the trap', () => handle.stdout.includes('ready'))
    const res = await rpc(sbx, 'process.Process/SendSignal', { process: { pid: handle.pid }, signal: 'SIGNAL_SIGTERM' })
    assert.equal(res.status, 200)
    const err = await handle.wait().catch((e) => e)
    assert.deepEqual([err.exitCode, err.stdout], [9, 'ready\nbye\n'])
  })

  test('input and its end', async () => {
    const handle = await sbx.commands.run('cat; echo done', { background: true, stdin: true })
    await handle.sendStdin('one\n')
    await until('the echo', () => handle.stdout === 'one\n')
    await sbx.commands.sendStdin(handle.pid, new TextEncoder().encode('two\n'))
    await handle.closeStdin()
    assert.equal((await handle.wait()).stdout, 'one\ntwo\ndone\n')
  })

  test('without stdin a command reads nothing', async () => {
    assert.equal((await sbx.commands.run('cat; echo end')).stdout, 'end\n')
  })

  test('large input', async () => {
    const handle = await sbx.commands.run('wc -c', { background: true, stdin: true })
    const block = 'x'.repeat(256 * 1024)
    for (let i = 0; i < 8; i++) await handle.sendStdin(block)
    await handle.closeStdin()
    assert.equal((await handle.wait()).stdout.trim(), String(8 * 256 * 1024))
  })

  test('input to a process that is not there', async () => {
    await assert.rejects(sbx.commands.sendStdin(999999, 'x'), NotFoundError)
    await assert.rejects(sbx.commands.connect(999999), NotFoundError)
  })

  test('disconnect and connect again by pid', async () => {
    const first = await sbx.commands.run('while [ ! -e /tmp/go ]; do sleep 0.02; done; echo after; exit 4', { background: true, timeoutMs: 0 })
    await first.disconnect()
    const again = await sbx.commands.connect(first.pid)
    assert.equal(again.pid, first.pid)
    await sbx.files.write('/tmp/go', '')
    const err = await again.wait().catch((e) => e)
    assert.deepEqual([err.exitCode, err.stdout], [4, 'after\n'])
  })

  test('two listeners of one process hear the same', async () => {
    const first = await sbx.commands.run('while [ ! -e /tmp/go2 ]; do sleep 0.02; done; echo both', { background: true })
    const second = await sbx.commands.connect(first.pid)
    await sbx.files.write('/tmp/go2', '')
    const [a, b] = await Promise.all([first.wait(), second.wait()])
    assert.deepEqual([a.stdout, b.stdout], ['both\n', 'both\n'])
  })

  test('list tells what runs', async () => {
    const handle = await sbx.commands.run('sleep 60', { background: true, envs: { LISTED: 'yes' }, cwd: '/tmp' })
    const found = (await sbx.commands.list()).find((p) => p.pid === handle.pid)
    assert.equal(found.cmd, '/bin/bash')
    assert.deepEqual(found.args, ['-l', '-c', 'sleep 60'])
    assert.equal(found.envs.LISTED, 'yes')
    assert.equal(found.cwd, '/tmp')
    await handle.kill()
  })

  test('tags name a process', async () => {
    const tag = 'the-one'
    const events = rpcStream(sbx, 'process.Process/Start', {
      process: { cmd: '/bin/bash', args: ['-c', 'trap "exit 5" TERM; echo up; while :; do sleep 0.05; done'] }, tag, stdin: false,
    })
    const { value: start } = await events.next()
    assert.ok(start.event.start.pid > 0)
    assert.equal((await sbx.commands.list()).find((p) => p.tag === tag)?.pid, start.event.start.pid)
    await events.next()
    const joined = rpcStream(sbx, 'process.Process/Connect', { process: { tag } })
    assert.equal((await joined.next()).value.event.start.pid, start.event.start.pid)
    assert.equal((await rpc(sbx, 'process.Process/SendSignal', { process: { tag }, signal: 'SIGNAL_SIGTERM' })).status, 200)
    const ends = []
    for (const stream of [events, joined]) for await (const m of stream) if (m.event?.end) ends.push(m.event.end.exitCode)
    assert.deepEqual(ends, [5, 5])
  })

  test('keepalives come when asked for', async () => {
    const events = rpcStream(sbx, 'process.Process/Start', { process: { cmd: '/bin/bash', args: ['-c', 'sleep 3'] } }, { 'Keepalive-Ping-Interval': '1' })
    const kinds = []
    for await (const m of events) kinds.push(Object.keys(m.event ?? m)[0])
    assert.ok(kinds.includes('keepalive'), kinds.join())
  })

  test('environment: sandbox, command, and which wins', async () => {
    const { stdout } = await sbx.commands.run('echo $FROM_SANDBOX $BOTH $ONLY_HERE', { envs: { BOTH: 'command', ONLY_HERE: 'x' } })
    assert.equal(stdout, 'sandbox command x\n')
    const after = await sbx.commands.run('echo "[$ONLY_HERE]"')
    assert.equal(after.stdout, '[]\n')
    const home = await sbx.commands.run('echo $HOME $USER $LOGNAME; echo $PATH')
    assert.match(home.stdout, /^\/home\/user user user\n.*\/usr\/bin/)
  })

  test('where a command works', async () => {
    assert.equal((await sbx.commands.run('pwd')).stdout, '/home/user\n')
    assert.equal((await sbx.commands.run('pwd', { cwd: '/tmp' })).stdout, '/tmp\n')
      await sbx.files.makeDir('below')
    assert.equal((await sbx.commands.run('pwd', { cwd: 'below' })).stdout, '/home/user/below\n')
  })

  test('who a command is', async () => {
    assert.equal((await sbx.commands.run('whoami')).stdout, 'user\n')
    assert.equal((await sbx.commands.run('whoami', { user: 'root' })).stdout, 'root\n')
    assert.equal((await sbx.commands.run('whoami', { user: 'user' })).stdout, 'user\n')
    assert.equal((await sbx.commands.run('sudo -n whoami')).stdout, 'root\n')
    const err = await sbx.commands.run('cat /etc/shadow').catch((e) => e)
    assert.ok(err instanceof CommandExitError)
  })

  test('a time-out ends the wait', async () => {
    await assert.rejects(sbx.commands.run('sleep 60', { timeoutMs: 300 }), TimeoutError)
  })

  test('no time-out when it is 0', async () => {
    assert.equal((await sbx.commands.run('sleep 0.2; echo x', { timeoutMs: 0 })).stdout, 'x\n')
  })

  test('text cut anywhere stays whole', async () => {
    const r = await sbx.commands.run(`python3 -c "
import sys
data = ('ä€😀' * 20000).encode()
for i in range(0, len(data), 4097):
    sys.stdout.buffer.write(data[i:i + 4097]); sys.stdout.buffer.flush()
"`)
    assert.equal(r.stdout, 'ä€😀'.repeat(20000))
  })

  test('50 MB of output', async () => {
    const r = await sbx.commands.run(`head -c 50000000 /dev/zero | tr '\\0' x`, { timeoutMs: 120_000 })
    assert.equal(r.stdout.length, 50_000_000)
    assert.ok(/^x+$/.test(r.stdout.slice(0, 1000)) && /^x+$/.test(r.stdout.slice(-1000)))
  })

  test('a slow reader holds the writer, not memory', async () => {
    const before = (await sbx.commands.run(`awk '/MemAvailable/{print $2}' /proc/meminfo`)).stdout
    let chunks = 0
    const handle = await sbx.commands.run('yes | head -c 20000000', {
      background: true, timeoutMs: 60_000,
      onStdout: async () => { if (chunks++ < 20) await new Promise((resolve) => setImmediate(resolve)) },
    })
    assert.equal((await handle.wait()).stdout.length, 20_000_000)
    assert.ok(Number(before) > 0)
  })

  test('twenty at once', async () => {
    const all = await Promise.all(Array.from({ length: 20 }, (_, i) => sbx.commands.run(`echo ${i}`)))
    assert.deepEqual(all.map((r) => r.stdout.trim()), Array.from({ length: 20 }, (_, i) => `${i}`))
  })

  test('a process that leaves a child behind ends all the same', async () => {
    const r = await sbx.commands.run('(sleep 30 >/dev/null 2>&1 &) ; echo parent')
    assert.equal(r.stdout, 'parent\n')
  })

  test('a cancelled request', async () => {
    const stop = new AbortController()
    const wait = sbx.commands.run('sleep 60', { signal: stop.signal })
    await until('it to run', async () => (await sbx.commands.list()).some((p) => p.args.includes('sleep 60')))
    stop.abort()
    await assert.rejects(wait, (e) => e instanceof SandboxError || e.name === 'AbortError')
  })
})
