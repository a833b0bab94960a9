// How long after a commit's answer clients of one shape have it: from the origin, through the edge worker, and through
// its live hub.
//   node tests/js/edge-live.bench.mjs [--clients 500] [--writes 20]
// prints the median and the 99th percentile, what the origin had to do, and workerd's processor time for a delivery. Clients, servers and Postgres share the
// machine: the figures compare with each other only.

import { Agent, get } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { Servers, readToEnd, shapeUrl, until } from './support.mjs'

const { values } = parseArgs({ options: { clients: { type: 'string', default: '500' }, writes: { type: 'string', default: '20' } } })
const [clients, writes] = [Number(values.clients), Number(values.writes)]
const agent = new Agent({ keepAlive: true, maxSockets: Infinity })

/** The parts of a body, as they come. */
const parts = (url) => new Promise((resolve, reject) => get(url, { agent }, resolve).once('error', reject))

/** A client that polls for ever; `told` is called with each row's number. */
async function polls(base, at, told) {
  for (let cursor = ''; ; ) {
    const reply = await parts(shapeUrl(base, { ...at, live: 'true', cursor }))
    let text = ''
    for await (const part of reply) text += part
    const { 'electric-offset': offset, 'electric-cursor': next } = reply.headers
    if (reply.statusCode !== 200) throw new Error(`${reply.statusCode}: ${text}`)
    ;[at, cursor] = [{ ...at, offset }, next]
    for (const { value } of JSON.parse(text)) if (value) told(Number(value.id))
  }
}

/** A client of one event stream. */
async function events(base, at, told) {
  const reply = await parts(shapeUrl(base, { ...at, live: 'true', live_sse: 'true' }))
  let text = ''
  for await (const part of reply) {
    text += part
    const whole = text.split('\n\n')
    text = whole.pop()
    for (const event of whole) {
      const id = /"value":\{"id":"(\d+)"/.exec(event)
      if (id) told(Number(id[1]))
    }
  }
}

async function measure(name, base, follow, { db, origin, edge, expected }) {
  const { at } = await readToEnd(base, { table: 'ticks' })
  const [waits, committed] = [[], new Map()]
  let lastRow = 0
  const told = (row) => waits.push({ row, at: performance.now() })
  const served = await origin.requestsServed()
  for (let n = 0; n < clients; n += 1) follow(base, at, told).catch(() => {})
  const parked = await until('clients wait', async () => {
    const parked = await origin.parkedClients()
    return parked >= expected && parked
  }, 5_000).catch(() => origin.parkedClients())
  // The first has come; the others are on their way.
  await sleep(1_000)
  const workedMs = edge ? edge.processorMs() : 0
  for (let n = 0; n < writes; n += 1) {
    const { rows } = await db.query('INSERT INTO ticks DEFAULT VALUES RETURNING id')
    lastRow = rows[0].id
    committed.set(lastRow, performance.now())
    await until('all clients have it', () => waits.filter(({ row }) => row === lastRow).length >= clients)
  }
  const ms = waits.filter(({ row }) => committed.has(row)).map(({ row, at }) => at - committed.get(row)).sort((a, b) => a - b)
  const share = (part) => ms[Math.min(ms.length - 1, Math.floor(ms.length * part))].toFixed(1).padStart(8)
  const requests = (await origin.requestsServed()) - served
  const worked = edge ? `${(((edge.processorMs() - workedMs) * 1000) / ms.length).toFixed(0)} µs` : ''
  console.log(`${name.padEnd(28)}${share(0.5)}${share(0.99)}${String(parked).padStart(10)}${String(requests).padStart(10)}${worked.padStart(14)}`)
}

console.log(`${clients} clients, ${writes} writes; ms`)
console.log(`${''.padEnd(28)}${'p50'.padStart(8)}${'p99'.padStart(8)}${'parked'.padStart(10)}${'requests'.padStart(10)}${'workerd'.padStart(14)}`)
for (const [kind, follow] of [['polls', polls], ['events', events]]) {
  for (const way of ['origin', 'worker', 'hub']) {
    // Servers of its own for each, so that no client of another way is left at them.
    const servers = new Servers()
    const db = await servers.postgres()
    await db.query('CREATE TABLE ticks (id serial PRIMARY KEY)')
    const origin = await servers.origin({ databaseUrl: db.url })
    const edge = way !== 'origin' && (await servers.edge({ origin: origin.url, hub: way === 'hub' }))
    await measure(`${kind}, ${way}`, (edge || origin).url, follow, { db, origin, edge, expected: way === 'hub' ? 1 : clients })
    await servers.end().catch(() => {})
  }
}
process.exit(0)
