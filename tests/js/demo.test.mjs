// `cargo x demo` from its first line to its end: it serves, it moves, and Ctrl-C leaves nothing running.

import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { after, describe, it } from 'node:test'
import { Servers, freePort, isServing, read, shapeUrl, until } from './support.mjs'

const servers = new Servers()

after(() => servers.end())

describe('cargo x demo', { skip: process.env.XTASK_BIN ? false : 'XTASK_BIN is not set' }, () => {
  it('looks at its ports before it builds anything', async (t) => {
    const [port, edgePort] = [await freePort(), await freePort()]
    for (const [taken, option] of [[port, '--port'], [edgePort, '--edge-port']]) {
      const holder = createServer().listen(taken, '127.0.0.1')
      await once(holder, 'listening')
      t.after(() => holder.close())
      // With the build: this must end long before it could begin.
      const args = ['demo', '--port', String(port), '--edge-port', String(edgePort)]
      const { status, stdout, stderr } = spawnSync(process.env.XTASK_BIN, args, { encoding: 'utf8', timeout: 20_000 })
      assert.equal(status, 1, stderr)
      assert.match(stderr, new RegExp(`port ${taken} \\(another program listens there\\); choose another, such as .${option} \\d+.`))
      assert.equal(stdout, '', 'nothing was set up or built')
    }
    const both = spawnSync(process.env.XTASK_BIN, ['demo', '--port', '1234', '--edge-port', '1234'], { encoding: 'utf8' })
    assert.match(both.stderr, /--port and --edge-port are both 1234/)
  })

  it('serves a page and a shape that moves, and ends all of it on SIGINT', async () => {
    const [port, edgePort] = [await freePort(), await freePort()]
    const args = ['demo', '--no-build', '--port', port, '--edge-port', edgePort]
    const { LIMN_CACHE_DIR, CARGO_TARGET_DIR } = process.env
    const env = { ...(LIMN_CACHE_DIR && { LIMN_CACHE_DIR }), ...(CARGO_TARGET_DIR && { CARGO_TARGET_DIR }) }
    const demo = servers.program('cargo x demo', process.env.XTASK_BIN, args, env)
    await demo.ready('it prints the addresses', () => demo.output().includes('Ctrl-C ends all of it'))

    const [page, edge] = [`http://127.0.0.1:${port}`, `http://127.0.0.1:${edgePort}`]
    const first = await read(`${page}/`)
    assert.equal(first.status, 200)
    assert.match(first.text, /id="insert"/)

    const table = demo.output().match(/\/v1\/shape\?table=(\w+)/)[1]
    const start = await read(shapeUrl(edge, { table, offset: '-1' }))
    assert.equal(start.status, 200)
    const next = { table, handle: start.headers.get('electric-handle'), live: 'true' }
    const live = await read(shapeUrl(edge, { ...next, offset: start.headers.get('electric-offset') }))
    assert.equal(live.status, 200)
    assert.ok(live.json().some(({ headers }) => headers.operation), 'the writer changed something')

    const family = descendants(demo.pid)
    assert.ok(family.length >= 3, 'origin, edge worker and Postgres are running')
    assert.equal(await demo.end('SIGINT'), 0)
    await until('all of its processes are gone', () => family.every((pid) => !isRunning(pid)))
    assert.equal(await isServing(page), false)
    assert.equal(await isServing(edge), false)
  })
})

/** The processes below `pid`. */
function descendants(pid) {
  const table = execFileSync('ps', ['-A', '-o', 'pid=,ppid='], { encoding: 'utf8' })
  const processes = table.trim().split('\n').map((line) => line.trim().split(/\s+/).map(Number))
  const below = (parent) => {
    const children = processes.filter(([, ppid]) => ppid === parent).map(([child]) => child)
    return children.flatMap((child) => [child, ...below(child)])
  }
  return below(pid)
}

function isRunning(pid) {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}
