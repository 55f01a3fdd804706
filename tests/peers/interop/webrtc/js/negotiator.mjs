// A peer of WebRTC that does what it is told, in a page or in Node.js.
//
// A line "ID VERB ARGUMENTS…" is answered with "ID ok WORDS…" or "ID error TEXT", as in peer.rs. Commands
// run side by side. The signals are those of docs/wire-webrtc.md, in JSON.

/** What comes one after the other, and is waited for. */
export class Queue {
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

export const random = (size) => crypto.getRandomValues(new Uint8Array(size))

export const hex = (bytes) =>
  Array.from(new Uint8Array(bytes), (byte) => byte.toString(16).padStart(2, '0')).join('')

/** The hash of these pieces in a row. */
export const hash = async (pieces) =>
  hex(await crypto.subtle.digest('SHA-256', await new Blob(pieces).arrayBuffer()))

/**
 * A peer that offers, or answers.
 *
 * `says` is given each line that it has to say. What it can do beside negotiating is in the `verbs` of its
 * class.
 */
export class Negotiator {
  constructor (connection, offers, says) {
    this.connection = connection
    this.offers = offers
    this.says = says
    this.signals = new Queue()
    connection.onicecandidate = ({ candidate }) => {
      if (!candidate) return this.signals.put({ type: 'end-of-candidates' })
      const { sdpMid, sdpMLineIndex } = candidate
      const words = candidate.candidate.split(' ')
      // The address, as in RFC 8839, section 5.1: it looks on every interface, and one will do.
      if (words[4] !== (connection.address ?? '127.0.0.1')) return
      if (this.hidden) words[4] = `${crypto.randomUUID()}.local`
      this.signals.put({ type: 'candidate', candidate: words.join(' '), sdpMid, sdpMLineIndex })
    }
  }

  /** Begins, once its channels are there. */
  async start () {
    this.says(`0 ok ${this.offers ? 'offer' : 'answer'}`)
    if (this.offers) await this.describe(await this.connection.createOffer())
  }

  async describe (description) {
    await this.connection.setLocalDescription(description)
    this.signals.put({ type: description.type, sdp: description.sdp })
  }

  /** Does what a line tells it. */
  async hear (line) {
    const [id, verb, ...words] = line.split(' ')
    try {
      const answer = await this.constructor.verbs[verb].apply(this, words)
      this.says(`${id} ok ${answer ?? ''}`)
    } catch (error) {
      this.says(`${id} error ${error.message.replaceAll('\n', ' ')}`)
    }
  }

  static verbs = {
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
    }
  }
}
