// Records of the sidecar, each once, into a file of JSON lines:
//
//     node subscriber.mjs mqtt://broker:1883 records.jsonl [USER PASSWORD-FILE]
//
// A message is acknowledged when its line is on disk. What is missing by its number is asked for, as USER.
// Written for MQTT.js; nothing of it is the sidecar's own.

import fs from 'node:fs'
import mqtt from 'mqtt'
import { decode, encode, ExtensionCodec, decodeTimestampToTimeSpec } from '@msgpack/msgpack'

const [url, file, user, passwordFile] = process.argv.slice(2)
const WAIT_MS = 2000 // a number may still be under way
const ASK_MAX = 500 // numbers of one request: fewer than the broker queues for us

// Times have microseconds, a Date has not.
const times = new ExtensionCodec()
times.register({
  type: -1,
  encode: () => null,
  decode: (data) => {
    const { sec, nsec } = decodeTimestampToTimeSpec(data)
    return new Date(sec * 1000).toISOString().slice(0, 19) + '.' + String(Math.floor(nsec / 1000)).padStart(6, '0') + 'Z'
  },
})

// --- what is there already: the file is read back, and a line that a crash cut off is taken away -------------

const have = new Set() // 'call_id/revision'
const held = new Map() // 'tenant/node/epoch' -> Set of numbers
const source = (record) => [record.tenant, record.node, record.store_epoch].join('/')

function remember(record) {
  have.add(`${record.call_id}/${record.revision}`)
  if (!held.has(source(record))) held.set(source(record), new Set())
  held.get(source(record)).add(record.seq)
}

const out = fs.openSync(file, 'a+')
const content = fs.readFileSync(file)
const whole = content.subarray(0, content.lastIndexOf(0x0a) + 1)
fs.ftruncateSync(out, whole.length)
for (const line of whole.toString().split('\n')) if (line) remember(JSON.parse(line))

// --- the link ------------------------------------------------------------------------------------------------

const clientId = `node-example-${user ?? 'reader'}` // the same at each start: the broker keeps our session by it
const client = mqtt.connect(url, {
  protocolVersion: 5,
  clientId,
  clean: false, // go on with the session that is there,
  properties: { sessionExpiryInterval: 7 * 86400, receiveMaximum: 100 }, // which lives this long without us
  reconnectPeriod: 500,
  username: user,
  password: passwordFile && fs.readFileSync(passwordFile, 'utf8').split('\n')[0],
})
const wanted = { 'sidecar/v1/+/+/cdr/#': { qos: 1 }, 'sidecar/v1/+/+/status': { qos: 0 } }
if (user) wanted[`sidecar/v1/+/+/replayed/${encodeURIComponent(user)}/${clientId}`] = { qos: 1 }
client.on('connect', () => client.subscribe(wanted, (error) => console.error(error ?? 'subscribed')))
client.on('error', (error) => console.error(error.message))

// MQTT.js sends the PUBACK when `done` is called.
client.handleMessage = (packet, done) => {
  try {
    take(packet)
    done()
  } catch (error) {
    console.error(`${packet.topic}: ${error.message}`) // not acknowledged: it comes again
    process.exit(1)
  }
}

function take(packet) {
  const content = decode(packet.payload, { extensionCodec: times })
  const [, , tenant, node, kind] = packet.topic.split('/')
  if (kind === 'status') return watch(tenant, node, content)
  if (packet.properties?.userProperties?.replay_end) return ended(content)
  if (content.version !== 1) throw new Error(`a record of version ${content.version}`)
  if (have.has(`${content.call_id}/${content.revision}`)) return
  fs.writeSync(out, JSON.stringify(content) + '\n')
  fs.fsyncSync(out)
  remember(content)
}

// --- what is missing: between the numbers that we have, and up to the one that the status tells ---------------

const missingSince = new Map()
let asked = 0 // when; 0: no request is under way

function watch(tenant, node, { epoch, head_seq: head, published }) {
  if (head == null) return // the will: the node is down
  const name = [decodeURIComponent(tenant), decodeURIComponent(node), epoch].join('/')
  const numbers = held.get(name) ?? new Set()
  let first = head - published + 1
  while (first <= head && numbers.has(first)) first++
  if (first > head) return missingSince.delete(name)
  if (!missingSince.has(name)) missingSince.set(name, Date.now())
  let last = first
  while (last < head && !numbers.has(last + 1) && last - first < ASK_MAX - 1) last++
  const waited = Date.now() - missingSince.get(name) >= WAIT_MS
  if (!user || !waited || (asked && Date.now() - asked < 30000)) return
  asked = Date.now()
  console.error(`asking ${node} for ${first} to ${last}`)
  const base = `sidecar/v1/${tenant}/${node}`
  client.publish(`${base}/replay/${encodeURIComponent(user)}`, Buffer.from(encode({ epoch, from_seq: first, to_seq: last })), {
    qos: 1,
    properties: { responseTopic: `${base}/replayed/${encodeURIComponent(user)}/${clientId}` },
  })
}

function ended(end) {
  asked = 0
  console.error(`sent ${end.sent} of ${end.from_seq} to ${end.to_seq}${end.error && ': ' + end.error}`)
  // Dead letters and what the journal does not hold are for people to look at (`end.dead`, `end.absent`).
}
