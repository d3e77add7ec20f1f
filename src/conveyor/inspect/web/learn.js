// What the equations say, one part after the other, each drawn of the text that is being looked at.

import { look } from "conveyor/app.js";
import { ask, steps, values } from "conveyor/source.js";
import { chart, colour, make, number, savers, shown, svg } from "conveyor/draw.js";

export const title = "Learn";
const WIDE = 24, BOX = 46;

export async function draw({ about, r, layer: n, unit, step }, recording, layer) {
  const first = Math.floor(step / WIDE) * WIDE, last = Math.min(layer.steps, first + WIDE);
  const [{ labels }, lesson, flow] = await Promise.all([
    steps(about, r, first, last, n), ask("lesson", { r, layer: n, unit, first, last }), ask("flow", { r, layer: n })]);
  const of = Object.fromEntries(await Promise.all(about.quantities.map(async (q) => [q, (await values(about, r, n, q, first, last)).map((row) => row[unit])])));
  const now = Math.max(0, Math.min(step - first, labels.length - 1));
  const rows = (...lanes) => unrolled(labels, lanes, now, (t) => look({ step: first + t }));
  const c0 = of.c[layer.reverse ? now + 1 : now - 1] ?? lesson.c_before;
  const chapter = (name, text, figure, ...more) => make("section", {}, make("h2", {}, name), make("p", { class: "note" }, text), make("div", { class: "scroll" }, figure, savers(name.replaceAll(/\W+/g, "-"), () => figure)), ...more);
  const equation = (text) => make("p", { class: "equation" }, text);
  const [x, h, b] = lesson.rnn_sums[now];
  return [
    make("p", { class: "note" }, `The figures are of steps ${first} to ${last - 1} and of unit ${unit}; choose others, or read a text of your own under Sequence, and they are drawn anew.`),
    chapter("1. A loop", "A recurrent network reads a sequence a step at a time, and what it makes of a step goes into the next. Unrolled, the loop is a chain: the same weights in every box, and h, the state, along the arrow. This is an untrained plain RNN of this layer's size.",
      rows({ q: "h", values: lesson.rnn, forward: true }), equation(`h_t = tanh(W x_t + U h_{t-1} + b) = tanh(${number(x)} + ${number(h)} + ${number(b)}) = ${number(lesson.rnn[now])}`)),
    chapter("2. What fades", "To learn that the first word matters for the last, the error must find its way back through every box between. In a plain RNN each box shrinks it, again and again; along a belt it only meets the forget gates.",
      chart("|dy_T / dx_s| relative to s = T: ink this layer, blue an untrained LSTM, orange an untrained plain RNN",
        Object.entries(flow).map(([name, y], k) => ({ name, color: ["var(--c)", "var(--f)", "var(--i)"][k], y })), { low: 1e-9, log: true, height: 150, step: 5 })),
    chapter("3. A belt, and a gate that forgets", "The LSTM carries a cell state c past its boxes like a conveyor belt. At each step the forget gate f, between 0 and 1, says how much of what lies on it stays.",
      rows({ q: "f", values: of.f }, { q: "c", values: of.c, forward: true }), equation(`f_t c_{t-1} = ${number(of.f[now])} × ${number(c0)} = ${number(of.f[now] * c0)} stays`)),
    chapter("4. A gate that lets in", "A candidate g is made of what is read, and the input gate i says how much of it is put on the belt.",
      rows({ q: "i", values: of.i }, { q: "g", values: of.g }, { q: "c", values: of.c, forward: true }),
      equation(`c_t = f_t c_{t-1} + i_t g_t = ${number(of.f[now] * c0)} + ${number(of.i[now])} × ${number(of.g[now])} = ${number(of.c[now])}`)),
    chapter("5. A gate that shows", "What lies on the belt need not be seen at once: the output gate o says how much of it goes out as h, to the layer above and into the next step's gates.",
      rows({ q: "c", values: of.c, forward: true }, { q: "o", values: of.o }, { q: "h", values: of.h, forward: true }),
      equation(`h_t = o_t tanh(c_t) = ${number(of.o[now])} × ${number(Math.tanh(of.c[now]))} = ${number(of.h[now])}`)),
    chapter("6. Two directions", "Where all of a sequence is there to be read, a second layer may read it from its end, and each step knows what came before and what comes after. Here this layer's own weights read the same steps both ways.",
      rows({ q: "h", values: lesson.forward, forward: true }, { q: "h", values: lesson.backward, forward: false })),
  ];
}

// A chain of boxes a lane, coloured by their values; arrows where a lane goes on from step to step.
function unrolled(labels, lanes, now, pick) {
  const width = 40 + labels.length * BOX, height = 30 + lanes.length * 44;
  const picture = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `unrolled: ${lanes.map(({ q }) => q).join(", ")}` });
  lanes.forEach(({ q, values, forward }, k) => {
    const y = 6 + k * 44;
    picture.append(svg("text", { x: 4, y: y + 21 }, q));
    values.forEach((value, t) => {
      const x = 26 + t * BOX, [red, green, blue] = colour(q, value), dark = 0.3 * red + 0.6 * green + 0.1 * blue < 130;
      if (forward !== undefined && t < values.length - 1) picture.append(svg("path", { d: `M${x + 36} ${y + 16} h8`, stroke: "var(--ink)" }),
        svg("path", { d: forward ? `M${x + 46} ${y + 16} l-5 -4 v8 z` : `M${x + 35} ${y + 16} l5 -4 v8 z`, fill: "var(--ink)" }));
      picture.append(svg("rect", { x, y, width: 36, height: 32, rx: 4, fill: `rgb(${red} ${green} ${blue})`, stroke: t === now ? "var(--high)" : "var(--line)", "stroke-width": t === now ? 3 : 1, onclick: () => pick(t) }),
        svg("text", { x: x + 4, y: y + 20, style: `fill: ${dark ? "#fff" : "#111"}; font-size: 11px; pointer-events: none` }, value.toFixed(2)));
    });
  });
  labels.forEach((label, t) => picture.append(svg("text", { x: 30 + t * BOX, y: height - 8, class: "mono" }, shown(label).slice(0, 5))));
  return picture;
}
