// What an initial sync of a warm shape costs at the edge worker: requests, and workerd's processor time for each.
//   node tests/js/edge-sync.bench.mjs [--syncs 2000]
// Once without credentials, and once with a token that allows the shape. Prices are multiplied in docs/edge.md.

import { createHmac } from 'node:crypto'
import { parseArgs } from 'node:util'
import { Servers, readToEnd } from './support.mjs'

const { values } = parseArgs({ options: { syncs: { type: 'string', default: '2000' } } })
const syncs = Number(values.syncs)
const JWT_SECRET = 'a secret of at least thirty-two bytes'

const encoded = (json) => Buffer.from(JSON.stringify(json)).toString('base64url')

function token() {
  const claims = { exp: Math.floor(Date.now() / 1000) + 3600, shape: { table: 'crates' } }
  const signed = `${encoded({ alg: 'HS256', typ: 'JWT' })}.${encoded(claims)}`
  return `${signed}.${createHmac('sha256', JWT_SECRET).update(signed).digest('base64url')}`
}

const sync = async (base, headers) => (await readToEnd(base, { table: 'crates' }, headers)).requests

console.log(`${syncs} syncs of 100 rows, 10 at a time`)
for (const way of ['open', 'with a token']) {
  const servers = new Servers()
  const db = await servers.postgres()
  await db.query('CREATE TABLE crates (id int4 PRIMARY KEY, label text)')
  await db.query("INSERT INTO crates SELECT n, 'crate ' || n FROM generate_series(1, 100) n")
  const secret = way === 'open' ? undefined : 'only the worker knows this'
  const origin = await servers.origin({ databaseUrl: db.url, secret })
  const variables = way === 'open' ? {} : { LIMN_JWT_SECRET: JWT_SECRET }
  const edge = await servers.edge({ origin: origin.url, secret, variables })
  const headers = way === 'open' ? {} : { authorization: `Bearer ${token()}` }
  // The worker keeps what it has passed on; after some of them everything is warm.
  for (let n = 0; n < 100; n += 1) await sync(edge.url, headers)
  const [served, workedMs] = [await origin.requestsServed(), edge.processorMs()]
  let [left, requests] = [syncs, 0]
  const reader = async () => {
    while (left > 0) {
      left -= 1
      const own = await sync(edge.url, headers)
      requests += own
    }
  }
  await Promise.all(Array.from({ length: 10 }, reader))
  const perRequest = ((edge.processorMs() - workedMs) * 1000) / requests
  const asked = (await origin.requestsServed()) - served
  console.log(`${way}: ${requests} requests, ${perRequest.toFixed(0)} µs of workerd each; the origin was asked ${asked} times`)
  await servers.end()
}
process.exit(0)
