// Streams of pipewerks in a page: docs/wire-webrtc.md, on a peer connection of the browser.
//
//   const connection = new RTCPeerConnection()
//   const pipe = new Pipe(connection, { offers: true })
//   …             // the two sides exchange descriptions and candidates
//   const { readable, writable } = await pipe.open()
//   for await (const { readable, writable } of pipe.incoming) …

/** The protocol of control channels and of those that carry streams. */
const PROTOCOL = 'pipe/1'

/** The longest message that is sent, in bytes: every browser takes as much. */
const MESSAGE = 16 * 1024

/** What this side allows. It takes messages as they come, so that nothing limits their flight. */
const WINDOW = 256 * 1024
const STREAMS = 256

/** After what time a hello is said again that was not answered, in milliseconds. */
const HELLO_AGAIN = 200

/** How long the other side may take to answer a close, in milliseconds. */
const PATIENCE = 3000

/** A connection. Its channels have to be there before the description is made. */
export class Pipe {
  constructor (connection, { offers }) {
    this.connection = connection
    this.offers = offers
    /** How many streams this side has opened, and how many of them are not over. */
    this.opened = 0
    this.alive = 0
    /** Channels of this side whose last stream is over. */
    this.free = []
    /** How many messages were sent, and have come, on the channels of streams. */
    this.sent = 0
    this.received = 0
    /** Bytes that were sent and not confirmed, and not read. */
    this.flying = 0
    this.unread = 0
    this.waiting = []
    /** Why the connection is over, once it is. */
    this.over = undefined
    /** The streams that the other side opens. */
    this.incoming = new ReadableStream({ start: (backlog) => { this.backlog = backlog } })
    /** What the other side allows; from then on streams can be opened. */
    this.ready = new Promise((resolve, reject) => Object.assign(this, { greet: resolve, fail: reject }))
    this.ready.catch(() => {})
    /** The end of the connection: `{ code, reason }` if one of the two has closed it. */
    this.closed = new Promise((resolve) => { this.bye = resolve })

    this.control = this.negotiated('pipe-control', 0, PROTOCOL)
    this.pings = this.negotiated('ping', offers ? 2 : 1)
    const echo = this.negotiated('echo', offers ? 1 : 2)
    echo.onmessage = ({ data }) => echo.send(data)
    this.control.onopen = () => { if (!offers) this.helloUntilAnswered() }
    this.control.onmessage = ({ data }) => this.hear(data)
    this.control.onclose = () => this.end(new Error('the connection is lost'))
    connection.addEventListener('datachannel', ({ channel }) => {
      if (channel.protocol === PROTOCOL) new Link(this, channel, false)
      else channel.close()
    })
  }

  negotiated (label, id, protocol = '') {
    const channel = this.connection.createDataChannel(label, { negotiated: true, id, protocol })
    channel.binaryType = 'arraybuffer'
    return channel
  }

  hello () {
    this.control.send(`hello ${PROTOCOL} max_streams=${STREAMS} stream_window=${WINDOW}`)
  }

  /** The first one may get lost, where the other side is not yet ready to hear it. */
  helloUntilAnswered () {
    if (this.greeted || this.control.readyState !== 'open') return
    this.hello()
    setTimeout(() => this.helloUntilAnswered(), HELLO_AGAIN)
  }

  /** Opens a stream, as soon as the other side allows another one. */
  async open () {
    const limits = await this.ready
    await this.until(() => this.drained || this.alive < limits.max_streams)
    if (this.drained) throw new Error('the other side wants no more streams')
    this.alive++
    const link = this.free.pop() ??
      new Link(this, this.connection.createDataChannel('', { protocol: PROTOCOL }), true)
    await this.until(() => link.channel.readyState === 'open')
    link.say(`open ${2 * this.opened++ + (this.offers ? 0 : 1)}`)
    return (link.stream = new Stream(link))
  }

  /** How long 64 bytes take to the other side and back, in milliseconds. */
  async ping () {
    await this.ready
    const bytes = crypto.getRandomValues(new Uint8Array(64))
    const start = performance.now()
    const back = new Promise((resolve) => {
      this.pings.addEventListener('message', function look ({ data }) {
        if (!new Uint8Array(data).every((byte, i) => byte === bytes[i])) return
        this.removeEventListener('message', look)
        resolve(performance.now() - start)
      })
    })
    this.pings.send(bytes)
    return await back
  }

