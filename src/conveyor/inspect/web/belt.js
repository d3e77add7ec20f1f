// The conveyor belt of a unit: cell state along the sequence, its gates about it, and a single cell stepped through.

import { look } from "conveyor/app.js";
import { ask, steps, values } from "conveyor/source.js";
import { chart, make, number, savers, shown } from "conveyor/draw.js";

export const title = "Belt";
const WIDE = 60;   // steps shown at once
const GATES = { i: ["input gate", "σ"], f: ["forget gate", "σ"], g: ["candidate", "tanh"], o: ["output gate", "σ"] };

export async function draw({ about, r, layer: n, unit, step }, recording, layer) {
  const first = Math.max(0, Math.min(step - WIDE / 2, layer.steps - WIDE)), last = Math.min(layer.steps, first + WIDE);
  const { labels } = await steps(about, r, first, last, n);
  const of = Object.fromEntries(await Promise.all(about.quantities.map(async (q) =>
    [q, (await values(about, r, n, q, first, last)).map((row) => row[unit])])));
  const pick = (t) => look({ step: first + t });
  const lane = (name, curves, options) => chart(name, curves, { labels, now: step - first, pick, ...options });
  const large = Math.max(1, ...of.c.map(Math.abs));
  const lanes = [
    lane("f, forget gate: how much of the belt is kept", [{ name: "f", color: "var(--f)", y: of.f }], { low: 0, high: 1, height: 80 }),
    lane("c, the belt", [{ name: "c", color: "var(--c)", y: of.c }], { low: -large, high: large, height: 130 }),
    lane("i, input gate, and g, the candidate: what is put on it",
      [{ name: "i", color: "var(--i)", y: of.i }, { name: "g", color: "var(--g)", y: of.g }], { low: -1, high: 1, height: 100 }),
    lane("o, output gate, and h: what is shown of it",
      [{ name: "o", color: "var(--o)", y: of.o }, { name: "h", color: "var(--h)", y: of.h }], { low: -1, high: 1, height: 100 }),
  ];
  const section = make("div", { class: "scroll" }, ...lanes.map((lane, k) => make("div", {}, lane, savers(`belt-${"fcio"[k]}`, () => lane))));
  return [section, await stepped(about, r, n, unit, step, layer, labels[step - first])];
}

// One step of one cell, with its numbers in the equations.
async function stepped(about, r, n, unit, step, layer, label) {
  const before = layer.reverse ? step + 1 : step - 1, inside = before >= 0 && before < layer.steps;
  const [x, h0, c0, rows, ...now] = await Promise.all([
    values(about, r, n, "x", step, step + 1), inside ? values(about, r, n, "h", before, before + 1) : [null],
    inside ? values(about, r, n, "c", before, before + 1) : [null], ask("rows", { r, layer: n, unit }),
    ...about.quantities.map((q) => values(about, r, n, q, step, step + 1)),
  ]);
  const of = Object.fromEntries(about.quantities.map((q, k) => [q, now[k][0][unit]]));
  const dot = (row, vector) => (vector ? row.reduce((sum, w, k) => sum + w * vector[k], 0) : 0);
  const held = c0[0] ? c0[0][unit] : 0;
  const lines = Object.entries(GATES).map(([q, [name, squash]], k) => {
    const parts = [dot(rows.x[k], x[0]), dot(rows.h[k], h0[0]), rows.b[k]];
    const sums = layer.plain ? `${squash}(${parts.map((part) => number(part)).join(" + ")}) = ` : "";
    return make("div", { "data-gate": q }, `${q}_t = ${layer.plain ? `${squash}(W x_t + U h_{t-1} + b) = ${sums}` : ""}`, make("b", { id: `cell-${q}` }, number(of[q])), `   ${name}`);
  });
  return make("section", {}, make("h2", {}, `Unit ${unit} at step ${step}${label === undefined ? "" : `, “${shown(label)}”`}`),
    make("div", { class: "tools" }, make("button", { id: "back", onclick: () => look({ step: step - 1 }) }, "← step"),
      make("button", { id: "on", onclick: () => look({ step: step + 1 }) }, "step →")),
    make("div", { class: "equation" }, ...lines,
      make("div", {}, `c_t = f_t c_{t-1} + i_t g_t = ${number(of.f)} × ${number(held)} + ${number(of.i)} × ${number(of.g)} = `, make("b", { id: "cell-c" }, number(of.c))),
      make("div", {}, `h_t = o_t tanh(c_t) = ${number(of.o)} × ${number(Math.tanh(of.c))} = `, make("b", { id: "cell-h" }, number(of.h)))),
    make("p", { class: "note" }, layer.plain ? "x_t is what the layer reads, h_{t-1} and c_{t-1} are its output and its belt at the step before; numbers are rounded to four places."
      : "This layer is a variant of the LSTM: docs/variants.md has its equations."));
}
