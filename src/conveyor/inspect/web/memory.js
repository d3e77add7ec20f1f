// How strongly earlier steps still move the output at this one, and how long each unit remembers.

import { look } from "conveyor/app.js";
import { ask, steps } from "conveyor/source.js";
import { chart, make, savers } from "conveyor/draw.js";

export const title = "Memory";

export async function draw({ about, r, layer, unit, step }, recording) {
  const [found, lifetimes] = await Promise.all([ask("memory", { r, layer, step }), ask("lifetimes", { r, layer })]);
  const last = found.first + found.gradient.length;
  const { labels } = await steps(about, r, found.first, last, layer);
  const relative = (values) => { const most = Math.max(...values, 1e-30); return values.map((value) => value / most); };
  const pick = (t) => look({ step: found.first + t });
  const moved = chart(`What moves the output at step ${step}: gradient (blue) and occlusion (orange), each relative to its largest`,
    [{ name: "gradient", color: "var(--f)", y: relative(found.gradient) }, { name: "occlusion", color: "var(--i)", y: relative(found.occlusion) }],
    { labels, low: 0, high: 1, height: 160, now: step - found.first, pick });
  const sorted = [...lifetimes].sort((a, b) => b - a);
  const times = chart("Steps until 1/e of the belt is left, -1 / mean(log f): each unit, the longest first",
    [{ name: "lifetime", color: "var(--c)", y: sorted }], { low: Math.min(0.1, ...sorted), log: true, height: 160, step: Math.max(1, Math.min(8, 900 / sorted.length)) });
  return [make("div", { class: "scroll" }, moved, savers("memory", () => moved)),
    make("p", { class: "note" }, "Gradient: the norm of dy_t / dx_s. Occlusion: how far y_t moves when x_s is zero. y is what the whole LSTM gives."),
    make("div", { class: "scroll" }, times, savers("lifetimes", () => times)),
    make("p", { id: "lifetime" }, `Unit ${unit}: ${lifetimes[unit].toPrecision(4)} steps.`)];
}
