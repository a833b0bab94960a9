// The built worker in the real workerd, before an origin that counts what it is asked.

import assert from 'node:assert/strict'
import { after, before, beforeEach, describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { serve } from '../dev/serve.mjs'
import { reply, startOrigin } from './origin.mjs'

const SECRET = 'a secret & more'

/** A copy is stored after the reply was sent; a moment later it is there. */
const STORE_MS = 200

const POINTER_CONTROL = 'public, max-age=604800, s-maxage=3600, stale-while-revalidate=2629746'
const pointer = {
  'cache-control': POINTER_CONTROL,
  'cloudflare-cdn-cache-control': 'public, max-age=60, stale-while-revalidate=3600',
}
const closed = { 'limn-chunk': 'closed', 'cloudflare-cdn-cache-control': 'public, max-age=2592000, immutable' }

/** From the cache, and fresh. */
const HIT = /^limn-edge; hit; ttl=[1-9]\d*$/

let origin, open, secured
let tables = 0
let table

before(async () => {
  origin = await startOrigin()
  open = await serve({ hub: false, origin: origin.url })
  secured = await serve({ hub: false, origin: origin.url, secret: SECRET })
})

beforeEach(() => {
  origin.asked = []
  // A table of its own keeps each test's copies apart.
  table = `t${(tables += 1)}`
})

after(async () => {
  await open?.dispose()
  await secured?.dispose()
  await origin?.end()
})

function shape(worker, params) {
  return `${worker.url}/v1/shape?${new URLSearchParams({ table, ...params })}`
}

async function read(url, { headers, method, body } = {}) {
  const answer = await fetch(url, { headers, method, body, redirect: 'manual' })
  const text = await answer.text()
  const header = (name) => answer.headers.get(name)
  return { status: answer.status, text, header, cacheStatus: header('cache-status') }
}

/** Reads and gives the worker the time to store. */
async function readAndStore(url, options) {
  const answer = await read(url, options)
  await sleep(STORE_MS)
  return answer
}

describe('copies', () => {
  it('answer the second read of the pointer', async () => {
    origin.answer = (_, response) => reply(response, '[1]', pointer)
    const first = await readAndStore(shape(open, { offset: '-1' }))
    const second = await read(shape(open, { offset: '-1' }))
    assert.equal(origin.asked.length, 1)
    assert.deepEqual([first.text, second.text], ['[1]', '[1]'])
    assert.equal(first.cacheStatus, 'limn-edge; fwd=miss; stored')
    assert.match(second.cacheStatus, HIT)
    for (const answer of [first, second]) {
      assert.equal(answer.header('cache-control'), POINTER_CONTROL)
      assert.equal(answer.header('cloudflare-cdn-cache-control'), null)
      assert.equal(answer.header('electric-handle'), '1001-20')
      assert.equal(answer.header('etag'), '"1001-20:-1:0_0"')
      assert.equal(answer.header('content-type'), 'application/json; charset=utf-8')
    }
    for (const own of ['age', 'cf-cache-status', 'limn-origin-cache-control', 'x-request-id']) {
      assert.equal(second.header(own), null, own)
    }
  })

  it('answer the second read of a closed chunk, however large and however spelled', async () => {
    const body = JSON.stringify(Array.from({ length: 100_000 }, (_, n) => ({ n, label: 'x'.repeat(50) })))
    origin.answer = (_, response) => reply(response, body, closed)
    await readAndStore(`${open.url}/v1/shape?table=${table}&handle=1001-20&offset=0_0&where=a%3D1`)
    const second = await read(`${open.url}/v1//shape/?where=a=1&offset=0_0&handle=1001-20&unknown=1&table=${table}`)
    assert.equal(origin.asked.length, 1)
    assert.equal(second.text, body)
    assert.equal(second.header('limn-chunk'), 'closed')
  })

  it('are not made of what may change, nor of what is broken', async () => {
    const requests = [
      [{ offset: '0_inf', handle: '1001-20' }, {}, 200],
      [{ offset: '0_0', handle: '1001-20', live: 'true' }, closed, 200],
      [{ offset: '-1', subset__limit: '1' }, pointer, 200],
      [{ offset: '0_0', handle: '1001-21' }, closed, 200],
      [{ offset: '-1' }, pointer, 409],
      [{ offset: '-1', where: 'x' }, { ...pointer, 'electric-handle': undefined }, 200],
    ]
    for (const [params, headers, status] of requests) {
      origin.asked = []
      origin.answer = (_, response) => reply(response, '[]', headers, status)
      await readAndStore(shape(open, params))
      const second = await read(shape(open, params))
      assert.equal(origin.asked.length, 2, JSON.stringify(params))
      assert.match(second.cacheStatus, /fwd=(miss|bypass)$/)
    }
  })

  it('are not made of a body that breaks off', async () => {
    const params = { offset: '0_0', handle: '1001-20' }
    origin.answer = (_, response) => {
      response.writeHead(200, { 'electric-handle': '1001-20', 'content-type': 'application/json', ...closed })
      response.write('[{"headers":{}},')
      setTimeout(() => response.destroy(), 50)
    }
    // This runtime ends the client's body as if it were whole, too; what matters is that nobody else gets it.
    await readAndStore(shape(open, params))
    origin.answer = (_, response) => reply(response, '[2]', closed)
    const second = await read(shape(open, params))
    assert.deepEqual([second.text, origin.asked.length], ['[2]', 2])
  })

  it('give a 304 to a client that has them', async () => {
    origin.answer = (_, response) => reply(response, '[1]', pointer)
    await readAndStore(shape(open, { offset: '-1' }))
    const again = await read(shape(open, { offset: '-1' }), { headers: { 'if-none-match': '"x", "1001-20:-1:0_0"' } })
    assert.deepEqual([again.status, again.text, origin.asked.length], [304, '', 1])
    assert.equal(again.header('etag'), '"1001-20:-1:0_0"')
    assert.equal(again.header('cache-control'), POINTER_CONTROL)
    assert.match(again.cacheStatus, HIT)
  })

  it('give way to a client that knows better, which heals them for the others', async () => {
    origin.answer = (_, response) => reply(response, '[1]', pointer)
    await readAndStore(shape(open, { offset: '-1' }))
    origin.answer = (_, response) => reply(response, '[2]', { ...pointer, 'electric-handle': '1001-30' })
    const params = { offset: '-1', expired_handle: '1001-20', handle: '1001-30' }
    const rotated = await readAndStore(shape(open, params))
    assert.equal(rotated.cacheStatus, 'limn-edge; fwd=request; stored')
    assert.match(origin.asked[1].url, /expired_handle=1001-20/)
    assert.equal((await read(shape(open, { offset: '-1' }))).text, '[2]')
    assert.match((await read(shape(open, params))).cacheStatus, HIT)
    assert.equal(origin.asked.length, 2)
    await read(shape(open, { offset: '-1', 'cache-buster': '1' }))
    assert.equal(origin.asked.length, 3)
  })

  it('are never made of the handle that a client knows to be dead', async () => {
    origin.answer = (_, response) => reply(response, '[1]', pointer)
    await readAndStore(shape(open, { offset: '-1', expired_handle: '1001-20' }))
    await readAndStore(shape(open, { offset: '-1' }))
    assert.equal(origin.asked.length, 2)
  })

  it('are not read by HEAD', async () => {
    origin.answer = (_, response) => reply(response, '[1]', pointer)
    await readAndStore(shape(open, { offset: '-1' }))
    const head = await read(shape(open, { offset: '-1' }), { method: 'HEAD' })
    assert.deepEqual([head.status, head.text, head.cacheStatus], [200, '', 'limn-edge; fwd=bypass'])
    assert.equal(head.header('electric-handle'), '1001-20')
    assert.equal(origin.asked[1].method, 'HEAD')
  })
})

describe('what passes through', () => {
  it('streams', async () => {
    origin.answer = (_, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'public, max-age=59' })
      response.write('data: 1\n\n')
      response.finish = () => response.end('data: 2\n\n')
      origin.live = response
    }
    const params = { offset: '0_0', handle: '1001-20', live: 'true', live_sse: 'true' }
    const answer = await fetch(shape(open, params))
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader()
    assert.equal((await reader.read()).value, 'data: 1\n\n')
    assert.equal(answer.headers.get('cache-status'), 'limn-edge; fwd=bypass')
    origin.live.finish()
    assert.equal((await reader.read()).value, 'data: 2\n\n')
    assert.equal((await reader.read()).done, true)
  })

  it('outlives clients that leave in the middle', async () => {
    const polls = []
    origin.answer = (_, response) => polls.push(response)
    const leaving = new AbortController()
    const live = shape(open, { offset: '0_0', handle: '1001-20', live: 'true' })
    const left = Array.from({ length: 20 }, () => fetch(live, { signal: leaving.signal }))
    const staying = read(live)
    while (polls.length < 21) await sleep(10)
    leaving.abort()
    await Promise.allSettled(left)
    for (const poll of polls) reply(poll, '[3]')
    assert.equal((await staying).text, '[3]')
    origin.answer = (_, response) => reply(response, '[4]')
    assert.equal((await read(live)).text, '[4]')
  })

  it('reaches the origin as what was understood, and nothing else', async () => {
    origin.answer = (_, response) => reply(response, '{}', {}, 400)
    const headers = { cookie: 'a=b', origin: 'https://a.example', 'x-other': '1', 'if-none-match': '"e"' }
    const answer = await read(`${open.url}/v1/shape?offset=nonsense&live&utm=1&table=a+b&table=c+d`, { headers })
    const [asked] = origin.asked
    assert.deepEqual([answer.status, asked.url], [400, '/v1/shape?live=&offset=nonsense&table=c%20d'])
    assert.equal(asked.headers['if-none-match'], '"e"')
    for (const name of ['cookie', 'origin', 'x-other']) assert.equal(asked.headers[name], undefined, name)
  })

  it('carries bodies and methods', async () => {
    origin.answer = (_, response) => reply(response, '{"data":[]}', { 'cache-control': 'no-cache' })
    const body = JSON.stringify({ subset: { where: 'a = 1' } })
    const headers = { 'content-type': 'application/json' }
    const posted = await read(shape(open, { offset: '-1' }), { method: 'POST', headers, body })
    assert.deepEqual([posted.status, posted.cacheStatus], [200, 'limn-edge; fwd=bypass'])
    assert.equal(origin.asked[0].body, body)
    assert.equal(origin.asked[0].headers['content-type'], 'application/json')
    await read(`${open.url}/v1/shape?table=${table}`, { method: 'DELETE' })
    assert.equal(origin.asked[1].method, 'DELETE')
  })

  it('includes other routes, redirects and unknown methods', async () => {
    origin.answer = (_, response) => response.writeHead(302, { location: 'https://elsewhere.example/' }).end()
    const answer = await read(`${secured.url}/other?a=1`, { method: 'PUT', headers: { authorization: 'Bearer x' } })
    assert.deepEqual([answer.status, answer.header('location')], [302, 'https://elsewhere.example/'])
    assert.equal(answer.cacheStatus, 'limn-edge; fwd=bypass')
    assert.equal(origin.asked[0].method, 'PUT')
    assert.equal(origin.asked[0].url, '/other?a=1')
    assert.equal(origin.asked[0].headers.authorization, undefined)
  })
})

