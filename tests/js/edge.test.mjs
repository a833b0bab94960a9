// What the edge worker answers from its cache, judged by the origin's own count of requests; and who may read it.

import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { Servers, read, shapeUrl, until } from './support.mjs'

const SECRET = 'a secret only for this test'

/** Small, so that a few hundred rows fill several chunks. */
const CHUNK_BYTES = 20_000

/** The worker stores an answer after it was sent; a moment later it is there. */
const STORE_MS = 300

const servers = new Servers()
let db, origin, edge, openEdge

before(async () => {
  db = await servers.postgres()
  await db.query('CREATE TABLE crates (id int4 PRIMARY KEY, label text)')
  await db.query("INSERT INTO crates SELECT n, repeat('x', 100) FROM generate_series(1, 1000) n")
  origin = await servers.origin({
    databaseUrl: db.url,
    secret: SECRET,
    env: { LIMN_SHAPE_CHUNK_BYTES_THRESHOLD: String(CHUNK_BYTES) },
  })
  edge = await servers.edge({ origin: origin.url, secret: SECRET })
  openEdge = await servers.edge({ origin: origin.url })
})

after(() => servers.end())

describe('the cache of the edge worker', () => {
  it('answers the second offset=-1', async () => {
    const url = shapeUrl(edge.url, { table: 'crates', offset: '-1', secret: SECRET })
    const first = await read(url)
    assert.equal(first.status, 200)
    await sleep(STORE_MS)
    const served = await origin.requestsServed()
    const second = await read(url)
    assert.equal(await origin.requestsServed(), served)
    assert.equal(second.text, first.text)
    assert.match(second.headers.get('cache-status'), /hit/)
    for (const header of ['electric-handle', 'electric-offset', 'electric-schema']) {
      assert.equal(second.headers.get(header), first.headers.get(header))
    }
  })

  it('answers the second read of every closed chunk', async () => {
    await db.query("INSERT INTO crates SELECT n, repeat('y', 100) FROM generate_series(1001, 2000) n")
    await until('the origin has the inserts', async () => (await readLog(origin.url)).rows === 2000)
    const first = await readLog(edge.url)
    const closed = first.chunks.filter(({ isClosed }) => isClosed)
    assert.ok(closed.length >= 2, `${closed.length} of ${first.chunks.length} chunks are closed`)
    await sleep(STORE_MS)
    const served = await origin.requestsServed()
    for (const { url, text } of closed) {
      const again = await read(url)
      assert.equal(again.text, text)
      assert.match(again.headers.get('cache-status'), /hit/)
    }
    assert.equal(await origin.requestsServed(), served)
  })

  it('finds a request again however its parameters are ordered', async () => {
    const spelled = (query) => read(`${edge.url}/v1/shape?${query}&secret=${encodeURIComponent(SECRET)}`)
    await spelled('table=crates&offset=-1&columns=id')
    await sleep(STORE_MS)
    const served = await origin.requestsServed()
    const second = await spelled('columns=id&offset=-1&table=crates')
    assert.equal(second.status, 200)
    assert.equal(await origin.requestsServed(), served)
  })

  it('asks the origin for every live request', async () => {
    const { handle, offset } = await readLog(edge.url)
    const params = { table: 'crates', offset, handle, live: 'true', cursor: '', secret: SECRET }
    const poll = read(shapeUrl(edge.url, params))
    await sleep(STORE_MS)
    await db.query("INSERT INTO crates VALUES (100000, 'live')")
    const answer = await poll
    assert.equal(answer.status, 200)
    assert.equal(answer.json()[0].value.label, 'live')
  })
})

describe('credentials at the edge', () => {
  const params = { table: 'crates', offset: '-1' }
  const refused = { message: 'Unauthorized - Invalid API secret' }

  it('are checked before the cache, by the worker itself, where it knows the secret', async () => {
    const right = await read(shapeUrl(edge.url, { ...params, secret: SECRET }))
    assert.equal(right.status, 200)
    await sleep(STORE_MS)
    const served = await origin.requestsServed()
    const attempts = [
      read(shapeUrl(edge.url, params)),
      read(shapeUrl(edge.url, { ...params, secret: 'wrong' })),
      read(shapeUrl(edge.url, { ...params, api_secret: 'wrong' })),
      // `secret` wins over `api_secret` even when it is the wrong one.
      read(shapeUrl(edge.url, { ...params, secret: 'wrong', api_secret: SECRET })),
      read(shapeUrl(edge.url, params), { authorization: 'Bearer wrong' }),
    ]
    for (const answer of await Promise.all(attempts)) {
      assert.equal(answer.status, 401)
      assert.deepEqual(answer.json(), refused)
    }
    assert.equal(await origin.requestsServed(), served)
  })

  it('may be spelled in three ways, and share what is cached', async () => {
    await read(shapeUrl(edge.url, { ...params, secret: SECRET }))
    await sleep(STORE_MS)
    const served = await origin.requestsServed()
    const answers = await Promise.all([
      read(shapeUrl(edge.url, { ...params, secret: SECRET })),
      read(shapeUrl(edge.url, { ...params, api_secret: SECRET })),
      read(shapeUrl(edge.url, params), { authorization: `Bearer ${SECRET}` }),
    ])
    assert.deepEqual(answers.map(({ status }) => status), [200, 200, 200])
    assert.equal(await origin.requestsServed(), served)
  })

  it('reach the origin when they are right, however they are spelled', async () => {
    const fresh = (n) => ({ ...params, where: `id < ${n}` })
    const answers = await Promise.all([
      read(shapeUrl(edge.url, { ...fresh(2), secret: SECRET })),
      read(shapeUrl(edge.url, { ...fresh(3), api_secret: SECRET })),
      read(shapeUrl(edge.url, fresh(4)), { authorization: `Bearer ${SECRET}` }),
    ])
    assert.deepEqual(answers.map(({ status }) => status), [200, 200, 200])
  })

  it('bypass the cache where the worker does not know the secret', async () => {
    const url = shapeUrl(openEdge.url, { ...params, secret: SECRET })
    assert.equal((await read(url)).status, 200)
    await sleep(STORE_MS)
    const served = await origin.requestsServed()
    assert.equal((await read(url)).status, 200)
    assert.equal(await origin.requestsServed(), served + 1)
    const without = await read(shapeUrl(openEdge.url, params))
    assert.equal(without.status, 401)
    assert.deepEqual(without.json(), refused)
  })
})

