// `@electric-sql/y-electric`: Yjs documents that meet in tables of updates. The package reads by shapes and writes to
// an API of the application, which is a small HTTP server here.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { after, before, it } from 'node:test'
import { ElectricProvider, parseToDecoder } from '@electric-sql/y-electric'
import { Awareness } from 'y-protocols/awareness'
import * as Y from 'yjs'
import { until } from '../support.mjs'
import { eachWay } from './stack.mjs'

eachWay('@electric-sql/y-electric', (stack) => {
  const [updates, awareness] = [stack.table('ydoc_update'), stack.table('ydoc_awareness')]
  let api

  before(async () => {
    await stack.query(
      `CREATE TABLE ${updates} (id int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY, room text NOT NULL, op bytea NOT NULL)`,
    )
    await stack.query(
      `CREATE TABLE ${awareness} (client_id text, room text, op bytea NOT NULL, PRIMARY KEY (client_id, room))`,
    )
    api = await writeApi(stack, updates, awareness)
  })

  after(() => api.close())

  it('converges between two providers, in both directions', async (t) => {
    const [left, right] = [join(t, 'both'), join(t, 'both')]
    await until('both are in sync', () => left.provider.synced && right.provider.synced)

    left.text.insert(0, 'Hello')
    await until('the first text', () => right.text.toString() === 'Hello')
    right.text.insert(5, ', world')
    await until('the answer', () => left.text.toString() === 'Hello, world')

    for (let n = 0; n < 20; n++) {
      left.text.insert(left.text.length, `l${n} `)
      right.text.insert(0, `r${n} `)
      right.doc.getMap('counts').set(`n${n}`, n)
    }
    await converged(left, right)
    assert.equal(left.text.length, right.text.length)
    for (let n = 0; n < 20; n++) assert.match(left.text.toString(), new RegExp(`l${n} `))
    assert.equal(left.doc.getMap('counts').size, 20)
  })

  it('gives the whole document to one who comes later, and rooms stay apart', async (t) => {
    const early = join(t, 'late')
    const elsewhere = join(t, 'elsewhere')
    await until('it is in sync', () => early.provider.synced && elsewhere.provider.synced)
    early.text.insert(0, 'from before')
    early.text.delete(0, 5)
    await until('it is written', async () => (await written(stack, updates, 'late')) === 2)

    const late = join(t, 'late')
    await until('the document', () => late.text.toString() === 'before')
    await converged(early, late)
    assert.equal(elsewhere.text.toString(), '')
  })

  it('merges what was written while a provider was away', async (t) => {
    const [left, right] = [join(t, 'away'), join(t, 'away')]
    await until('both are in sync', () => left.provider.synced && right.provider.synced)
    left.text.insert(0, 'start ')
    await converged(left, right)

    right.provider.disconnect()
    right.text.insert(right.text.length, 'offline ')
    left.text.insert(left.text.length, 'online ')
    await until('the other wrote', async () => (await written(stack, updates, 'away')) === 2)
    right.provider.connect()
    await converged(left, right)
    assert.match(left.text.toString(), /^start (offline online |online offline )$/)
  })

  it('resumes from the state that it saved', async (t) => {
    const first = join(t, 'resume')
    let saved
    first.provider.on('resumeState', (state) => (saved = state))
    await until('it is in sync', () => first.provider.synced)
    first.text.insert(0, 'one ')
    await until('its own update came back', () => first.seen() === 1)
    first.provider.destroy()

    const other = join(t, 'resume')
    await until('the document', () => other.text.toString() === 'one ')
    other.text.insert(4, 'two ')
    await until('it is written', async () => (await written(stack, updates, 'resume')) === 2)

    // The same document, changed without a provider, as one that was stored on the device.
    first.text.insert(first.text.length, 'three ')
    const again = join(t, 'resume', { doc: first.doc, resumeState: saved })
    await converged(again, other)
    assert.equal([...other.text.toString().matchAll(/one |two |three /g)].length, 3)
    // Its own first update is not among them: the offset had passed it.
    await until('both that followed came', () => again.seen() >= 2)
    assert.equal(again.seen(), 2)
  })

  it('shares who is here', async (t) => {
    const [left, right] = [join(t, 'awareness'), join(t, 'awareness')]
    await until('both are in sync', () => left.provider.synced && right.provider.synced)
    const seenByRight = () => right.awareness.getStates().get(left.doc.clientID)
    // A shape from `now` on tells nothing of before, so say it until it is heard.
    await until('the name', () => {
      if (seenByRight()?.name === 'Ada') return true
      left.awareness.setLocalState({ name: 'Ada', nonce: Math.random() })
      return false
    })
    left.awareness.setLocalState({ name: 'Ada', cursor: 7 })
    await until('the cursor', () => seenByRight()?.cursor === 7)
    await stack.query(`DELETE FROM ${awareness} WHERE client_id = $1`, [String(left.doc.clientID)])
    await until('it left', () => seenByRight() === undefined)
  })

  it('keeps the document when the log of updates is truncated', async (t) => {
    const [left, right] = [join(t, 'compacted'), join(t, 'compacted')]
    await until('both are in sync', () => left.provider.synced && right.provider.synced)
    left.text.insert(0, 'kept ')
    await converged(left, right)
    // What an application does that compacts: one update with all, in the place of many.
    const all = frame(Y.encodeStateAsUpdate(left.doc))
    await stack.transact([`TRUNCATE ${updates}`], [`INSERT INTO ${updates} (room, op) VALUES ('compacted', $1)`, [all]])
    right.text.insert(right.text.length, 'and more')
    await until('the change after it', () => left.text.toString() === 'kept and more')
    const late = join(t, 'compacted')
    await converged(left, late)
  })

  /** A document with its provider and its awareness, until the test ends. */
  function join(t, room, { doc = new Y.Doc(), resumeState } = {}) {
    const presence = new Awareness(doc)
    let seen = 0
    const shape = (table) => ({ ...stack.shape(t, { table, where: `room = '${room}'` }), parser: parseToDecoder })
    const provider = new ElectricProvider({
      doc,
      documentUpdates: {
        shape: shape(updates),
        sendUrl: `${api.url}/updates/${room}`,
        getUpdateFromRow: ({ op }) => {
          seen++
          return op
        },
      },
      awarenessUpdates: {
        shape: shape(awareness),
        sendUrl: `${api.url}/awareness/${room}/${doc.clientID}`,
        protocol: presence,
        getUpdateFromRow: ({ op }) => op,
      },
      resumeState,
    })
    t.after(() => {
      provider.destroy()
      presence.destroy()
    })
    return { doc, text: doc.getText('text'), provider, awareness: presence, seen: () => seen }
  }
})

