// What the page asks for: over the network, or out of the page itself where it was written into one file.

const waiting = new Map();
const MOST = 400;   // answers at hand
let embedded = null;

export async function open() {
  const held = document.getElementById("answers");
  if (!held) return;
  const packed = Uint8Array.from(atob(held.textContent.trim()), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  embedded = JSON.parse(await new Response(stream).text());
}

export const offline = () => embedded !== null;

function key(name, query) {
  const pairs = Object.entries(query).map(([k, v]) => [k, String(v)]).sort();
  return `${name}?${new URLSearchParams(pairs)}`;
}

async function fetched(name, query) {
  const wanted = key(name, query);
  if (embedded) {
    if (!(wanted in embedded)) throw new Error("This file does not hold that; open the run with conveyor inspect.");
    return embedded[wanted];
  }
  const response = await fetch(`api/${wanted}`);
  if (!response.ok) throw new Error((await response.json()).error);
  if (response.headers.get("content-type").startsWith("application/octet")) return response.arrayBuffer();
  return response.json();
}

function decoded(block) {   // bytes over the network, base64 out of the page
  if (block instanceof ArrayBuffer) return new Float32Array(block);
  return new Float32Array(Uint8Array.from(atob(block), (c) => c.charCodeAt(0)).buffer);
}

function once(name, query, make = (answer) => answer) {
  const wanted = key(name, query);
  if (!waiting.has(wanted)) {
    if (waiting.size >= MOST) waiting.delete(waiting.keys().next().value);
    const answer = fetched(name, query).then(make);
    answer.catch(() => waiting.delete(wanted));
    waiting.set(wanted, answer);
  }
  return waiting.get(wanted);
}

export const ask = (name, query = {}) => once(name, query);
export const block = (r, layer, q, level, n) => once("block", { r, layer, q, level, n }, decoded);
export const forget = () => waiting.clear();

// What was read and expected at steps first to last; some layers go in steps of their own.
export async function steps(about, r, first, last, layer = null) {
  const own = layer !== null && about.recordings[r].layers[layer].own ? { layer } : {};
  const found = { labels: [], came: [], expected: [] };
  for (let n = Math.floor(first / about.block); n * about.block < last; n++) {
    const some = await ask("steps", { r, n, ...own }), cut = [Math.max(0, first - n * about.block), last - n * about.block];
    for (const name in found) found[name].push(...some[name].slice(...cut));
  }
  return found;
}

// Steps first to last of a quantity, exact: rows of one number a unit.
export async function values(about, r, layer, q, first, last) {
  const size = about.block, rows = [];
  for (let n = Math.floor(first / size); n * size < last; n++) {
    const found = await block(r, layer, q, 0, n);
    const steps = Math.min(size, about.recordings[r].layers[layer].steps - n * size);
    const width = found.length / steps;
    for (let t = Math.max(first, n * size); t < Math.min(last, n * size + steps); t++) {
      rows.push(found.subarray((t - n * size) * width, (t - n * size + 1) * width));
    }
  }
  return rows;
}

export async function read(text) {
  const response = await fetch("api/read", { method: "POST", body: text });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error);
  return answer.recording;
}
