// The SDK's half of the benchmark: does one thing many times and prints how
// long each took, in milliseconds, as one JSON object.
//
//   node bench.mjs interactive RUNS    create until the first command has returned
//   node bench.mjs calls RUNS          a command, a small write, a small read
//   node bench.mjs bulk RUNS           100 MiB up and down, in MiB per second
import { Sandbox } from 'e2b'

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
    const data = new Uint8Array(bulk << 20).fill(7)
    const out = { up: [], down: [] }
    for (let i = -1; i < runs; i++) {
      const up = await timed(() => sbx.files.write('/tmp/bulk', data.buffer, { useOctetStream: true }))
      const down = await timed(async () => {
        let size = 0
        for await (const part of await sbx.files.read('/tmp/bulk', { format: 'stream' })) size += part.length
        if (size !== data.length) throw new Error(`${size} bytes came back`)
      })
      if (i >= 0) {
        out.up.push((bulk * 1000) / up)
        out.down.push((bulk * 1000) / down)
      }
    }
    await sbx.kill()
    return out
  },
}

console.log(JSON.stringify(await measure[what]()))
