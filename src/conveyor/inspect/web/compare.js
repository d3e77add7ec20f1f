// Two recordings of one sequence side by side: two runs, or a run and what it was.

import { look } from "conveyor/app.js";
import { steps, values } from "conveyor/source.js";
import { chart, make, number, savers, shown } from "conveyor/draw.js";

export const title = "Compare";
const WIDE = 60;
let other = -1;

export async function draw({ about, r, layer, unit, step }, recording) {
  const candidates = about.recordings.map((_, n) => n).filter((n) => n !== r);
  if (!candidates.length) return [make("p", { class: "note" }, "There is one recording alone: name another run with --beside, or more inputs.")];
  if (!candidates.includes(other)) other = candidates.find((n) => about.recordings[n].text === recording.text) ?? candidates[0];
  const sides = await Promise.all([r, other].map((n) => side(about, n, Math.min(layer, about.recordings[n].layers.length - 1), unit, step)));
  const select = make("select", { id: "other", onchange: (event) => { other = +event.target.value; look(); } },
    ...candidates.map((n) => make("option", { value: n, selected: n === other }, about.recordings[n].title)));
  const [a, b] = sides.map(({ bits }) => bits);
  const total = a !== null && b !== null ? [make("p", { id: "bits" }, `Bits a step over what is shown: ${number(a)} and ${number(b)}.`)] : [];
  return [make("div", { class: "tools" }, make("label", {}, "beside ", select)), ...total, make("div", { class: "columns" }, ...sides.map(({ made }) => made))];
}

async function side(about, r, n, unit, step) {
  const recording = about.recordings[r], layer = recording.layers[n], u = Math.min(unit, layer.units - 1);
  const at = Math.min(step, layer.steps - 1), first = Math.max(0, Math.min(at - WIDE / 2, layer.steps - WIDE)), last = Math.min(layer.steps, first + WIDE);
  const { labels, came, expected } = await steps(about, r, first, last, n);
  const of = Object.fromEntries(await Promise.all(["f", "c"].map(async (q) => [q, (await values(about, r, n, q, first, last)).map((row) => row[u])])));
  const known = came.filter((p) => p !== null);
  const bits = known.length ? known.reduce((sum, p) => sum - Math.log2(Math.max(p, 1e-12)), 0) / known.length : null;
  const pick = (t) => look({ step: first + t });
  const large = Math.max(1, ...of.c.map(Math.abs));
  const charts = [
    chart(`f of unit ${u}`, [{ name: "f", color: "var(--f)", y: of.f }], { labels, low: 0, high: 1, height: 70, now: at - first, pick }),
    chart(`c of unit ${u}`, [{ name: "c", color: "var(--c)", y: of.c }], { labels, low: -large, high: large, height: 100, now: at - first, pick }),
    ...(known.length ? [chart("probability of what came", [{ name: "p", color: "var(--o)", y: came }], { labels, low: 0, high: 1, height: 70, now: at - first, pick })] : []),
  ];
  const rows = (expected[at - first] ?? []).map(([name, p]) => make("tr", {}, make("td", { class: "text" }, shown(name)), make("td", { class: "number" }, number(p))));
  return { bits, made: make("section", { class: "side" }, make("h2", {}, `${recording.title}, ${layer.name}`),
    make("div", { class: "scroll" }, ...charts.map((one, k) => make("div", {}, one, savers(`side-${r}-${k}`, () => one)))), make("table", {}, ...rows)) };
}
