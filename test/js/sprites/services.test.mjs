import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { after, before, suite, test } from 'node:test'
import { failure, messages, shared, TOKEN, until, visit } from './helpers.mjs'

const server = port => ['-m', 'http.server', String(port), '--bind', '127.0.0.1', '--directory', '/home/sprite/site']

suite('services, ports and the URL', () => {
  const held = shared(before, after)
  const bearer = { authorization: `Bearer ${TOKEN}` }

  before(async () => {
    await held.sprite.filesystem('/home/sprite').writeFile('site/index.html', 'from the service')
  })

  test('a service is created, and the URL leads to it', async () => {
    const { sprite } = held
    const started = await messages(sprite.createService('web', { cmd: 'python3', args: server(3333), httpPort: 3333 }, '1s'))
    assert.equal(started[0].type, 'started')
    assert.equal(started.at(-1).type, 'complete')
    assert.ok(started.every(e => Number.isInteger(e.timestamp)) && started.at(-1).logFiles)
    const service = await sprite.getService('web')
    assert.deepEqual([service.cmd, service.httpPort, service.state.status], ['python3', 3333, 'running'])
    assert.deepEqual((await sprite.listServices()).map(s => s.name), ['web'])

    const answer = await visit(sprite, '/', { headers: bearer })
    assert.deepEqual([answer.status, answer.body], [200, 'from the service'])
    assert.equal((await visit(sprite, '/')).status, 401)
    const page = await visit(sprite, '/', { headers: { accept: 'text/html' } })
    assert.equal(page.status, 401)
    assert.match(page.body, /<form method="post"/)
    const entered = await visit(sprite, '/.atoll/visit', {
      method: 'POST', body: `token=${TOKEN}&next=/`, headers: { 'content-type': 'application/x-www-form-urlencoded' },
    })
    assert.equal(entered.status, 303)
    const cookie = entered.headers['set-cookie'][0].split(';')[0]
    assert.equal((await visit(sprite, '/', { headers: { cookie } })).body, 'from the service')
    await sprite.updateURLSettings({ auth: 'public' })
    assert.equal((await visit(sprite, '/')).body, 'from the service')
    await sprite.updateURLSettings({ auth: 'sprite' })
    assert.equal((await visit(sprite, '/')).status, 401)
  })

  test('a stopped service starts when its URL is visited', async () => {
    const { sprite } = held
    const stopped = await messages(sprite.stopService('web', '5s'))
    assert.equal(stopped.at(-1).type, 'complete')
    assert.equal((await sprite.getService('web')).state.status, 'stopped')
    await until('the service to answer', async () => (await visit(sprite, '/', { headers: bearer })).body === 'from the service')
    assert.equal((await sprite.getService('web')).state.status, 'running')
  })

  test('signals, logs, restart and the end of one', async () => {
    const { sprite } = held
    await messages(sprite.createService('talker', {
      cmd: 'sh', args: ['-c', 'trap "echo got a hup" HUP; echo "hello from $NAME"; while :; do sleep 0.05; done'], env: { NAME: 'talker' }, needs: ['web'],
    }, '1s'))
    await sprite.signalService('talker', 'HUP')
    await until('the log', async () => (await messages(sprite.getServiceLogs('talker', { lines: 50 }))).some(e => e.data?.includes('got a hup')))
    assert.ok((await messages(sprite.getServiceLogs('talker', { lines: 50 }))).some(e => e.data?.includes('hello from talker')))
    const before = (await sprite.getService('talker')).state.pid
    await messages(sprite.restartService('talker', '1s'))
    assert.notEqual((await sprite.getService('talker')).state.pid, before)
    await sprite.deleteService('talker')
    assert.ok(await failure(sprite.getService('talker')))
  })

  test('wrong services are refused', async () => {
    const { sprite } = held
    assert.match((await failure(sprite.createService('loop', { cmd: 'true', needs: ['loop'] }))).message, /loop/)
    assert.match((await failure(sprite.createService('second', { cmd: 'true', httpPort: 3333 }))).message, /holds the HTTP port/)
    assert.match((await failure(sprite.startService('nope'))).message, /not found|404/)
    assert.match((await failure(sprite.signalService('web', 'NONSENSE'))).message, /signal/i)
  })

  test('a port is proxied', async () => {
    const { sprite } = held
    const port = 20_000 + process.pid % 30_000
    const session = await sprite.proxyPort(port, 3333)
    try {
      const answer = await new Promise((resolve, reject) => {
        const socket = connect(port, '127.0.0.1', () => socket.write('GET /index.html HTTP/1.0\r\n\r\n'))
        let all = ''
        socket.on('data', d => { all += d })
        socket.on('close', () => resolve(all))
        socket.on('error', reject)
      })
      assert.match(answer, /200 OK[^]*from the service/)
    } finally {
      session.close()
    }
  })

  test('ports are watched', async () => {
    const { sprite } = held
    const watcher = await sprite.watchPorts()
    try {
      const list = await watcher.next()
      assert.equal(list.type, 'port_list')
      assert.ok(list.ports.some(p => p.port === 3333))
      const other = sprite.spawn('python3', server(4444))
      const opened = await watcher.next()
      assert.deepEqual([opened.type, opened.port], ['port_opened', 4444])
      other.kill('SIGKILL')
      assert.deepEqual([(await watcher.next()).type], ['port_closed'])
    } finally {
      watcher.close()
    }
  })
})
