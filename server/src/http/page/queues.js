// How tenants share the executors, now and over the last minutes.

import { bytes, clock, count, el, get, meter, percent, table, watch } from "./base.js";
import { chart } from "./chart.js";

const SAMPLES_SHOWN = 900;
const QUEUES_DRAWN = 8;
const COLUMNS = [
  ["Queue"],
  ["Weight", "n"],
  ["Dominant share, and its fair one"],
  ["Cores", "n"],
  ["Memory", "n"],
  ["Wanted", "n wide"],
  ["Running", "n"],
  ["Waiting", "n"],
  ["Guarantees and limits", "wide"],
];
const MEASURES = [
  ["share", "Dominant share"],
  ["running_queries", "Queries that run"],
  ["queued_queries", "Queries that wait"],
];

let measure = "share";
const hidden = new Set(["root"]);

export function queuesPage(page) {
  const samples = [],
    colours = new Map();
  const over = el("div"),
    { body, element } = table(COLUMNS, "Queues");
  const buttons = MEASURES.map(([name, text]) =>
    el("button", {
      type: "button",
      "data-measure": name,
      text,
      onclick: () => {
        measure = name;
        draw();
      },
    }),
  );
  page.append(
    el("h1", { text: "Queues" }),
    el(
      "div",
      { class: "row", role: "group", "aria-label": "What is drawn" },
      buttons,
      el("span", { class: "quiet", text: "over the last quarter of an hour" }),
    ),
    over,
    el("h2", { text: "Now" }),
    element,
    el("p", {
      class: "quiet",
      text:
        "A queue's dominant share is its part of whichever resource it holds most of. The bar's mark is " +
        "what it is entitled to among those that want or hold anything. The next offer goes to the smallest share " +
        "by weight.",
    }),
  );

  let drawnFocus = null;
  function draw() {
    for (const button of buttons) button.setAttribute("aria-pressed", button.dataset.measure === measure);
    const names = [...new Set(samples.flatMap(sample => sample.queues.map(queue => queue.queue)))].slice(
      0,
      QUEUES_DRAWN,
    );
    names.forEach(name => {
      if (!colours.has(name)) colours.set(name, colours.size);
    });
    if (samples.length < 2) {
      over.replaceChildren(el("p", { class: "quiet", text: "The first looks are being taken." }));
      return;
    }
    const series = names.map(name => ({
      name,
      colour: colours.get(name),
      values: samples.map(sample => sample.queues.find(queue => queue.queue === name)?.[measure] ?? null),
    }));
    const isShare = measure === "share";
    const focused = over.contains(document.activeElement)
      ? [...over.querySelectorAll("button, svg")].indexOf(document.activeElement)
      : -1;
    over.replaceChildren(
      chart({
        title: MEASURES.find(([name]) => name === measure)[1],
        x: samples.map(sample => sample.at_ms),
        series,
        hidden,
        low: 0,
        high: isShare ? 1 : Math.max(1, ...series.flatMap(one => one.values)),
        atX: clock,
        atY: isShare ? percent : count,
      }),
    );
    if (focused >= 0) over.querySelectorAll("button, svg")[focused]?.focus();
    drawnFocus = focused;
  }

  return watch(async () => {
    const since = samples.at(-1)?.at_ms ?? 0;
    const [queues, news] = await Promise.all([get("/api/queues"), get(`/api/queues/history?since_ms=${since}`)]);
    samples.push(...news);
    samples.splice(0, Math.max(0, samples.length - SAMPLES_SHOWN));
    // A pointer on the chart reads values; it is not drawn away from under it.
    if (drawnFocus === null || !over.matches(":hover")) draw();
    body.replaceChildren(...queues.map(queue => row(queue, colours.get(queue.queue))));
  });
}

function row(queue, colour) {
  const depth = queue.queue.split(".").length - 1,
    name = queue.queue.split(".").at(-1);
  const ofWhat = queue.share > 0 ? ` of ${queue.dominant_resource}` : "";
  const told = `${percent(queue.share)}${ofWhat}, fair share ${percent(queue.fair_share)}`;
  const bounds = [
    queue.guarantee_cpu && `at least ${count(queue.guarantee_cpu)} cores`,
    queue.guarantee_memory_bytes && `at least ${bytes(queue.guarantee_memory_bytes)}`,
    queue.limit_cpu && `at most ${count(queue.limit_cpu)} cores`,
    queue.limit_memory_bytes && `at most ${bytes(queue.limit_memory_bytes)}`,
    queue.max_running !== null && `${count(queue.max_running)} run at a time`,
    queue.max_queued !== null && `${count(queue.max_queued)} wait at a time`,
    queue.queue_timeout_ms !== null && `wait ${count(queue.queue_timeout_ms / 1000)} s at most`,
    queue.users.length && `for ${queue.users.join(", ")}`,
  ].filter(Boolean);
  const label = el(
    "div",
    { class: colour === undefined ? "" : `c${colour % 8}` },
    el("span", { class: "swatch" }),
    name,
  );
  label.style.paddingLeft = `${depth * 1.1}rem`;
  label.title = queue.queue;
  const wanted = queue.wanted_cpu ? `${count(queue.wanted_cpu)} cores, ${bytes(queue.wanted_memory_bytes)}` : "";
  const bar = meter(queue.share, told, queue.fair_share);
  if (colour !== undefined) bar.classList.add(`c${colour % 8}`);
  const cells = [
    label,
    count(queue.weight),
    [el("div", { text: told }), bar],
    count(queue.used_cpu),
    bytes(queue.used_memory_bytes),
    wanted,
    count(queue.running_queries),
    count(queue.queued_queries),
    bounds.join("; "),
  ];
  return el(
    "tr",
    {},
    cells.map((cell, index) => el("td", { class: COLUMNS[index][1] }, cell)),
  );
}
