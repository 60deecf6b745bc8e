// What all pages share: elements, requests, numbers for people, and looking again every second.

/** An element. `attributes` become attributes, but `text` is text and `on...` are listeners. */
export function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "text") element.textContent = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter(child => child !== undefined && child !== null && child !== false));
  return element;
}

/** An answer that is not what was asked for. */
export class Refusal extends Error {
  constructor(status, message) {
    super(message.trim() || `status ${status}`);
    this.status = status;
  }
}

/** What a path answers, as JSON. */
export async function get(path) {
  const answer = await fetch(path, { headers: { accept: "application/json" }, cache: "no-store" });
  if (!answer.ok) throw new Refusal(answer.status, await answer.text());
  return answer.json();
}

/** Has the service do something. */
export async function post(path, body, signal) {
  const headers = { "content-type": "application/json", "x-sluice-request": "1" };
  const answer = await fetch(path, { method: "POST", headers, body: JSON.stringify(body ?? {}), signal });
  if (!answer.ok) throw new Refusal(answer.status, await answer.text());
  return answer;
}

const LIVE_MS = 1000;

/** Calls `look` now and every second while the tab is seen, until the returned function is called. */
export function watch(look, everyMs = LIVE_MS) {
  let timer = null,
    stopped = false,
    busy = false;
  const once = async () => {
    clearTimeout(timer);
    if (stopped || busy) return;
    if (document.hidden) return tellLive("paused", "paused while the tab is hidden");
    busy = true;
    let again = true;
    try {
      again = (await look()) !== false;
      if (!stopped) tellLive("", again ? "live" : "complete");
    } catch (error) {
      if (!stopped) tellLive("lost", error instanceof Refusal ? error.message : "no answer from the service");
    }
    busy = false;
    if (!stopped && again) timer = setTimeout(once, everyMs);
  };
  const seen = () => {
    if (!document.hidden) once();
  };
  document.addEventListener("visibilitychange", seen);
  once();
  return () => {
    stopped = true;
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", seen);
  };
}

export function tellLive(kind, text) {
  const live = document.getElementById("live");
  live.className = `live ${kind}`;
  if (live.textContent !== text) live.textContent = text;
}

/** Children of `parent`, one for each item, kept from call to call by their key so that focus and selection stay. */
export function keyed(parent, items, key, make, update) {
  const old = new Map([...parent.children].map(child => [child.dataset.key, child]));
  let place = parent.firstElementChild;
  for (const item of items) {
    const id = String(key(item));
    let child = old.get(id);
    if (child) old.delete(id);
    else {
      child = make(item);
      child.dataset.key = id;
    }
    update(child, item);
    if (child === place) place = place.nextElementSibling;
    else parent.insertBefore(child, place);
  }
  for (const child of old.values()) child.remove();
}

/** Sets text only if it changes, so that a selection stays. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function duration(ms) {
  if (ms === null || ms === undefined) return "";
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const s = ms / 1000;
  if (s < 60) return `${s.toFixed(s < 10 ? 2 : 1)} s`;
  const minutes = Math.floor(s / 60),
    seconds = Math.floor(s % 60);
  if (minutes < 60) return `${minutes} min ${String(seconds).padStart(2, "0")} s`;
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
}

export function bytes(count) {
  if (count === null || count === undefined) return "";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (count >= 1024 && unit < units.length - 1) {
    count /= 1024;
    unit += 1;
  }
  return `${count.toFixed(unit && count < 100 ? 1 : 0)} ${units[unit]}`;
}

export const count = number => (number === null || number === undefined ? "" : number.toLocaleString("en"));
export const percent = part =>
  part === null || part === undefined ? "" : `${(100 * part).toFixed(part < 0.1 && part > 0 ? 1 : 0)}%`;
export const clock = ms => (ms ? new Date(ms).toLocaleTimeString([], { hour12: false }) : "");
export const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;

/** A number short enough for a picture: 1.2M. */
export function brief(number) {
  const units = [
    [1e12, "T"],
    [1e9, "G"],
    [1e6, "M"],
    [1e3, "k"],
  ];
  const unit = units.find(([size]) => Math.abs(number) >= size);
  if (!unit) return String(Math.round(number * 100) / 100);
  const value = number / unit[0];
  return `${value.toFixed(Math.abs(value) < 10 ? 1 : 0)}${unit[1]}`;
}

/** A bar that shows a part of a whole; `mark` is another part to compare with. */
export function meter(part, label, mark) {
  const width = share => `${Math.min(100, Math.max(0, 100 * (share || 0)))}%`;
  const fillBar = el("i");
  fillBar.style.width = width(part);
  const bar = el("div", { class: "meter", role: "img", "aria-label": label }, fillBar);
  if (mark !== undefined) {
    const tick = el("b", { title: `fair share ${percent(mark)}` });
    tick.style.left = width(mark);
    bar.append(tick);
  }
  return bar;
}

/** A table with a head; `[text, class]` for each column. */
export function table(columns, caption) {
  const head = el(
    "tr",
    {},
    columns.map(([text, kind]) => el("th", { class: kind, scope: "col", text })),
  );
  const body = el("tbody");
  return { body, element: el("table", { "aria-label": caption }, el("thead", {}, head), body) };
}

/** How wide a picture may be that is drawn for the page as it is now. */
export const room = () => Math.max(640, document.getElementById("content").clientWidth - 44);
