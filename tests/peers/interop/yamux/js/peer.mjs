// A peer made of @chainsafe/libp2p-yamux, over TCP or over WebSocket with `ws`, which does what it is told on its
// standard input.
//
// usage: node peer.mjs server|client=ADDR|ws-server|ws-client=ADDR
//
// The language is that of peer.rs: a line "ID VERB ARGUMENTS…" is answered with "ID ok WORDS…" or
// "ID error TEXT". Commands run side by side.

import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import net from 'node:net'
import readline from 'node:readline'

import { yamux } from '@chainsafe/libp2p-yamux'
import { defaultLogger } from '@libp2p/logger'
import { AbstractMultiaddrConnection } from '@libp2p/utils'
import { multiaddr } from '@multiformats/multiaddr'
import { WebSocket, WebSocketServer, createWebSocketStream } from 'ws'

// How much an inbox takes in before its stream is paused.
const INBOX = 64 * 1024
const CHUNK = 64 * 1024

/** A TCP socket, or the stream of a WebSocket, as libp2p's muxers want it. */
class Socket extends AbstractMultiaddrConnection {
  constructor (socket, direction) {
    const log = defaultLogger().forComponent('socket')
    super({ remoteAddr: multiaddr('/ip4/127.0.0.1/tcp/1'), direction, log })
    this.socket = socket
    socket.on('data', (bytes) => this.onData(bytes))
    socket.on('drain', () => this.safeDispatchEvent('drain'))
    socket.on('end', () => this.onTransportClosed())
    socket.on('close', () => this.onTransportClosed())
    socket.on('error', () => {})
  }

  sendData (data) {
    const bytes = Buffer.from(data.subarray())
    return { sentBytes: bytes.length, canSendMore: this.socket.write(bytes) }
  }

  sendReset () { this.socket.destroy() }
  sendPause () { this.socket.pause() }
  sendResume () { this.socket.resume() }
  async sendClose () { this.socket.end() }
}

/** A stream whose bytes are taken when they are asked for, and that pauses otherwise. */
class Pulled {
  constructor (stream) {
    this.stream = stream
    this.chunks = []
    this.held = 0
    this.ending = undefined
    this.wake = () => {}
    stream.addEventListener('message', ({ data }) => {
      this.chunks.push(Buffer.from(data.subarray()))
      this.held += data.byteLength
      if (this.held >= INBOX && stream.readStatus === 'readable') stream.pause()
      this.wake()
    })
    stream.addEventListener('end', () => this.end())
    stream.addEventListener('close', ({ error }) => { if (error != null) this.end() })
  }

  end () {
    this.ending ??= ['reset', 'aborted'].includes(this.stream.status) ? 'reset' : 'end'
    this.wake()
  }

  /** What comes next; undefined at the end. */
  async next () {
    while (this.chunks.length === 0 && this.ending === undefined) {
      if (this.stream.readStatus === 'paused') this.stream.resume()
      if (this.chunks.length > 0 || this.ending !== undefined) break
      await new Promise((resolve) => { this.wake = resolve })
    }
    const chunk = this.chunks.shift()
    this.held -= chunk?.length ?? 0
    return chunk
  }

  unread (chunk) {
    this.chunks.unshift(chunk)
    this.held += chunk.length
  }

  async read (limit) {
    const hash = createHash('sha256')
    let total = 0
    while (total < limit) {
      const chunk = await this.next()
      if (chunk === undefined) return `${total} ${hash.digest('hex')} ${this.ending}`
      const taken = chunk.subarray(0, limit - total)
      if (taken.length < chunk.length) this.unread(chunk.subarray(taken.length))
      hash.update(taken)
      total += taken.length
    }
    return `${total} ${hash.digest('hex')} more`
  }

  async send (bytes) {
    if (!this.stream.send(bytes)) await this.drained()
  }

  async write (count) {
    const bytes = randomBytes(count)
    for (let at = 0; at < count; at += CHUNK) await this.send(bytes.subarray(at, at + CHUNK))
    // What waits for the window has been written only once it is gone.
    while (this.stream.writeBufferLength > 0) await this.drained()
    return createHash('sha256').update(bytes).digest('hex')
  }

