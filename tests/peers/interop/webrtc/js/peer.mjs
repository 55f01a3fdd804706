// A peer made of @roamhq/wrtc (libwebrtc), which does what it is told on its standard input.
//
// usage: node peer.mjs offer|answer
//
// The language is that of negotiator.mjs, with the verbs of channels.mjs.

import readline from 'node:readline'

import wrtc from '@roamhq/wrtc'

import { Peer } from './channels.mjs'

const [role] = process.argv.slice(2)
const connection = new wrtc.RTCPeerConnection({ iceServers: [] })
const peer = new Peer(connection, role === 'offer', (line) => console.log(line))
peer.start()
const lines = readline.createInterface({ input: process.stdin })
lines.on('line', (line) => peer.hear(line))
lines.on('close', () => process.exit())
