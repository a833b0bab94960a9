// Event streams that break, read by the npm client as it is: directly and through the edge worker, cut before it and
// behind it. Whatever the byte, the client then has what SQL has. `LIMN_STREAM_CUTS=1000` makes a thousand cuts of each.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import { after, before, describe, it } from 'node:test'
import { Shape, ShapeStream } from '@electric-sql/client'
import { Servers, read, shapeUrl, until } from './support.mjs'

/** Cuts of each arrangement. */
const CUTS = Number(process.env.LIMN_STREAM_CUTS ?? 24)

/** Clients at one time, each with a table of its own. */
const LANES = 8

/** What the head and the events of an answer have together, about: few cuts lie behind the last of them. */
const ANSWER_BYTES = 1_900

const servers = new Servers()
let db, origin, edge, brokenOrigin, brokenEdge, edgeOfBroken

before(async () => {
  db = await servers.postgres()
  origin = await servers.origin({ databaseUrl: db.url })
  edge = await servers.edge({ origin: origin.url })
  brokenOrigin = await cutter(origin.url)
  brokenEdge = await cutter(edge.url)
  // The hub asks by polls, so that nothing would be cut.
  edgeOfBroken = await servers.edge({ origin: brokenOrigin.url, hub: false })
})

after(async () => {
  await servers.end()
  brokenOrigin.close()
  brokenEdge.close()
})

describe('an event stream that breaks loses no row', () => {
  it('read directly', () => cutAll('direct', brokenOrigin.url, brokenOrigin))
  it('between the client and the edge worker', () => cutAll('before_edge', brokenEdge.url, brokenEdge))
  it('between the edge worker and the origin', () => cutAll('behind_edge', edgeOfBroken.url, brokenOrigin))
})

async function cutAll(name, url, proxy) {
  const [random, before] = [generator(CUTS), proxy.cuts()]
  const positions = Array.from({ length: CUTS }, (_, index) => (index * ANSWER_BYTES) / CUTS + random() * 5)
  const lanes = Array.from({ length: LANES }, async (_, lane) => {
    const table = `${name}_${lane}`
    await db.query(`CREATE TABLE ${table} (id int4 PRIMARY KEY, label text)`)
    await db.query(`INSERT INTO ${table} SELECT n, 'first' FROM generate_series(1, 3) n`)
    for (let next = positions.pop(); next !== undefined; next = positions.pop()) {
      await cutOnce(table, url, proxy, Math.floor(next))
    }
  })
  await Promise.all(lanes)
  assert.ok(proxy.cuts() - before >= 0.9 * CUTS, `only ${proxy.cuts() - before} of ${CUTS} streams were cut`)
}

/** One client, whose first event stream has rows to send and is cut after `length` bytes. */
async function cutOnce(table, url, proxy, length) {
  const aborter = new AbortController()
  let isFirst = true
  const fetchClient = async (target, init) => {
    if (isFirst && String(target).includes('live_sse=true')) {
      isFirst = false
      await change(table, length)
      proxy.cutNext(table, length)
    }
    return fetch(target, init)
  }
  const options = { url: `${url}/v1/shape`, params: { table }, liveSse: true, signal: aborter.signal, fetchClient }
  const shape = new Shape(new ShapeStream(options))
  try {
    await shape.rows
    await until(`${table} is as in SQL after a cut behind byte ${length}`, async () => {
      return !isFirst && (await isAsInSql(table, shape.currentRows))
    })
  } finally {
    aborter.abort()
  }
}

/** Several transactions of all kinds, which the origin shows when this ends. */
async function change(table, n) {
  await db.query(`INSERT INTO ${table} VALUES (10, 'data: {}'), (11, E'two\\n\\nlines') ON CONFLICT (id) DO UPDATE SET label = 'again ${n}'`)
  await db.query(`UPDATE ${table} SET label = 'Größe ${n}' WHERE id = 1`)
  await db.query(`DELETE FROM ${table} WHERE id IN (2, 12)`)
  await db.query(`INSERT INTO ${table} VALUES (2, 'back ${n}'), (12, 'new')`)
  await until('the origin has the changes', async () => isAsInSql(table, await rowsOf(table)))
}

async function isAsInSql(table, rows) {
  const { rows: wanted } = await db.query(`SELECT id, label FROM ${table} ORDER BY id`)
  const sorted = rows.toSorted((a, b) => a.id - b.id).map(({ id, label }) => ({ id, label }))
  return JSON.stringify(sorted) === JSON.stringify(wanted)
}

/** The rows of the shape at the origin, read to the end of its log. */
async function rowsOf(table) {
  const rows = new Map()
  let [offset, handle] = ['-1', undefined]
  for (;;) {
    const reply = await read(shapeUrl(origin.url, { table, offset, ...(handle && { handle }) }))
    for (const { headers, value } of reply.json()) {
      if (headers.operation === 'delete') rows.delete(value.id)
      else if (headers.operation) rows.set(value.id, { ...rows.get(value.id), ...value, id: Number(value.id) })
    }
    ;[offset, handle] = [reply.headers.get('electric-offset'), reply.headers.get('electric-handle')]
    if (reply.headers.has('electric-up-to-date')) return [...rows.values()]
  }
}

/** Passes connections on to `target`, and cuts the answers to event streams that it is told to cut. */
async function cutter(target) {
  const { hostname, port } = new URL(target)
  const lengths = new Map()
  let cuts = 0
  const server = createServer((client) => {
    const upstream = connect(Number(port), hostname)
    const end = () => [client, upstream].forEach((socket) => socket.destroy())
    let left = Infinity
    client.on('data', (request) => {
      const table = request.toString('latin1').match(/^GET [^ ]*table=(\w+)[^ ]*/)?.[1]
      const isStream = request.includes('live_sse=true')
      left = (isStream ? lengths.get(table) : undefined) ?? Infinity
      if (isStream) lengths.delete(table)
      upstream.write(request)
      if (left === 0) cut()
    })
    upstream.on('data', (answer) => {
      client.write(answer.subarray(0, left))
      left -= answer.length
      if (left <= 0) cut()
    })
    const cut = () => {
      cuts += 1
      client.end()
      upstream.destroy()
    }
    for (const socket of [client, upstream]) socket.on('close', () => setImmediate(end)).on('error', end)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    cutNext: (table, length) => lengths.set(table, length),
    cuts: () => cuts,
    close: () => server.close(),
  }
}

/** Numbers from 0 to 1 that a seed repeats. */
function generator(seed) {
  let state = seed
  return () => {
    state = (state * 1_103_515_245 + 12_345) % 2_147_483_648
    return state / 2_147_483_648
  }
}
