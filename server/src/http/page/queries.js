// What runs and what ran.

import { clock, count, duration, el, get, keyed, plural, setText, table, watch } from "./base.js";

const STATES = [
  ["all", "All"],
  ["running", "Running"],
  ["queued", "Waiting"],
  ["failed", "Failed"],
  ["finished", "Finished"],
];
const COLUMNS = [
  ["State"],
  ["Statement"],
  ["User"],
  ["Queue", "wide"],
  ["Runs as", "wide"],
  ["Progress"],
  ["Rows", "n"],
  ["Time", "n"],
  ["Started", "n wide"],
];

let wanted = "all",
  words = "";

export function queriesPage(page, session) {
  let queries = [];
  const chips = STATES.map(([state, text]) =>
    el("button", {
      type: "button",
      "data-state": state,
      text,
      onclick: () => {
        wanted = state;
        draw();
      },
    }),
  );
  const filter = el("input", {
    id: "filter",
    type: "search",
    placeholder: "Filter by statement, user, queue",
    "aria-label": "Filter",
    value: words,
    size: 32,
    oninput: event => {
      words = event.target.value;
      draw();
    },
  });
  const { body, element } = table(COLUMNS, "Queries");
  const empty = el("p", { class: "quiet" });
  const title = session.is_monitor ? "Queries" : "Your queries";
  page.append(
    el("h1", { text: title }),
    el(
      "div",
      { class: "row" },
      el("div", { class: "row", role: "group", "aria-label": "State" }, chips),
      el("span", { class: "push" }, filter, " ", el("kbd", { text: "/" })),
    ),
    element,
    empty,
  );

  function draw() {
    const matches = query =>
      (wanted === "all" || query.state === wanted) &&
      words
        .toLowerCase()
        .split(/\s+/)
        .every(word =>
          `${query.sql} ${query.user} ${query.queue} ${query.id} ${query.error ?? ""}`.toLowerCase().includes(word),
        );
    for (const chip of chips) {
      const state = chip.dataset.state;
      const number = state === "all" ? queries.length : queries.filter(query => query.state === state).length;
      chip.setAttribute("aria-pressed", state === wanted);
      setText(chip, `${STATES.find(([name]) => name === state)[1]} ${number}`);
    }
    const shown = queries.filter(matches);
    keyed(body, shown, query => query.id, makeRow, updateRow);
    setText(
      empty,
      shown.length ? "" : queries.length ? "No query matches." : "Nothing has run since the service started.",
    );
  }

  return watch(async () => {
    queries = await get("/api/queries");
    draw();
  });
}

function makeRow(query) {
  const statement = el(
    "a",
    { class: "stretch", href: `#/query/${query.id}` },
    el("span", { class: "sql", text: query.sql }),
  );
  const cells = COLUMNS.map(([, kind]) => el("td", { class: kind }));
  cells[0].append(el("span", { class: "state" }));
  cells[1].append(statement, el("div", { class: "note" }));
  cells[5].append(el("div", { class: "steps", role: "img" }));
  cells[8].textContent = clock(query.started_ms);
  return el("tr", { class: "link" }, cells);
}

function updateRow(row, query) {
  const [state, statement, user, queue, placement, progress, rows, time] = row.children;
  setText(state.firstChild, query.state === "queued" ? "waiting" : query.state);
  state.firstChild.className = `state ${query.state}`;
  const note = statement.lastChild;
  setText(note, query.error ?? query.waiting ?? "");
  note.className = `note ${query.error ? "bad" : "wait"}`;
  setText(user, query.user);
  setText(queue, query.queue.replace(/^root\./, ""));
  setText(placement, query.placement);
  drawSteps(progress.firstChild, query);
  setText(rows, count(query.rows));
  setText(time, duration(query.elapsed_ms));
}

/** A piece for each stage, filled as far as the stage is. */
export function drawSteps(bar, query) {
  const steps = query.progress;
  keyed(
    bar,
    steps,
    step => step.stage_id,
    () => el("span", {}, el("i")),
    (piece, step) => {
      piece.className = step.state;
      const share = step.total ? step.done / step.total : Number(step.state === "successful");
      piece.firstChild.style.width = `${100 * share}%`;
      piece.title = `stage ${step.stage_id}: ${step.state}, ${step.done} of ${plural(step.total, "partition")}`;
    },
  );
  const done = steps.reduce((sum, step) => sum + step.done, 0),
    total = steps.reduce((sum, step) => sum + step.total, 0);
  bar.setAttribute(
    "aria-label",
    steps.length ? `${done} of ${total} partitions in ${plural(steps.length, "stage")}` : "",
  );
  bar.classList.toggle("hidden", !steps.length);
}
