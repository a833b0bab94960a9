// The page of `limn dev`: follows the demo table and shows its rows as they are.

import { PlainShape } from "/demo/plain_shape.js";

const ROWS_SHOWN_MAX = 500;
const CLIENT = "/client/index.js";

/** How often the page looks whether the edge worker is there. */
const LOOK_FOR_EDGE_MS = 1000;

const element = (id) => document.getElementById(id);
const page = {
  status: element("status"),
  notice: element("notice"),
  rows: element("rows"),
  empty: element("empty"),
  more: element("more"),
  count: element("count"),
  route: element("route"),
  latency: element("latency"),
  offset: element("offset"),
  insert: element("insert"),
};

start().catch(showError);

async function start() {
  addCopyButtons();
  const config = await loadConfig();
  element("table-name").textContent = config.table;
  page.insert.addEventListener("click", insertRow);
  const wantedUrl = new URL(config.shapeUrl, location.href);
  const originUrl = new URL(wantedUrl.pathname, location.href);
  if (await isServing(wantedUrl)) {
    await follow(wantedUrl, config);
    return;
  }
  // While the edge worker is being built or started, the rows come from the origin itself.
  const shape = await follow(originUrl, config);
  do await new Promise((resolve) => setTimeout(resolve, LOOK_FOR_EDGE_MS));
  while (!(await isServing(wantedUrl)));
  shape.stop();
  await follow(wantedUrl, config);
}

/** Shows the rows of the shape as they come from `shapeUrl`. */
async function follow(shapeUrl, config) {
  page.route.textContent = route(shapeUrl);
  showCommands(shapeUrl, config);
  const Shape = await loadShape();
  const shape = new Shape({
    url: shapeUrl.href,
    params: { table: config.table, ...(config.secret && { secret: config.secret }) },
    parser: { timestamptz },
  });
  shape.onStatus((status, error) => {
    if (status === "failed") showError(error);
    else showStatus(status);
  });
  const table = new LiveTable();
  shape.subscribe(({ value }) => {
    table.show(value);
    page.offset.textContent = shape.lastOffset;
    showCommands(shapeUrl, config, shape);
  });
  return shape;
}

async function isServing(shapeUrl) {
  if (shapeUrl.origin === location.origin) return true;
  try {
    await fetch(shapeUrl.origin, { mode: "no-cors" });
    return true;
  } catch {
    return false;
  }
}

async function loadConfig() {
  const response = await fetch("/demo/config.json");
  if (!response.ok) throw new Error(`/demo/config.json: status ${response.status}`);
  return response.json();
}

/** The browser client, or a simple one: the client is a build product and may not be there yet. */
async function loadShape() {
  const built = await fetch(CLIENT, { method: "HEAD" });
  if (!built.ok) return PlainShape;
  const client = await import(CLIENT);
  await client.init();
  return client.Shape;
}

/** The newest rows on top; only the rows that changed are drawn again. */
class LiveTable {
  #shown = new Map();
  #isFirst = true;