  /** Ends the connection; what is under way may be lost. */
  async close (code = 0, reason = '') {
    if (this.over) return
    this.control.send(`close ${code} ${this.sent} ${reason}`)
    this.end(new Error('this side has closed the connection'), { code, reason })
    await this.within(PATIENCE, () => this.heard)
    this.connection.close()
  }

  /** Hears what the other side says about the connection. */
  hear (line) {
    const [word, ...rest] = line.split(' ')
    switch (word) {
      case 'hello': return this.helloed(rest)
      case 'got': this.flying -= Number(rest[0]); break
      case 'drain': this.drained = true; this.control.send(`drained ${this.opened}`); break
      case 'close': this.closing(Number(rest[0]), Number(rest[1]), rest.slice(2).join(' ')); break
      case 'closed': this.heard = true; break
    }
    this.wake()
  }

  helloed ([protocol, ...values]) {
    if (this.greeted) return
    this.greeted = true
    if (protocol !== PROTOCOL) return this.end(new Error(`the other side speaks ${protocol}`))
    if (this.offers) this.hello()
    const limits = { max_streams: Infinity, stream_window: Infinity, connection_window: 0, flight: 0 }
    for (const [name, value] of values.map((text) => text.split('='))) limits[name] = Number(value)
    limits.connection_window ||= Infinity
    limits.flight ||= Infinity
    this.limits = limits
    this.greet(limits)
  }

  /** The other side closes, and has sent so many messages before. */
  async closing (code, messages, reason) {
    await this.within(PATIENCE, () => this.received >= messages)
    this.end(new Error(`the other side has closed the connection: ${code} ${reason}`), { code, reason })
    if (this.control.readyState === 'open') this.control.send('closed')
  }

  end (error, closed) {
    if (this.over) return
    this.over = error
    this.fail(error)
    this.backlog.close()
    this.bye(closed ?? error)
    this.wake()
  }

  /** Waits until something holds. It is looked at whenever anything has come. */
  async until (condition) {
    while (!condition()) {
      if (this.over) throw this.over
      await this.news()
    }
  }

  async within (milliseconds, condition) {
    let late = false
    const alarm = setTimeout(() => { late = true; this.wake() }, milliseconds)
    while (!late && !condition()) await this.news()
    clearTimeout(alarm)
  }

  async news () { await new Promise((resolve) => this.waiting.push(resolve)) }

  wake () { for (const resolve of this.waiting.splice(0)) resolve() }
}

/** A channel, which carries one stream at a time. */
class Link {
  constructor (pipe, channel, ours) {
    Object.assign(this, { pipe, channel, ours })
    channel.binaryType = 'arraybuffer'
    channel.onopen = () => pipe.wake()
    channel.onclose = () => {
      this.stream?.hear('reset', 0)
      this.stream?.hear('stop', 0)
      pipe.wake()
    }
    channel.onmessage = ({ data }) => {
      try {
        this.take(data)
      } catch (error) {
        pipe.end(error)
        pipe.connection.close()
      }
      pipe.wake()
    }
  }

  take (data) {
    this.pipe.received++
    if (typeof data !== 'string') return this.current().arrive(new Uint8Array(data))
    for (const [word, number] of data.split('\n').map((line) => line.split(' '))) {
      if (word === 'open') this.pipe.backlog.enqueue(this.stream = new Stream(this))
      else this.current().hear(word, Number(number))
    }
  }

  current () {
    if (!this.stream) throw new Error('the other side broke the protocol: a channel without a stream')
    return this.stream
  }

  say (line) { this.send(line) }

  send (message) {
    if (this.channel.readyState !== 'open') return
    this.pipe.sent++
    this.channel.send(message)
  }
}

