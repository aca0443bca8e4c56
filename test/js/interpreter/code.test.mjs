// Code, results, charts and bad code through the code-interpreter SDK.
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { NotFoundError, Sandbox, TimeoutError } from '@e2b/code-interpreter'

let sbx
before(async () => {
  sbx = await Sandbox.create({ timeoutMs: 300_000 })
})
after(() => sbx?.kill())

/** Runs code that must not fail. */
async function run(code, opts) {
  const execution = await sbx.runCode(code, opts)
  assert.equal(execution.error, undefined, execution.error?.traceback)
  return execution
}

const stdout = (execution) => execution.logs.stdout.join('')
const stderr = (execution) => execution.logs.stderr.join('')

describe('code', () => {
  test('state lasts', async () => {
    await run('kept = 41')
    assert.equal((await run('kept += 1; kept')).text, '42')
  })

  test('the main result is told from what is displayed', async () => {
    const { results, text } = await run("from IPython.display import display\ndisplay('shown')\n'main'")
    assert.deepEqual(results.map((r) => [r.text, r.isMainResult]), [['shown', false], ['main', true]])
    assert.equal(text, 'main')
  })

  test('output comes while the code runs and in order', async () => {
    const heard = []
    const hear = (m) => { heard.push({ ...m, at: performance.now() }) }
    const execution = await run(
      `import sys, time
for i in range(4):
    print(i, file=(sys.stderr if i % 2 else sys.stdout), flush=True)
    time.sleep(0.3)`,
      { onStdout: hear, onStderr: hear }
    )
    assert.equal(heard.map((m) => m.line).join(''), '0\n1\n2\n3\n')
    assert.ok(heard.at(-1).at - heard[0].at > 500)
    assert.deepEqual([stdout(execution), stderr(execution)], ['0\n2\n', '1\n3\n'])
    assert.ok(heard.every((m) => m.error === /[13]/.test(m.line) || m.line === '\n'))
  })

  test('results and errors are told when they come', async () => {
    const told = []
    await sbx.runCode('display(1)\n1/0', { onResult: (r) => told.push(r.text), onError: (e) => told.push(e.name) })
    assert.deepEqual(told, ['1', 'ZeroDivisionError'])
  })

  test('executions are counted', async () => {
    const context = await sbx.createCodeContext()
    for (const count of [1, 2, 3]) assert.equal((await run('1', { context })).executionCount, count)
    await sbx.removeCodeContext(context)
  })

  test('variables of one execution', async () => {
    assert.equal((await run("import os; os.environ['FOR_ONE']", { envs: { FOR_ONE: 'given' } })).text, 'given')
    assert.equal((await run("os.environ.get('FOR_ONE')")).text, undefined)
  })

  test('any text goes there and back', async () => {
    const odd = 'a\u000b\u001c\u0085\u2028é🎈"\\z'
    assert.equal((await run(`print(${JSON.stringify(odd)})`)).logs.stdout.join(''), odd + '\n')
  })
})

describe('results', () => {
  for (const [call, form, want] of [
    ["HTML('<b>x</b>')", 'html', '<b>x</b>'],
    ["Markdown('# x')", 'markdown', '# x'],
    ["Latex('$x$')", 'latex', '$x$'],
    ["JSON({'a': [1, None]})", 'json', { a: [1, null] }],
    ["Javascript('1')", 'javascript', '1'],
    ["display({'application/pdf': 'JVBERi0='}, raw=True)", 'pdf', 'JVBERi0='],
    ["display({'image/svg+xml': '<svg/>'}, raw=True)", 'svg', '<svg/>'],
  ]) {
    test(form, async () => {
      const [result] = (await run(`from IPython.display import *\n${call}`)).results
      assert.deepEqual(result[form], want)
      assert.ok(result.formats().includes(form))
    })
  }

  for (const [form, start] of [['png', '89504e47'], ['jpeg', 'ffd8ff']]) {
    test(form, async () => {
      const [result] = (await run(`import io
from PIL import Image as I
from IPython.display import Image
b = io.BytesIO(); I.new('RGB', (3, 3), 'red').save(b, '${form.toUpperCase()}')
Image(data=b.getvalue(), format='${form}')`)).results
      assert.ok(Buffer.from(result[form], 'base64').toString('hex').startsWith(start))
    })
  }

  test('a data frame', async () => {
    const [result] = (await run("import pandas as pd\npd.DataFrame({'a': [1, 2], 'b': ['x', None]})")).results
    assert.deepEqual(result.data, { a: [1, 2], b: ['x', null] })
    assert.match(result.html, /<table/)
    assert.equal(result.isMainResult, true)
  })
})

