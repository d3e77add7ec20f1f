// Heat maps of gates, cell states and outputs.

import { look, say, state } from "conveyor/app.js";
import { ask } from "conveyor/source.js";
import { make, number, savers } from "conveyor/draw.js";
import { Heat } from "conveyor/heat.js";

export const title = "Map";
let heat = null, shownFor = "", q = "c", by = "unit", pattern = "";

export async function draw({ about, r, layer: n, unit, step, span }, recording, layer) {
  const order = by === "unit" ? null : Int32Array.from(await ask("order", { r, layer: n, by, pattern: by === "selective" ? pattern : "" }));
  const wanted = `${r}/${n}/${about.version}`;
  if (!heat || shownFor !== wanted) {
    heat = new Heat(about, r, n, {
      chosen: (t, u) => look({ step: t, unit: u }), spanned: (found) => look({ span: found }), failed: say,
    });
    shownFor = wanted;
  }
  Object.assign(heat, { now: step, unit, span });
  heat.show({ q, order: order ?? Int32Array.from({ length: layer.units }, (_, k) => k) });
  if (document.contains(heat.canvas)) return null;
  const rate = make("output", { id: "rate" });
  const pick = (name, options, value, set) => make("label", {}, `${name} `, make("select", { id: `map-${name}`, onchange: (event) => { set(event.target.value); look(); } },
    ...options.map((option) => make("option", { value: option, selected: option === value }, option))));
  const patterns = make("input", { id: "map-pattern", value: pattern, placeholder: "pattern", list: "patterns",
    onchange: (event) => { pattern = event.target.value; by = "selective"; look(); } });
  return [
    make("div", { class: "tools" }, pick("show", about.quantities, q, (value) => { q = value; }),
      pick("order", ["unit", "variance", "cluster", "lifetime", "selective"], by, (value) => { by = value; }), patterns,
      make("datalist", { id: "patterns" }, ...about.patterns.map((name) => make("option", { value: name }))),
      make("button", { id: "closer", onclick: () => heat.zoom(1.5) }, "+"), make("button", { id: "farther", onclick: () => heat.zoom(1 / 1.5) }, "−"),
      make("button", { id: "measure", onclick: async () => { rate.value = `${number(await heat.measure(), 0)} frames a second`; } }, "how fast"), rate,
      savers("map", () => heat.canvas)),
    heat.canvas,
    make("p", { class: "note" }, "Units run down, steps across. Drag moves, the wheel zooms steps, with shift units; a click chooses, shift and drag selects a span for Units. Blue is low or negative, orange positive."),
  ];
}
