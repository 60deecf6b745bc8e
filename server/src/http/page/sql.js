// Statements, their results, and a chart of them.

import { brief, duration, el, get, plural, post, tellLive } from "./base.js";
import { chart } from "./chart.js";

const MOST_SERIES = 8;
// What was typed outlives a look at another page, and nothing else.
let text =
  "SELECT state, count(*) AS queries, avg(elapsed_ms) AS mean_ms\n" +
  "FROM system.queries\nGROUP BY state\nORDER BY queries DESC";
let user = "",
  queue = "";

export function sqlPage(page, session) {
  let running = null;
  const editor = el("textarea", {
    id: "editor",
    spellcheck: "false",
    autocapitalize: "off",
    "aria-label": "SQL",
    text,
    oninput: () => {
      text = editor.value;
    },
  });
  const run = el("button", { class: "main", type: "button", text: "Run", onclick: start });
  const stop = el("button", { type: "button", text: "Cancel", disabled: true, onclick: () => running?.abort() });
  const status = el("span", { class: "quiet", role: "status" });
  const queues = el(
    "select",
    {
      onchange: event => {
        queue = event.target.value;
      },
    },
    el("option", { value: "", text: "my own" }),
  );
  const name = el("input", {
    size: 10,
    placeholder: session.user,
    value: user,
    oninput: event => {
      user = event.target.value;
    },
  });
  const results = el("div");
  page.append(
    el("h1", { text: "SQL" }),
    editor,
    el(
      "div",
      { class: "row" },
      run,
      stop,
      el("kbd", { text: "Ctrl+Enter" }),
      status,
      el(
        "span",
        { class: "push row" },
        session.is_monitor && el("label", {}, "queue", queues),
        !session.asks_for_passwords && el("label", {}, "as user", name),
      ),
    ),
    results,
  );
  editor.addEventListener("keydown", event => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      start();
    }
  });
  if (session.is_monitor) listQueues(queues);
  tellLive("", "ready");
  editor.focus();

  async function start() {
    if (running) return;
    running = new AbortController();
    const began = performance.now();
    const clock = setInterval(() => tell(), 100);
    let query = null;
    const tell = () => {
      status.textContent = `runs for ${duration(performance.now() - began)} `;
      if (query) status.append(el("a", { href: `#/query/${query}`, text: "see its stages" }));
    };
    run.disabled = true;
    stop.disabled = false;
    results.replaceChildren();
    let ended = null;
    try {
      const body = { sql: editor.value, queue: queue || undefined, user: user || undefined };
      const answer = await post("/api/sql", body, running.signal);
      for await (const line of linesOf(answer.body)) {
        if (line.running) query = line.running;
        if (line.result) results.append(showResult(line.result));
        if (line.error) results.append(showError(line.error, body.sql, editor));
        if (line.done) ended = line.done;
      }
      status.textContent = ended ? `done in ${duration(ended.elapsed_ms)}` : "the answer broke off";
    } catch (error) {
      status.textContent = error.name === "AbortError" ? `cancelled after ${duration(performance.now() - began)}` : "";
      if (error.name !== "AbortError")
        results.append(el("div", { class: "box bad", role: "alert", text: error.message }));
    }
    clearInterval(clock);
    running = null;
    run.disabled = false;
    stop.disabled = true;
  }
  return () => running?.abort();
}

async function listQueues(select) {
  const all = await get("/api/queues").catch(() => []);
  const parents = new Set(all.map(one => one.parent));
  for (const one of all.filter(one => !parents.has(one.queue))) {
    select.append(el("option", { value: one.queue, text: one.queue, selected: one.queue === queue }));
  }
}

/** The JSON objects of an answer, a line each, as they come. */
async function* linesOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) if (line) yield JSON.parse(line);
  }
}

function showError(error, sql, editor) {
  const box = el(
    "div",
    { class: "box bad", role: "alert" },
    el("p", {}, el("strong", { text: `ERROR ${error.state}: ` }), error.message),
  );
  if (error.position) {
    // Positions count characters, as people do, and not what strings are made of.
    const characters = [...sql],
      at = error.position - 1;
    const length = Math.max(
      1,
      characters
        .slice(at)
        .join("")
        .match(/^[\p{L}\p{N}_]+/u)?.[0].length ?? 1,
    );
    const start = characters.slice(0, at).join("").length;
    const lineStart = sql.lastIndexOf("\n", start - 1) + 1,
      lineEnd = sql.indexOf("\n", start);
    const line = lineEnd < 0 ? sql.length : lineEnd,
      number = sql.slice(0, start).split("\n").length;
    box.append(
      el(
        "pre",
        {},
        `LINE ${number}: `,
        sql.slice(lineStart, start),
        el("mark", { text: sql.slice(start, start + length) || " " }),
        sql.slice(Math.min(line, start + length), line),
      ),
    );
    editor.focus();
    editor.setSelectionRange(start, start + length);
  }
  if (error.detail) box.append(el("p", { text: `Detail: ${error.detail}` }));
  if (error.hint) box.append(el("p", {}, el("strong", { text: "Hint: " }), error.hint));
  return box;
}

