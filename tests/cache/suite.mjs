// Runs the public suite of HTTP caches (npm's `http-cache-tests`) against a cache, before its own server.
// `node suite.mjs server FOLDER PORT` serves; `node suite.mjs run FOLDER URL` prints a line for each test: its kind, its
// suite, its name, and `passed` or what went wrong.

import { pathToFileURL } from 'node:url'
import path from 'node:path'

const [deed, folder, place] = process.argv.slice(2)
const from = name => pathToFileURL(path.resolve(folder, 'node_modules/http-cache-tests', name)).href

if (deed === 'server') {
  Object.assign(process.env, {
    npm_config_protocol: 'http',
    npm_config_port: place,
    npm_config_pidfile: path.resolve(folder, `server-${place}.pid`)
  })
  await import(from('server/server.mjs'))
} else {
  const { runTests, getResults } = await import(from('client/runner.mjs'))
  // As the suite's own runner does: Node's own adds `cache-control` to conditional requests.
  const fetch = (await import(from('../node-fetch/lib/index.mjs'))).default
  const suites = (await import(from('tests/index.mjs'))).default
  await runTests(suites, fetch, false, place)
  const results = getResults()
  for (const suite of suites) {
    for (const test of suite.tests.filter(test => !test.browser_only)) {
      const result = results[test.id]
      const told = result === true ? 'passed' : `${result[0]}: ${String(result[1]).split('\n')[0]}`
      console.log(`${test.kind ?? 'required'} ${suite.id} ${test.id} ${told}`)
    }
  }
}