describe('charts', () => {
  const chart = async (code) => (await run(`import matplotlib.pyplot as plt\n${code}\nplt.show()`)).results[0].chart

  test('line', async () => {
    const got = await chart("plt.plot([1, 2], [3, 4], label='l'); plt.title('T'); plt.xlabel('X (s)')")
    assert.deepEqual([got.type, got.title, got.x_label, got.x_unit, got.x_scale], ['line', 'T', 'X (s)', 's', 'linear'])
    assert.deepEqual(got.elements, [{ label: 'l', points: [[1, 3], [2, 4]] }])
  })

  test('scatter', async () => {
    const got = await chart("plt.scatter([1, 2], [3, 4], label='s')")
    assert.equal(got.type, 'scatter')
    assert.deepEqual(got.elements[0].points, [[1, 3], [2, 4]])
  })

  test('bar', async () => {
    const got = await chart("plt.bar(['a', 'b'], [1, 2])")
    assert.deepEqual([got.type, got.elements.map((e) => [e.label, Number(e.value)])], ['bar', [['a', 1], ['b', 2]]])
  })

  test('pie', async () => {
    const got = await chart("plt.pie([1, 3], labels=['a', 'b'])")
    assert.deepEqual([got.type, got.elements.map((e) => [e.label, Math.round(e.angle)])], ['pie', [['a', 90], ['b', 270]]])
  })

  test('box and whisker', async () => {
    const got = await chart("plt.boxplot([[1, 2, 3, 4, 5, 50]], tick_labels=['a'])")
    assert.equal(got.type, 'box_and_whisker')
    const { label, min, median, max, outliers } = got.elements[0]
    assert.deepEqual([label, min, median, max, outliers], ['a', 1, 3.5, 5, [50]])
  })

  test('several in one figure', async () => {
    const got = await chart("_, (a, b) = plt.subplots(1, 2); a.plot([1], [2]); b.bar(['x'], [1])")
    assert.deepEqual([got.type, got.elements.map((e) => e.type)], ['superchart', ['line', 'bar']])
  })
})

describe('bad code', () => {
  before(() => run("kept = 'kept'"))
  const state = async () => assert.equal((await run('kept')).text, 'kept')

  test('a syntax error', async () => {
    const { error } = await sbx.runCode('1 +')
    assert.equal(error.name, 'SyntaxError')
    assert.match(error.traceback, /1 \+/)
    await state()
  })

  test('an error while running', async () => {
    const { error } = await sbx.runCode("def f():\n    raise ValueError('bad value')\nf()")
    assert.deepEqual([error.name, error.value], ['ValueError', 'bad value'])
    assert.match(error.traceback, /in f/)
    await state()
  })

  test('errors of other languages', async () => {
    const { error } = await sbx.runCode("throw new TypeError('no')", { language: 'javascript' })
    assert.match(error.name + error.value, /TypeError.*no/s)
    assert.ok((await sbx.runCode('exit_with_nothing_known', { language: 'bash' })).error)
    assert.equal(stdout(await run('echo still here', { language: 'bash' })), 'still here\n')
  })

  test('a loop without end', async () => {
    await assert.rejects(sbx.runCode('while True: pass', { timeoutMs: 1000 }), TimeoutError)
    await state()
  })

  test('exit of the kernel', async () => {
    const { error } = await sbx.runCode('import os; os._exit(3)')
    assert.equal(error.name, 'KernelDied')
    assert.equal((await sbx.runCode('kept')).error.name, 'NameError')
    await run("kept = 'kept'")
  })

  test('bytes that are not text', async () => {
    assert.equal(stdout(await run("import os; n = os.write(1, b'a\\xff\\xfeb\\n')")), 'a\ufffd\ufffdb\n')
    await state()
  })

  test('closed output', async () => {
    await sbx.runCode('import os, sys; sys.stdout.close(); os.close(1); os.close(2)')
    assert.equal(stdout(await run("print('still here')")), 'still here\n')
    await state()
  })

  test('code that forks', async () => {
    await sbx.runCode('import os\nchild = os.fork()')
    await state()
  })

  test('languages and contexts that are not there', async () => {
    const gone = { id: 'gone', language: 'python', cwd: '/' }
    for (const call of [
      () => sbx.runCode('1', { language: 'cobol' }),
      () => sbx.createCodeContext({ language: 'cobol' }),
      () => sbx.createCodeContext({ cwd: '/nowhere' }),
      () => sbx.runCode('1', { context: gone }),
      () => sbx.restartCodeContext(gone),
      () => sbx.removeCodeContext('gone'),
    ]) await assert.rejects(call, NotFoundError)
  })
})
