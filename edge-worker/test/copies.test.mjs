// Stale copies, collapsed misses and codings of the built worker in the real workerd, before an origin that fails on demand.

import assert from 'node:assert/strict'
import { after, before, beforeEach, describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { brotliCompressSync } from 'node:zlib'
import { get } from 'node:http'
import { serve } from '../dev/serve.mjs'
import { reply, startOrigin } from './origin.mjs'

/** How long something behind a reply may take. */
const LIMIT_MS = 5_000

const HIT = /^limn-edge; hit; ttl=[1-9]\d*$/
const STALE_HIT = /^limn-edge; hit; ttl=(0|-\d+)$/
const STOOD_IN = /^limn-edge; fwd=stale; ttl=(0|-\d+); detail=origin-away$/

const LOG = { offset: '0_0', handle: '1001-20' }
const policy = (value) => ({ 'cloudflare-cdn-cache-control': value })
const pointer = policy('public, max-age=60, stale-while-revalidate=3600, stale-if-error=3600')
const briefPointer = policy('public, max-age=1, stale-while-revalidate=3600, stale-if-error=3600')
const head = { 'electric-offset': '9_2', 'electric-up-to-date': '', ...policy('public, max-age=1, stale-while-revalidate=0, stale-if-error=60') }
const limn = { 'electric-server': 'Limn/1', 'cloudflare-cdn-cache-control': 'no-store', 'cache-control': 'no-store' }

let origin, worker
let tables = 0
let table

before(async () => {
  origin = await startOrigin()
  worker = await serve({ origin: origin.url })
})

beforeEach(() => {
  origin.asked = []
  table = `s${(tables += 1)}`
})

after(async () => {
  await worker?.dispose()
  await origin?.end()
})

const shape = (params) => `${worker.url}/v1/shape?${new URLSearchParams({ table, ...params })}`

async function read(params, headers) {
  const answer = await fetch(shape(params), { headers })
  const text = await answer.text()
  return { status: answer.status, text, header: (name) => answer.headers.get(name), cacheStatus: answer.headers.get('cache-status') }
}

/** Reads until the cache status is as wanted. */
async function readUntil(params, wanted) {
  const deadline = Date.now() + LIMIT_MS
  for (;;) {
    const answer = await read(params)
    if (wanted.test(answer.cacheStatus)) return answer
    assert.ok(Date.now() < deadline, `${answer.cacheStatus}, expected ${wanted}`)
    await sleep(20)
  }
}

const answers = (body, headers, status) => (_, response) => reply(response, body, headers, status)
const away = (_, response) => response.destroy()

describe('stale copies', () => {
  it('of a pointer answer while one request fetches another', async () => {
    origin.answer = answers('[1]', briefPointer)
    await readUntil({ offset: '-1' }, HIT)
    await sleep(1_100)
    const held = []
    origin.answer = (_, response) => held.push(response)
    origin.asked = []
    const stale = await Promise.all(Array.from({ length: 20 }, () => read({ offset: '-1' })))
    for (const answer of stale) {
      assert.equal(answer.text, '[1]')
      assert.match(answer.cacheStatus, STALE_HIT)
    }
    while (held.length === 0) await sleep(5)
    assert.equal(origin.asked.length, 1)
    reply(held[0], '[2]', { ...pointer, 'electric-handle': '1001-30' })
    assert.equal((await readUntil({ offset: '-1' }, HIT)).text, '[2]')
    assert.equal(origin.asked.length, 1)
  })

  it('of the end of a log stand in for an origin that is away, and not for one that answers', async () => {
    origin.answer = answers('[1]', head)
    await readUntil(LOG, HIT)
    await sleep(1_100)
    origin.answer = answers('{"message":"starting"}', { ...limn, 'retry-after': '5' }, 503)
    const starting = await read(LOG)
    assert.deepEqual([starting.status, starting.header('retry-after')], [503, '5'])
    origin.answer = away
    const served = await read(LOG)
    assert.deepEqual([served.status, served.text], [200, '[1]'])
    assert.match(served.cacheStatus, STOOD_IN)
    const live = await read({ ...LOG, live: 'true' })
    assert.deepEqual([live.status, live.header('retry-after'), live.header('electric-up-to-date')], [503, '5', null])
    origin.answer = answers('[2]', head)
    assert.equal((await read(LOG)).text, '[2]')
  })

  it('without leave to stand in are a 503', async () => {
    origin.answer = answers('[1]', { ...head, ...policy('public, max-age=1') })
    await readUntil(LOG, HIT)
    await sleep(1_100)
    origin.answer = away
    assert.equal((await read(LOG)).status, 503)
    origin.answer = answers('[2]', head)
    assert.equal((await read(LOG)).status, 200)
  })
})

describe('a miss', () => {
  it('of many at the same time asks the origin once', async () => {
    origin.answer = (_, response) => setTimeout(() => reply(response, '[1]', pointer), 200)
    const all = await Promise.all(Array.from({ length: 50 }, () => read({ offset: '-1' })))
    assert.equal(origin.asked.length, 1)
    assert.ok(all.every(({ text }) => text === '[1]'))
    assert.equal(all.filter(({ cacheStatus }) => cacheStatus === 'limn-edge; fwd=miss; collapsed').length, 49)
  })

  it('whose reply is not kept lets the others ask for themselves', async () => {
    origin.answer = (_, response) => setTimeout(() => reply(response, '[]', policy('no-store')), 100)
    const all = await Promise.all(Array.from({ length: 5 }, () => read({ offset: '-1' })))
    assert.ok(all.every(({ status }) => status === 200))
    assert.equal(origin.asked.length, 5)
  })
})

describe('a 409', () => {
  it('is kept for those who ask alike, and replaces the pointer for everybody', async () => {
    origin.answer = answers('[1]', pointer)
    await readUntil({ offset: '-1' }, HIT)
    origin.asked = []
    const refetch = { 'electric-handle': '1001-30', ...policy('public, max-age=10, stale-if-error=0') }
    origin.answer = (request, response) =>
      request.url.includes('offset=-1')
        ? reply(response, '[2]', { ...pointer, 'electric-handle': '1001-30' })
        : reply(response, '[]', refetch, 409)
    assert.equal((await read(LOG)).status, 409)
    const again = await readUntil(LOG, HIT)
    assert.deepEqual([again.status, again.header('electric-handle')], [409, '1001-30'])
    while ((await read({ offset: '-1' })).text !== '[2]') await sleep(20)
    assert.deepEqual(origin.asked.map(({ url }) => url.match(/offset=[^&]*/)[0]), ['offset=0_0', 'offset=-1'])
    assert.equal((await read({ ...LOG, expired_handle: '1001-30' })).cacheStatus, 'limn-edge; fwd=request')
  })
})

describe('a refusal', () => {
  it('of the origin is kept for moments, and a gateway’s is not', async () => {
    origin.answer = answers('{"message":"Invalid request"}', { ...limn, 'electric-handle': undefined }, 400)
    const kept = await readUntil({ offset: '-1' }, HIT)
    assert.deepEqual([kept.status, kept.header('cache-control')], [400, 'no-store'])
    origin.answer = answers('<html>', { 'electric-handle': undefined }, 404)
    const other = { offset: '-1', where: 'x' }
    await read(other)
    await sleep(100)
    assert.equal((await read(other)).cacheStatus, 'limn-edge; fwd=miss')
  })
})

describe('compressed bodies', () => {
  /** The bytes as they come, which `fetch` would unpack. */
  const raw = (accepted) =>
    new Promise((resolve, fail) => {
      get(shape({ offset: '-1' }), { headers: { 'accept-encoding': accepted } }, async (response) => {
        const chunks = []
        for await (const chunk of response) chunks.push(chunk)
        resolve({ bytes: Buffer.concat(chunks), headers: response.headers })
      }).on('error', fail)
    })

  // What a client does not take the platform unpacks: it tells the worker of codings that it can unpack itself.
  it('pass as they are, fresh and kept, and only to those who take them', async () => {
    const packed = brotliCompressSync('[1]')
    origin.answer = (request, response) =>
      request.headers['accept-encoding'] === 'br'
        ? reply(response, packed, { ...pointer, 'content-encoding': 'br' })
        : reply(response, '[1]', pointer)
    for (const wanted of [/miss/, HIT]) {
      await sleep(200)
      const { bytes, headers } = await raw('br')
      assert.match(headers['cache-status'], wanted)
      assert.deepEqual([headers['content-encoding'], bytes], ['br', packed])
    }
    const plain = await raw('identity')
    assert.deepEqual([plain.headers['content-encoding'], plain.bytes.toString()], [undefined, '[1]'])
  })
})

describe('an origin that is not reached', () => {
  it('is spared after five failures, and tried again', async () => {
    origin.answer = away
    for (let n = 0; n < 5; n += 1) assert.equal((await read({ offset: '-1', where: `id > ${n}` })).status, 503)
    const asked = origin.asked.length
    origin.answer = answers('[1]', pointer)
    assert.equal((await read({ offset: '-1' })).status, 503)
    assert.equal(origin.asked.length, asked)
    await sleep(5_100)
    assert.equal((await read({ offset: '-1' })).status, 200)
  })
})
