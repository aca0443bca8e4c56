// Files in a sandbox, through every call the SDK has.
import { test, before, after, describe } from 'node:test'
import assert from 'node:assert/strict'
import crypto from 'node:crypto'
import zlib from 'node:zlib'
import { FileNotFoundError, FilesystemEventType, FileType, InvalidArgumentError, Sandbox, SandboxError } from 'e2b'
import { daemonHeaders, fetchGuest, fetchSigned, sha256, until } from './helpers.mjs'

const MiB = 1 << 20

describe('files', () => {
  let sbx
  before(async () => { sbx = await Sandbox.create({ timeoutMs: 600_000 }) })
  after(() => sbx?.kill())

  test('write and read back in every form', async () => {
    const info = await sbx.files.write('hello.txt', 'hällo\n')
    assert.deepEqual([info.path, info.name, info.type], ['/home/user/hello.txt', 'hello.txt', 'file'])
    assert.equal(await sbx.files.read('hello.txt'), 'hällo\n')
    assert.deepEqual(Buffer.from(await sbx.files.read('hello.txt', { format: 'bytes' })), Buffer.from('hällo\n'))
    assert.equal(await (await sbx.files.read('hello.txt', { format: 'blob' })).text(), 'hällo\n')
    const parts = []
    for await (const part of await sbx.files.read('hello.txt', { format: 'stream' })) parts.push(part)
    assert.equal(Buffer.concat(parts).toString(), 'hällo\n')
  })

  test('every kind of data can be written', async () => {
    const data = crypto.randomBytes(100_000)
    for (const [name, value] of [
      ['buffer', data.buffer.slice(data.byteOffset, data.byteOffset + data.length)],
      ['blob', new Blob([data])],
      ['stream', new Blob([data]).stream()],
    ]) {
      await sbx.files.write(`kinds/${name}`, value)
      assert.equal(sha256(await sbx.files.read(`kinds/${name}`, { format: 'bytes' })), sha256(data), name)
    }
  })

  test('empty files', async () => {
    await sbx.files.write('empty', '')
    assert.equal(await sbx.files.read('empty'), '')
    assert.equal((await sbx.files.read('empty', { format: 'bytes' })).length, 0)
    assert.equal((await sbx.files.getInfo('empty')).size, 0)
  })

  test('overwriting leaves nothing of the old', async () => {
    await sbx.files.write('over', 'a long first text')
    await sbx.files.write('over', 'short')
    assert.equal(await sbx.files.read('over'), 'short')
  })

  test('folders on the way are made, and belong to the user', async () => {
    await sbx.files.write('a/b/c/d.txt', 'deep')
    assert.equal((await sbx.commands.run('stat -c "%U %G" a/b/c a/b/c/d.txt')).stdout, 'user user\nuser user\n')
    await sbx.files.write('/tmp/as-root/x', 'r', { user: 'root' })
    assert.equal((await sbx.commands.run('stat -c %U /tmp/as-root /tmp/as-root/x')).stdout, 'root\nroot\n')
  })

  test('paths: absolute, relative to the home, with odd letters', async () => {
    for (const path of ['/tmp/abs.txt', 'rel.txt', 'sp ace/ümlaut 😀 & ?#%.txt', "quo'te\".txt"]) {
      const info = await sbx.files.write(path, path)
      assert.ok(info.path.startsWith('/'))
      assert.equal(await sbx.files.read(path), path)
      assert.equal(await sbx.files.exists(path), true)
    }
    await sbx.files.write('of-root', 'x', { user: 'root' })
    assert.equal(await sbx.files.read('/root/of-root', { user: 'root' }), 'x')
  })

  test('several files in one request', async () => {
    const infos = await sbx.files.write([
      { path: 'many/one.txt', data: '1' },
      { path: 'many/two.txt', data: new Blob(['22']) },
      { path: '/tmp/many/three', data: new TextEncoder().encode('333').buffer },
    ])
    assert.deepEqual(infos.map((i) => i.path), ['/home/user/many/one.txt', '/home/user/many/two.txt', '/tmp/many/three'])
    assert.equal(await sbx.files.read('many/two.txt'), '22')
    assert.equal(await sbx.files.read('/tmp/many/three'), '333')
    assert.equal((await sbx.files.writeFiles([{ path: 'many/four', data: '4' }])).length, 1)
    assert.deepEqual(await sbx.files.write([]), [])
  })

  test('100 MiB streamed both ways', async () => {
    const block = crypto.randomBytes(MiB)
    const hash = crypto.createHash('sha256')
    let sent = 0
    const source = new ReadableStream({
      pull(controller) {
        if (sent++ === 100) return controller.close()
        hash.update(block)
        controller.enqueue(new Uint8Array(block))
      },
    })
    await sbx.files.write('big.bin', source)
    assert.equal((await sbx.files.getInfo('big.bin')).size, 100 * MiB)
    const back = crypto.createHash('sha256')
    for await (const part of await sbx.files.read('big.bin', { format: 'stream' })) back.update(part)
    assert.equal(back.digest('hex'), hash.digest('hex'))
    await sbx.files.remove('big.bin')
  })

  test('gzip both ways', async () => {
    const text = 'squeeze me '.repeat(50_000)
    await sbx.files.write('zip.txt', text, { gzip: true })
    assert.equal((await sbx.files.getInfo('zip.txt')).size, text.length)
    assert.equal(await sbx.files.read('zip.txt', { gzip: true }), text)
    const raw = await fetchGuest(sbx, 49983, { path: '/files?path=zip.txt', headers: { ...daemonHeaders(sbx), 'Accept-Encoding': 'gzip' } })
    assert.equal(raw.headers['content-encoding'], 'gzip')
    assert.equal(zlib.gunzipSync(raw.body).toString(), text)
  })

  test('a body that only says that it is gzip', async () => {
    const res = await fetchGuest(sbx, 49983, {
      path: '/files?path=bad.gz', method: 'POST', body: 'not gzip at all',
      headers: { ...daemonHeaders(sbx), 'Content-Type': 'application/octet-stream', 'Content-Encoding': 'gzip' },
    })
    assert.equal(res.status, 400)
    assert.equal(await sbx.files.exists('bad.gz'), false)
  })

  test('part of a file', async () => {
    await sbx.files.write('ranged', '0123456789')
    const res = await fetchGuest(sbx, 49983, { path: '/files?path=ranged', headers: { ...daemonHeaders(sbx), Range: 'bytes=2-5' } })
    assert.deepEqual([res.status, res.text], [206, '2345'])
    assert.equal(res.headers['content-range'], 'bytes 2-5/10')
  })

  test('metadata goes with a file', async () => {
    const info = await sbx.files.write('meta.txt', 'x', { metadata: { Author: 'me', purpose: 'a test' } })
    assert.deepEqual(info.metadata, { author: 'me', purpose: 'a test' })
    assert.deepEqual((await sbx.files.getInfo('meta.txt')).metadata, { author: 'me', purpose: 'a test' })
    const listed = (await sbx.files.list('.')).find((e) => e.name === 'meta.txt')
    assert.deepEqual(listed.metadata, { author: 'me', purpose: 'a test' })
    await sbx.files.write('meta.txt', 'y')
    assert.equal((await sbx.files.getInfo('meta.txt')).metadata, undefined)
    await assert.rejects(sbx.files.write('meta.txt', 'z', { metadata: { big: 'x'.repeat(5000) } }), InvalidArgumentError)
    assert.equal(await sbx.files.read('meta.txt'), 'y')
  })

  test('info', async () => {
    await sbx.files.write('info.txt', '12345')
    await sbx.commands.run('chmod 640 info.txt; ln -sf info.txt link; ln -sf /no/where dangling')
    const info = await sbx.files.getInfo('info.txt')
    assert.deepEqual(
      [info.name, info.path, info.type, info.size, info.mode & 0o777, info.permissions, info.owner, info.group],
      ['info.txt', '/home/user/info.txt', FileType.FILE, 5, 0o640, '-rw-r-----', 'user', 'user'])
    assert.ok(Math.abs(info.modifiedTime - Date.now()) < 60_000)
    assert.equal((await sbx.files.getInfo('/home/user')).type, FileType.DIR)
    assert.match((await sbx.files.getInfo('link')).symlinkTarget, /info\.txt$/)
    assert.ok((await sbx.files.list('.')).some((e) => e.name === 'dangling'))
    await assert.rejects(sbx.files.getInfo('not-here'), FileNotFoundError)
  })

  test('exists', async () => {
    await sbx.files.write('there', '')
    assert.equal(await sbx.files.exists('there'), true)
    assert.equal(await sbx.files.exists('/home/user'), true)
    assert.equal(await sbx.files.exists('not-there'), false)
  })

  test('list with depth', async () => {
    await sbx.files.write([{ path: 'tree/top.txt', data: 't' }, { path: 'tree/sub/mid.txt', data: 'm' }, { path: 'tree/sub/deep/low.txt', data: 'l' }])
    const names = async (opts) => (await sbx.files.list('tree', opts)).map((e) => e.path.replace('/home/user/tree/', '')).sort()
    assert.deepEqual(await names(), ['sub', 'top.txt'])
    assert.deepEqual(await names({ depth: 2 }), ['sub', 'sub/deep', 'sub/mid.txt', 'top.txt'])
    assert.deepEqual(await names({ depth: 9 }), ['sub', 'sub/deep', 'sub/deep/low.txt', 'sub/mid.txt', 'top.txt'])
    const sub = (await sbx.files.list('tree')).find((e) => e.name === 'sub')
    assert.equal(sub.type, FileType.DIR)
    await assert.rejects(sbx.files.list('tree', { depth: 0 }), InvalidArgumentError)
    await assert.rejects(sbx.files.list('not-here'), FileNotFoundError)
    await assert.rejects(sbx.files.list('tree/top.txt'), InvalidArgumentError)
    await sbx.files.makeDir('bare')
    assert.deepEqual(await sbx.files.list('bare'), [])
  })

  test('a folder with ten thousand files', async () => {
    await sbx.commands.run('mkdir -p crowd && cd crowd && python3 -c "\nfor i in range(10000): open(str(i), \'w\').close()"', { timeoutMs: 60_000 })
    assert.equal((await sbx.files.list('crowd')).length, 10_000)
    await sbx.files.remove('crowd')
  })

  test('rename', async () => {
    await sbx.files.write('from.txt', 'moved')
    const info = await sbx.files.rename('from.txt', 'to.txt')
    assert.deepEqual([info.name, info.path], ['to.txt', '/home/user/to.txt'])
    assert.equal(await sbx.files.exists('from.txt'), false)
    assert.equal(await sbx.files.read('to.txt'), 'moved')
    await sbx.files.write('dir-a/x', '1')
    await sbx.files.rename('dir-a', 'dir-b')
    assert.equal(await sbx.files.read('dir-b/x'), '1')
    await assert.rejects(sbx.files.rename('not-here', 'anywhere'), FileNotFoundError)
  })

  test('remove', async () => {
    await sbx.files.write('doomed/deep/x', '1')
    await sbx.files.remove('doomed')
    assert.equal(await sbx.files.exists('doomed'), false)
    await sbx.files.remove('doomed')
  })

  test('make a folder', async () => {
    assert.equal(await sbx.files.makeDir('new/er/est'), true)
    assert.equal(await sbx.files.makeDir('new/er/est'), false)
    assert.equal((await sbx.commands.run('stat -c %U new/er')).stdout, 'user\n')
    await sbx.files.write('a-file', '')
    await assert.rejects(sbx.files.makeDir('a-file'), SandboxError)
  })

  test('what cannot be read or written', async () => {
    await assert.rejects(sbx.files.read('not-here'), FileNotFoundError)
    await assert.rejects(sbx.files.read('not-here', { format: 'stream' }), FileNotFoundError)
    await assert.rejects(sbx.files.read('/home/user'), InvalidArgumentError)
    await assert.rejects(sbx.files.write('/home/user', 'x'), InvalidArgumentError)
  })

  test('compose joins files and removes the parts', async () => {
    await sbx.files.write([{ path: 'part1', data: 'one ' }, { path: 'part2', data: 'two' }])
    const res = await fetchGuest(sbx, 49983, {
      path: '/files/compose', method: 'POST', headers: { ...daemonHeaders(sbx), 'Content-Type': 'application/json' },
      body: JSON.stringify({ source_paths: ['part1', 'part2'], destination: 'whole', username: 'user' }),
    })
    assert.equal(res.status, 200)
    assert.equal(JSON.parse(res.text).path, '/home/user/whole')
    assert.equal(await sbx.files.read('whole'), 'one two')
    assert.equal(await sbx.files.exists('part1'), false)
  })

  test('signed addresses', async () => {
    await sbx.files.write('signed.txt', 'for a link')
    const down = await sbx.downloadUrl('signed.txt')
    assert.deepEqual(await fetchSigned(sbx, down).then((r) => [r.status, r.text]), [200, 'for a link'])
    const soon = await sbx.downloadUrl('signed.txt', { useSignatureExpiration: 60, user: 'user' })
    assert.equal((await fetchSigned(sbx, soon)).status, 200)
    const late = await sbx.downloadUrl('signed.txt', { useSignatureExpiration: -60 })
    assert.equal((await fetchSigned(sbx, late)).status, 401)
    const other = down.replace('signed.txt', 'hello.txt')
    assert.equal((await fetchSigned(sbx, other)).status, 401)
    const bare = down.replace(/[?&]signature=[^&]*/, '')
    assert.equal((await fetchSigned(sbx, bare)).status, 401)

    const up = await sbx.uploadUrl('uploaded.txt', { useSignatureExpiration: 60 })
    const sent = await fetchSigned(sbx, up, { method: 'POST', ...multipart('file', 'uploaded.txt', 'by link') })
    assert.equal(sent.status, 200)
    assert.equal(await sbx.files.read('uploaded.txt'), 'by link')
    assert.equal((await fetchSigned(sbx, up.replace('uploaded', 'elsewhere'), { method: 'POST', ...multipart('file', 'x', 'y') })).status, 401)
    assert.equal((await fetchSigned(sbx, down, { method: 'POST', ...multipart('file', 'x', 'y') })).status, 401)
  })

  function multipart(field, name, data) {
    const mark = 'boundary-of-the-test'
    return {
      headers: { 'Content-Type': `multipart/form-data; boundary=${mark}` },
      body: `--${mark}\r\nContent-Disposition: form-data; name="${field}"; filename="${name}"\r\n\r\n${data}\r\n--${mark}--\r\n`,
    }
  }

  describe('watching', () => {
    async function watch(path, opts) {
      const events = []
      const handle = await sbx.files.watchDir(path, (e) => { events.push(e) }, { timeoutMs: 60_000, ...opts })
      const see = (type, name) => until(`${type} of ${name}`, () => events.find((e) => e.type === type && e.name === name))
      return { handle, events, see }
    }

    test('every kind of change', async () => {
      await sbx.files.makeDir('watched')
      const w = await watch('watched')
      await sbx.files.write('watched/a.txt', '1')
      await w.see(FilesystemEventType.CREATE, 'a.txt')
      await w.see(FilesystemEventType.WRITE, 'a.txt')
      await sbx.commands.run('chmod 600 watched/a.txt')
      await w.see(FilesystemEventType.CHMOD, 'a.txt')
      await sbx.files.rename('watched/a.txt', 'watched/b.txt')
      await w.see(FilesystemEventType.RENAME, 'a.txt')
      await sbx.files.remove('watched/b.txt')
      await w.see(FilesystemEventType.REMOVE, 'b.txt')
      await w.handle.stop()
    })

    test('folders below, also new ones', async () => {
      await sbx.files.makeDir('deepwatch/old')
      const w = await watch('deepwatch', { recursive: true })
      await sbx.files.write('deepwatch/old/x', '1')
      await w.see(FilesystemEventType.CREATE, 'old/x')
      await sbx.files.makeDir('deepwatch/fresh')
      await w.see(FilesystemEventType.CREATE, 'fresh')
      await sbx.files.write('deepwatch/fresh/y', '1')
      await w.see(FilesystemEventType.WRITE, 'fresh/y')
      await w.handle.stop()
    })

    test('not below unless asked', async () => {
      await sbx.files.makeDir('flat/below')
      const w = await watch('flat')
      await sbx.files.write('flat/below/x', '1')
      await sbx.files.write('flat/last', '1')
      await w.see(FilesystemEventType.CREATE, 'last')
      assert.ok(!w.events.some((e) => e.name.includes('x')))
      await w.handle.stop()
    })

    test('with the entry', async () => {
      await sbx.files.makeDir('entries')
      const w = await watch('entries', { includeEntry: true })
      await sbx.files.write('entries/e', '123')
      const event = await w.see(FilesystemEventType.WRITE, 'e')
      assert.equal(event.entry.path, '/home/user/entries/e')
      await w.handle.stop()
    })

    test('the end is told', async () => {
      await sbx.files.makeDir('ending')
      let ended = false
      const handle = await sbx.files.watchDir('ending', () => {}, { onExit: () => { ended = true } })
      await handle.stop()
      await until('onExit', () => ended)
      let error
      await sbx.files.watchDir('ending', () => {}, { timeoutMs: 200, onExit: (e) => { error = e } })
      await until('the time-out', () => error)
      assert.equal(error.name, 'TimeoutError')
    })

    test('what cannot be watched', async () => {
      await assert.rejects(sbx.files.watchDir('not-here', () => {}), FileNotFoundError)
      await sbx.files.write('plain', '')
      await assert.rejects(sbx.files.watchDir('plain', () => {}), InvalidArgumentError)
    })
  })
})
