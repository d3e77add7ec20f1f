// The sequence as it is read, coloured by a unit or by surprise; what was expected at a step, against what came.

import { look, state, typed } from "conveyor/app.js";
import { offline, steps, values } from "conveyor/source.js";
import { colour, make, number, shown } from "conveyor/draw.js";

export const title = "Sequence";
const WIDE = 600;   // steps shown at once
let by = "h";

export async function draw({ about, r, layer, unit, step }, recording) {
  const of = recording.layers[layer];
  const first = Math.max(0, Math.min(step - WIDE / 2, of.steps - WIDE)), last = Math.min(of.steps, first + WIDE);
  const { labels, came, expected } = await steps(about, r, first, last, layer);
  const rows = by === "came" ? null : await values(about, r, layer, by, first, last);
  const strength = (n) => (rows ? rows[n]?.[unit] : n ? came[n - 1] : null);
  const text = make("p", { class: "text", "aria-label": "the sequence" }, ...labels.map((label, n) => {
    const value = strength(n);
    const [red, green, blue] = value === null || value === undefined ? [0, 0, 0] : colour(rows ? by : "f", rows ? value : 1 - value);
    const dark = value !== null && value !== undefined && 0.3 * red + 0.6 * green + 0.1 * blue < 130;
    return make("span", {
      class: first + n === step ? "now" : "", "data-step": first + n, "data-value": value ?? "",
      title: `step ${first + n}: ${number(value)}`, onclick: () => look({ step: first + n }),
      style: value === null || value === undefined ? "" : `background: rgb(${red} ${green} ${blue}); color: ${dark ? "#fff" : "#111"}`,
    }, label.replaceAll("\n", "⏎\n"));
  }));
  const choose = make("select", { id: "by", onchange: (event) => { by = event.target.value; look(); } },
    ...[...about.quantities, ...(recording.told ? ["came"] : [])].map((q) => make("option", { value: q, selected: q === by }, q === "came" ? "surprise" : `${q} of unit ${unit}`)));
  return [
    make("div", { class: "tools" }, make("label", {}, "coloured by ", choose), ...entry(about)),
    ...looked(about, recording), text, ...(expected.some((one) => one.length) ? [told(labels, came, expected, first, step)] : []),
  ];
}

function told(labels, came, expected, first, step) {
  const n = step - first;
  const next = labels[n + 1];
  const known = came.length && came[n] !== null;
  const rows = (expected[n] ?? []).map(([name, p]) => make("tr", { class: name === next ? "came" : "" },
    make("td", { class: "text" }, shown(name)), make("td", { class: "number" }, number(p)),
    make("td", {}, make("span", { class: "bar", style: `width: ${Math.round(200 * p)}px` })), make("td", {}, known && name === next ? "← came" : "")));
  const what = known ? `: “${shown(next)}” came, p = ${number(came[n])}` : "";
  return make("section", {}, make("h2", {}, `${known ? "After" : "At"} step ${step}, “${shown(labels[n].trim() || labels[n])}”${what}`),
    make("table", { id: "expected" }, make("tr", {}, ...["expected", "p", "", ""].map((name) => make("th", {}, name))), ...rows));
}

function entry(about) {
  if (offline() || !about.typed) return [];
  const box = make("input", { id: "typed", placeholder: "a text of your own", size: 40, "aria-label": "a text of your own" });
  return [make("form", { onsubmit: (event) => { event.preventDefault(); typed(box.value); } }, box, make("button", {}, "read"))];
}

function looked(about, recording) {
  const example = about.examples.find(({ text }) => text === recording.text);
  return example ? [make("p", { class: "note" }, `What to look for: ${example.look} Whether this model does so is for its numbers to say.`)] : [];
}
