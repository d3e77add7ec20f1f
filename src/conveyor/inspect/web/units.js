// Which units go with a pattern; which are on in a span, and where else they are on together.

import { look, tried } from "conveyor/app.js";
import { ask, offline, steps } from "conveyor/source.js";
import { make, number, shown } from "conveyor/draw.js";

export const title = "Units";
let pattern = "", among = -1;

export async function draw({ about, r, layer, step, span }, recording) {
  pattern ||= about.patterns[0];
  const [first, last] = span ?? [step, Math.min(step + 1, recording.layers[layer].steps)];
  const others = about.recordings.map((one, n) => n).filter((n) => n === r || (!offline() && alike(about.recordings[n], recording)));
  const inside = [among, about.corpus, r].find((n) => others.includes(n));
  const [best, found, here] = await Promise.all([
    tried(ask("selective", { r: inside, pattern })),
    tried(ask("span", { r, layer, first, last, ...(inside === r ? {} : { among: inside }) })),
    steps(about, r, first, last, layer),
  ]);
  const where = make("select", { id: "among", onchange: (event) => { among = +event.target.value; look(); } },
    ...others.map((n) => make("option", { value: n, selected: n === inside }, about.recordings[n].title)));
  const known = (best ?? []).filter((row) => row.correlation), on = found?.units ?? [];
  return [make("div", { class: "tools" }, make("label", {}, "look for them in ", where)), make("div", { class: "columns" },
    make("section", {}, make("h2", {}, "Units that go with a pattern"), make("div", { class: "tools" }, asked(about)),
      make("table", { id: "selective" }, heads("layer", "unit", "correlation of c"),
        ...known.map((row) => make("tr", {}, make("td", {}, recording.layers[row.layer].name),
          make("td", {}, make("button", { onclick: () => look({ layer: row.layer, unit: row.unit }) }, String(row.unit))),
          make("td", { class: "number" }, number(row.correlation))))), known.length ? "" : make("p", { class: "note" }, "This is nowhere, or everywhere, in what was read.")),
    make("section", {}, make("h2", {}, `Units that are on in “${shown(here.labels.join(""))}”, steps ${first} to ${last - 1}`),
      make("div", { class: "tools" }, make("label", {}, "from ", edge("from", first, (value) => look({ span: [value, Math.max(last, value + 1)] }))),
        make("label", {}, "to ", edge("to", last - 1, (value) => look({ span: [Math.min(first, value), value + 1] })))),
      make("p", { id: "on-units" }, on.length ? on.slice(0, 60).join(", ") : "none"),
      make("p", { class: "note" }, `A unit is on where |h| is above ${about.on} at every step of the span.`),
      make("table", { id: "places" }, heads("step", "share on", "where else"),
        ...(found?.places ?? []).map((place) => make("tr", {}, make("td", {}, make("button", { onclick: () => look({ r: inside, step: place.first, ...(inside === r ? {} : { span: null }) }) }, String(place.first))),
          make("td", { class: "number" }, number(place.share, 2)),
          make("td", { class: "text" }, shown(place.before), make("b", {}, shown(place.text)), shown(place.behind))))))),
  ];
}

// Whether two recordings are of networks of one shape, so that a unit of one may be looked for in the other.
const alike = (one, other) => one.layers.length === other.layers.length
  && one.layers.every((layer, n) => layer.name === other.layers[n].name && layer.units === other.layers[n].units);

// What to look for; a file knows the answers to some patterns alone.
function asked(about) {
  const change = (event) => { pattern = event.target.value; look(); };
  const names = about.patterns.map((name) => make("option", { value: name, selected: name === pattern }, name));
  if (offline()) return make("label", {}, "a pattern ", make("select", { id: "pattern", onchange: change }, ...names));
  return make("label", {}, "a pattern, a regular expression, or expected: and a name ",
    make("input", { id: "pattern", value: pattern, list: "known", size: 24, onchange: change }), make("datalist", { id: "known" }, ...names));
}

const heads = (...names) => make("tr", {}, ...names.map((name) => make("th", {}, name)));
const edge = (id, value, set) => make("input", { id, type: "number", min: 0, value, onchange: (event) => set(Math.max(0, Math.round(+event.target.value))) });
