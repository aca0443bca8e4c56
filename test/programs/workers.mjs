// Node with worker threads that hash without end, timers, and shared memory.
import crypto from 'node:crypto'
import fs from 'node:fs'
import http from 'node:http'
import { Worker, isMainThread, parentPort, workerData } from 'node:worker_threads'

const hash = (n) => crypto.createHash('sha256').update(`${workerData?.id ?? ''}-${n}`).digest('hex')

if (!isMainThread) {
  const shared = new Int32Array(workerData.shared)
  const step = (n) => {
    Atomics.add(shared, workerData.id, 1)
    parentPort.postMessage([n, hash(n)])
  }
  let n = 0
  setInterval(() => { for (let i = 0; i < 10; i++) step(n++) }, 5)
} else {
  const shared = new Int32Array(new SharedArrayBuffer(16))
  const wrong = []
  const seen = [0, 0, 0, 0]
  let ticks = 0
  setInterval(() => { ticks++ }, 5)
  const workers = seen.map((_, id) => {
    const w = new Worker(new URL(import.meta.url), { workerData: { id, shared: shared.buffer } })
    w.on('message', ([n, digest]) => {
      const want = crypto.createHash('sha256').update(`${id}-${n}`).digest('hex')
      if (n !== seen[id] || digest !== want) wrong.push(`${id}: ${n} after ${seen[id]}`)
      seen[id]++
    })
    w.on('error', (err) => wrong.push(`${id}: ${err}`))
    w.on('exit', () => wrong.push(`${id} is gone`))
    return w
  })
  const threads = workers.map((w) => w.threadId)
  const until = async (what, f) => {
    for (const end = performance.now() + 20_000; !f();) {
      if (performance.now() > end) throw new Error(`in vain for ${what}`)
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
  }
  async function check() {
    const was = [...seen], counted = [...shared], ticked = ticks
    await until('the workers', () => seen.every((n, i) => n > was[i] + 20))
    await until('shared memory', () => counted.every((n, i) => Atomics.load(shared, i) > n))
    await until('a timer', () => ticks > ticked)
    await fs.promises.writeFile('/tmp/node', `${ticks}`)
    if ((await fs.promises.readFile('/tmp/node', 'utf8')) === '') throw new Error('the thread pool lost a file')
    await new Promise((resolve, reject) => crypto.pbkdf2('a', 'b', 10, 32, 'sha256', (err) => (err ? reject(err) : resolve())))
    if (wrong.length) throw new Error(wrong.join('\n'))
    if (`${workers.map((w) => w.threadId)}` !== `${threads}`) throw new Error('other workers')
    return 'ok'
  }
  http.createServer((req, res) => {
    check().then((text) => res.end(text), (err) => { res.statusCode = 500; res.end(`${err.stack}`) })
  }).listen(8000, '0.0.0.0')
}