describe('pages', () => {
  it('are each told of themselves, also by a copy that another one made', async () => {
    origin.answer = (_, response) => reply(response, '[1]', pointer)
    for (const page of ['https://a.example', 'https://b.example', undefined]) {
      const answer = await readAndStore(shape(open, { offset: '-1' }), { headers: page && { origin: page } })
      assert.equal(answer.header('access-control-allow-origin'), page ?? '*')
      assert.equal(answer.header('vary'), page ? 'accept-encoding, origin' : 'accept-encoding')
      assert.match(answer.header('access-control-expose-headers'), /electric-handle/)
    }
    assert.equal(origin.asked.length, 1)
  })

  it('may ask what they may send, without a secret', async () => {
    const headers = { origin: 'https://a.example', 'access-control-request-headers': 'authorization' }
    const answer = await read(shape(secured, {}), { method: 'OPTIONS', headers })
    assert.deepEqual([answer.status, origin.asked.length], [204, 0])
    assert.equal(answer.header('access-control-allow-headers'), 'authorization')
    assert.equal(answer.header('access-control-allow-origin'), 'https://a.example')
    assert.equal(answer.cacheStatus, 'limn-edge; detail=preflight')
  })
})

describe('credentials', () => {
  beforeEach(() => {
    origin.answer = (_, response) => reply(response, '[1]', pointer)
  })

  it('are checked before the cache and told to the origin by the worker itself', async () => {
    await readAndStore(shape(secured, { offset: '-1', secret: SECRET }))
    assert.equal(origin.asked[0].headers.authorization, `Bearer ${SECRET}`)
    assert.doesNotMatch(origin.asked[0].url, /secret/)
    const shared = [
      await read(shape(secured, { offset: '-1', api_secret: SECRET })),
      await read(shape(secured, { offset: '-1' }), { headers: { authorization: `Bearer ${SECRET}` } }),
    ]
    for (const { cacheStatus } of shared) assert.match(cacheStatus, HIT)
    assert.equal(shared[1].header('vary'), 'accept-encoding, authorization')
    const headers = { origin: 'https://a.example' }
    for (const params of [{}, { secret: 'x' }, { secret: '', api_secret: SECRET }]) {
      const refused = await read(shape(secured, { offset: '-1', ...params }), { headers })
      assert.equal(refused.status, 401)
      assert.deepEqual(JSON.parse(refused.text), { message: 'Unauthorized - Invalid API secret' })
      assert.equal(refused.header('access-control-allow-origin'), 'https://a.example')
      assert.equal(refused.cacheStatus, 'limn-edge; detail=unauthorized')
    }
    for (const path of ['/v1/%73hape', '/v1//shape/', '//v1/shape']) {
      assert.equal((await read(`${secured.url}${path}?table=${table}&offset=-1`)).status, 401, path)
    }
    assert.equal(origin.asked.length, 1)
  })

  it('go past the cache to the origin where the worker knows no secret', async () => {
    await readAndStore(shape(open, { offset: '-1' }))
    const byQuery = await read(shape(open, { offset: '-1', secret: 'any' }))
    const byHeader = await read(shape(open, { offset: '-1' }), { headers: { authorization: 'Bearer any' } })
    assert.deepEqual([byQuery.cacheStatus, byHeader.cacheStatus], ['limn-edge; fwd=bypass', 'limn-edge; fwd=bypass'])
    assert.match(origin.asked[1].url, /secret=any/)
    assert.equal(origin.asked[2].headers.authorization, 'Bearer any')
  })
})

