// Which units go with a pattern; which are on in a span, and where else they are on together.

import { look } from "conveyor/app.js";
import { ask, steps } from "conveyor/source.js";
import { make, number, shown } from "conveyor/draw.js";

export const title = "Units";
let pattern = "", among = -1;

export async function draw({ about, r, layer, step, span }, recording) {
  pattern ||= about.patterns[0];
  const [first, last] = span ?? [step, Math.min(step + 1, recording.steps)];
  const inside = about.recordings[among] ? among : about.corpus ?? r;
  const [best, found, here] = await Promise.all([
    ask("selective", { r: inside, pattern }), ask("span", { r, layer, first, last, ...(inside === r ? {} : { among: inside }) }), steps(about, r, first, last, layer),
  ]);
  const box = make("input", { id: "pattern", value: pattern, list: "known", size: 24, onchange: (event) => { pattern = event.target.value; look(); } });
  const where = make("select", { id: "among", onchange: (event) => { among = +event.target.value; look(); } },
    ...about.recordings.map((one, n) => make("option", { value: n, selected: n === inside }, one.title)));
  const known = best.filter((row) => row.correlation);
  return [make("div", { class: "tools" }, make("label", {}, "look for them in ", where)), make("div", { class: "columns" },
    make("section", {}, make("h2", {}, "Units that go with a pattern"),
      make("div", { class: "tools" }, make("label", {}, "a pattern, a regular expression, or expected: and a name ", box), make("datalist", { id: "known" }, ...about.patterns.map((name) => make("option", { value: name })))),
      make("table", { id: "selective" }, heads("layer", "unit", "correlation of c"),
        ...known.map((row) => make("tr", {}, make("td", {}, recording.layers[row.layer].name),
          make("td", {}, make("button", { onclick: () => look({ layer: row.layer, unit: row.unit }) }, String(row.unit))),
          make("td", { class: "number" }, number(row.correlation))))), known.length ? "" : make("p", { class: "note" }, "This is nowhere, or everywhere, in what was read.")),
    make("section", {}, make("h2", {}, `Units that are on in “${shown(here.labels.join(""))}”, steps ${first} to ${last - 1}`),
      make("div", { class: "tools" }, make("label", {}, "from ", edge("from", first, (value) => look({ span: [value, Math.max(last, value + 1)] }))),
        make("label", {}, "to ", edge("to", last - 1, (value) => look({ span: [Math.min(first, value), value + 1] })))),
      make("p", { id: "on-units" }, found.units.length ? found.units.slice(0, 60).join(", ") : "none"),
      make("p", { class: "note" }, `A unit is on where |h| is above ${about.on} at every step of the span.`),
      make("table", { id: "places" }, heads("step", "share on", "where else"),
        ...found.places.map((place) => make("tr", {}, make("td", {}, make("button", { onclick: () => look({ step: place.first }) }, String(place.first))),
          make("td", { class: "number" }, number(place.share, 2)),
          make("td", { class: "text" }, shown(place.before), make("b", {}, shown(place.text)), shown(place.behind))))))),
  ];
}

const heads = (...names) => make("tr", {}, ...names.map((name) => make("th", {}, name)));
const edge = (id, value, set) => make("input", { id, type: "number", min: 0, value, onchange: (event) => set(+event.target.value) });
