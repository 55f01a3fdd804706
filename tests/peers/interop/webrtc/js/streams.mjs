// A peer on the streams of pipe.js.

import { Pipe } from './pipe.js'
import { Negotiator, hash, random } from './negotiator.mjs'

export class Peer extends Negotiator {
  constructor (connection, offers, says) {
    super(connection, offers, says)
    this.pipe = new Pipe(connection, { offers })
    this.accepted = this.pipe.incoming.getReader()
    this.streams = []
  }

  /** Keeps a stream, and gives the number that it is known by here. */
  keep (stream) { return this.streams.push(stream) - 1 }

  static verbs = {
    ...Negotiator.verbs,

    async ping () { return await this.pipe.ping() },
    async open () { return this.keep(await this.pipe.open()) },
    async accept () { return this.keep((await this.accepted.read()).value) },
    /** How many channels carry, or have carried, the streams that this side opened. */
    async channels () { return this.pipe.free.length },

    /** Sends so many random bytes, and the end: the hash of them. */
    async send (number, bytes) {
      const writer = this.streams[number].writable.getWriter()
      const pieces = []
      for (let left = Number(bytes); left > 0; left -= pieces.at(-1).byteLength) {
        pieces.push(random(Math.min(left, 50_000)))
        await writer.write(pieces.at(-1))
      }
      await writer.close()
      return await hash(pieces)
    },
    /** Receives all to the end: the hash of it. */
    async receive (number) { return await hash(await Array.fromAsync(this.streams[number].readable)) },
    /** Sends back all that comes, and the end. */
    async echo (number) { await this.streams[number].readable.pipeTo(this.streams[number].writable) },

    async reset (number, code) { this.streams[number].reset(Number(code)) },
    async stop (number, code) { this.streams[number].stop(Number(code)) },
    /** Why what is written to a stream does not arrive, once that is known. */
    async stopped (number) {
      const writer = this.streams[number].writable.getWriter()
      return await writer.closed.then(() => 'ended', (error) => error.message)
    },

    async close (code, ...reason) { await this.pipe.close(Number(code), reason.join(' ')) },
    async closed () {
      const { code, reason } = await this.pipe.closed
      return `${code} ${reason}`
    }
  }
}
