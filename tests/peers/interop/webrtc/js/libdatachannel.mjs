// libdatachannel, with usrsctp, in Node.js. Its own API, since its one like the browsers' does other things at
// other times.

import { PeerConnection } from 'node-datachannel'

export const connect = () => new Connection()

class Connection {
  constructor () {
    this.inner = new PeerConnection('peer', {
      iceServers: [], bindAddress: '127.0.0.1', disableAutoNegotiation: true, maxMessageSize: 256 * 1024
    })
    /** What it has told before it was to be known. */
    this.early = []
    this.inner.onLocalCandidate((candidate, sdpMid) => this.tell({ candidate, sdpMid, sdpMLineIndex: 0 }))
    this.inner.onGatheringStateChange((state) => { if (state === 'complete') this.tell(null) })
    this.inner.onDataChannel((inner) => this.ondatachannel?.({ channel: new Channel(inner) }))
  }

  /**
   * Tells a candidate, once the other side's description is there. It begins to connect before it keeps the
   * description, so that a fast handshake would find no fingerprint there: until then neither side knows an
   * address of the other.
   */
  tell (candidate) {
    if (this.early) this.early.push(candidate)
    else this.onicecandidate({ candidate })
  }

  async describe (type) {
    const described = new Promise((resolve) => this.inner.onLocalDescription((sdp) => resolve({ type, sdp })))
    this.inner.setLocalDescription(type)
    const { sdp } = await described
    return { type, sdp: sdp.replaceAll(/^a=(candidate:.*|end-of-candidates)\r\n/gm, '') }
  }

  async createOffer () { return await this.describe('offer') }
  async createAnswer () { return await this.describe('answer') }
  async setLocalDescription () {}

  async setRemoteDescription ({ type, sdp }) {
    this.inner.setRemoteDescription(sdp, type)
    const early = this.early
    this.early = undefined
    for (const candidate of early) this.tell(candidate)
  }

  async addIceCandidate ({ candidate, sdpMid }) { this.inner.addRemoteCandidate(candidate, sdpMid) }

  createDataChannel (label, init = {}) { return new Channel(this.inner.createDataChannel(label, init)) }

  close () { this.inner.close() }
}

class Channel {
  constructor (inner) {
    this.inner = inner
    inner.onOpen(() => this.onopen?.())
    inner.onClosed(() => this.onclose?.())
    inner.onMessage((data) => this.onmessage?.({ data }))
  }

  get id () { return this.inner.getId() }
  get label () { return this.inner.getLabel() }
  get readyState () { return this.inner.isOpen() ? 'open' : 'connecting' }
  send (data) { this.inner.sendMessageBinary(new Uint8Array(data)) }
  close () { this.inner.close() }
}