function showResult(result) {
  const notices = result.notices.map(notice => el("p", { class: "quiet", text: `NOTICE: ${notice}` }));
  if (!result.table)
    return el("div", { class: "box" }, el("p", { text: `${result.tag} · ${duration(result.elapsed_ms)}` }), notices);
  const { columns, rows, cut } = result.table;
  const told = cut ? `the first ${plural(rows.length, "row")}; more are not shown here` : plural(rows.length, "row");
  const body = el("div"),
    section = el("section", { "aria-label": "Result" });
  const show = which => {
    for (const tab of tabs) tab.setAttribute("aria-selected", tab.dataset.view === which);
    body.replaceChildren(which === "chart" ? showChart(columns, rows) : showTable(columns, rows));
  };
  const mayChart = rows.length > 0 && columns.some((column, index) => index > 0 && column.is_number);
  const views = mayChart
    ? [
        ["table", "Table"],
        ["chart", "Chart"],
      ]
    : [["table", "Table"]];
  const tabs = views.map(([view, name]) =>
    el("button", { type: "button", role: "tab", "data-view": view, text: name, onclick: () => show(view) }),
  );
  section.append(
    el(
      "div",
      { class: "row" },
      el("h2", { text: "Result" }),
      el("span", { class: "quiet", text: `${told} · ${duration(result.elapsed_ms)}` }),
      el("a", { href: `#/query/${result.query_id}`, text: "how it ran" }),
      el(
        "span",
        { class: "push row" },
        el("span", { role: "tablist", class: "row" }, tabs),
        el("button", { type: "button", text: "Download CSV", onclick: () => download(columns, rows) }),
      ),
    ),
    ...notices,
    body,
  );
  show("table");
  return section;
}

function showTable(columns, rows) {
  const kind = column => (column.is_number ? "n" : undefined);
  const head = columns.map(column =>
    el("th", { class: kind(column), scope: "col" }, column.name, el("small", { class: "quiet", text: column.type })),
  );
  const lines = rows.map(row =>
    el(
      "tr",
      {},
      row.map((value, index) =>
        value === null
          ? el("td", { class: `null ${kind(columns[index]) ?? ""}`, text: "null" })
          : el("td", { class: kind(columns[index]), text: value, title: value.length > 60 ? value : undefined }),
      ),
    ),
  );
  return el(
    "div",
    { class: "scroll result", tabindex: "0", role: "region", "aria-label": "Rows" },
    el("table", {}, el("thead", {}, el("tr", {}, head)), el("tbody", {}, lines)),
  );
}

/** The first column is the axis, numbers beside it are series. */
function showChart(columns, rows) {
  const series = columns
    .map((column, index) => ({ column, index }))
    .filter(({ column, index }) => index > 0 && column.is_number)
    .slice(0, MOST_SERIES)
    .map(({ column, index }, colour) => ({
      name: column.name,
      colour,
      values: rows.map(row => (row[index] === null ? null : Number(row[index]))),
    }));
  const isTime = /^(date|timestamp)/.test(columns[0].type),
    isNumber = columns[0].is_number;
  const instants = rows.map(row => (isNumber ? Number(row[0]) : isTime ? Date.parse(row[0]?.replace(" ", "T")) : NaN));
  const isOrdered = instants.every((at, index) => Number.isFinite(at) && (index === 0 || at > instants[index - 1]));
  const holder = el("div");
  const draw = form => {
    for (const button of forms) button.setAttribute("aria-pressed", button.dataset.form === form);
    const isLines = form === "lines" && isOrdered;
    picture.replaceChildren(
      chart({
        title: `${series.map(one => one.name).join(", ")} by ${columns[0].name}`,
        form,
        series,
        x: isLines ? instants : rows.map(row => row[0] ?? "null"),
        atX: isLines && isTime ? at => rows[instants.indexOf(at)]?.[0] ?? "" : isLines ? brief : String,
      }),
    );
  };
  const picture = el("div");
  const forms = [
    ["lines", "Lines"],
    ["columns", "Columns"],
  ].map(([form, name]) => el("button", { type: "button", "data-form": form, text: name, onclick: () => draw(form) }));
  holder.append(el("div", { class: "row", role: "group", "aria-label": "Form" }, forms), picture);
  draw(isOrdered && rows.length > 2 ? "lines" : "columns");
  return holder;
}

function download(columns, rows) {
  const cell = value =>
    value === null ? "" : /[",\r\n]/.test(value) || value === "" ? `"${value.replaceAll('"', '""')}"` : value;
  const lines = [columns.map(column => cell(column.name)), ...rows.map(row => row.map(cell))].map(line =>
    line.join(","),
  );
  const url = URL.createObjectURL(new Blob([`${lines.join("\r\n")}\r\n`], { type: "text/csv" }));
  const link = el("a", { href: url, download: "result.csv" });
  link.click();
  // The browser has it by then.
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