  drained () {
    const { stream } = this
    return new Promise((resolve, reject) => {
      const done = (then) => () => {
        stream.removeEventListener('drain', onDrain)
        stream.removeEventListener('idle', onDrain)
        stream.removeEventListener('close', onClose)
        then()
      }
      const onDrain = done(resolve)
      const onClose = done(() => reject(new Error(`the stream is ${stream.status}`)))
      stream.addEventListener('drain', onDrain)
      stream.addEventListener('idle', onDrain)
      stream.addEventListener('close', onClose)
      if (stream.status !== 'open') onClose()
    })
  }
}

const streams = new Map()
const backlog = []
const accepting = []
let echoing = false

function keep (stream) {
  const pulled = new Pulled(stream)
  streams.set(stream.id, pulled)
  return stream.id
}

function arrive ({ detail: stream }) {
  if (echoing) return echo(stream)
  keep(stream)
  const taker = accepting.shift()
  if (taker === undefined) backlog.push(stream.id)
  else taker(stream.id)
}

function accept () {
  return backlog.shift() ?? new Promise((resolve) => accepting.push(resolve))
}

/** Sends back what comes on a stream of the other side. */
async function echo (stream) {
  const pulled = new Pulled(stream)
  for (let chunk; (chunk = await pulled.next()) !== undefined;) await pulled.send(chunk)
  await stream.close()
}

/** Opens so many streams one after the other, and expects on each what it has sent. */
async function ask (count, size) {
  for (let i = 0; i < count; i++) {
    const stream = await muxer.createStream()
    const pulled = new Pulled(stream)
    const sent = await pulled.write(size)
    await stream.close()
    const [total, back, ending] = (await pulled.read(Infinity)).split(' ')
    if (Number(total) !== size || back !== sent || ending !== 'end') {
      throw new Error(`stream ${i} came back changed: ${total} bytes, ${ending}`)
    }
  }
}

const verbs = {
  open: async () => keep(await muxer.createStream()),
  accept,
  write: (id, count) => streams.get(id).write(Number(count)),
  read: (id, limit) => streams.get(id).read(Number(limit)),
  finish: (id) => streams.get(id).stream.close(),
  reset: (id) => streams.get(id).stream.abort(new Error('asked to')),
  echo: () => { echoing = true },
  ask: (count, size) => ask(Number(count), Number(size)),
  ping: async () => Math.round(1000 * await muxer.ping()),
  streams: () => muxer.streams.length,
  goaway: () => muxer.close(),
  close: () => { socket.destroy() },
  ended: async () => { if (!socket.closed) await once(socket, 'close') }
}

/** The stream of a WebSocket, which is closed once the other side has closed, as a socket is. */
function streamOf (socket) {
  const stream = createWebSocketStream(socket)
  stream.once('end', () => stream.destroy())
  return stream
}

async function connect (role, addr) {
  if (role === 'ws-server') {
    const server = new WebSocketServer({ host: '127.0.0.1', port: 0 })
    await once(server, 'listening')
    console.log(`0 ok 127.0.0.1:${server.address().port}`)
    const [socket] = await once(server, 'connection')
    return streamOf(socket)
  }
  if (role === 'ws-client') {
    const socket = new WebSocket(`ws://${addr}/`)
    // What comes with the answer is not to be missed.
    const stream = streamOf(socket)
    await once(socket, 'open')
    console.log(`0 ok ${addr}`)
    return stream
  }
  if (role === 'server') {
    const server = net.createServer().listen(0, '127.0.0.1')
    await once(server, 'listening')
    console.log(`0 ok 127.0.0.1:${server.address().port}`)
    const [socket] = await once(server, 'connection')
    return socket
  }
  const [host, port] = addr.split(':')
  const socket = net.connect(Number(port), host)
  await once(socket, 'connect')
  console.log(`0 ok 127.0.0.1:${socket.localPort}`)
  return socket
}

const [role, addr] = process.argv[2].split('=')
const socket = await connect(role, addr)
const conn = new Socket(socket, role.endsWith('server') ? 'inbound' : 'outbound')
const muxer = yamux({ enableKeepAlive: false })().createStreamMuxer(conn)
muxer.addEventListener('stream', arrive)

for await (const line of readline.createInterface({ input: process.stdin })) {
  const [id, verb, ...args] = line.split(' ')
  Promise.resolve().then(() => verbs[verb](...args))
    .then((answer) => console.log(`${id} ok ${answer ?? ''}`))
    .catch((error) => console.log(`${id} error ${error.message.replaceAll('\n', ' ')}`))
}
process.exit(0)
