// Servers for the tests that run in Node: a temporary Postgres, the origin, the edge worker in workerd, `limn dev`.
// Every server belongs to a `Servers`, which ends them in reverse order, also when a test fails.

import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chownSync, existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import pg from 'pg'

/** The root of the checkout; servers run there. */
export const ROOT = fileURLToPath(new URL('../..', import.meta.url))

/** How long a server may take to start or to end. */
const SERVER_LIMIT_MS = 30_000

/** How long data may take to arrive. Generous: the machine may be busy, and a failure is a failure. */
const DATA_LIMIT_MS = 20_000

/** Postgres refuses to run as root; the packages of all distributions make this user. */
const POSTGRES_USER = 'postgres'

/** Waits until `probe` returns something true, and returns that. */
export async function until(what, probe, limitMs = DATA_LIMIT_MS) {
  const deadline = Date.now() + limitMs
  let last
  while (Date.now() < deadline) {
    try {
      last = await probe()
      if (last) return last
    } catch (error) {
      last = error
    }
    await sleep(25)
  }
  throw new Error(`not within ${limitMs} ms: ${what}`, { cause: last })
}

/** A TCP port of the loopback interface that nobody listens on. */
export async function freePort() {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address()
  server.close()
  await once(server, 'close')
  return port
}

/** Whether somebody answers at all. */
export async function isServing(url) {
  try {
    await fetch(url)
    return true
  } catch {
    return false
  }
}

/** The servers of one test file. */
export class Servers {
  #cleanups = []

