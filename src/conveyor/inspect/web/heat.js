// A heat map, units by steps, that is as quick with ten thousand steps of a thousand units as with ten of ten:
// blocks of 256 steps become pictures once, at the level whose steps are about a pixel wide.

import { block } from "conveyor/source.js";
import { make, palette, scale, signed } from "conveyor/draw.js";

const MOST = 300;   // pictures at hand

export class Heat {
  constructor(about, r, layer, { chosen, spanned, failed }) {
    Object.assign(this, { about, r, layer, chosen, spanned, failed });
    this.shape = about.recordings[r].layers[layer];
    this.order = Int32Array.from({ length: this.shape.units }, (_, n) => n);
    this.q = "c";
    this.pictures = new Map();
    this.canvas = make("canvas", { class: "heat", tabindex: "0", role: "img",
      "aria-label": "heat map of units by steps; arrow keys move, plus and minus zoom" });
    this.from = 0;
    this.span = null;
    this.now = -1;
    this.unit = -1;
    this.frames = 0;
    this.listen();
    new ResizeObserver(() => this.resize()).observe(this.canvas);
  }

  show({ q = this.q, order = this.order } = {}) {
    if (q !== this.q || order !== this.order) this.pictures.clear();
    Object.assign(this, { q, order });
    this.colours = palette(signed(this.q));
    this.draw();
  }

