// Drives the kernel server with the published SDK for JavaScript.
const assert = require('node:assert')
const { Sandbox, NotFoundError, SandboxError, TimeoutError } = require('@e2b/code-interpreter')

async function main () {
  const sandbox = await Sandbox.create()
  const run = (code, options) => sandbox.runCode(code, options)

  assert.strictEqual((await run('1+1')).text, '2')
  await run('x = 1')
  const counted = await run('x += 1; x')
  assert.deepStrictEqual([counted.text, counted.executionCount], ['2', 3])

  // This SDK decodes a response piece by piece: no character may be in two.
  const odd = 'é🎈\u2028'.repeat(100000)
  const execution = await run("print('é🎈\\u2028' * 100000)")
  assert.strictEqual(execution.logs.stdout.join(''), odd + '\n')

  const heard = []
  const failed = await run("import sys; print('e', file=sys.stderr); 1/0", { onError: e => heard.push(e.name), onStderr: m => heard.push(m.line) })
  assert.strictEqual(failed.error.name, 'ZeroDivisionError')
  assert.deepStrictEqual(heard, ['e\n', 'ZeroDivisionError'])
  const shown = await run("from IPython.display import display\ndisplay({'text/html': '<b>', 'application/json': {'a': 1}, 'x/y': [1]}, raw=True)")
  assert.deepStrictEqual([shown.results[0].html, shown.results[0].json, shown.results[0].extra], ['<b>', { a: 1 }, { 'x/y': [1] }])

  assert.strictEqual((await run("import os; os.environ['A']", { envs: { A: 'given' } })).text, 'given')
  assert.strictEqual((await run("os.environ.get('A', 'gone')")).text, 'gone')

  const context = await sandbox.createCodeContext({ cwd: '/tmp', language: 'python' })
  assert.strictEqual((await run('import os; os.getcwd()', { context })).text, '/tmp')
  assert((await sandbox.listCodeContexts()).some(c => c.id === context.id))
  await run('y = 1', { context })
  await sandbox.restartCodeContext(context)
  assert.strictEqual((await run('y', { context })).error.name, 'NameError')
  await sandbox.removeCodeContext(context)
  await assert.rejects(run('1', { context }), e => e instanceof NotFoundError && /no such context/.test(e.message))
  await assert.rejects(run('1', { language: 'cobol' }), e => e instanceof NotFoundError && /This sandbox has/.test(e.message))
  await assert.rejects(run('1', { language: 'java' }), e => e instanceof SandboxError && /JDK/.test(e.message))

  await assert.rejects(run('while True: pass', { timeoutMs: 1000 }), TimeoutError)
  assert.strictEqual((await run('x')).text, '2')
  assert.strictEqual((await run('import os; os._exit(1)')).error.name, 'KernelDied')
  assert.strictEqual((await run('1+1')).text, '2')

  const start = Date.now()
  const much = await run("for _ in range(102400): print('z' * 101)")
  console.log(`10 MB in ${Date.now() - start} ms`)
  assert.strictEqual(much.logs.stdout.join('').length, 102400 * 102)
}

// The SDK leaves timers of a minute behind.
main().then(() => process.exit(0)).catch(e => { console.error(e); process.exit(1) })
