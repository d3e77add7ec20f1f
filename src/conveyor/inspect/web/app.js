// The page: what is looked at, and the views that show it.

import { ask, forget, offline, open, read } from "conveyor/source.js";
import { make } from "conveyor/draw.js";
import * as sequence from "conveyor/sequence.js";
import * as belt from "conveyor/belt.js";
import * as map from "conveyor/map.js";
import * as units from "conveyor/units.js";
import * as memory from "conveyor/memory.js";
import * as saturation from "conveyor/saturation.js";
import * as compare from "conveyor/compare.js";
import * as learn from "conveyor/learn.js";

const VIEWS = [sequence, belt, map, units, memory, saturation, compare, learn];
const find = (id) => document.getElementById(id);

// What all views share: the recording r, the layer, unit and step looked at, a span of steps.
export const state = { about: null, r: 0, layer: 0, unit: 0, step: 0, span: null, view: sequence };

export const recording = () => state.about.recordings[state.r];
export const layer = () => recording().layers[state.layer];
export const say = (message) => { find("message").textContent = message instanceof Error ? message.message : message; };

let drawing = 0;

export async function look(changes = {}) {
  Object.assign(state, changes);
  state.r = Math.min(state.r, state.about.recordings.length - 1);
  state.layer = Math.min(state.layer, recording().layers.length - 1);
  state.unit = Math.max(0, Math.min(state.unit, layer().units - 1));
  state.step = Math.max(0, Math.min(state.step, layer().steps - 1));
  for (const tab of find("tabs-of-views")?.children ?? []) tab.setAttribute("aria-selected", tab.dataset.view === state.view.title);
  choices(find("recording"), state.about.recordings.map((one) => one.title), state.r);
  choices(find("layer"), recording().layers.map((one) => one.name), state.layer);
  find("unit").value = state.unit;
  find("unit").max = layer().units - 1;
  location.replace(`#view=${encodeURIComponent(state.view.title)}&r=${state.r}&layer=${state.layer}&unit=${state.unit}&step=${state.step}`);
  const mine = ++drawing;
  try {
    say("");
    const made = await state.view.draw(state, recording(), layer());
    if (mine === drawing && made) find("view").replaceChildren(...made);
    document.body.dataset.drawn = state.view.title;
  } catch (error) {
    if (mine !== drawing) return;
    say(error);
    find("view").replaceChildren();   // not what another view has drawn
  }
}

// What is answered, or null where it cannot be, which is said: the rest of a view stays.
export const tried = (answer) => answer.catch((error) => (say(error), null));

function choices(select, names, chosen) {
  select.replaceChildren(...names.map((name, n) => make("option", { value: n }, name)));
  select.value = chosen;
}

export async function typed(text) {
  try {
    const r = await read(text);
    state.about = await ask("about", { again: Date.now() });
    await look({ r, step: 0, span: null });
  } catch (error) { say(error); }
}

function press(event) {
  if (["INPUT", "SELECT", "TEXTAREA"].includes(event.target.tagName) || event.ctrlKey || event.metaKey) return;
  const moves = { ArrowLeft: { step: state.step - 1 }, ArrowRight: { step: state.step + 1 },
                  ArrowUp: { unit: state.unit - 1 }, ArrowDown: { unit: state.unit + 1 } };
  if (event.key in moves) { event.preventDefault(); look(moves[event.key]); }
  else if (VIEWS[event.key - 1]) look({ view: VIEWS[event.key - 1] });
  else if (event.key === "d") theme();
}

function theme() {
  document.documentElement.classList.toggle("dark");
  look();
}

async function follow() {
  if (offline()) return;
  try {
    const fresh = await (await fetch("api/about")).json();
    if (fresh.version !== state.about.version) {
      forget();
      state.about = fresh;
      await look();
    }
  } catch { say("The program that serves this page has ended."); }
}

async function begin() {
  await open();
  state.about = await ask("about");
  find("run").textContent = state.about.run;
  if (matchMedia("(prefers-color-scheme: dark)").matches) document.documentElement.classList.add("dark");
  document.querySelector("nav").id = "tabs-of-views";
  find("tabs-of-views").append(...VIEWS.map((view, n) => make("button",
    { role: "tab", "data-view": view.title, title: `key ${n + 1}`, onclick: () => look({ view }) }, view.title)));
  find("recording").addEventListener("change", (event) => look({ r: +event.target.value, step: 0, span: null }));
  find("layer").addEventListener("change", (event) => look({ layer: +event.target.value }));
  find("unit").addEventListener("change", (event) => look({ unit: +event.target.value }));
  find("theme").addEventListener("click", theme);
  document.addEventListener("keydown", press);
  const asked = new URLSearchParams(location.hash.slice(1));
  const numbers = Object.fromEntries(["r", "layer", "unit", "step"].map((name) => [name, +(asked.get(name) ?? 0) || 0]));
  await look({ ...numbers, view: VIEWS.find((view) => view.title === asked.get("view")) ?? sequence });
  setInterval(follow, 2000);
}

begin().catch(say);
