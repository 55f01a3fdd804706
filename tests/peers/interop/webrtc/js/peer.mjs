// A peer in Node.js, which does what it is told on its standard input.
//
// usage: node peer.mjs STACK offer|answer
//
// STACK is the name of a module beside this one. Its `connect` makes what has of an RTCPeerConnection of the W3C as
// much as negotiator.mjs and channels.mjs use. The language is that of negotiator.mjs, with the verbs of channels.mjs.

import readline from 'node:readline'

import { Peer } from './channels.mjs'

const [stack, role] = process.argv.slice(2)
const { connect } = await import(`./${stack}.mjs`)
const peer = new Peer(connect(), role === 'offer', (line) => console.log(line))
peer.start()
const lines = readline.createInterface({ input: process.stdin })
lines.on('line', (line) => peer.hear(line))
lines.on('close', () => process.exit())