/** Waits until both have the same state, down to the vector. */
function converged(left, right) {
  const state = ({ doc }) => Buffer.from(Y.encodeStateAsUpdate(doc))
  return until('both documents are the same', () => state(left).equals(state(right)))
}

async function written(stack, updates, room) {
  const { rows } = await stack.query(`SELECT count(*)::int4 AS count FROM ${updates} WHERE room = $1`, [room])
  return rows[0].count
}

/** An update as the provider sends it: its length as a varint, then its bytes. */
function frame(update) {
  assert(update.length < 128)
  return Buffer.concat([Buffer.from([update.length]), update])
}

/** `PUT /updates/<room>` and `PUT /awareness/<room>/<client>`: the body becomes a row. */
async function writeApi(stack, updates, awareness) {
  const server = createServer(async (request, response) => {
    const chunks = []
    for await (const chunk of request) chunks.push(chunk)
    const body = Buffer.concat(chunks)
    const [, kind, room, client] = request.url.split('/')
    const [sql, values] =
      kind === 'updates'
        ? [`INSERT INTO ${updates} (room, op) VALUES ($1, $2)`, [room, body]]
        : [
            `INSERT INTO ${awareness} (room, client_id, op) VALUES ($1, $3, $2)
            ON CONFLICT (client_id, room) DO UPDATE SET op = excluded.op`,
            [room, body, client],
          ]
    const failed = await stack.query(sql, values).then(() => undefined, (error) => error)
    response.writeHead(failed ? 500 : 204).end(failed?.message)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    close: () => server.close(),
  }
}
