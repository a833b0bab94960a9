// From Postgres's text format to JavaScript values, by the types in `electric-schema`.

const toBool = (text) => text === "t" || text === "true";

export const defaultParser = {
  int2: Number,
  int4: Number,
  int8: BigInt,
  float4: Number,
  float8: Number,
  bool: toBool,
  json: JSON.parse,
  jsonb: JSON.parse,
};

/**
 * A function that gives a row's values their types, in place. `schema` is the header's JSON text;
 * `parser` adds to the default types or replaces them, and gets the column's schema entry as well.
 */
export function rowParser(schema, parser = {}) {
  const types = { ...defaultParser, ...parser };
  const columns = Object.entries(JSON.parse(schema ?? "{}"))
    .map(([name, info]) => [name, columnParser(info, types)])
    .filter(([, parse]) => parse);
  return (row) => {
    for (const [name, parse] of columns) {
      const text = row[name];
      if (typeof text === "string") row[name] = parse(text);
    }
    return row;
  };
}

function columnParser(info, types) {
  const isKnown = Object.hasOwn(types, info.type);
  const scalar = isKnown ? (text) => types[info.type](text, info) : undefined;
  if (!(info.dims > 0)) return scalar;
  return (text) => parseArray(text, scalar ?? ((element) => element));
}

/** Reads an array in Postgres's text format (`{1,NULL,"a \"b\""}`, also nested, also with bounds). */
export function parseArray(text, element) {
  // Arrays whose indexes do not begin with 1 say so: `[0:1]={7,8}`.
  let at = text.startsWith("[") ? text.indexOf("=") + 1 : 0;

  const parseList = () => {
    const items = [];
    at += 1;
    while (at < text.length && text[at] !== "}") {
      if (text[at] === ",") at += 1;
      items.push(parseItem());
    }
    at += 1;
    return items;
  };

  const parseItem = () => {
    if (text[at] === "{") return parseList();
    if (text[at] === '"') return element(parseQuoted());
    const from = at;
    while (at < text.length && text[at] !== "," && text[at] !== "}") at += 1;
    const bare = text.slice(from, at);
    return bare === "NULL" ? null : element(bare);
  };

  const parseQuoted = () => {
    let value = "";
    at += 1;
    while (at < text.length && text[at] !== '"') {
      if (text[at] === "\\") at += 1;
      value += text[at];
      at += 1;
    }
    at += 1;
    return value;
  };

  return parseList();
}