  show(rowsByKey) {
    // What another shape showed before this one.
    if (this.#isFirst) page.rows.replaceChildren();
    const rows = [...rowsByKey].sort(([, a], [, b]) => (a.id < b.id ? 1 : -1));
    const visible = rows.slice(0, ROWS_SHOWN_MAX);
    const keys = new Set(visible.map(([key]) => key));
    for (const [key, { line }] of this.#shown) {
      if (keys.has(key)) continue;
      line.remove();
      this.#shown.delete(key);
    }
    let newest;
    visible.forEach(([key, row], place) => {
      const known = this.#shown.get(key);
      const line = known?.line ?? document.createElement("tr");
      if (known?.row !== row) {
        this.#draw(line, row);
        this.#shown.set(key, { line, row });
        if (!newest || row.updated_at > newest) newest = row.updated_at;
      }
      if (page.rows.children[place] !== line) page.rows.insertBefore(line, page.rows.children[place] ?? null);
    });
    this.#describe(rows.length);
    if (newest && !this.#isFirst) showLatency(newest);
    this.#isFirst = false;
  }

  #draw(line, row) {
    line.dataset.id = row.id;
    const time = document.createElement("time");
    time.dateTime = row.updated_at.toISOString();
    time.textContent = row.updated_at.toLocaleTimeString();
    time.title = row.updated_at.toLocaleString();
    line.replaceChildren(cell(String(row.id), "number"), cell(row.title), cell(row.amount.toLocaleString(), "number"), cell(time));
    if (this.#isFirst) return;
    line.classList.remove("fresh");
    void line.offsetWidth; // Starts the animation again where it is still running.
    line.classList.add("fresh");
  }

  #describe(count) {
    page.count.textContent = count.toLocaleString();
    page.empty.hidden = count > 0;
    page.empty.textContent = "The table is empty. Insert a row.";
    page.more.hidden = count <= ROWS_SHOWN_MAX;
    page.more.textContent = `The newest ${ROWS_SHOWN_MAX.toLocaleString()} of ${count.toLocaleString()} rows.`;
  }
}

function cell(content, name) {
  const td = document.createElement("td");
  td.append(content);
  if (name) td.className = name;
  return td;
}

/** Postgres's text (`2026-02-03 04:05:06.789+00`) as a date. */
function timestamptz(text) {
  return new Date(text.replace(" ", "T").replace(/([+-]\d\d)$/, "$1:00"));
}

async function insertRow() {
  page.insert.disabled = true;
  try {
    const response = await fetch("/demo/insert", { method: "POST" });
    if (!response.ok) throw new Error(`the insert failed with status ${response.status}`);
    page.notice.hidden = true;
  } catch (error) {
    page.notice.textContent = `The row was not inserted: ${error.message}`;
    page.notice.hidden = false;
  } finally {
    page.insert.disabled = false;
  }
}

function showStatus(status, reason) {
  const states = {
    syncing: ["connecting", "connecting"],
    live: ["live", "live"],
    retrying: ["error", "no connection, trying again"],
    paused: ["connecting", "paused"],
    done: ["connecting", "ended"],
    failed: ["error", `error: ${reason}`],
  };
  const [state, text] = states[status];
  page.status.dataset.state = state;
  if (page.status.textContent !== text) page.status.textContent = text;
}

function showError(error) {
  showStatus("failed", error.status ? `status ${error.status}` : "see below");
  page.notice.textContent = error.message;
  page.notice.hidden = false;
  page.empty.hidden = true;
}

/** By the row's own timestamp; the clocks of the database and of this machine have to agree. */
function showLatency(updatedAt) {
  const latencyMs = Math.max(0, performance.timeOrigin + performance.now() - updatedAt);
  const isShort = latencyMs < 1000;
  page.latency.textContent = isShort ? `${Math.round(latencyMs)} ms` : `${(latencyMs / 1000).toFixed(1)} s`;
}

function route(shapeUrl) {
  return shapeUrl.origin === location.origin ? `the origin, ${shapeUrl.host}` : `the edge, ${shapeUrl.host}`;
}

function showCommands(shapeUrl, { table, secret }, shape) {
  const query = (params) => {
    const all = new URLSearchParams({ table, ...params, ...(secret && { secret }) });
    return `${shapeUrl.origin}${shapeUrl.pathname}?${all}`;
  };
  const live = { handle: shape?.handle ?? "…", offset: shape?.lastOffset ?? "…", live: "true" };
  element("curl-rows").textContent = `curl -i '${query({ offset: "-1" })}'`;
  element("curl-where").textContent = `curl -G '${query({ offset: "-1" })}' --data-urlencode 'where=amount > 500'`;
  element("curl-live").textContent = `curl -i '${query(live)}'`;
}

function addCopyButtons() {
  // Only secure contexts, of which localhost is one, have a clipboard.
  if (!navigator.clipboard) return;
  for (const code of document.querySelectorAll(".commands code")) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Copy";
    button.setAttribute("aria-label", `Copy: ${code.closest("li").querySelector("h3").textContent}`);
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
      setTimeout(() => (button.textContent = "Copy"), 1500);
    });
    code.after(button);
  }
}
