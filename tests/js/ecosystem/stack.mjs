// What every test of an ecosystem package stands on: Postgres, the origin and the edge worker before it, both secured.
// `eachWay` runs the same tests against the origin and again through the edge worker.

import { after, before, describe } from 'node:test'
import { Servers } from '../support.mjs'

const SECRET = 'a secret only for this test'

/**
 * In Node 20, a `fetch` that is aborted while it reads the end of a compressed body neither resolves nor rejects. Some of
 * the packages abort live requests all the time, to refresh a shape, and would then wait for ever.
 */
const UNCOMPRESSED = { 'accept-encoding': 'identity' }

/** Describes `define`'s tests once for each way to reach the shapes; `define` is given a `Stack`. */
export function eachWay(client, define) {
  const servers = new Servers()
  const stack = {}

  before(async () => {
    stack.db = await servers.postgres()
    stack.origin = await servers.origin({ databaseUrl: stack.db.url, secret: SECRET })
    stack.edge = await servers.edge({ origin: stack.origin.url, secret: SECRET })
  })

  after(() => servers.end())

  describe(`${client} against the origin`, () => define(new Stack(stack, 'origin')))
  describe(`${client} through the edge worker`, () => define(new Stack(stack, 'edge')))
}

/** The servers of one test file, reached in one way. */
class Stack {
  #servers
  #way

  constructor(servers, way) {
    this.#servers = servers
    this.#way = way
  }

  /** Runs SQL in the source database. */
  query(sql, values) {
    return this.#servers.db.query(sql, values)
  }

  /** Runs `statements` in one transaction; its id as a number, as an API would hand it to its client. */
  async transact(...statements) {
    const client = await this.#servers.db.connect()
    try {
      await client.query('BEGIN')
      for (const [sql, values] of statements) await client.query(sql, values)
      const { rows } = await client.query('SELECT pg_current_xact_id()::xid::text AS txid')
      await client.query('COMMIT')
      return Number(rows[0].txid)
    } catch (error) {
      await client.query('ROLLBACK')
      throw error
    } finally {
      client.release()
    }
  }

  /** A table name that the other way's tests do not use. */
  table(name) {
    return `${this.#way}_${name}`
  }

  /** The options of a `ShapeStream` that ends with the test. */
  shape(t, params) {
    const ended = new AbortController()
    t.after(() => ended.abort())
    return {
      url: `${this.#servers[this.#way].url}/v1/shape`,
      params: { ...params, secret: SECRET },
      headers: UNCOMPRESSED,
      signal: ended.signal,
    }
  }
}

/** The column `label` of rows by their `id`, in the order of the ids. */
export function labels(rows) {
  return Object.fromEntries(rows.toSorted((a, b) => a.id - b.id).map(({ id, label }) => [id, label]))
}
