// Tells the Go side about each test as one line of JSON, so that SDK tests are
// counted and reported like any other.
export default async function* reporter(source) {
  for await (const { type, data } of source) {
    if (type === 'test:diagnostic' || type === 'test:stdout' || type === 'test:stderr') {
      if (data.file && data.message) yield JSON.stringify({ output: data.message }) + '\n'
      continue
    }
    if (type !== 'test:pass' && type !== 'test:fail') continue
    if (data.details?.type === 'suite' || isFile(data)) {
      // A suite or a file fails with its tests; it is news only when it fails by itself.
      if (type === 'test:pass' || data.details?.error?.failureType === 'subtestsFailed') continue
    }
    const error = data.details?.error
    yield JSON.stringify({
      name: data.name,
      file: (data.file ?? '').split('/').pop(),
      ok: type === 'test:pass',
      skipped: Boolean(data.skip || data.todo),
      millis: data.details?.duration_ms ?? 0,
      error: error ? describe(error) : undefined,
    }) + '\n'
  }
}

function isFile(data) {
  return data.nesting === 0 && data.name.endsWith('.test.mjs')
}

function describe(error) {
  const cause = error.cause ?? error
  return cause?.stack ?? String(cause)
}
