// A peer on the WebTransport of a browser, in a page: plain streams, as it is told.

import { hash, hex, Queue } from './negotiator.mjs'

export class Peer {
  /** `hashes` are those of the listener's certificates, in hexadecimal digits. */
  constructor (url, hashes, says) {
    this.says = says
    this.transport = new WebTransport(url, {
      serverCertificateHashes: hashes.map((text) => ({
        algorithm: 'sha-256',
        value: Uint8Array.from(text.match(/../g), (digits) => parseInt(digits, 16))
      }))
    })
    this.accepted = new Queue()
    this.streams = []
  }

  async start () {
    await this.transport.ready
    this.says('0 ok ready')
    for await (const stream of this.transport.incomingBidirectionalStreams) this.accepted.put(stream)
  }

  async hear (line) {
    const [id, verb, ...words] = line.split(' ')
    try {
      this.says(`${id} ok ${await Peer.verbs[verb].apply(this, words) ?? ''}`)
    } catch (error) {
      this.says(`${id} error ${error.message.replaceAll('\n', ' ')}`)
    }
  }

  /** Keeps a stream, and gives the number that it is known by here. */
  keep ({ readable, writable }) {
    return this.streams.push({ reader: readable.getReader(), writer: writable.getWriter() }) - 1
  }

  static verbs = {
    async open () { return this.keep(await this.transport.createBidirectionalStream()) },
    async accept () { return this.keep(await this.accepted.next()) },
    async send (number, count) {
      const bytes = Uint8Array.from({ length: Number(count) }, (_, at) => (at * 7 + Number(number)) % 251)
      await this.streams[number].writer.write(bytes)
      return hex(await crypto.subtle.digest('SHA-256', bytes))
    },
    async finish (number) { await this.streams[number].writer.close() },
    /** Reads to the end, and says how many bytes came, their hash, and what the end was. */
    async read (number) {
      const { reader } = this.streams[number]
      const pieces = []
      let ending = 'end'
      try {
        for (;;) {
          const { value, done } = await reader.read()
          if (done) break
          pieces.push(value)
        }
      } catch (error) {
        ending = `reset ${error.streamErrorCode}`
      }
      const length = pieces.reduce((sum, piece) => sum + piece.byteLength, 0)
      return `${length} ${await hash(pieces)} ${ending}`
    },
    async reset (number, code) { await this.streams[number].writer.abort(failure(code)) },
    async stop (number, code) { await this.streams[number].reader.cancel(failure(code)) },
    /** The code that a stream was stopped with. */
    async stopped (number) {
      const { writer } = this.streams[number]
      return await writer.closed.then(() => 'ended', (error) => error.streamErrorCode)
    },
    async close (closeCode, ...reason) {
      this.transport.close({ closeCode: Number(closeCode), reason: reason.join(' ') })
    },
    async closed () {
      const { closeCode, reason } = await this.transport.closed
      return `${closeCode} ${reason}`
    }
  }
}

const failure = (code) => new WebTransportError({ source: 'stream', streamErrorCode: Number(code) })