  resize() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (!width) return;
    [this.canvas.width, this.canvas.height] = [width, height];
    this.least = Math.min(24, width / this.shape.steps);
    this.step = Math.max(this.least, Math.min(24, this.step ?? 24));
    this.row = Math.max(height / this.shape.units, this.row ?? 0);
    this.top = this.top ?? 0;
    this.colours = palette(signed(this.q));
    this.draw();
  }

  draw() {
    if (this.pending) return;
    this.pending = requestAnimationFrame(() => { this.pending = 0; this.paint(); });
  }

  paint() {
    if (!this.step) return;   // not on the page yet
    const { canvas, about, shape } = this, context = canvas.getContext("2d");
    this.from = Math.max(0, Math.min(this.from, shape.steps - canvas.width / this.step));
    this.top = Math.max(0, Math.min(this.top, shape.units - canvas.height / this.row));
    const level = Math.max(0, Math.min(about.levels, Math.floor(Math.log2(1 / this.step))));
    const wide = about.block * 2 ** level;
    context.imageSmoothingEnabled = this.step < 1 || this.row < 1;
    context.clearRect(0, 0, canvas.width, canvas.height);
    const last = Math.min(shape.steps, this.from + canvas.width / this.step);
    for (let n = Math.floor(this.from / wide); n * wide < last; n++) {
      const picture = this.picture(level, n);
      if (!picture) continue;
      const x = (n * wide - this.from) * this.step;
      const steps = Math.min(wide, shape.steps - n * wide);
      context.drawImage(picture, x, -this.top * this.row, steps * this.step, shape.units * this.row);
    }
    context.lineWidth = 2;
    if (this.span) this.frame(context, this.span[0], this.span[1], 0, shape.units, "#009e73");
    if (this.now >= 0) this.frame(context, this.now, this.now + 1, 0, shape.units, "#e69f00");
    if (this.unit >= 0) this.frame(context, 0, shape.steps, this.place(this.unit), this.place(this.unit) + 1, "#e69f00");
    this.frames++;
  }

  frame(context, first, last, top, bottom, colour) {
    context.strokeStyle = colour;
    context.strokeRect((first - this.from) * this.step, (top - this.top) * this.row, (last - first) * this.step, (bottom - top) * this.row);
  }

  place(unit) { return this.order.indexOf(unit); }

  picture(level, n) {
    const name = `${level}/${n}`, held = this.pictures.get(name);
    if (held !== undefined) return held;
    this.pictures.set(name, null);
    if (this.pictures.size > MOST) this.pictures.delete(this.pictures.keys().next().value);
    const { q, order } = this;
    block(this.r, this.layer, q, level, n).then((values) => {
      if (q === this.q && order === this.order) this.pictures.set(name, this.painted(values));
      this.draw();
    }).catch((error) => this.failed(error));
    return null;
  }

  painted(values) {
    const units = this.shape.units, steps = values.length / units, wide = scale(this.q), both = signed(this.q);
    const image = new ImageData(steps, units), pixels = new Uint32Array(image.data.buffer);
    const colours = Uint32Array.from(this.colours, ([r, g, b]) => (255 << 24) | (b << 16) | (g << 8) | r);
    for (let t = 0; t < steps; t++) {
      for (let row = 0; row < units; row++) {
        const value = values[t * units + this.order[row]];
        const at = Math.round(255 * (both ? (value / wide + 1) / 2 : value));
        pixels[row * steps + t] = colours[at < 0 ? 0 : at > 255 ? 255 : at];
      }
    }
    const picture = make("canvas", { width: steps, height: units });
    picture.getContext("2d").putImageData(image, 0, 0);
    return picture;
  }

  at(event) {
    const box = this.canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    const t = Math.floor(this.from + x / this.step), row = Math.floor(this.top + y / this.row);
    return { x, y, t: Math.max(0, Math.min(this.shape.steps - 1, t)), unit: this.order[Math.max(0, Math.min(this.shape.units - 1, row))] };
  }

  zoom(factor, x = this.canvas.width / 2, rows = false, y = this.canvas.height / 2) {
    if (rows) {
      const row = this.top + y / this.row;
      this.row = Math.max(this.canvas.height / this.shape.units, Math.min(40, this.row * factor));
      this.top = row - y / this.row;
    } else {
      const t = this.from + x / this.step;
      this.step = Math.max(this.least, Math.min(60, this.step * factor));
      this.from = t - x / this.step;
    }
    this.draw();
  }

  listen() {
    let start = null;
    this.canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      const { x, y } = this.at(event);
      this.zoom(Math.exp(-event.deltaY / 300), x, event.shiftKey, y);
    }, { passive: false });
    this.canvas.addEventListener("pointerdown", (event) => {
      this.canvas.setPointerCapture(event.pointerId);
      start = { ...this.at(event), from: this.from, top: this.top, selects: event.shiftKey };
    });
    this.canvas.addEventListener("pointermove", (event) => {
      if (!start) return;
      const here = this.at(event);
      if (start.selects) this.span = [Math.min(start.t, here.t), Math.max(start.t, here.t) + 1];
      else [this.from, this.top] = [start.from - (here.x - start.x) / this.step, start.top - (here.y - start.y) / this.row];
      this.draw();
    });
    this.canvas.addEventListener("pointerup", (event) => {
      const here = this.at(event), moved = start && Math.hypot(here.x - start.x, here.y - start.y) > 3;
      if (start && start.selects) this.spanned(this.span ?? [here.t, here.t + 1]);
      else if (start && !moved) this.chosen(here.t, here.unit);
      start = null;
    });
    this.canvas.addEventListener("keydown", (event) => {
      if (event.key === "+") this.zoom(1.5);
      if (event.key === "-") this.zoom(1 / 1.5);
    });
  }

  // Frames a second while it glides and zooms for so many milliseconds.
  async measure(time = 1500) {
    const { from, step } = this, began = performance.now();
    this.frames = 0;
    for (;;) {
      const t = await new Promise((done) => requestAnimationFrame(done));
      const share = (t - began) / time;
      if (share >= 1) break;
      this.step = Math.max(this.least, this.least * 8 ** Math.abs(Math.sin(Math.PI * share * 2)));
      this.from = (this.shape.steps - this.canvas.width / this.step) * Math.abs(Math.sin(Math.PI * share));
      this.paint();
    }
    const rate = this.frames / (performance.now() - began) * 1000;
    Object.assign(this, { from, step });
    this.draw();
    return rate;
  }
}
