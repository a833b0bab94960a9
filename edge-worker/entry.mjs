// The worker's main module: hands requests to the WebAssembly module, of which there is one instance per isolate.
// `cargo x edge build` bundles it with the glue that wasm-bindgen writes beside it.

import * as worker from './glue.js'

// The class of the live hub's objects.
export { Hub } from './glue.js'

const state = worker.__worker_init_state()

export default {
  fetch(request, env, context) {
    if (state.criticalError) {
      // A panic left the memory as it was in the middle of a request; requests that come now get a new instance.
      worker.__wbg_reset_state()
      state.criticalError = false
    }
    const reply = worker.fetch(request, env, context)
    // A client that leaves during a long poll must not leave the request's objects behind in the module.
    context.waitUntil(reply)
    return reply
  },
}
