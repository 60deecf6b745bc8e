// One query: its stages as a graph, their tasks on a time line, and all there is to say of each.

import { bytes, clock, count, duration, el, get, plural, post, setText, table, watch } from "./base.js";
import { drawGraph, timesOver } from "./graph.js";
import { drawSteps } from "./queries.js";
import { drawTimeline } from "./timeline.js";

const TASK_COLUMNS = [
  ["Task"],
  ["State"],
  ["Executor"],
  ["Partitions"],
  ["Data"],
  ["Rows", "n"],
  ["Bytes", "n"],
  ["Spilled", "n"],
  ["Memory", "n wide"],
  ["Start", "n wide"],
  ["Time", "n"],
];
const ENDED = ["finished", "failed"];

export function queryPage(page, session, id) {
  const state = el("span", { class: "state" });
  const stop = el("button", {
    class: "danger hidden",
    type: "button",
    text: "Stop this query…",
    onclick: () => ask.showModal(),
  });
  const steps = el("div", { class: "steps hidden", role: "img" });
  const notes = el("div"),
    facts = el("dl", { class: "facts" }),
    work = el("div"),
    told = el("p", { role: "alert" });
  const sql = el("pre");
  const ask = stopDialog(id, told);
  page.append(
    el("div", { class: "row" }, el("h1", { text: "Query" }), state, el("span", { class: "push" }, stop)),
    steps,
    el("div", { class: "box" }, sql),
    told,
    notes,
    facts,
    work,
    ask,
  );

  let last = "";
  return watch(async () => {
    const query = await get(`/api/queries/${encodeURIComponent(id)}`).catch(error => {
      if (error.status !== 404) throw error;
      setText(told, "This query is not known: the service has started since, or 200 others have ended after it.");
      return null;
    });
    if (!query) return false;
    const text = JSON.stringify(query);
    const hasEnded = ENDED.includes(query.state);
    if (text === last) return !hasEnded;
    last = text;
    setText(state, query.state === "queued" ? "waiting" : query.state);
    state.className = `state ${query.state}`;
    setText(sql, query.sql);
    stop.classList.toggle("hidden", hasEnded || !query.may_cancel);
    if (hasEnded && ask.open) ask.close();
    drawSteps(steps, query);
    drawNotes(notes, query);
    drawFacts(facts, query);
    drawWork(work, query);
    return !hasEnded;
  });
}

function stopDialog(id, told) {
  const close = () => ask.close();
  const sure = el("button", {
    class: "danger",
    type: "button",
    text: "Stop it",
    onclick: async () => {
      close();
      try {
        await post(`/api/queries/${encodeURIComponent(id)}/cancel`);
        told.textContent = "The query was told to stop.";
      } catch (error) {
        told.textContent = `It was not stopped: ${error.message}`;
      }
    },
  });
  const ask = el(
    "dialog",
    { "aria-label": "Stop this query" },
    el("p", { text: "Its client gets an error (57014), and its tasks are stopped. What it has written so far stays." }),
    el(
      "div",
      { class: "row" },
      el("button", { type: "button", text: "Let it run", autofocus: true, onclick: close }),
      sure,
    ),
  );
  return ask;
}

function drawNotes(notes, query) {
  notes.replaceChildren();
  if (query.waiting)
    notes.append(
      el("div", { class: "box wait" }, el("p", {}, el("strong", { text: "Why it waits: " }), query.waiting)),
    );
  if (!query.error) return;
  const [, code, message] = query.error.match(/^(\w{5}) ([\s\S]*)$/) ?? [null, "", query.error];
  notes.append(el("div", { class: "box bad", role: "alert" }, el("pre", { text: `ERROR ${code}: ${message}` })));
}

function drawFacts(facts, query) {
  const sum = key => query.stages.reduce((total, stage) => total + stage[key], 0);
  const all = [
    ["User", query.user],
    ["Queue", query.queue || "none"],
    ["Runs as", query.placement || "not placed yet"],
    ["Started", clock(query.started_ms)],
    ["Time", duration(query.elapsed_ms)],
    ["Rows to the client", count(query.rows)],
    ["Spilled", query.stages.length && bytes(sum("spilled_bytes"))],
    ["Id", query.id],
    ["Job", query.job_id],
  ];
  facts.replaceChildren(
    ...all
      .filter(([, value]) => value)
      .map(([name, value]) => el("div", {}, el("dt", { text: name }), el("dd", { text: value }))),
  );
}

