// Tokens at the edge worker: who gets in, counted at the origin, and what the bearer of a token sees.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { createHmac, createSign, generateKeyPairSync, sign } from 'node:crypto'
import { createServer } from 'node:http'
import { after, before, describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { ShapeStream, Shape } from '@electric-sql/client'
import { Servers, limn, read, shapeUrl } from './support.mjs'

const ORIGIN_SECRET = 'only the worker knows this'
const JWT_SECRET = 'a secret of at least thirty-two bytes'

/** The worker stores an answer after it was sent; a moment later it is there. */
const STORE_MS = 300

const encoded = (json) => Buffer.from(JSON.stringify(json)).toString('base64url')
const now = () => Math.floor(Date.now() / 1000)

/** A token with these claims; `by` signs the text of its first two parts. */
function token(claims, { header = { alg: 'HS256', typ: 'JWT' }, by = hs256(JWT_SECRET) } = {}) {
  const signed = `${encoded(header)}.${encoded({ exp: now() + 600, ...claims })}`
  return `${signed}.${by(signed).toString('base64url')}`
}

const hs256 = (secret) => (text) => createHmac('sha256', secret).update(text).digest()

const servers = new Servers()
let db, origin, edge

before(async () => {
  db = await servers.postgres()
  await db.query('CREATE TABLE notes (id int4 PRIMARY KEY, owner int4, text text, pay int4)')
  await db.query("INSERT INTO notes SELECT n, n % 3, 'note ' || n, n * 100 FROM generate_series(1, 30) n")
  await db.query('CREATE TABLE secrets (id int4 PRIMARY KEY)')
  await db.query('INSERT INTO secrets VALUES (1)')
  origin = await servers.origin({ databaseUrl: db.url, secret: ORIGIN_SECRET })
  edge = await servers.edge({
    origin: origin.url,
    secret: ORIGIN_SECRET,
    variables: { LIMN_JWT_SECRET: JWT_SECRET, LIMN_JWT_AUDIENCE: 'limn' },
  })
})

after(() => servers.end())

const mine = { aud: 'limn', impose: { table: 'notes', where: 'owner = $1', params: [1], columns: ['id', 'owner', 'text'] } }

/** The rows of a shape's snapshot, as the bearer of a token gets them. */
async function rows(params, bearer, base = edge) {
  const reply = await read(shapeUrl(base.url, { offset: '-1', ...params }), { authorization: `Bearer ${bearer}` })
  assert.equal(reply.status, 200, reply.text)
  return reply.json().filter(({ value }) => value).map(({ value }) => value)
}

describe('a token', () => {
  it('lets its bearer read what it names', async () => {
    const shape = { table: 'notes', where: "owner = 2 AND text <> ''" }
    const bearer = token({ aud: 'limn', shape })
    assert.equal((await rows(shape, bearer)).length, 10)
    const other = await read(shapeUrl(edge.url, { table: 'notes', offset: '-1' }), { authorization: `Bearer ${bearer}` })
    assert.equal(other.status, 403)
    assert.match(other.json().message, /`where` differs/)
  })

  it('may be one that `limn token` made', async () => {
    const env = { LIMN_JWT_SECRET: JWT_SECRET, LIMN_JWT_AUDIENCE: 'limn' }
    const made = (...options) => execFileSync(limn(), ['token', '--table', 'notes', ...options], { env, encoding: 'utf8' })
    const bearer = made('--where', 'owner = $1', '--param', '2', '--columns', 'id,owner', '--impose').trim()
    const all = await rows({ table: 'notes' }, bearer)
    assert.equal(all.length, 10)
    assert.ok(all.every((row) => row.owner === '2' && row.text === undefined))
    assert.throws(() => made('--where', 'owner ='), /`where`/)
  })

  it('fences its bearer, whatever is asked', async () => {
    const all = await rows({ table: 'notes' }, token(mine))
    assert.equal(all.length, 10)
    assert.deepEqual(Object.keys(all[0]).sort(), ['id', 'owner', 'text'])
    assert.ok(all.every(({ owner }) => owner === '1'))
    const few = await rows({ table: 'notes', where: 'id < $1 OR owner = 2', 'params[1]': '8' }, token(mine))
    assert.deepEqual(few.map(({ id }) => id).sort(), ['1', '4', '7'])
    for (const outside of [
      { where: 'true) OR (true' },
      { where: 'pay > 100' },
      { where: 'id IN (SELECT id FROM secrets)' },
      { columns: 'id,pay' },
      { table: 'secrets' },
    ]) {
      const url = shapeUrl(edge.url, { table: 'notes', offset: '-1', ...outside })
      const reply = await read(url, { authorization: `Bearer ${token(mine)}` })
      assert.equal(reply.status, 403, JSON.stringify(outside))
    }
  })

  it('fences reads beside the log, too', async () => {
    const post = async (body) => {
      const url = shapeUrl(edge.url, { table: 'notes', offset: '-1' })
      const headers = { authorization: `Bearer ${token(mine)}`, 'content-type': 'application/json' }
      const reply = await fetch(url, { method: 'POST', headers, body: JSON.stringify(body) })
      return { status: reply.status, json: await reply.json() }
    }
    const { status, json } = await post({ subset: { where: 'id > 20 OR true', order_by: 'id', limit: 3 } })
    assert.equal(status, 200, JSON.stringify(json))
    assert.deepEqual(json.data.map(({ value }) => value.id), ['1', '4', '7'])
    assert.equal((await post({ subset: { where: 'pay > 100' } })).status, 400)
    assert.equal((await post({ subset: {}, table: 'secrets' })).status, 403)
    const hidden = { subset: { where: 'pay > 100' }, queryable_columns: ['id', 'pay'] }
    assert.equal((await post(hidden)).status, 400)
  })

  it('follows changes, and none of other rows', async () => {
    const stream = new ShapeStream({
      url: `${edge.url}/v1/shape`,
      params: { table: 'notes' },
      headers: { authorization: () => `Bearer ${token(mine)}` },
    })
    const shape = new Shape(stream)
    assert.equal((await shape.rows).length, 10)
    await db.query("INSERT INTO notes VALUES (101, 1, 'new', 1), (102, 2, 'not mine', 1)")
    while (shape.currentRows.length < 11) await new Promise((resolve) => shape.subscribe(resolve))
    assert.deepEqual(shape.currentRows.filter(({ id }) => id > 100).map(({ id }) => id), [101])
    stream.unsubscribeAll()
    await db.query('DELETE FROM notes WHERE id > 100')
  })

  it('is judged before cache and origin are asked', async () => {
    const params = { table: 'notes', offset: '-1' }
    const good = token(mine)
    await rows(params, good)
    await sleep(STORE_MS)
    const [header, claims, signature] = good.split('.')
    const none = `${encoded({ alg: 'none' })}.${claims}.`
    const served = await origin.requestsServed()
    const refused = [
      undefined,
      '',
      'x.y.z',
      ORIGIN_SECRET,
      `${header}.${claims}.`,
      none,
      `${header}.${encoded({ ...mine, exp: now() + 600, impose: { table: 'secrets' } })}.${signature}`,
      token(mine, { by: hs256('another secret of thirty-two bytes, and more') }),
      token(mine, { header: { alg: 'HS512' } }),
      token(mine, { header: { alg: 'HS256', crit: ['exp'] } }),
      token({ ...mine, exp: now() - 61 }),
      token({ ...mine, exp: undefined }),
      token({ ...mine, nbf: now() + 120 }),
      token({ ...mine, aud: 'another' }),
      token({ ...mine, impose: undefined }),
      token({ ...mine, impose: { table: 'notes', wher: 'owner = 1' } }),
    ]
    for (const bearer of refused) {
      const reply = await read(shapeUrl(edge.url, params), bearer === undefined ? {} : { authorization: `Bearer ${bearer}` })
      assert.equal(reply.status, 401, `${bearer}: ${reply.text}`)
      assert.match(reply.headers.get('www-authenticate'), /invalid_token/)
      assert.equal(reply.headers.get('cache-control').includes('private'), true)
    }
    // Not even the origin's own secret gets past.
    assert.equal((await read(shapeUrl(edge.url, { ...params, secret: ORIGIN_SECRET }))).status, 401)
    for (const method of ['DELETE', 'POST', 'HEAD']) {
      assert.equal((await fetch(shapeUrl(edge.url, params), { method })).status, 401, method)
    }
    assert.equal((await fetch(shapeUrl(edge.url, { ...params, token: good }), { method: 'DELETE' })).status, 403)
    assert.equal(await origin.requestsServed(), served)
  })

  it('is taken from the address, too, and is in no key', async () => {
    const params = { table: 'notes', offset: '-1', columns: 'id' }
    assert.equal((await read(shapeUrl(edge.url, { ...params, token: token(mine) }))).status, 200)
    await sleep(STORE_MS)
    const again = await read(shapeUrl(edge.url, { ...params, token: token({ ...mine, exp: now() + 700 }) }))
    assert.match(again.headers.get('cache-status'), /hit/)
  })

  it('keeps tenants apart', async () => {
    const params = { table: 'notes', offset: '-1', columns: 'id,text' }
    const as = (tenant) => read(shapeUrl(edge.url, params), { authorization: `Bearer ${token({ ...mine, tenant })}` })
    await as('one')
    await sleep(STORE_MS)
    assert.match((await as('one')).headers.get('cache-status'), /hit/)
    assert.match((await as('two')).headers.get('cache-status'), /miss/)
  })

  it('ends a live reply when it ends itself', async () => {
    const get = (params) => read(shapeUrl(edge.url, params), { authorization: `Bearer ${token(mine)}` })
    let position = { offset: '-1' }
    for (let upToDate = false; !upToDate; ) {
      const { headers } = await get({ table: 'notes', ...position })
      position = { handle: headers.get('electric-handle'), offset: headers.get('electric-offset') }
      upToDate = headers.has('electric-up-to-date')
    }
    const [began, lasts] = [Date.now(), 2]
    const bearer = token({ ...mine, exp: now() + lasts })
    const live = { table: 'notes', ...position, live: 'true' }
    const poll = await read(shapeUrl(edge.url, live), { authorization: `Bearer ${bearer}` })
    assert.equal(poll.status, 401, poll.text)
    assert.ok(Date.now() - began < 10_000, 'the origin holds a poll for 20 s')
  })
})

describe('keys from an address', () => {
  const pairs = {
    ES256: generateKeyPairSync('ec', { namedCurve: 'P-256' }),
    EdDSA: generateKeyPairSync('ed25519'),
    RS256: generateKeyPairSync('rsa', { modulusLength: 2048 }),
  }
  const signers = {
    ES256: (text) => createSign('sha256').update(text).sign({ key: pairs.ES256.privateKey, dsaEncoding: 'ieee-p1363' }),
    EdDSA: (text) => sign(null, Buffer.from(text), pairs.EdDSA.privateKey),
    RS256: (text) => createSign('sha256').update(text).sign(pairs.RS256.privateKey),
  }
  const jwk = (alg, kid) => ({ ...pairs[alg].publicKey.export({ format: 'jwk' }), kid, use: 'sig', alg })
  const claims = { shape: { table: 'notes' } }
  let keys, asked, server, keyedEdge

  before(async () => {
    keys = [jwk('ES256', 'e'), jwk('EdDSA', 'o'), { kty: 'oct', k: Buffer.from(JWT_SECRET).toString('base64url') }]
    asked = 0
    server = createServer((_, reply) => {
      asked += 1
      reply.setHeader('content-type', 'application/json')
      reply.end(JSON.stringify({ keys }))
    })
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
    const url = `http://127.0.0.1:${server.address().port}/jwks.json`
    keyedEdge = await servers.edge({ origin: origin.url, secret: ORIGIN_SECRET, variables: { LIMN_JWKS_URL: url } })
  })

  after(() => server.close())

  const status = async (bearer) => {
    const url = shapeUrl(keyedEdge.url, { table: 'notes', offset: '-1' })
    return (await read(url, { authorization: `Bearer ${bearer}` })).status
  }

  it('check tokens of every kind, read once', async () => {
    for (const [alg, kid] of [['ES256', 'e'], ['EdDSA', 'o']]) {
      assert.equal(await status(token(claims, { header: { alg, kid }, by: signers[alg] })), 200, alg)
      const other = alg === 'ES256' ? signers.RS256 : signers.ES256
      assert.equal(await status(token(claims, { header: { alg, kid }, by: other })), 401, alg)
    }
    assert.equal(asked, 1)
  })

  it('are never taken for a shared secret', async () => {
    assert.equal(await status(token(claims)), 401)
    const pem = pairs.ES256.publicKey.export({ type: 'spki', format: 'pem' })
    assert.equal(await status(token(claims, { header: { alg: 'HS256', kid: 'e' }, by: hs256(pem) })), 401)
  })

  it('are not read again for each unknown key that somebody names', async () => {
    keys = [...keys, jwk('RS256', 'r')]
    const before = asked
    for (let at = 0; at < 5; at += 1) {
      assert.equal(await status(token(claims, { header: { alg: 'RS256', kid: `k${at}` }, by: signers.RS256 })), 401)
    }
    assert.ok(asked - before <= 1, `${asked - before} reads`)
  })
})
