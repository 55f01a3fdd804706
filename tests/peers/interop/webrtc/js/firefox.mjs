// Firefox without a window, with a page that is a peer and does what it is told on the standard input.
//
// usage: node firefox.mjs FIREFOX channels|streams ADDRESS offer|answer
//
// ADDRESS is that of an interface with a route to everywhere: it looks for no other. The language is that of
// negotiator.mjs, with the verbs of channels.mjs or streams.mjs, which the page runs. The page gets its lines as events
// of the server that it comes from (https://html.spec.whatwg.org/multipage/server-sent-events.html), and posts its
// answers there.

import { spawn } from 'node:child_process'
import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import readline from 'node:readline'

import { serve } from './serve.mjs'

const [program, kind, address, role] = process.argv.slice(2)

/** The page's lines, once it reads them. */
let tell
const reads = new Promise((resolve) => { tell = resolve })

const origin = await serve(`
  import { Peer } from './${kind}.mjs'
  // One line after the other.
  let said = Promise.resolve()
  const say = (line) => { said = said.then(() => fetch('/say', { method: 'POST', body: line })) }
  const connection = new RTCPeerConnection()
  connection.address = '${address}'
  const peer = new Peer(connection, ${role === 'offer'}, say)
  const lines = new EventSource('/lines')
  lines.onmessage = ({ data }) => peer.hear(data)
  lines.onopen = () => peer.start()
`, {
  '/lines': (_request, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' })
    // A comment, without which the page does not see that it is open.
    response.write(':\n\n')
    tell(response)
  },
  '/say': async (request, response) => {
    console.log(Buffer.concat(await Array.fromAsync(request)).toString())
    response.end()
  }
})

const profile = mkdtempSync(path.join(tmpdir(), 'peer-firefox-'))
const preferences = {
  // Its addresses are no secret.
  'media.peerconnection.ice.obfuscate_host_addresses': false,
  // It makes no connections of its own.
  'app.normandy.enabled': false,
  'app.update.enabled': false,
  'browser.aboutwelcome.enabled': false,
  'browser.safebrowsing.downloads.remote.enabled': false,
  'browser.safebrowsing.malware.enabled': false,
  'browser.safebrowsing.phishing.enabled': false,
  'browser.shell.checkDefaultBrowser': false,
  'datareporting.policy.dataSubmissionEnabled': false,
  'extensions.update.enabled': false,
  'network.captive-portal-service.enabled': false,
  'network.connectivity-service.enabled': false,
  'network.manage-offline-status': false,
  'services.settings.server': '',
  'toolkit.telemetry.enabled': false
}
const lines = Object.entries(preferences).map(([name, value]) =>
  `user_pref(${JSON.stringify(name)}, ${JSON.stringify(value)});\n`)
writeFileSync(path.join(profile, 'user.js'), lines.join(''))

// The shell outlives this process, whose end it sees at the end of its input, and the browser does not outlive it.
const script = '"$@" </dev/null & browser=$!; cat >/dev/null; kill "$browser"; wait "$browser"; rm -rf "$0"'
spawn('/bin/sh', ['-c', script, profile, program, '--headless', '--no-remote', '--profile', profile, origin], {
  detached: true,
  stdio: ['pipe', 'ignore', 'inherit'],
  // A namespace of the network is enough of a box.
  env: { ...process.env, HOME: profile, MOZ_DISABLE_CONTENT_SANDBOX: '1' }
})

const input = readline.createInterface({ input: process.stdin })
input.on('line', async (line) => (await reads).write(`data: ${line}\n\n`))
input.on('close', () => process.exit())
