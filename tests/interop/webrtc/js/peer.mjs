// A peer made of @roamhq/wrtc (libwebrtc), which does what it is told on its standard input.
//
// usage: node peer.mjs offer|answer
//
// The language is that of peer.rs: a line "ID VERB ARGUMENTS…" is answered with "ID ok WORDS…" or
// "ID error TEXT". Commands run side by side. The signals are those of docs/wire-webrtc.md, in JSON.

import { createHash, randomBytes } from 'node:crypto'
import readline from 'node:readline'

import wrtc from '@roamhq/wrtc'

/** What comes one after the other, and is waited for. */
class Queue {
  constructor () {
    this.items = []
    this.waiting = []
  }

  put (item) {
    const waiting = this.waiting.shift()
    if (waiting !== undefined) waiting(item)
    else this.items.push(item)
  }

  async next () {
    if (this.items.length > 0) return this.items.shift()
    return await new Promise((resolve) => this.waiting.push(resolve))
  }
}

/** A data channel whose messages are taken when they are asked for. */
class Channel {
  constructor (channel) {
    this.channel = channel
    this.messages = new Queue()
    channel.binaryType = 'arraybuffer'
    channel.onmessage = ({ data }) => this.messages.put(Buffer.from(data))
    this.opened = new Promise((resolve) => {
      if (channel.readyState === 'open') resolve()
      else channel.onopen = resolve
    })
    this.closed = new Promise((resolve) => { channel.onclose = resolve })
  }

  /** The messages that carry the next so many bytes. */
  async * take (bytes) {
    while (bytes > 0) {
      const message = await this.messages.next()
      bytes -= message.length
      yield message
    }
  }
}

const [role] = process.argv.slice(2)
const offers = role === 'offer'
const connection = new wrtc.RTCPeerConnection({ iceServers: [] })
const negotiated = (label, id) =>
  new Channel(connection.createDataChannel(label, { negotiated: true, id }))
const ping = negotiated('ping', offers ? 2 : 1)
const echo = negotiated('echo', offers ? 1 : 2)
const signals = new Queue()
const accepted = new Queue()
const echoed = new Queue()
const channels = new Map()

echo.channel.onmessage = ({ data }) => {
  echo.channel.send(data)
  echoed.put(data.byteLength)
}
connection.ondatachannel = ({ channel }) => accepted.put(new Channel(channel))
connection.onicecandidate = ({ candidate }) => {
  if (!candidate) return signals.put({ type: 'end-of-candidates' })
  const { sdpMid, sdpMLineIndex } = candidate
  // The address, as in RFC 8839, section 5.1: it looks on every interface, and loopback will do.
  if (candidate.candidate.split(' ')[4] !== '127.0.0.1') return
  signals.put({ type: 'candidate', candidate: candidate.candidate, sdpMid, sdpMLineIndex })
}

async function describe (description) {
  await connection.setLocalDescription(description)
  signals.put({ type: description.type, sdp: description.sdp })
}

async function hear (signal) {
  switch (signal.type) {
    case 'offer':
    case 'answer':
      await connection.setRemoteDescription({ type: signal.type, sdp: signal.sdp })
      if (signal.type === 'offer') await describe(await connection.createAnswer())
      return
    case 'candidate':
      return await connection.addIceCandidate(signal)
    case 'end-of-candidates':
      return
    default:
      throw new Error(`a signal of type ${signal.type}`)
  }
}

/** Keeps a channel under its number. */
async function keep (channel) {
  await channel.opened
  channels.set(channel.channel.id, channel)
  return channel.channel.id
}

const verbs = {
  /** The next signal of this side. */
  signals: async () => JSON.stringify(await signals.next()),
  /** Takes a signal of the other side. */
  signal: async (...words) => await hear(JSON.parse(words.join(' '))),

  /** Sends 64 random bytes on the channel ping: what was sent, and what came back. */
  async ping () {
    await ping.opened
    const bytes = randomBytes(64)
    ping.channel.send(bytes)
    const back = await ping.messages.next()
    return `${bytes.toString('hex')} ${back.toString('hex')}`
  },
  /** How long the next message was that was sent back on the channel echo. */
  echoed: async () => await echoed.next(),

  open: async (label) => await keep(new Channel(connection.createDataChannel(label))),
  async accept () {
    const channel = await accepted.next()
    return `${await keep(channel)} ${channel.channel.label}`
  },
  /** Sends the next so many bytes back, in the messages that they come in. */
  async echo (number, bytes) {
    const { channel } = channels.get(Number(number))
    for await (const message of channels.get(Number(number)).take(Number(bytes))) {
      channel.send(message)
    }
  },
  /** Sends so many messages of so many random bytes: the hash of them all. */
  async send (number, count, size) {
    const { channel } = channels.get(Number(number))
    const hash = createHash('sha256')
    for (let i = 0; i < Number(count); i++) {
      const message = randomBytes(Number(size))
      hash.update(message)
      channel.send(message)
    }
    return hash.digest('hex')
  },
  /** Receives the next so many bytes: the hash of them all. */
  async receive (number, bytes) {
    const hash = createHash('sha256')
    for await (const message of channels.get(Number(number)).take(Number(bytes))) {
      hash.update(message)
    }
    return hash.digest('hex')
  },
  async close (number) {
    channels.get(Number(number)).channel.close()
    await channels.get(Number(number)).closed
  },
  closed: async (number) => { await channels.get(Number(number)).closed },

  /** Closes the connection. */
  async end () { connection.close() },
  /** Waits until the other side has closed it. */
  async ended () { await ping.closed }
}

const lines = readline.createInterface({ input: process.stdin })
lines.on('line', async (line) => {
  const [id, verb, ...words] = line.split(' ')
  try {
    const answer = await verbs[verb](...words)
    console.log(`${id} ok ${answer ?? ''}`)
  } catch (error) {
    console.log(`${id} error ${error.message.replaceAll('\n', ' ')}`)
  }
})
lines.on('close', () => process.exit())
console.log(`0 ok ${role}`)
if (offers) await describe(await connection.createOffer())
