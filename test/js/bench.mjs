// The SDK's half of the benchmark: does one thing many times and prints how
// long each took, in milliseconds, as one JSON object.
//
//   node bench.mjs interactive RUNS    create until the first command has returned
//   node bench.mjs calls RUNS          a command, a small write, a small read
//   node bench.mjs bulk RUNS SINK      100 MiB up and down, and up to the URL SINK, in MiB per second
//   node bench.mjs sleep RUNS MIB      pause and resume with so much memory in use
//   node bench.mjs fork RUNS COPIES    a fork, until all copies answer
//   node bench.mjs code RUNS           create until the first code has answered
//   node bench.mjs executions RUNS     code in a kernel, its output, what it leaves
import { Sandbox } from 'e2b'
import { Sandbox as Interpreter } from '@e2b/code-interpreter'

const [what, runs] = [process.argv[2], Number(process.argv[3])]
const bulk = 100

async function timed(f) {
  const start = performance.now()
  await f()
  return performance.now() - start
}

/** Waits until the warm pool is as full as it wants to be. */
async function poolFilled() {
  for (let i = 0; i < 1000; i++) {
    const res = await fetch(`${process.env.E2B_API_URL}/admin/metrics`, {
      headers: { Authorization: `Bearer ${process.env.ATOLL_ADMIN_TOKEN}` },
    })
    const text = await res.text()
    const value = (name) => Number(text.match(new RegExp(`^${name} (\\S+)`, 'm'))?.[1] ?? 0)
    if (value('atoll_pool_machines') >= value('atoll_pool_target')) return
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  throw new Error('the pool does not fill')
}

const measure = {
  async interactive() {
    const create = []
    const interactive = []
    for (let i = -3; i < runs; i++) { // the first few warm the client up
      await poolFilled()
      let sbx
      let created
      const all = await timed(async () => {
        created = await timed(async () => { sbx = await Sandbox.create({ timeoutMs: 60_000 }) })
        await sbx.commands.run('echo')
      })
      if (i >= 0) {
        create.push(created)
        interactive.push(all)
      }
      await sbx.kill()
    }
    return { create, interactive }
  },

  async calls() {
    const sbx = await Sandbox.create({ timeoutMs: 600_000 })
    await poolFilled()
    const data = 'x'.repeat(1024)
    const out = { command: [], write: [], read: [] }
    for (let i = -5; i < runs; i++) {
      const command = await timed(() => sbx.commands.run('true'))
      const write = await timed(() => sbx.files.write('small', data))
      const read = await timed(() => sbx.files.read('small'))
      if (i >= 0) {
        out.command.push(command)
        out.write.push(write)
        out.read.push(read)
      }
    }
    await sbx.kill()
    return out
  },

  async bulk() {
    const sbx = await Sandbox.create({ timeoutMs: 600_000 })
    await poolFilled()
    const data = new Uint8Array(bulk << 20).fill(7)
    const nowhere = await Sandbox.connect(sbx.sandboxId, { sandboxUrl: process.argv[4] })
    const out = { up: [], sink: [], down: [] }
    for (let i = -1; i < runs; i++) {
      const up = await timed(() => sbx.files.write('/tmp/bulk', data.buffer, { useOctetStream: true }))
      const sink = await timed(() => nowhere.files.write('/tmp/bulk', data.buffer, { useOctetStream: true }))
      const down = await timed(async () => {
        let size = 0
        for await (const part of await sbx.files.read('/tmp/bulk', { format: 'stream' })) size += part.length
        if (size !== data.length) throw new Error(`${size} bytes came back`)
      })
      if (i >= 0) {
        out.up.push((bulk * 1000) / up)
        out.sink.push((bulk * 1000) / sink)
        out.down.push((bulk * 1000) / down)
      }
    }
    await sbx.kill()
    return out
  },
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

measure.sleep = async () => {
  const mib = Number(process.argv[4])
  const sbx = await Sandbox.create({ timeoutMs: 600_000 })
  if (mib > 0) {
    await sbx.files.write('/tmp/fill.py', `import os, time
kept = [os.urandom(1 << 20) for _ in range(${mib})]
open('/tmp/filled', 'w').close()
time.sleep(3600)`)
    await sbx.commands.run('python3 /tmp/fill.py', { background: true })
    while (!(await sbx.files.exists('/tmp/filled'))) await pause(50)
  }
  const out = { pause: [], resume: [], answer: [], running: [] }
  for (let i = -2; i < runs; i++) {
    await pause(300) // as much as the sandbox needs to be idle again
    const running = await timed(() => Sandbox.connect(sbx.sandboxId))
    const asleep = await timed(() => sbx.pause())
    await pause(300) // so that its processes are gone, where they do not linger
    const awake = await timed(() => Sandbox.connect(sbx.sandboxId))
    const answer = await timed(async () => { if (!(await sbx.isRunning())) throw new Error('it does not answer') })
    if (i >= 0) {
      out.pause.push(asleep)
      out.resume.push(awake)
      out.answer.push(awake + answer)
      out.running.push(running)
    }
  }
  await sbx.kill()
  return out
}

// ticker prints the longest time, in milliseconds, for which it did not run
// since it was last asked.
const ticker = `import socket, threading, time
gap = 0.0
def tick():
    global gap
    last = time.monotonic()
    while True:
        time.sleep(0.0005)
        now = time.monotonic()
        gap, last = max(gap, now - last), now
threading.Thread(target=tick, daemon=True).start()
s = socket.create_server(('127.0.0.1', 7000))
open('/tmp/ticking', 'w').close()
while True:
    c, _ = s.accept()
    answer, gap = gap, 0.0
    c.sendall(b'%f' % (1000 * answer))
    c.close()`

measure.fork = async () => {
  const count = Number(process.argv[4])
  const idle = await Sandbox.create({ timeoutMs: 600_000 })
  const sbx = await Sandbox.create({ timeoutMs: 600_000 })
  await sbx.files.write('/tmp/tick.py', ticker)
  await sbx.commands.run('python3 /tmp/tick.py', { background: true })
  while (!(await sbx.files.exists('/tmp/ticking'))) await pause(50)
  const gap = async () => Number((await sbx.commands.run(`python3 -c "
import socket
print(socket.create_connection(('127.0.0.1', 7000)).recv(99).decode())"`)).stdout)
  const out = { fork: [], still: [] }
  for (let i = -1; i < runs; i++) {
    let copies
    const all = await timed(async () => {
      copies = await idle.fork({ count, timeoutMs: 60_000 })
      for (const c of copies) if (c instanceof Error) throw c
      const up = await Promise.all(copies.map((c) => c.isRunning()))
      if (!up.every(Boolean)) throw new Error('a copy does not answer')
    })
    await Promise.all(copies.map((c) => c.kill()))
    await pause(500)
    await gap()
    const [copy] = await sbx.fork({ timeoutMs: 60_000 })
    const still = await gap()
    await copy.kill()
    if (i >= 0) {
      out.fork.push(all)
      out.still.push(still)
    }
  }
  await Promise.all([idle.kill(), sbx.kill()])
  return out
}

measure.code = async () => {
  const code = []
  for (let i = -3; i < runs; i++) { // the first few warm the client and the pool up
    await poolFilled()
    let sbx
    const took = await timed(async () => {
      sbx = await Interpreter.create({ timeoutMs: 60_000 })
      const { text } = await sbx.runCode('1+1')
      if (text !== '2') throw new Error(`1+1 is ${text}`)
    })
    if (i >= 0) code.push(took)
    await sbx.kill()
  }
  return { code }
}

measure.executions = async () => {
  const sbx = await Interpreter.create({ timeoutMs: 600_000 })
  await sbx.runCode('x = 0')
  const many = async (count) => {
    const took = []
    for (let i = 0; i < count; i++) took.push(await timed(() => sbx.runCode('x+=1')))
    return took
  }
  // What the daemon and the kernel hold, in MiB. The processes that ask are not
  // counted: how much of them is there at that moment is chance.
  const held = async () => {
    const sum = `awk '/^Name:/ { ours = $2 == "atoll-guest" || $2 ~ /^python3?$/ } ours && /^VmRSS/ { kb += $2 }
      END { print kb }' /proc/[0-9]*/status`
    return Number((await sbx.commands.run(sum)).stdout) / 1024
  }
  await many(500)
  const before = await held()
  const execution = (await many(1000)).slice(-runs)
  const out = { execution, output: [], grown: [(await held()) - before] }
  const lines = 10_000
  for (let i = -1; i < 5; i++) {
    let size = 0
    const took = await timed(() => sbx.runCode(`for _ in range(${lines}): print('x' * 999)`, {
      onStdout: (m) => { size += m.line.length },
    }))
    if (size !== lines * 1000) throw new Error(`${size} bytes of output came`)
    if (i >= 0) out.output.push(lines / took)
  }
  await sbx.kill()
  return out
}

console.log(JSON.stringify(await measure[what]()))