function drawWork(work, query) {
  if (!query.stages.length) {
    const text = ENDED.includes(query.state)
      ? "It has no stages, or they are no longer known."
      : "It has no stages yet.";
    work.replaceChildren(el("p", { class: "quiet", text }));
    return;
  }
  const open = new Set([...work.querySelectorAll("details[open]")].map(details => details.id));
  const scrolled = [...work.querySelectorAll(".scroll")].map(box => box.scrollLeft);
  const focused = document.activeElement?.dataset?.stage;
  const showStage = id => {
    const details = document.getElementById(`stage-${id}`);
    details.open = true;
    details.scrollIntoView({ block: "start", behavior: "smooth" });
    details.querySelector("summary").focus({ preventScroll: true });
  };
  const isServer = query.stages.length === 1 && !query.job_id;
  const details = query.stages
    .toReversed()
    .map(stage => stageDetails(stage, open.has(`stage-${stage.stage_id}`) || isServer, isServer));
  work.replaceChildren(
    el("h2", { text: isServer ? "One task in the server" : "Stages" }),
    el("div", { class: "scroll" }, drawGraph(query, showStage)),
    el("h2", { text: "Tasks over time" }),
    el("div", { class: "scroll" }, drawTimeline(query)),
    el("h2", { text: isServer ? "Plan" : "Stages in detail, the last one first" }),
    ...details,
  );
  work.querySelectorAll(".scroll").forEach((box, index) => {
    box.scrollLeft = scrolled[index] ?? 0;
  });
  if (focused) work.querySelector(`[data-stage="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
}

function stageDetails(stage, isOpen, isServer) {
  const done = stage.tasks.filter(task => task.state === "successful").length;
  const summary = el(
    "summary",
    { "data-stage": `details-${stage.stage_id}` },
    el("strong", { text: isServer ? "Server" : `Stage ${stage.stage_id}` }),
    el("span", { class: `state ${stage.state}`, text: stage.state }),
    el("span", { text: `${done} of ${plural(stage.tasks.length, "task")}` }),
    el("span", { text: `${count(stage.output_rows)} rows` }),
    !isServer && el("span", { text: bytes(stage.output_bytes) }),
    stage.spilled_bytes > 0 && el("span", { class: "tag wait", text: `spilled ${bytes(stage.spilled_bytes)}` }),
    stage.time_skew && el("span", { class: "tag wait", text: `slowest ${timesOver(stage.time_skew)} the median time` }),
    stage.row_skew >= 2 &&
      el("span", { class: "tag wait", text: `largest ${timesOver(stage.row_skew)} the median rows` }),
  );
  const plan = el(
    "pre",
    { class: "plan", tabindex: "0", "aria-label": "Plan" },
    stage.plan.flatMap(line => {
      const [operator, metrics] = line.split(/, metrics=/, 2);
      return [operator, metrics ? el("span", { class: "metrics", text: `  metrics=${metrics}` }) : "", "\n"];
    }),
  );
  const inside = el("div", {}, plan);
  if (!isServer && stage.tasks.length) inside.append(taskTable(stage));
  const details = el("details", { id: `stage-${stage.stage_id}` }, summary, inside);
  details.open = isOpen;
  return details;
}

function taskTable(stage) {
  const { body, element } = table(TASK_COLUMNS, `Tasks of stage ${stage.stage_id}`);
  for (const task of stage.tasks) {
    const cells = [
      task.task_id,
      el("span", { class: `state ${task.state}`, text: task.state }),
      el("code", { text: task.executor_id.slice(-8) }),
      task.partitions.length > 8 ? plural(task.partitions.length, "partition") : task.partitions.join(", "),
      { host: "beside it", rack: "same rack", any: "elsewhere" }[task.locality] ?? "",
      count(task.rows),
      bytes(task.bytes),
      task.spilled_bytes ? bytes(task.spilled_bytes) : "",
      bytes(task.memory_bytes),
      clock(task.started_ms),
      task.started_ms ? duration((task.ended_ms || Date.now()) - task.started_ms) : "",
    ];
    const row = el(
      "tr",
      {},
      cells.map((cell, index) => el("td", { class: TASK_COLUMNS[index][1] }, cell)),
    );
    if (task.error) row.children[1].append(el("div", { class: "bad note", text: task.error }));
    body.append(row);
  }
  return element;
}
