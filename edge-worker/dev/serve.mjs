// The built worker in the real workerd, on this machine:
//   node edge-worker/dev/serve.mjs --origin URL [--port 8787] [--secret S] [--var NAME=VALUE ...] [--no-hub]
// prints `ready: URL` once it serves, and ends on SIGINT or SIGTERM.

import { realpathSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { Log, LogLevel, Miniflare } from 'miniflare'

const BUILD = fileURLToPath(new URL('../../build', import.meta.url))

/** As in wrangler.toml. */
const COMPATIBILITY_DATE = '2026-04-26'

/** As in wrangler.toml, which nothing here reads. */
const HUB = { durableObjects: { HUB: { className: 'Hub', useSQLite: true } } }

/**
 * Starts the worker before `origin`; the answer's `dispose` ends it. Port 0 is any free one. Without `hub`, live
 * requests are passed through one by one.
 */
export async function serve({ origin, port = 0, secret, variables = {}, hub = true, build = BUILD }) {
  const own = { ...(origin && { ORIGIN_URL: origin }), ...(secret !== undefined && { LIMN_SECRET: secret }) }
  const bindings = { ...own, ...variables }
  const miniflare = new Miniflare({
    host: '127.0.0.1',
    port,
    log: new Log(LogLevel.WARN),
    modules: true,
    modulesRoot: build,
    modulesRules: [{ type: 'CompiledWasm', include: ['**/*.wasm'] }],
    rootPath: build,
    scriptPath: 'index.js',
    compatibilityDate: COMPATIBILITY_DATE,
    bindings,
    ...(hub && HUB),
    // What `request.cf` says of this machine would be asked of the internet.
    cf: false,
  })
  const url = (await miniflare.ready).origin
  return { url, dispose: () => miniflare.dispose() }
}

async function main() {
  const { values } = parseArgs({
    options: {
      origin: { type: 'string' },
      port: { type: 'string', default: '8787' },
      secret: { type: 'string' },
      var: { type: 'string', multiple: true, default: [] },
      hub: { type: 'boolean', default: true },
    },
    allowNegative: true,
  })
  if (!values.origin) throw new Error('`--origin URL` says which Limn the worker stands in front of')
  const variables = Object.fromEntries(values.var.map((pair) => pair.split(/=(.*)/s, 2)))
  const worker = await serve({ ...values, port: Number(values.port), variables })
  const end = async () => {
    await worker.dispose()
    process.exit(0)
  }
  process.once('SIGINT', end)
  process.once('SIGTERM', end)
  console.log(`ready: ${worker.url}`)
}

const isMain = process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)
if (isMain) {
  await main().catch((error) => {
    console.error(`edge worker: ${error.message}`)
    process.exit(1)
  })
}