describe('a warm shape', () => {
  const SYNCS = 5_000
  const AT_ONCE = 50
  /** The copy of the pointer is at most so old when the test begins to count. */
  const POINTER_AGE_MS = 5_000

  /** An origin of its own, since it ends; a table whose first rows fill some chunks. */
  async function warm(name) {
    await db.query(`CREATE TABLE ${name} (id int4 PRIMARY KEY, label text)`)
    await db.query(`INSERT INTO ${name} SELECT n, repeat('w', 100) FROM generate_series(1, 300) n`)
    const own = await servers.origin({
      databaseUrl: db.url,
      env: { LIMN_SHAPE_CHUNK_BYTES_THRESHOLD: String(CHUNK_BYTES), LIMN_REPLICATION_STREAM_ID: name },
    })
    const before = await servers.edge({ origin: own.url })
    const sync = () => readLog(before.url, { table: name })
    const { chunks } = await sync()
    await sleep(STORE_MS)
    return { own, before, sync, chunks }
  }

  it(`is synced ${SYNCS} times without a request to the origin`, async () => {
    const { own, chunks } = await warm('warm')
    const kept = chunks.filter(({ upToDate }) => !upToDate)
    assert.ok(kept.length >= 2, `${kept.length} of ${chunks.length} chunks are kept for long`)
    const served = await own.requestsServed()
    const warmed = Date.now()
    let left = SYNCS
    const client = async () => {
      while ((left -= 1) >= 0) {
        for (const { url, text } of kept) assert.equal((await read(url)).text, text)
      }
    }
    await Promise.all(Array.from({ length: AT_ONCE }, client))
    // The pointer is fetched anew each minute, behind the replies: on a slow machine the test lasts longer than one.
    const minutes = Math.floor((Date.now() - warmed + POINTER_AGE_MS) / 60_000)
    const refreshed = (await own.requestsServed()) - served
    assert.ok(refreshed <= minutes, `${refreshed} requests in ${minutes} whole minutes`)
    // The end of the log is asked for again each second, however many ask.
    const end = chunks.at(-1)
    const began = Date.now()
    await Promise.all(Array.from({ length: 1_000 }, () => read(end.url)))
    const asked = (await own.requestsServed()) - served - refreshed
    assert.ok(asked <= 3 + (Date.now() - began) / 1_000, `${asked} requests`)
  })

  it('is synced while the origin is away, and nobody waits there for changes', async () => {
    const { own, before, sync, chunks } = await warm('stopped')
    await own.stop()
    const { rows, handle, offset } = await sync()
    assert.equal(rows, 300)
    assert.match((await read(chunks.at(-1).url)).headers.get('cache-status'), /ttl=/)
    const live = await read(shapeUrl(before.url, { table: 'stopped', handle, offset, live: 'true', cursor: '' }))
    assert.deepEqual([live.status, live.headers.get('retry-after')], [503, '5'])
    assert.equal(live.headers.has('electric-up-to-date'), false)
    const cold = await read(shapeUrl(before.url, { table: 'crates', offset: '-1' }))
    assert.equal(cold.status, 503)
  })
})

/** Reads the log of `crates` from the beginning until it is up to date. */
async function readLog(base, shape = { table: 'crates', secret: SECRET }) {
  const chunks = []
  let [handle, offset, rows] = [undefined, '-1', 0]
  for (;;) {
    const params = { ...shape, offset, ...(handle && { handle }) }
    const url = shapeUrl(base, params)
    const { status, headers, text } = await read(url)
    assert.equal(status, 200, text)
    chunks.push({ url, text, isClosed: headers.get('limn-chunk') === 'closed', upToDate: headers.has('electric-up-to-date') })
    rows += JSON.parse(text).filter(({ headers }) => headers.operation === 'insert').length
    handle = headers.get('electric-handle')
    offset = headers.get('electric-offset')
    if (headers.has('electric-up-to-date')) return { chunks, handle, offset, rows }
  }
}
