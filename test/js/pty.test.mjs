// Terminals in a sandbox.
import { test, before, after, describe } from 'node:test'
import assert from 'node:assert/strict'
import { Sandbox } from 'e2b'
import { until } from './helpers.mjs'

const bytes = (text) => new TextEncoder().encode(text)

describe('terminal', () => {
  let sbx
  before(async () => { sbx = await Sandbox.create({ timeoutMs: 120_000 }) })
  after(() => sbx?.kill())

  async function open(opts = {}) {
    let text = ''
    const decoder = new TextDecoder()
    const handle = await sbx.pty.create({
      cols: 80, rows: 24, timeoutMs: 0,
      onData: (data) => { text += decoder.decode(data, { stream: true }) },
      ...opts,
    })
    const send = (input) => sbx.pty.sendInput(handle.pid, bytes(input))
    const see = (pattern) => until(`${pattern} in the terminal`, () => pattern.test(text))
    return { handle, send, see, text: () => text }
  }

  test('create, type, resize, leave', async () => {
    const t = await open({ envs: { IN_PTY: 'yes' }, cwd: '/tmp' })
    assert.ok(t.handle.pid > 0)
    await t.send('stty size; tty; echo "$IN_PTY:$TERM:$PWD"\n')
    await t.see(/24 80/)
    await t.see(/\/dev\/pts\/\d+|\/dev\/tty/)
    await t.see(/yes:xterm-256color:\/tmp/)
    await sbx.pty.resize(t.handle.pid, { cols: 101, rows: 33 })
    await t.send('stty size\n')
    await t.see(/33 101/)
    await t.send('exit 6\n')
    const err = await t.handle.wait().catch((e) => e)
    assert.equal(err.exitCode, 6)
  })

  test('a resize is told to the program', async () => {
    const t = await open()
    await t.send(`trap 'echo "now $(stty size)"' WINCH; echo set-$((1+1))\n`)
    await t.see(/set-2/)
    await sbx.pty.resize(t.handle.pid, { cols: 50, rows: 20 })
    await t.send('\n')
    await t.see(/now 20 50/)
    await sbx.pty.kill(t.handle.pid)
  })

  test('control keys', async () => {
    const t = await open()
    await t.send('echo up-$((1+1)); cat\n')
    await t.see(/up-2/)
    await t.send('line\n')
    await t.see(/line\r?\nline/)
    await t.send('\x03')
    await t.send('echo code-$?\n')
    await t.see(/code-130/)
    await sbx.pty.kill(t.handle.pid)
  })

  test('kill', async () => {
    const t = await open()
    assert.equal(await sbx.pty.kill(t.handle.pid), true)
    await assert.rejects(t.handle.wait())
    await until('it to be gone', async () => (await sbx.pty.kill(t.handle.pid)) === false)
  })

  test('connect to one that runs', async () => {
    const t = await open()
    await t.handle.disconnect()
    let text = ''
    const again = await sbx.pty.connect(t.handle.pid, { timeoutMs: 0, onData: (d) => { text += new TextDecoder().decode(d) } })
    await sbx.pty.sendInput(again.pid, bytes('echo $((40+2))-again\n'))
    await until('the answer', () => text.includes('42-again'))
    await again.kill()
  })

  test('as root', async () => {
    const t = await open({ user: 'root' })
    await t.send('id -u; echo "me=$(whoami)"\n')
    await t.see(/me=root/)
    await t.handle.kill()
  })
})
