// werift, a stack in TypeScript, in Node.js.

import { RTCPeerConnection } from 'werift'

export const connect = () => new RTCPeerConnection({
  iceServers: [], iceUseIpv6: false, iceAdditionalHostAddresses: ['127.0.0.1']
})