  constructor() {
    // The runner may end us in the middle of a test; children without a parent would stay.
    process.once('exit', () => this.#children.forEach((child) => child.kill('SIGKILL')))
  }

  #children = new Set()

  /** A Postgres of our own with logical replication. `query` runs SQL in its database; `connect` lends a session. */
  async postgres() {
    const user = process.getuid() === 0 ? userIds(POSTGRES_USER) : {}
    const dir = this.#folder('limn-pg-', user)
    const data = join(dir, 'data')
    execFileSync(
      postgresProgram('initdb'),
      ['-D', data, '-U', 'postgres', '-A', 'trust', '-E', 'UTF8', '--locale=C', '--no-sync'],
      { ...user, cwd: dir, stdio: ['ignore', 'ignore', 'inherit'] },
    )
    const port = await freePort()
    const settings = {
      listen_addresses: '127.0.0.1',
      port,
      unix_socket_directories: '',
      wal_level: 'logical',
      max_wal_senders: 10,
      max_replication_slots: 10,
      // A crash of the machine loses nothing that a test wants to keep.
      fsync: 'off',
      full_page_writes: 'off',
    }
    const options = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])
    // SIGINT is Postgres's fast shutdown: it ends the sessions that are still open.
    this.#spawn('postgres', postgresProgram('postgres'), ['-D', data, ...options], { ...user, cwd: dir }, 'SIGINT')
    const url = `postgres://postgres@127.0.0.1:${port}/postgres`
    await until('Postgres accepts connections', () => queryOnce(url, 'SELECT 1'), SERVER_LIMIT_MS)
    const pool = new pg.Pool({ connectionString: url, max: 4 })
    // Postgres ends before the pool learns of it; that is not an error of a test.
    pool.on('error', () => {})
    this.#cleanups.push(() => pool.end())
    return { url, query: (sql, values) => pool.query(sql, values), connect: () => pool.connect() }
  }

  /** `limn serve` on that database; without a `secret` it is open. `env` may set limits. */
  async origin({ databaseUrl, secret, env = {} }) {
    const [port, metricsPort] = [await freePort(), await freePort()]
    const storage = this.#folder('limn-storage-')
    const access = secret === undefined ? ['--insecure'] : ['--secret', secret]
    const args = [
      ...['serve', '--database-url', databaseUrl, '--host', '127.0.0.1', '--port', port],
      ...['--metrics-port', metricsPort, '--storage-dir', storage],
      ...access,
    ]
    const url = `http://127.0.0.1:${port}`
    const start = async () => {
      const server = this.#spawn('limn serve', limn(), args, { env: cleanEnvironment(env) })
      await server.ready('its health is active', async () => {
        const health = await fetch(`${url}/v1/health`)
        return health.status === 200 && (await health.json()).status === 'active'
      })
      return server
    }
    let server = await start()
    const metrics = `http://127.0.0.1:${metricsPort}/metrics`
    return {
      url,
      shapes: () => sumOf(metrics, 'limn_shapes'),
      requestsServed: () => sumOf(metrics, 'limn_http_requests_total'),
      stop: () => server.end('SIGTERM'),
      parkedClients: () => sumOf(metrics, 'limn_parked_clients'),
      stopAndStart: async () => {
        await server.end('SIGTERM')
        server = await start()
      },
      killAndStart: async () => {
        await server.end('SIGKILL')
        server = await start()
      },
    }
  }

  /** The built edge worker in workerd; with a `secret` it checks credentials itself. */
  async edge({ origin, secret, variables = {}, hub = true }) {
    const port = await freePort()
    const access = secret === undefined ? [] : ['--secret', secret]
    const others = Object.entries(variables).flatMap(([name, value]) => ['--var', `${name}=${value}`])
    const live = hub ? [] : ['--no-hub']
    const args = ['edge-worker/dev/serve.mjs', '--origin', origin, '--port', port, ...access, ...others, ...live]
    const server = this.#spawn('edge worker', process.execPath, args, { env: cleanEnvironment() })
    await server.ready('it says so', () => server.output().includes('ready: '))
    return { url: `http://127.0.0.1:${port}`, processorMs: () => processorMs(server.pid, 'workerd') }
  }

  /** nginx (the program `path`) as a cache before an origin, as docs/nginx.conf sets it up. */
  async nginx(path, origin) {
    const [dir, port] = [this.#folder('limn-nginx-'), await freePort()]
    const ours = readFileSync(join(ROOT, 'docs/nginx.conf'), 'utf8')
      .replace('/var/cache/nginx/limn', join(dir, 'cache'))
      .replaceAll('/run/nginx-limn.sock', join(dir, 'socket'))
      .replace('127.0.0.1:3000', new URL(origin).host)
      .replace('127.0.0.1:8080', `127.0.0.1:${port}`)
    const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((name) => `${name}_temp_path ${dir}/${name};`)
    const user = process.getuid() === 0 ? 'user root;' : ''
    writeFileSync(
      join(dir, 'nginx.conf'),
      `${user} daemon off; pid ${dir}/pid; error_log stderr warn; events {} http { access_log off; ${temporary.join(' ')} ${ours} }`,
    )
    const server = this.#spawn('nginx', path, ['-p', dir, '-e', 'stderr', '-c', join(dir, 'nginx.conf')], {})
    const url = `http://127.0.0.1:${port}`
    await server.ready('it passes requests on', async () => (await fetch(`${url}/v1/health`)).status === 200)
    return { url }
  }

  /** `limn dev` with a Postgres of its own; its page goes through the edge worker, which `startEdge` starts before it. */
  async dev({ clientDir = 'client/pkg' } = {}) {
    const [port, edgePort] = [await freePort(), await freePort()]
    const edgeUrl = `http://127.0.0.1:${edgePort}`
    const server = this.#spawn(
      'limn dev',
      limn(),
      ['dev', '--port', port, '--edge-url', edgeUrl, '--client-dir', clientDir],
      { env: cleanEnvironment() },
    )
    await server.ready('it says so', () => server.output().includes('ready: '))
    const url = `http://127.0.0.1:${port}`
    const startEdge = async () => {
      const args = ['edge-worker/dev/serve.mjs', '--origin', url, '--port', edgePort]
      const edge = this.#spawn('edge worker', process.execPath, args, { env: cleanEnvironment() })
      await edge.ready('it says so', () => edge.output().includes('ready: '))
    }
    return { url, edgeUrl, startEdge }
  }

  /** Any program, from the root of the checkout; `end` is the signal that ends it. */
  program(name, path, args, env = {}, end = 'SIGINT') {
    return this.#spawn(name, path, args, { env: cleanEnvironment(env) }, end)
  }

  /** Ends everything, the last started first. */
  async end() {
    while (this.#cleanups.length > 0) await this.#cleanups.pop()()
  }

  #folder(prefix, { uid, gid } = {}) {
    const dir = mkdtempSync(join(tmpdir(), prefix))
    if (uid !== undefined) chownSync(dir, uid, gid)
    this.#cleanups.push(() => rmSync(dir, { recursive: true, force: true }))
    return dir
  }

  #spawn(name, path, args, options, endSignal = 'SIGTERM') {
    const child = spawn(path, args.map(String), { cwd: ROOT, stdio: ['ignore', 'pipe', 'pipe'], ...options })
    const server = new Server(name, child)
    this.#children.add(child)
    this.#cleanups.push(async () => {
      await server.end(endSignal)
      this.#children.delete(child)
    })
    return server
  }
}

/** One running program and what it printed. */
class Server {
  #name
  #child
  #output = ''

