// A peer on plain data channels.

import { Negotiator, Queue, hash, hex, random } from './negotiator.mjs'

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

export class Peer extends Negotiator {
  constructor (connection, offers, says) {
    super(connection, offers, says)
    this.accepted = new Queue()
    this.echoed = new Queue()
    this.channels = new Map()
    if (connection.negotiates !== false) this.echo()
    connection.ondatachannel = ({ channel }) => this.accepted.put(new Channel(channel))
  }

  /** Sends back what comes, and can ping. */
  echo () {
    this.ping = this.negotiated('ping', this.offers ? 2 : 1)
    const echo = this.negotiated('echo', this.offers ? 1 : 2).channel
    echo.onmessage = ({ data }) => {
      echo.send(data)
      this.echoed.put(data.byteLength)
    }
  }

  negotiated (label, id) {
    return new Channel(this.connection.createDataChannel(label, { negotiated: true, id }))
  }

  /** Keeps a channel under its number. */
  async keep (channel) {
    await channel.opened
    this.channels.set(String(channel.channel.id), channel)
    return channel.channel.id
  }

  static verbs = {
    ...Negotiator.verbs,

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
    async receive (number, bytes) { return await hash(await Array.fromAsync(this.channels.get(number).take(Number(bytes)))) },
    async close (number) {
      this.channels.get(number).channel.close()
      await this.channels.get(number).closed
    },
    async closed (number) { await this.channels.get(number).closed },

    /** Closes the connection. */
    async end () { this.connection.close() },
    /** Waits until the other side has closed it. */
    async ended () { await (this.ping ?? this.connection).closed }
  }
}
