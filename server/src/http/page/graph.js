// A picture of a query: which stage reads which, and what each does.

import { brief, bytes, count, duration, plural, svg } from "./base.js";
import { layOut } from "./layout.js";

const UNTOLD =
  /^(CoalesceBatches|CoalescePartitions|Repartition|ShuffleReader|UnresolvedShuffle|Projection|Cooperative|Buffer)/;

export const timesOver = factor => `${factor.toFixed(factor < 10 ? 1 : 0)}×`;

/** What a stage does, from its first step to its last, in a few words. */
export function stepsOf(stage) {
  const steps = [];
  for (const line of stage.plan.toReversed()) {
    const text = line.trim();
    const name = text.match(/^(\w+?)(Exec)?\b/)?.[1] ?? "";
    if (!name || UNTOLD.test(name)) continue;
    const source = text.match(/([^/\\[\]{},\s]+)\.(parquet|csv|json|arrow)\b/)?.[1]?.replace(/[-_.]?\d+$/, "");
    const named = text.match(/table=([\w.]+)/)?.[1];
    let step = name;
    if (name === "DataSource") step = source ? `Scan ${source}` : "Scan";
    else if (name === "CassandraScan") step = `Scan ${named ?? "Cassandra"}`;
    else if (name === "Aggregate") step = text.includes("mode=Partial") ? "Aggregate (part)" : "Aggregate";
    else step = name.replace(/(?!^)([A-Z])/g, " $1").replace(/ (\w)/g, (_, letter) => ` ${letter.toLowerCase()}`);
    if (steps.at(-1) !== step) steps.push(step);
  }
  return steps;
}

/** Boxes from left to right, with arrows as thick as what goes over them. `onStage` is called with a chosen stage. */
export function drawGraph(query, onStage) {
  const stages = query.stages;
  const { box, width, height, places, arrows } = layOut(stages);
  const byId = new Map(stages.map(stage => [stage.stage_id, stage]));
  const most = Math.max(1, ...stages.map(stage => stage.output_bytes));
  const isServer = stages.length === 1 && !query.job_id;
  return svg(
    "svg",
    { class: "graph", width, height, viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": "Stage graph" },
    svg("title", { text: "Stages of the query" }),
    svg("desc", { text: stages.map(stage => describe(stage, isServer)).join(". ") }),
    svg("defs", {}, arrowHead()),
    arrows.map(arrow => drawArrow(arrow, byId.get(arrow.from), most)),
    stages.map(stage => drawBox(stage, places.get(stage.stage_id), box, isServer, onStage)),
  );
}

function arrowHead() {
  const size = { markerWidth: 11, markerHeight: 11, markerUnits: "userSpaceOnUse" };
  const marker = { id: "tip", viewBox: "0 0 8 8", refX: 6, refY: 4, orient: "auto", ...size };
  return svg("marker", marker, svg("path", { d: "M0 0L8 4L0 8z", class: "tip" }));
}

function drawArrow(arrow, stage, most) {
  const thick = 1.2 + (4 * Math.log1p(stage.output_bytes)) / Math.log1p(most);
  const label = stage.output_rows ? brief(stage.output_rows) : "";
  return svg(
    "g",
    {},
    svg("path", { class: "edge", d: arrow.line, "stroke-width": thick.toFixed(1), "marker-end": "url(#tip)" }),
    svg("text", { class: "small quiet", x: arrow.x + 6, y: arrow.y - 7, text: label }),
  );
}

function describe(stage, isServer) {
  const done = stage.tasks.filter(task => task.state === "successful").length;
  const parts = [
    `${isServer ? "Task in the server" : `Stage ${stage.stage_id}`}: ${stage.state}`,
    stepsOf(stage).join(", "),
  ];
  if (stage.inputs.length) parts.push(`reads ${plural(stage.inputs.length, "stage")} ${stage.inputs.join(", ")}`);
  parts.push(
    `${done} of ${plural(stage.tasks.length, "task")}`,
    `${count(stage.output_rows)} rows`,
    bytes(stage.output_bytes),
  );
  if (stage.spilled_bytes) parts.push(`${bytes(stage.spilled_bytes)} spilled`);
  if (stage.time_skew) parts.push(`the slowest task took ${timesOver(stage.time_skew)} the median time`);
  return parts.filter(Boolean).join(", ");
}

function timeOf(stage) {
  const begun = stage.tasks.map(task => task.started_ms).filter(Boolean);
  if (!begun.length) return null;
  const isOver = stage.tasks.every(task => task.ended_ms) && !["running", "resolved"].includes(stage.state);
  return (isOver ? Math.max(...stage.tasks.map(task => task.ended_ms)) : Date.now()) - Math.min(...begun);
}

function drawBox(stage, at, size, isServer, onStage) {
  const partitions = new Set(stage.tasks.filter(task => task.state === "successful").flatMap(task => task.partitions));
  const total = Math.max(stage.partition_count, partitions.size),
    share = total ? partitions.size / total : 0;
  const steps = stepsOf(stage);
  const line = (y, text, kind = "") => svg("text", { x: 14, y, class: `small ${kind}`, text });
  const cut = text => (text.length > 29 ? `${text.slice(0, 28)}…` : text);
  const told =
    steps.length > 2
      ? [steps.slice(0, -1).join(" → "), `→ ${steps.at(-1)}`]
      : [steps[0] ?? "", steps[1] ? `→ ${steps[1]}` : ""];
  const amount = isServer
    ? `${count(stage.output_rows)} rows`
    : `${brief(stage.output_rows)} rows · ${bytes(stage.output_bytes)}`;
  const warnings = [
    stage.spilled_bytes > 0 && `spilled ${bytes(stage.spilled_bytes)}`,
    stage.time_skew && `slowest task ${timesOver(stage.time_skew)}`,
    stage.row_skew >= 2 && `rows ${timesOver(stage.row_skew)}`,
  ].filter(Boolean);
  const open = () => onStage(stage.stage_id);
  const time = timeOf(stage);
  const tasks = total ? `${partitions.size} of ${plural(total, "partition")}` : "waits for its inputs";
  return svg(
    "g",
    {
      class: `node ${stage.state}`,
      transform: `translate(${at.x} ${at.y})`,
      tabindex: "0",
      role: "button",
      "data-stage": stage.stage_id,
      "aria-label": describe(stage, isServer),
      onclick: open,
      onkeydown: event => {
        if (event.key === "Enter" || event.key === " ") {
          event.preventDefault();
          open();
        }
      },
    },
    svg("title", { text: steps.join(" → ") || `stage ${stage.stage_id}` }),
    svg("rect", { class: "body", width: size.width, height: size.height, rx: 7 }),
    svg("rect", { class: "strip", width: 5, height: size.height - 12, x: 4, y: 6, rx: 2.5 }),
    svg("text", { class: "strong", x: 14, y: 19, text: isServer ? "Server" : `Stage ${stage.stage_id}` }),
    svg("text", {
      class: "small quiet",
      x: size.width - 10,
      y: 19,
      "text-anchor": "end",
      text: time === null ? stage.state : duration(time),
    }),
    line(36, cut(told[0])),
    line(50, cut(told[1])),
    line(66, amount, "quiet"),
    warnings.length ? line(81, cut(warnings.join(" · ")), "wait") : line(81, tasks, "quiet"),
    svg("rect", { class: "track", x: 14, y: size.height - 14, width: size.width - 26, height: 5, rx: 2.5 }),
    svg("rect", { class: "strip", x: 14, y: size.height - 14, width: (size.width - 26) * share, height: 5, rx: 2.5 }),
  );
}