/** A stream of bytes in both directions: `readable` and `writable`, each of `Uint8Array`. */
class Stream {
  constructor (link) {
    this.link = link
    this.pipe = link.pipe
    /** What has come and was not read. */
    this.chunks = []
    this.arrived = 0
    this.credited = 0
    /** The announced length of what comes. */
    this.length = undefined
    this.sent = 0
    this.unread = 0
    this.readable = new ReadableStream({
      start: (source) => { this.source = source },
      pull: (sink) => this.pull(sink),
      cancel: () => this.stop(0)
    }, { highWaterMark: 0 })
    this.writable = new WritableStream({
      start: (sink) => { this.sink = sink },
      write: (bytes) => this.write(bytes),
      close: () => this.shut(),
      abort: () => this.reset(0)
    })
  }

  /** Gives up what is still to be read. The other side learns the code. */
  stop (code) {
    if (this.received) return
    this.link.say(`stop ${code}`)
    this.source.error(new Error(`this side has stopped the stream with code ${code}`))
    this.chunks = []
    this.over('received')
  }

  /** Gives up what is still to be written. The other side learns the code. */
  reset (code) {
    if (this.ended) return
    this.link.say(`reset ${code}`)
    this.stopped ??= new Error(`this side has reset the stream with code ${code}`)
    this.sink.error(this.stopped)
    this.over('ended')
  }

  async pull (sink) {
    await this.pipe.until(() => this.chunks.length > 0 || this.broken || this.arrived === this.length)
    const bytes = this.chunks.shift()
    if (bytes !== undefined) {
      this.credited += bytes.byteLength
      this.link.say(`credit ${bytes.byteLength}`)
      return sink.enqueue(bytes)
    }
    if (this.broken) throw this.broken
    this.link.say('taken')
    sink.close()
    this.over('received')
  }

  async write (bytes) {
    const { limits } = this.pipe
    const room = () => Math.min(
      limits.stream_window - this.unread,
      limits.connection_window - this.pipe.unread,
      limits.flight - this.pipe.flying
    )
    for (let at = 0, next; at < bytes.byteLength; at = next) {
      await this.pipe.until(() => this.stopped || room() > 0)
      if (this.stopped) throw this.stopped
      next = Math.min(bytes.byteLength, at + MESSAGE, at + room())
      this.link.send(bytes.subarray(at, next))
      this.sent += next - at
      this.unread += next - at
      this.pipe.unread += next - at
      this.pipe.flying += next - at
    }
  }

  shut () {
    if (this.stopped ?? this.pipe.over) throw this.stopped ?? this.pipe.over
    this.link.say(`end ${this.sent}`)
    this.over('ended')
  }

  arrive (bytes) {
    this.arrived += bytes.byteLength
    if (this.arrived - this.credited > WINDOW) {
      throw new Error('the other side broke the protocol: more bytes of a stream than its window allows')
    }
    if (!this.received) this.chunks.push(bytes)
  }

  /** Hears what the other side says about the stream. */
  hear (word, number) {
    switch (word) {
      case 'end':
        this.length = number
        if (number !== this.arrived) this.broken ??= new Error('the stream was cut')
        break
      case 'reset':
        // What has come to its end stays whole.
        if (this.length !== undefined) break
        this.broken ??= new Error(`the stream was reset with code ${number}`)
        this.chunks = []
        this.over('received')
        break
      case 'stop':
        this.credit(this.unread)
        if (this.ended) break
        this.stopped ??= new Error(`the stream was stopped with code ${number}`)
        this.sink.error(this.stopped)
        this.over('ended')
        break
      case 'credit': this.credit(Math.min(number, this.unread)); break
      case 'taken': this.credit(this.unread); break
      case 'done':
        this.credit(this.unread)
        this.done = true
        this.settle()
        break
    }
  }

  credit (bytes) {
    this.unread -= bytes
    this.pipe.unread -= bytes
  }

  /** A direction is over for this side: `received` or `ended`. */
  over (direction) {
    if (this[direction]) return
    this[direction] = true
    if (this.ended && this.received && !this.link.ours) this.link.say('done')
    this.settle()
  }

  /** The channel is free again when both sides have said their last word on the stream. */
  settle () {
    if (!this.link.ours || this.settled || !(this.done && this.ended && this.received)) return
    this.settled = true
    this.pipe.alive--
    this.pipe.free.push(this.link)
    this.pipe.wake()
  }
}