  constructor(name, child) {
    this.#name = name
    this.#child = child
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text) => (this.#output += text))
    }
    child.on('error', (error) => (this.#output += `cannot start: ${error.message}\n`))
  }

  get pid() {
    return this.#child.pid
  }

  /** Standard output and standard error so far. */
  output() {
    return this.#output
  }

  get hasEnded() {
    return this.#child.pid === undefined || this.#child.exitCode !== null || this.#child.signalCode !== null
  }

  /** Waits until `probe` is true; an early end of the program is an error with what it printed. */
  async ready(what, probe) {
    const ended = () => this.hasEnded
    const outcome = await until(`${this.#name} is ready: ${what}`, async () => ended() || probe(), SERVER_LIMIT_MS).catch(
      (error) => error,
    )
    if (ended() || outcome instanceof Error) {
      throw new Error(`${this.#name} did not start: ${outcome.message ?? 'it ended'}\n${this.#output}`)
    }
  }

  /** Sends the signal and waits for the end; the exit code, or null when it had to be killed. */
  async end(signal) {
    if (this.hasEnded) return this.#child.exitCode
    const exit = once(this.#child, 'exit')
    this.#child.kill(signal)
    const killer = setTimeout(() => this.#child.kill('SIGKILL'), SERVER_LIMIT_MS)
    const [code] = await exit
    clearTimeout(killer)
    return code
  }
}

/** The value of a header as text, and the body parsed; credentials in `headers` as they come. */
export async function read(url, headers = {}) {
  const response = await fetch(url, { headers })
  const text = await response.text()
  return { status: response.status, headers: response.headers, text, json: () => JSON.parse(text) }
}

/** Reads a shape's log to its end: the parameters of a request there, and how many requests that took. */
export async function readToEnd(base, definition, headers = {}) {
  let at = { ...definition, offset: '-1' }
  for (let requests = 1; ; requests += 1) {
    const reply = await read(shapeUrl(base, at), headers)
    if (reply.status !== 200) throw new Error(`${reply.status}: ${reply.text}`)
    at = { ...definition, offset: reply.headers.get('electric-offset'), handle: reply.headers.get('electric-handle') }
    if (reply.headers.has('electric-up-to-date')) return { at, requests }
  }
}

/** The address of a shape request. */
export function shapeUrl(base, params) {
  return `${base}/v1/shape?${new URLSearchParams(params)}`
}

/** How long processors have worked for the programs of that name which a process has started (Linux). */
function processorMs(parent, name) {
  const stats = readdirSync('/proc').filter((entry) => /^\d+$/.test(entry)).flatMap((entry) => {
    try {
      return [readFileSync(`/proc/${entry}/stat`, 'utf8')]
    } catch {
      // It has ended meanwhile.
      return []
    }
  })
  const ofChild = stats.filter((stat) => stat.includes(`(${name})`)).map((stat) => stat.split(') ')[1].split(' '))
  // In hundredths of a second, for the program and for the kernel (proc(5)).
  return ofChild.filter((fields) => Number(fields[1]) === parent).reduce((sum, fields) => sum + 10 * (Number(fields[11]) + Number(fields[12])), 0)
}

/** The values of a metric, whatever its labels. */
async function sumOf(metricsUrl, name) {
  const metrics = await (await fetch(metricsUrl)).text()
  const lines = metrics.split('\n').filter((line) => line.startsWith(name))
  return lines.reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0)
}

/** The program under test. */
export function limn() {
  return resolve(ROOT, process.env.LIMN_BIN ?? 'target/release/limn')
}

/** Our own environment, without the variables that would configure a server by themselves. */
function cleanEnvironment(changes = {}) {
  const inherited = Object.entries(process.env).filter(([name]) => !/^(LIMN_(?!LOG_LEVEL$)|ELECTRIC_|DATABASE_URL$|NODE_TEST)/.test(name))
  return { ...Object.fromEntries(inherited), ...changes }
}

function postgresProgram(name) {
  const dir = process.env.PG_BIN_DIR
  return dir && existsSync(join(dir, name)) ? join(dir, name) : name
}

function userIds(name) {
  const id = (flag) => Number(execFileSync('id', [flag, name], { encoding: 'utf8' }))
  return { uid: id('-u'), gid: id('-g') }
}

async function queryOnce(url, sql) {
  const client = new pg.Client({ connectionString: url })
  client.on('error', () => {})
  try {
    await client.connect()
    return await client.query(sql)
  } finally {
    await client.end().catch(() => {})
  }
}
