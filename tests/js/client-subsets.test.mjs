// The unmodified `@electric-sql/client` with parts of a shape: `log=changes_only` and subset snapshots by GET and POST,
// which the client lays over the changes that it follows.

import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { isDeepStrictEqual } from 'node:util'
import { Shape, ShapeStream } from '@electric-sql/client'
import { Servers, until } from './support.mjs'

const SECRET = 'a secret only for this test'

const servers = new Servers()
let db, origin, edge

before(async () => {
  db = await servers.postgres()
  origin = await servers.origin({ databaseUrl: db.url, secret: SECRET })
  edge = await servers.edge({ origin: origin.url, secret: SECRET })
})

after(() => servers.end())

for (const [through, base] of [
  ['the origin', () => origin.url],
  ['the edge worker', () => edge.url],
]) {
  for (const subsetMethod of ['GET', 'POST']) {
    describe(`subsets of the npm client by ${subsetMethod} through ${through}`, () => {
      const prefix = `${through === 'the origin' ? 'o' : 'e'}_${subsetMethod.toLowerCase()}`

      it('gives what SQL selects, in its order', async (t) => {
        const table = await crates(`${prefix}_select`)
        const { stream } = follow(t, base(), { table }, { subsetMethod })
        const subsets = [
          [{ where: 'id > 190' }, 'id > 190'],
          [
            { where: 'site = $1 AND weight < $2', params: { 1: 'it\'s "x", \\{y}', 2: '20' } },
            `site = 'it''s "x", \\{y}' AND weight < 20`,
          ],
          [{ where: 'weight >= 10', orderBy: 'weight DESC, id', limit: 7 }, 'weight >= 10', 'weight DESC, id LIMIT 7'],
          [
            { orderBy: 'weight NULLS FIRST, id DESC', limit: 5, offset: 20 },
            'true',
            'weight NULLS FIRST, id DESC LIMIT 5 OFFSET 20',
          ],
          [{ where: 'false' }, 'false'],
        ]
        for (const [subset, where, order] of subsets) {
          const { rows } = await db.query(`SELECT * FROM ${table} WHERE ${where} ORDER BY ${order ?? 'id'}`)
          const { data, metadata } = await stream.fetchSnapshot(subset)
          const values = data.map(({ value }) => value)
          assert.deepEqual(order ? values : values.toSorted((a, b) => a.id - b.id), rows, where)
          for (const { headers } of data) assert.equal(headers.operation, 'insert')
          for (const name of ['xmin', 'xmax', 'snapshot_mark', 'database_lsn']) assert(metadata[name] !== undefined, name)
        }
      })

      it('stays inside the shape', async (t) => {
        const table = await crates(`${prefix}_inside`)
        const params = { table, where: 'id <= 10', columns: ['id', 'weight'] }
        const { stream } = follow(t, base(), params, { subsetMethod })
        const { data } = await stream.fetchSnapshot({ where: 'weight < 4', orderBy: 'id' })
        const { rows } = await db.query(`SELECT id, weight FROM ${table} WHERE id <= 10 AND weight < 4 ORDER BY id`)
        assert.deepEqual(data.map(({ value }) => value), rows)
        await assert.rejects(stream.fetchSnapshot({ where: 'nothing = 1' }), ({ status }) => status === 400)
      })

      it('asked for first, then changes follow', async (t) => {
        const table = await crates(`${prefix}_follow`)
        const { stream, shape } = follow(t, base(), { table }, { subsetMethod })
        await stream.requestSnapshot({ where: 'id <= 3' })
        await until('the subset', () => shape.currentRows.length === 3)
        await db.query(`UPDATE ${table} SET weight = 77 WHERE id = 2`)
        await until('the update', () => shape.currentRows.some(({ id, weight }) => id === 2 && weight === 77))
        await db.query(`DELETE FROM ${table} WHERE id = 3`)
        await until('the delete', () => !shape.currentRows.some(({ id }) => id === 3))
        await db.query(`INSERT INTO ${table} VALUES (900, 'north', 1)`)
        await until('the insert', () => shape.currentRows.some(({ id }) => id === 900))
      })

      it('agrees with the table while it is written to', async (t) => {
        const table = await crates(`${prefix}_busy`)
        const { stream, shape } = follow(t, base(), { table }, { subsetMethod })
        let stop = false
        const writer = (async () => {
          for (let n = 0; !stop; n++) {
            await db.query(`UPDATE ${table} SET weight = ${n} WHERE id % 7 = ${n % 7}`)
            await db.query(`DELETE FROM ${table} WHERE id = ${n + 1}`)
            await db.query(`INSERT INTO ${table} VALUES (${1000 + n}, 'new', 0)`)
          }
        })()
        // More at once, and the client takes its own interrupted requests for a loop.
        for (let part = 0; part < 4; part++) await stream.requestSnapshot({ where: `id % 4 = ${part}` })
        stop = true
        await writer
        const { rows } = await db.query(`SELECT id, weight FROM ${table} ORDER BY id`)
        const followed = () =>
          shape.currentRows.map(({ id, weight }) => ({ id, weight })).toSorted((a, b) => a.id - b.id)
        await until('the last write', () => isDeepStrictEqual(followed(), rows)).catch(() =>
          assert.deepEqual(followed(), rows),
        )
      })

      it('is asked again after TRUNCATE', async (t) => {
        const table = await crates(`${prefix}_truncate`)
        const { shape } = follow(t, base(), { table }, { subsetMethod })
        await shape.requestSnapshot({ where: 'id <= 3' })
        await until('the subset', () => shape.currentRows.length === 3)
        await db.query(`TRUNCATE ${table}`)
        await db.query(`INSERT INTO ${table} VALUES (2, 'north', 1), (5, 'north', 1)`)
        const shown = () => shape.currentRows.map(({ id }) => id).toSorted()
        await until('the new row of the subset', () => shown().includes(2) && !shown().includes(1))
        await db.query(`INSERT INTO ${table} VALUES (3, 'north', 1)`)
        await until('live again', () => shown().includes(3))
      })
    })
  }
}

/** A shape of changes that is followed until the test ends. */
function follow(t, base, params, options) {
  const ended = new AbortController()
  t.after(() => ended.abort())
  const stream = new ShapeStream({
    url: `${base}/v1/shape`,
    params: { ...params, secret: SECRET },
    log: 'changes_only',
    offset: 'now',
    signal: ended.signal,
    onError: (error) => {
      throw error
    },
    ...options,
  })
  return { stream, shape: new Shape(stream) }
}

/** 200 crates, some weights unknown; the name of their table. */
async function crates(table) {
  await db.query(`CREATE TABLE ${table} (id int4 PRIMARY KEY, site text, weight int4)`)
  await db.query(
    `INSERT INTO ${table} SELECT n, CASE n % 3 WHEN 0 THEN 'it''s "x", \\{y}' ELSE 'north' END, nullif(n % 40, 13)
    FROM generate_series(1, 200) n`,
  )
  return table
}
