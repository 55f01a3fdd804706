// What a peer does in WebRTC as browsers know it: in a page, or where a module gives Node.js the same.
//
// A line "ID VERB ARGUMENTS…" is answered with "ID ok WORDS…" or "ID error TEXT", as in peer.rs. Commands
// run side by side. The signals are those of docs/wire-webrtc.md, in JSON.

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
    channel.onmessage = ({ data }) => this.messages.put(new Uint8Array(data))
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

const random = (size) => crypto.getRandomValues(new Uint8Array(size))

const hex = (bytes) =>
  Array.from(new Uint8Array(bytes), (byte) => byte.toString(16).padStart(2, '0')).join('')

/** The hash of these pieces in a row. */
const hash = async (pieces) =>
  hex(await crypto.subtle.digest('SHA-256', await new Blob(pieces).arrayBuffer()))

/**
 * A peer that offers, or answers.
 *
 * `says` is given each line that it has to say.
 */
export class Peer {
  constructor (connection, offers, says) {
    this.connection = connection
    this.says = says
    this.signals = new Queue()
    this.accepted = new Queue()
    this.echoed = new Queue()
    this.channels = new Map()
    this.ping = this.negotiated('ping', offers ? 2 : 1)
    const echo = this.negotiated('echo', offers ? 1 : 2).channel
    echo.onmessage = ({ data }) => {
      echo.send(data)
      this.echoed.put(data.byteLength)
    }
    connection.ondatachannel = ({ channel }) => this.accepted.put(new Channel(channel))
    connection.onicecandidate = ({ candidate }) => {
      if (!candidate) return this.signals.put({ type: 'end-of-candidates' })
      const { sdpMid, sdpMLineIndex } = candidate
      // The address, as in RFC 8839, section 5.1: it looks on every interface, and loopback will do.
      if (candidate.candidate.split(' ')[4] !== '127.0.0.1') return
      this.signals.put({ type: 'candidate', candidate: candidate.candidate, sdpMid, sdpMLineIndex })
    }
    says(`0 ok ${offers ? 'offer' : 'answer'}`)
    if (offers) this.offer()
  }

  negotiated (label, id) {
    return new Channel(this.connection.createDataChannel(label, { negotiated: true, id }))
  }

  async offer () {
    await this.describe(await this.connection.createOffer())
  }

  async describe (description) {
    await this.connection.setLocalDescription(description)
    this.signals.put({ type: description.type, sdp: description.sdp })
  }

  /** Does what a line tells it. */
  async hear (line) {
    const [id, verb, ...words] = line.split(' ')
    try {
      const answer = await verbs[verb].apply(this, words)
      this.says(`${id} ok ${answer ?? ''}`)
    } catch (error) {
      this.says(`${id} error ${error.message.replaceAll('\n', ' ')}`)
    }
  }

  /** Keeps a channel under its number. */
  async keep (channel) {
    await channel.opened
    this.channels.set(String(channel.channel.id), channel)
    return channel.channel.id
  }

  /** The messages on a channel that carry the next so many bytes. */
  async take (number, bytes) {
    const messages = []
    for await (const message of this.channels.get(number).take(Number(bytes))) {
      messages.push(message)
    }
    return messages
  }
}

const verbs = {
  /** The next signal of this side. */
  async signals () { return JSON.stringify(await this.signals.next()) },
  /** Takes a signal of the other side. */
  async signal (...words) {
    const signal = JSON.parse(words.join(' '))
    switch (signal.type) {
      case 'offer':
      case 'answer':
        await this.connection.setRemoteDescription({ type: signal.type, sdp: signal.sdp })
        if (signal.type === 'offer') await this.describe(await this.connection.createAnswer())
        return
      case 'candidate':
        return await this.connection.addIceCandidate(signal)
      case 'end-of-candidates':
        return
      default:
        throw new Error(`a signal of type ${signal.type}`)
    }
  },

  /** Sends 64 random bytes on the channel ping: what was sent, and what came back. */
  async ping () {
    await this.ping.opened
    const bytes = random(64)
    this.ping.channel.send(bytes)
    return `${hex(bytes)} ${hex(await this.ping.messages.next())}`
  },
  /** How long the next message was that was sent back on the channel echo. */
  async echoed () { return await this.echoed.next() },

  async open (label) {
    return await this.keep(new Channel(this.connection.createDataChannel(label)))
  },
  async accept () {
    const channel = await this.accepted.next()
    return `${await this.keep(channel)} ${channel.channel.label}`
  },
  /** Sends the next so many bytes back, in the messages that they come in. */
  async echo (number, bytes) {
    const channel = this.channels.get(number)
    for await (const message of channel.take(Number(bytes))) channel.channel.send(message)
  },
  /** Sends so many messages of so many random bytes: the hash of them all. */
  async send (number, count, size) {
    const messages = Array.from({ length: Number(count) }, () => random(Number(size)))
    for (const message of messages) this.channels.get(number).channel.send(message)
    return await hash(messages)
  },
  /** Receives the next so many bytes: the hash of them all. */
  async receive (number, bytes) { return await hash(await this.take(number, bytes)) },
  async close (number) {
    this.channels.get(number).channel.close()
    await this.channels.get(number).closed
  },
  async closed (number) { await this.channels.get(number).closed },

  /** Closes the connection. */
  async end () { this.connection.close() },
  /** Waits until the other side has closed it. */
  async ended () { await this.ping.closed }
}
