// Chromium without a window, with a page that is a peer and does what it is told on the standard input.
//
// usage: node chromium.mjs CHROMIUM channels|streams shown|hidden offer|answer
//        node chromium.mjs CHROMIUM webtransport URL HASH…
//
// A page that may use the microphone is trusted with the addresses of this machine, as this one is.
// Another one has them hidden behind names of multicast DNS (draft-ietf-mmusic-mdns-ice-candidates, section
// 3.1.1): with "hidden" the candidates get such names here, which nobody announces in the network.
//
// The language is that of negotiator.mjs, with the verbs of channels.mjs or streams.mjs, which the page
// runs, or of webtransport.mjs. The browser is driven through its DevTools protocol, over a pipe
// (https://chromedevtools.github.io/devtools-protocol/).

import { spawn } from 'node:child_process'
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import readline from 'node:readline'

import { serve } from './serve.mjs'

const [program, kind, ...rest] = process.argv.slice(2)

const setUp = kind === 'webtransport'
  ? () => {
      const [url, ...hashes] = rest
      return `window.peer = new Peer(${JSON.stringify(url)}, ${JSON.stringify(hashes)}, window.say)`
    }
  : () => {
      const [addresses, role] = rest
      return `
        window.peer = new Peer(new RTCPeerConnection(), ${role === 'offer'}, window.say)
        peer.hidden = ${addresses === 'hidden'}
      `
    }

const origin = await serve(`
  import { Peer } from './${kind}.mjs'
  ${setUp()}
  peer.start().catch((error) => say('0 error ' + error.message))
`)

/** A browser, which ends with this process. */
class Browser {
  constructor () {
    const profile = mkdtempSync(path.join(tmpdir(), 'peer-chromium-'))
    // The shell outlives this process, and the browser does not outlive its pipe.
    const shell = spawn('/bin/sh', ['-c', '"$@"; rm -rf "$0"', profile, program,
      '--headless', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage',
      '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync',
      '--disable-extensions', '--allow-loopback-in-peer-connection', '--remote-debugging-pipe',
      `--user-data-dir=${profile}`, 'about:blank'
    ], { detached: true, stdio: ['ignore', 'ignore', 'inherit', 'pipe', 'pipe'] })
    this.output = shell.stdio[3]
    this.asked = new Map()
    this.heard = new Map()
    let rest = ''
    shell.stdio[4].setEncoding('utf8').on('data', (text) => {
      // Messages end with a zero.
      const messages = (rest + text).split('\0')
      rest = messages.pop()
      for (const message of messages) this.take(JSON.parse(message))
    })
    shell.on('exit', () => process.exit(1))
  }

  take ({ id, method, params, result, error }) {
    if (method !== undefined) return this.heard.get(method)?.(params)
    const { resolve, reject } = this.asked.get(id)
    this.asked.delete(id)
    if (error) reject(new Error(error.message))
    else resolve(result)
  }

  /** Calls a method of the protocol. */
  async ask (method, params, sessionId) {
    const id = (this.last = (this.last ?? 0) + 1)
    this.output.write(JSON.stringify({ id, method, params, sessionId }) + '\0')
    return await new Promise((resolve, reject) => this.asked.set(id, { resolve, reject }))
  }

  /** The parameters of the next event of this kind. */
  async event (method) {
    return await new Promise((resolve) => this.heard.set(method, resolve))
  }
}

const browser = new Browser()
await browser.ask('Browser.grantPermissions', { origin, permissions: ['audioCapture', 'videoCapture'] })
const { targetId } = await browser.ask('Target.createTarget', { url: 'about:blank' })
const { sessionId } = await browser.ask('Target.attachToTarget', { targetId, flatten: true })
const inPage = (method, params) => browser.ask(method, params, sessionId)
browser.heard.set('Runtime.bindingCalled', ({ payload }) => console.log(payload))
await inPage('Runtime.enable')
await inPage('Runtime.addBinding', { name: 'say' })
await inPage('Page.enable')
const loaded = browser.event('Page.loadEventFired')
await inPage('Page.navigate', { url: origin })
await loaded

const lines = readline.createInterface({ input: process.stdin })
lines.on('line', (line) => {
  inPage('Runtime.evaluate', { expression: `peer.hear(${JSON.stringify(line)})` })
})
lines.on('close', () => process.exit())
