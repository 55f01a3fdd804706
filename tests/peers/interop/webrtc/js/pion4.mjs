// The current pion (Go), as a process with an interface of its own.
//
// Each frame on its standard input and output is its length (4 bytes, little-endian), that of its header (2 bytes), the
// header, and a payload; the lengths are of what follows. The header is a map in MessagePack, and so is the payload but
// for messages of channels.

import { spawn } from 'node:child_process'
import { createRequire } from 'node:module'
import path from 'node:path'

import { decode, encode } from '@msgpack/msgpack'

const program = path.join(
  path.dirname(createRequire(import.meta.url).resolve('@coclaw/pion-ipc-linux-x64/package.json')), 'bin/pion-ipc')

export const connect = () => new Connection()

/** Its only connection. */
const pcId = 'peer'

class Connection {
  /** It has no channels with ids that both sides agreed on, and looks for no address of loopback. */
  negotiates = false
  address = '10.77.0.1'

  constructor () {
    this.process = spawn(program, { stdio: ['pipe', 'pipe', 'inherit'] })
    this.process.on('exit', () => process.exit(1))
    this.process.stdout.on('data', (bytes) => this.take(bytes))
    this.rest = Buffer.alloc(0)
    this.asked = new Map()
    this.last = 0
    /** Its channels, by label: it has no other name for them. */
    this.channels = new Map()
    this.closed = new Promise((resolve) => { this.over = resolve })
    this.ready = this.ask('pc.create', { pcId, iceServers: [] }, {})
  }

  take (bytes) {
    this.rest = Buffer.concat([this.rest, bytes])
    while (this.rest.length >= 4 && this.rest.length - 4 >= this.rest.readUInt32LE()) {
      const frame = this.rest.subarray(4, 4 + this.rest.readUInt32LE())
      this.rest = this.rest.subarray(4 + frame.length)
      const end = 2 + frame.readUInt16LE()
      const [header, payload] = [decode(frame.subarray(2, end)), frame.subarray(end)]
      if (header.type === 'evt') this.hear(header, payload)
      else this.answered(header, payload)
    }
  }

  answered ({ id, ok, error }, payload) {
    const { resolve, reject } = this.asked.get(id)
    this.asked.delete(id)
    if (ok) resolve(payload.length > 0 ? decode(payload) : undefined)
    else reject(new Error(error))
  }

  /** Calls a method. */
  async ask (method, payload, header = { pcId }) {
    const id = ++this.last
    const head = encode({ type: 'req', id, method, ...header })
    const body = payload instanceof Uint8Array ? payload : payload === undefined ? [] : encode(payload)
    const lengths = Buffer.alloc(6)
    lengths.writeUInt32LE(2 + head.length + body.length)
    lengths.writeUInt16LE(head.length, 4)
    this.process.stdin.write(Buffer.concat([lengths, head, Buffer.from(body)]))
    return await new Promise((resolve, reject) => this.asked.set(id, { resolve, reject }))
  }

  hear ({ event, dcLabel }, payload) {
    switch (event) {
      case 'pc.icecandidate': return this.onicecandidate({ candidate: decode(payload) })
      case 'pc.icegatheringstatechange':
        if (decode(payload).state === 'complete') this.onicecandidate({ candidate: null })
        return
      case 'pc.statechange':
        if (decode(payload).connState === 'closed') this.over()
        return
      case 'pc.datachannel': return this.ondatachannel({ channel: this.channel(dcLabel) })
      case 'dc.open': return this.channels.get(dcLabel)?.open()
      case 'dc.close':
        this.channels.get(dcLabel)?.onclose?.()
        return this.channels.delete(dcLabel)
      case 'dc.message': return this.channels.get(dcLabel)?.onmessage({ data: payload })
    }
  }

  channel (label) {
    const channel = new Channel(this, label)
    this.channels.set(label, channel)
    return channel
  }

  createDataChannel (label) {
    const channel = this.channel(label)
    this.ready = this.ready.then(() => this.ask('dc.create', { label, ordered: true }))
    return channel
  }

  async describe (method, type) {
    await this.ready
    const { sdp } = await this.ask(method)
    return { type, sdp }
  }

  async createOffer () {
    // Without a channel there would be nothing to offer.
    this.createDataChannel('first')
    return await this.describe('pc.createOffer', 'offer')
  }

  async createAnswer () { return await this.describe('pc.createAnswer', 'answer') }
  async setLocalDescription (description) { await this.ask('pc.setLocalDescription', description) }

  async setRemoteDescription (description) {
    await this.ready
    await this.ask('pc.setRemoteDescription', description)
  }

  async addIceCandidate ({ candidate, sdpMid, sdpMLineIndex }) {
    await this.ask('pc.addIceCandidate', { candidate, sdpMid, sdpMLineIndex })
  }

  async close () { await this.ask('pc.close') }
}

class Channel {
  constructor (connection, label) {
    this.connection = connection
    this.label = label
    this.readyState = 'connecting'
    this.sent = Promise.resolve()
  }

  get id () { return this.label }

  open () {
    this.readyState = 'open'
    this.onopen?.()
  }

  async ask (method, payload, more) {
    return await this.connection.ask(method, payload, { pcId, dcLabel: this.label, ...more })
  }

  /** One message after the other. */
  send (data) {
    const bytes = new Uint8Array(data)
    this.sent = this.sent.then(() => this.ask('dc.send', bytes, { isBinary: true }))
  }

  close () { this.sent = this.sent.then(() => this.ask('dc.close')) }
}
