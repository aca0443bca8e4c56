import assert from 'node:assert/strict'
import { after, before, suite, test } from 'node:test'
import { failure, shared, until } from './helpers.mjs'

suite('files', () => {
  const held = shared(before, after)

  test('are written, read and described', async () => {
    const fs = held.sprite.filesystem('/home/sprite')
    await fs.writeFile('deep/er/hello.txt', 'hello ü', { mode: 0o640 })
    assert.equal(await fs.readFile('deep/er/hello.txt', 'utf8'), 'hello ü')
    const bytes = Buffer.from(Array.from({ length: 70_000 }, (_, i) => i % 256))
    await fs.writeFile('/home/sprite/bytes', bytes)
    assert.deepEqual(await fs.readFile('bytes'), bytes)
    const stat = await fs.stat('deep/er/hello.txt')
    assert.ok(stat.isFile() && stat.size === 8 && (stat.mode & 0o777) === 0o640 && stat.mtime instanceof Date)
    assert.equal((await held.sprite.execFile('stat', ['-c', '%U', 'bytes'])).stdout, 'sprite\n')
    await fs.appendFile('deep/er/hello.txt', '!')
    assert.equal(await fs.readFile('deep/er/hello.txt', 'utf8'), 'hello ü!')
    assert.equal(await fs.exists('nope'), false)
  })

  test('folders', async () => {
    const fs = held.sprite.filesystem('/home/sprite/tree')
    await fs.mkdir('a/b', { recursive: true })
    await fs.writeFile('a/one', '1')
    const entries = await fs.readdir('a', { withFileTypes: true })
    assert.deepEqual(entries.map(e => [e.name, e.isDirectory()]).sort(), [['b', true], ['one', false]])
    await fs.rename('a/one', 'a/two')
    await fs.copyFile('a', 'copy', { recursive: true })
    assert.equal(await fs.readFile('copy/two', 'utf8'), '1')
    await fs.chmod('copy/two', 0o700)
    assert.equal((await fs.stat('copy/two')).mode & 0o777, 0o700)
    assert.equal((await failure(fs.rm('copy'))).code, 'ENOTEMPTY')
    await fs.rm('copy', { recursive: true })
    assert.deepEqual(await fs.readdir('/home/sprite/tree'), ['a'])
  })

  test('10,000 files in one listing', async () => {
    await held.sprite.execFile('sh', ['-c', 'mkdir ~/many && cd ~/many && seq 10000 | xargs touch'])
    assert.equal((await held.sprite.filesystem('/home/sprite').readdir('many')).length, 10_000)
  })

  test('what is not there, no file, or a trick', async () => {
    const fs = held.sprite.filesystem('/home/sprite')
    for (const call of [() => fs.readFile('nope'), () => fs.readdir('nope'), () => fs.rm('nope'), () => fs.rename('nope', 'x'), () => fs.chmod('nope', 0o600)]) {
      assert.equal((await failure(call())).code, 'ENOENT')
    }
    assert.ok(await failure(fs.readFile('a\0b')))
    assert.ok(await failure(fs.writeFile('/proc/sprite', 'x')))
    const hostname = await fs.readFile('/etc/hostname', 'utf8') // the sprite's own, however it is named
    assert.equal(await fs.readFile('../../../../../../../etc/hostname', 'utf8'), hostname)
    assert.equal((await failure(fs.writeFile('/home/sprite', 'x'))).code, 'EISDIR')
  })

  test('are watched', async () => {
    const fs = held.sprite.filesystem('/home/sprite')
    await fs.mkdir('seen', { recursive: true })
    const watcher = await fs.watch('seen')
    const seen = []
    const reading = (async () => { for await (const e of watcher) seen.push(e) })()
    await until('the event', async () => {
      await fs.writeFile('seen/new', String(seen.length))
      return seen.some(e => e.path?.endsWith('seen/new'))
    })
    watcher.close()
    await reading
  })
})
