// Lines and columns over a common axis.

import { brief, el, room, svg } from "./base.js";

const FRAME = { height: 280, left: 62, right: 16, top: 12, bottom: 30 };
export const COLOURS = 8;

/** Round numbers from at most `low` to at least `high`. */
export function scale(low, high, pieces = 5) {
  if (!(high > low)) high = low + 1;
  const raw = (high - low) / pieces,
    power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map(factor => factor * power).find(candidate => candidate >= raw * 0.999);
  const marks = [];
  for (let at = Math.floor(low / step) * step; at < high + step * 0.999; at += step) marks.push(at);
  return marks;
}

/**
 * A chart with a legend that turns series on and off, and a line under it that reads the values at the pointer; arrow
 * keys move the pointer.
 *
 * `x` are the places; each series has a `name`, a `colour` and `values`, one for each place or null. `form` is `lines`
 * or `columns`; `atX` and `atY` write a place and a value.
 */
export function chart({
  title,
  x,
  series,
  form = "lines",
  atX = String,
  atY = brief,
  low = null,
  high = null,
  hidden = new Set(),
}) {
  const holder = el("figure", { class: "chart" }),
    readout = el("div", { class: "readout", "aria-live": "polite" });
  holder.style.margin = "0";
  const legend = el(
    "ul",
    { class: "legend", "aria-label": "Series" },
    series.map(one =>
      el(
        "li",
        {},
        el(
          "button",
          {
            type: "button",
            class: `c${one.colour % COLOURS}`,
            "aria-pressed": !hidden.has(one.name) ? "true" : "false",
            onclick: event => {
              hidden.has(one.name) ? hidden.delete(one.name) : hidden.add(one.name);
              event.currentTarget.setAttribute("aria-pressed", hidden.has(one.name) ? "false" : "true");
              draw();
            },
          },
          el("span", { class: "swatch" }),
          one.name,
        ),
      ),
    ),
  );
  const box = el("div", { class: "scroll" });
  holder.append(legend, box, readout);
  draw();
  return holder;

  function draw() {
    const shown = series.filter(one => !hidden.has(one.name));
    const values = shown.flatMap(one => one.values).filter(Number.isFinite);
    const least = low ?? Math.min(0, ...values),
      most = high ?? Math.max(...values, least);
    const marks = scale(least, most),
      bottom = marks[0],
      top = marks.at(-1);
    const width = room();
    const inner = width - FRAME.left - FRAME.right,
      tall = FRAME.height - FRAME.top - FRAME.bottom;
    const isBanded = form === "columns",
      band = inner / Math.max(1, x.length);
    const numeric = !isBanded && x.every(Number.isFinite);
    const [from, to] = [x[0], x.at(-1)];
    const px = index => {
      if (isBanded) return FRAME.left + band * (index + 0.5);
      const part =
        numeric && to !== from ? (x[index] - from) / (to - from) : x.length > 1 ? index / (x.length - 1) : 0.5;
      return FRAME.left + inner * part;
    };
    const py = value => FRAME.top + tall * (1 - (value - bottom) / (top - bottom));
    const every = Math.max(1, Math.ceil(x.length / (isBanded ? Math.min(24, inner / 70) : 8)));
    const cursor = svg("line", {
      class: "cursor",
      y1: FRAME.top,
      y2: FRAME.height - FRAME.bottom,
      visibility: "hidden",
    });
    const parts = shown.map(one =>
      svg(
        "g",
        { class: `c${one.colour % COLOURS}` },
        isBanded ? columns(one, shown, band, px, py, bottom) : lines(one, px, py),
      ),
    );
    const picture = svg(
      "svg",
      {
        width: width,
        height: FRAME.height,
        viewBox: `0 0 ${width} ${FRAME.height}`,
        role: "img",
        tabindex: "0",
        "aria-label": title,
      },
      svg("title", { text: title }),
      svg("desc", {
        text: `${shown.map(one => one.name).join(", ")} at ${x.length} places from ${atX(from)} to ${atX(to)}`,
      }),
      marks.map(mark =>
        svg(
          "g",
          {},
          svg("line", { class: "axis", x1: FRAME.left, x2: width - FRAME.right, y1: py(mark), y2: py(mark) }),
          svg("text", {
            class: "small quiet",
            x: FRAME.left - 8,
            y: py(mark) + 4,
            "text-anchor": "end",
            text: atY(mark),
          }),
        ),
      ),
      x.map(
        (place, index) =>
          index % every === 0 &&
          svg("text", {
            class: "small quiet",
            x: px(index),
            y: FRAME.height - 10,
            "text-anchor": "middle",
            text: shorten(atX(place)),
          }),
      ),
      parts,
      cursor,
    );
    let pointed = -1;
    const point = index => {
      pointed = Math.max(0, Math.min(x.length - 1, index));
      cursor.setAttribute("visibility", "visible");
      cursor.setAttribute("x1", px(pointed));
      cursor.setAttribute("x2", px(pointed));
      readout.textContent = [
        atX(x[pointed]),
        ...shown.map(one => `${one.name} ${one.values[pointed] === null ? "–" : atY(one.values[pointed])}`),
      ].join("   ");
    };
    picture.addEventListener("pointermove", event => {
      const at = picture.getBoundingClientRect(),
        where = ((event.clientX - at.left) * width) / at.width;
      let nearest = 0;
      for (let index = 1; index < x.length; index += 1) {
        if (Math.abs(px(index) - where) < Math.abs(px(nearest) - where)) nearest = index;
      }
      point(nearest);
    });
    picture.addEventListener("keydown", event => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (step) {
        event.preventDefault();
        point(pointed < 0 ? x.length - 1 : pointed + step);
      }
    });
    box.replaceChildren(picture);
  }
}

const shorten = text => (text.length > 14 ? `${text.slice(0, 13)}…` : text);

function lines(one, px, py) {
  // A value that is not there is a gap.
  let path = "",
    isDrawing = false;
  const alone = [];
  one.values.forEach((value, index) => {
    if (!Number.isFinite(value)) {
      isDrawing = false;
      return;
    }
    path += `${isDrawing ? "L" : "M"}${px(index).toFixed(1)} ${py(value).toFixed(1)}`;
    if (!isDrawing && !Number.isFinite(one.values[index + 1])) alone.push([px(index), py(value)]);
    isDrawing = true;
  });
  return [
    svg("path", { class: "series", d: path }),
    ...alone.map(([cx, cy]) => svg("circle", { class: "dot", cx, cy, r: 3 })),
  ];
}

function columns(one, shown, band, px, py, bottom) {
  const thick = Math.max(1, (band * 0.76) / shown.length),
    place = shown.indexOf(one),
    ground = py(Math.max(0, bottom));
  return one.values.map((value, index) => {
    if (!Number.isFinite(value)) return null;
    const x = px(index) - band * 0.38 + place * thick,
      y = Math.min(py(value), ground);
    return svg("rect", {
      class: "column",
      x: x.toFixed(1),
      y: y.toFixed(1),
      width: Math.max(1, thick - 1).toFixed(1),
      height: Math.max(0.5, Math.abs(py(value) - ground)).toFixed(1),
    });
  });
}
