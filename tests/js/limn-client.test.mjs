// Limn's own client, the built package, on `limn serve`.

import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { Shape } from '../../client/pkg/index.js'
import { Servers, until } from './support.mjs'

const servers = new Servers()
let db, origin

before(async () => {
  db = await servers.postgres()
  origin = await servers.origin({ databaseUrl: db.url })
})

after(() => servers.end())

describe("Limn's client", () => {
  it('keeps a shape whose rows depend on other tables', async (t) => {
    await db.query(`CREATE TABLE proj (id int4 PRIMARY KEY, active bool);
      CREATE TABLE item (id int4 PRIMARY KEY, proj_id int4, alt_id int4);
      INSERT INTO proj VALUES (1, true), (2, false), (3, true);
      INSERT INTO item VALUES (1, 1, 2), (2, 2, 1), (3, 3, 3), (4, NULL, 1)`)
    const active = 'IN (SELECT id FROM proj WHERE active)'
    const where = `proj_id ${active} OR alt_id ${active}`
    const aborter = new AbortController()
    t.after(() => aborter.abort())
    const url = `${origin.url}/v1/shape`
    const shape = new Shape({ url, params: { table: 'item', where }, signal: aborter.signal })
    const ids = (rows) => rows.map(({ id }) => id).toSorted((a, b) => a - b)
    for (const change of [
      'UPDATE proj SET active = NOT active WHERE id < 3',
      'UPDATE proj SET active = true',
      'UPDATE item SET proj_id = 9, alt_id = 9 - alt_id',
      'INSERT INTO proj VALUES (7, true), (9, false)',
      'BEGIN; UPDATE proj SET active = id > 7; UPDATE item SET id = id + 10 WHERE id < 3; COMMIT',
      'DELETE FROM proj',
    ]) {
      await shape.rows
      await db.query(change)
      const { rows } = await db.query(`SELECT id FROM item WHERE ${where}`)
      await until(change, async () => `${ids(await shape.rows)}` === `${ids(rows)}`)
    }
    assert.deepEqual(await shape.rows, [])
  })
})
