// What the pages of browsers load, over HTTP.

import { readFileSync } from 'node:fs'
import http from 'node:http'

const script = (file) => ['text/javascript', readFileSync(new URL(file, import.meta.url))]

/**
 * Serves a page that runs this module beside those of the peers. Returns the page's address.
 *
 * `others` has functions of a request and its response, by path.
 */
export async function serve (module, others = {}) {
  const files = new Map([
    ['/', ['text/html', '<!doctype html><title>peer</title><script type="module" src="page.mjs"></script>']],
    ['/page.mjs', ['text/javascript', module]],
    ['/negotiator.mjs', script('negotiator.mjs')],
    ['/channels.mjs', script('channels.mjs')],
    ['/streams.mjs', script('streams.mjs')],
    ['/webtransport.mjs', script('webtransport.mjs')],
    ['/pipe.js', script('../../../../../examples/browser/pipe.js')]
  ])
  const server = http.createServer((request, response) => {
    const other = others[request.url]
    if (other) return other(request, response)
    const [type, body] = files.get(request.url) ?? []
    response.writeHead(body === undefined ? 404 : 200, { 'content-type': type ?? 'text/plain' })
    response.end(body)
  })
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
  return `http://127.0.0.1:${server.address().port}`
}