describe('failures', () => {
  it('of the origin are a 503 that no cache keeps', async () => {
    const nowhere = await serve({ hub: false, origin: 'http://127.0.0.1:1' })
    try {
      for (const params of [{ offset: '-1' }, { offset: 'now' }]) {
        const answer = await read(shape(nowhere, params), { headers: { origin: 'https://a.example' } })
        assert.equal(answer.status, 503)
        assert.deepEqual(JSON.parse(answer.text), { message: 'The origin cannot be reached' })
        assert.deepEqual([answer.header('retry-after'), answer.header('cache-control')], ['5', 'no-store'])
        assert.equal(answer.header('access-control-allow-origin'), 'https://a.example')
        assert.match(answer.cacheStatus, /^limn-edge; fwd=(miss|bypass)$/)
      }
    } finally {
      await nowhere.dispose()
    }
  })

  it('of a gateway before the origin are the same', async () => {
    for (const status of [502, 504, 522]) {
      origin.answer = (_, response) => reply(response, '<html>', {}, status)
      assert.equal((await read(shape(open, { offset: '-1' }))).status, 503)
    }
  })

  it('leave closed chunks readable', async () => {
    origin.answer = (_, response) => reply(response, '[1]', closed)
    const params = { offset: '0_0', handle: '1001-20' }
    await readAndStore(shape(open, params))
    origin.answer = (_, response) => response.destroy()
    assert.match((await read(shape(open, params))).cacheStatus, HIT)
    assert.equal((await read(shape(open, { offset: 'now' }))).status, 503)
  })

  it('of the deployment say what is missing', async () => {
    const unset = await serve({})
    try {
      const answer = await read(shape(unset, { offset: '-1' }))
      assert.deepEqual([answer.status, JSON.parse(answer.text)], [503, { message: '`ORIGIN_URL` is not set' }])
      assert.equal(answer.cacheStatus, 'limn-edge; detail=misconfigured')
    } finally {
      await unset.dispose()
    }
  })

  it('to read the request are the client’s', async () => {
    assert.equal((await read(`${open.url}/v1/shape?table=%ff&offset=-1`)).status, 400)
    assert.equal(origin.asked.length, 0)
  })
})
