// Small tools: elements, SVG, colours, and figures that a reader takes home.

export function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

export const shown = (label) => label.replaceAll(" ", "␣").replaceAll("\n", "⏎").replaceAll("\t", "⇥");
export const number = (x, digits = 4) => (x === null || x === undefined ? "–" : x.toFixed(digits));

const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function mixed(from, to, share) {
  return from.map((part, k) => Math.round(part + (to[k] - part) * share));
}

function rgb(name) {
  const hex = style(name).replace("#", "");
  const long = hex.length === 3 ? [...hex].map((c) => c + c).join("") : hex;
  return [0, 2, 4].map((at) => parseInt(long.slice(at, at + 2), 16));
}

// 256 colours for a quantity, from its least to its largest: signed about the paper, or a share of the ink.
export function palette(signed) {
  const paper = rgb("--paper"), [low, high] = [rgb("--low"), rgb("--high")];
  return Array.from({ length: 256 }, (_, n) => {
    if (!signed) return mixed(paper, low, n / 255);
    const x = n / 127.5 - 1;
    return mixed(paper, x < 0 ? low : high, Math.sqrt(Math.abs(x)));
  });
}

export const signed = (q) => !"ifo".includes(q);
export const scale = (q) => (q === "c" || q === "x" ? 3 : 1);   // values beyond are as strong as these

export function colour(q, value) {
  const at = signed(q) ? (value / scale(q) + 1) / 2 : value;
  return palette(signed(q))[Math.max(0, Math.min(255, Math.round(at * 255)))];
}

// A line chart: curves are { name, color, y: numbers or nulls }.
export function chart(title, curves, { labels = [], low, high, height = 110, log = false, now = -1, pick, step = 14 } = {}) {
  const count = Math.max(...curves.map((one) => one.y.length));
  const width = Math.max(60 + 6.6 * title.length, 50 + count * step);
  const all = curves.flatMap((one) => one.y).filter((y) => y !== null && Number.isFinite(y));
  const bottom = low ?? Math.min(0, ...all), top = high ?? Math.max(...all, bottom + 1e-9);
  const place = log
    ? (y) => (Math.log10(Math.max(y, 1e-12)) - Math.log10(Math.max(bottom, 1e-12))) /
             (Math.log10(top) - Math.log10(Math.max(bottom, 1e-12)))
    : (y) => (y - bottom) / (top - bottom);
  const x = (t) => 46 + t * step, y = (v) => 20 + (height - 24) * (1 - place(v));
  const picture = svg("svg", { width, height: height + 18, viewBox: `0 0 ${width} ${height + 18}`, role: "img", "aria-label": title });
  picture.append(svg("text", { x: 46, y: 13 }, title));
  for (const value of [bottom, top]) {
    picture.append(svg("text", { x: 2, y: y(value) + 4 }, Math.abs(value) < 0.01 && value ? value.toExponential(0) : String(+value.toFixed(2))));
    picture.append(svg("line", { x1: 46, x2: width, y1: y(value), y2: y(value), stroke: "var(--line)" }));
  }
  if (now >= 0) picture.append(svg("rect", { x: x(now) - step / 2, y: 18, width: step, height: height - 18, fill: "var(--mark)", opacity: 0.6 }));
  for (const { name, color, y: values } of curves) {
    const points = values.map((v, t) => (v === null ? null : `${x(t).toFixed(1)},${y(Math.max(bottom, Math.min(top, v))).toFixed(1)}`));
    picture.append(svg("polyline", { points: points.filter(Boolean).join(" "), fill: "none", stroke: color, "stroke-width": 1.8, "data-curve": name }));
  }
  const names = labels.map((label) => shown(label.length > 1 ? label.trim() : label).slice(0, 12));
  const every = Math.ceil(Math.max(1, ...names.map((one) => one.length)) * 8 / step);   // as many as there is room for
  names.forEach((one, t) => t % every || picture.append(svg("text", { x: x(t) - 4, y: height + 12, class: "mono" }, one)));
  if (pick) picture.addEventListener("click", (event) => {
    const at = (event.clientX - picture.getBoundingClientRect().left) * width / picture.getBoundingClientRect().width;
    pick(Math.max(0, Math.min(count - 1, Math.round((at - 46) / step))));
  });
  return picture;
}

// Buttons that save a figure as SVG or PNG.
export function savers(name, find) {
  const save = (content, ending) => {
    const link = make("a", { href: URL.createObjectURL(content), download: `${name}.${ending}` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };
  const asSvg = () => {
    const copy = find().cloneNode(true);
    const root = getComputedStyle(document.documentElement);
    let text = new XMLSerializer().serializeToString(copy);
    text = text.replace(/var\((--[a-z]+)\)/g, (_, variable) => root.getPropertyValue(variable).trim());
    return text.replace(/<svg /, `<svg style="font:12px sans-serif;fill:${style("--ink")};background:${style("--paper")}" `);
  };
  const asPng = async () => {
    const found = find();
    if (found instanceof HTMLCanvasElement) return found.toBlob((blob) => save(blob, "png"));
    const image = new Image();
    image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(asSvg())}`;
    await image.decode();
    const canvas = make("canvas", { width: 2 * image.width, height: 2 * image.height });
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    canvas.toBlob((blob) => save(blob, "png"));
  };
  const isCanvas = find() instanceof HTMLCanvasElement;
  return make("span", { class: "savers" },
    ...(isCanvas ? [] : [make("button", { onclick: () => save(new Blob([asSvg()], { type: "image/svg+xml" }), "svg") }, "SVG")]), " ",
    make("button", { onclick: asPng }, "PNG"));
}
