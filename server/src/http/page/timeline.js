// A picture of a query: which task ran when, and on which executor.

import { bytes, count, duration, plural, room, svg } from "./base.js";
import { timesOver } from "./graph.js";

const LANE = { height: 16, gap: 3, left: 136, right: 30, axis: 26 };
const MOST_LANES = 64;

/** Round numbers that cut a length into a handful of pieces. */
export function ticks(length, pieces = 6) {
  const raw = length / pieces,
    power = 10 ** Math.floor(Math.log10(raw || 1));
  const step = [1, 2, 5, 10].map(factor => factor * power).find(candidate => candidate >= raw) ?? power;
  const all = [];
  for (let at = 0; at <= length * 1.0001; at += step) all.push(at);
  return all;
}

/** A lane for each vcore of an executor that was in use, with its tasks on a common time. */
export function drawTimeline(query) {
  const begin = query.started_ms;
  const tasks = query.stages.flatMap(stage =>
    stage.tasks.filter(task => task.started_ms).map(task => ({ ...task, stage })),
  );
  const now = begin + query.elapsed_ms;
  const end = Math.max(now, ...tasks.map(task => task.ended_ms || now), begin + 1);
  const lanes = [];
  for (const executor of [...new Set(tasks.map(task => task.executor_id))].sort()) {
    const own = [];
    for (const task of tasks
      .filter(task => task.executor_id === executor)
      .sort((a, b) => a.started_ms - b.started_ms)) {
      let lane = own.find(lane => lane.until <= task.started_ms);
      if (!lane) own.push((lane = { executor, tasks: [] }));
      lane.tasks.push(task);
      lane.until = task.ended_ms || Infinity;
    }
    lanes.push(...own);
  }
  const shown = lanes.slice(0, MOST_LANES),
    pitch = LANE.height + LANE.gap;
  const width = room(),
    inner = width - LANE.left - LANE.right,
    height = LANE.axis + Math.max(1, shown.length) * pitch + 8;
  const x = ms => LANE.left + (inner * (ms - begin)) / (end - begin);
  const first = Math.min(end, ...tasks.map(task => task.started_ms));
  const axis = ticks(end - begin).map(at =>
    svg(
      "g",
      {},
      svg("line", { class: "axis", x1: x(begin + at), x2: x(begin + at), y1: LANE.axis - 6, y2: height - 4 }),
      svg("text", { class: "small quiet", x: x(begin + at), y: 14, "text-anchor": "middle", text: duration(at) }),
    ),
  );
  const rows = shown.map((lane, index) => {
    const y = LANE.axis + index * pitch,
      isFirst = index === 0 || shown[index - 1].executor !== lane.executor;
    const name =
      lane.executor === "server" ? "server" : lane.executor ? `executor ${lane.executor.slice(-6)}` : "not known";
    return svg(
      "g",
      {},
      svg("rect", { class: "lane", x: LANE.left, y, width: inner, height: LANE.height }),
      isFirst && svg("text", { class: "small", x: 10, y: y + 12, text: name }),
      lane.tasks.map(task => bar(task, x, y, now)),
    );
  });
  return svg(
    "svg",
    {
      class: "timeline",
      width,
      height,
      viewBox: `0 0 ${width} ${height}`,
      role: "img",
      "aria-label": "Tasks over time",
    },
    svg("title", { text: "Tasks over time" }),
    svg("desc", {
      text:
        `${plural(tasks.length, "task")} in ${plural(lanes.length, "lane")} over ${duration(end - begin)}; ` +
        "the table of each stage has them all",
    }),
    axis,
    rows,
    first > begin &&
      svg(
        "g",
        {},
        svg("title", { text: `${duration(first - begin)} before the first task: planning and waiting` }),
        svg("rect", { class: "waited", x: LANE.left, y: LANE.axis - 6, width: x(first) - LANE.left, height: 4 }),
      ),
    lanes.length > shown.length &&
      svg("text", { class: "small quiet", x: 10, y: height - 2, text: `${lanes.length - shown.length} more lanes` }),
  );
}

function bar(task, x, y, now) {
  const from = x(task.started_ms),
    to = x(task.ended_ms || now),
    width = Math.max(1.5, to - from);
  const times = task.stage.tasks.filter(other => other.ended_ms).map(other => other.ended_ms - other.started_ms);
  const isSlowest = task.stage.time_skew && task.ended_ms - task.started_ms === Math.max(...times);
  const name = `stage ${task.stage.stage_id}, task ${task.task_id}`;
  const told = [
    name,
    task.state,
    duration((task.ended_ms || now) - task.started_ms),
    `${count(task.rows)} rows`,
    bytes(task.bytes),
  ];
  if (task.spilled_bytes) told.push(`spilled ${bytes(task.spilled_bytes)}`);
  if (isSlowest) told.push(`${timesOver(task.stage.time_skew)} the median of its stage`);
  return svg(
    "g",
    { class: `c${(task.stage.stage_id - 1) % 8}` },
    svg("title", { text: told.join(", ") }),
    svg("rect", {
      class: `task ${task.state} ${isSlowest ? "slowest" : ""}`,
      x: from.toFixed(1),
      y: y + 1,
      width: width.toFixed(1),
      height: LANE.height - 2,
      rx: 2,
    }),
    width > 26 && svg("text", { class: "small onbar", x: from + 4, y: y + 12, text: `s${task.stage.stage_id}` }),
  );
}
