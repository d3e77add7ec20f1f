// How often each gate is saturated, and how gradients fade on their way back.

import { look } from "conveyor/app.js";
import { ask } from "conveyor/source.js";
import { chart, make, savers, svg } from "conveyor/draw.js";

export const title = "Gates";
const NAMES = { i: "input gate", f: "forget gate", o: "output gate" };
const SIDE = 220;

export async function draw({ r, layer, unit }) {
  const [found, flow] = await Promise.all([ask("saturation", { r, layer }), ask("flow", { r, layer })]);
  const squares = Object.keys(NAMES).map((gate) => square(gate, found.left[gate], found.right[gate], unit));
  const colours = ["var(--c)", "var(--f)", "var(--i)"];
  const curves = Object.entries(flow).map(([name, y], n) => ({ name, color: colours[n], y }));
  const fading = chart(`|dy_T / dx_s| relative to s = T: ${curves.map(({ name }, n) => `${name} (${["ink", "blue", "orange"][n]})`).join(", ")}`, curves,
    { low: 1e-9, log: true, height: 200, step: Math.max(2, Math.min(10, 900 / curves[0].y.length)) });
  return [make("h2", {}, "Saturation: the share of steps at which a gate is below 0.1 and above 0.9, a point a unit"),
    make("div", { class: "columns" }, ...squares.map((one, n) => make("div", {}, one, savers(`saturation-${n}`, () => one)))),
    make("p", { class: "note" }, "A. Karpathy, J. Johnson, L. Fei-Fei 2015, arXiv 1506.02078. A point on the right remembers, copies or shows nearly always, one at the top nearly never."),
    make("h2", {}, "Gradients through time"), make("div", { class: "scroll" }, fading, savers("gradients", () => fading))];
}

function square(gate, left, right, unit) {
  const picture = svg("svg", { width: SIDE + 40, height: SIDE + 50, viewBox: `0 0 ${SIDE + 40} ${SIDE + 50}`, role: "img", "aria-label": `saturation of the ${NAMES[gate]}` },
    svg("text", { x: 30, y: 14 }, NAMES[gate]), svg("rect", { x: 30, y: 20, width: SIDE, height: SIDE, fill: "none", stroke: "var(--line)" }),
    svg("text", { x: 30, y: SIDE + 36 }, "share above 0.9 →"), svg("text", { x: 12, y: SIDE, transform: `rotate(-90 12 ${SIDE})` }, "share below 0.1 →"));
  left.forEach((low, n) => picture.append(svg("circle", {
    cx: 30 + SIDE * right[n], cy: 20 + SIDE * (1 - low), r: n === unit ? 6 : 3, fill: n === unit ? "var(--high)" : `var(--${gate})`,
    opacity: 0.7, "data-unit": n, onclick: () => look({ unit: n }),
  }, svg("title", {}, `unit ${n}: ${right[n]} above, ${low} below`))));
  return picture;
}
