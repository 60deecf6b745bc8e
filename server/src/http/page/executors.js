// Where tasks run.

import { bytes, count, el, get, meter, table, watch } from "./base.js";

export function executorsPage(page) {
  const columns = [
    ["Executor"],
    ["Host"],
    ["State"],
    ["Vcores in use"],
    ["Memory in use"],
    ["Partitions", "n"],
    ["Reserved", "wide"],
    ["Heartbeat", "n"],
  ];
  const { body, element } = table(columns, "Executors");
  const summary = el("p", { class: "quiet" });
  page.append(el("h1", { text: "Executors" }), summary, element);
  return watch(async () => {
    const all = await get("/api/executors");
    const sum = key => all.reduce((total, executor) => total + executor[key], 0);
    const total = sum("total_vcores");
    summary.textContent = all.length
      ? `${all.length} registered; ${total - sum("free_vcores")} of ${total} vcores and ` +
        `${bytes(sum("used_memory_bytes"))} of ` +
        `${bytes(sum("total_memory_bytes"))} in use.`
      : "None has registered. Start one with: sluice executor --coordinator HOST:PORT";
    body.replaceChildren(
      ...all.map(executor => {
        const used = executor.total_vcores - executor.free_vcores;
        const memory = `${bytes(executor.used_memory_bytes)} of ${bytes(executor.total_memory_bytes)}`;
        const place = [executor.rack, executor.data_centre].filter(Boolean).join(", ");
        const cells = [
          [el("code", { text: executor.executor_id })],
          [`${executor.host}:${executor.port}`, place && el("div", { class: "quiet", text: place })],
          [
            el("span", {
              class: `state ${executor.state === "active" ? "finished" : "stopped"}`,
              text: executor.state,
            }),
          ],
          [
            `${used} of ${executor.total_vcores}`,
            meter(used / executor.total_vcores, `${used} of ${executor.total_vcores} vcores`),
          ],
          [memory, meter(executor.used_memory_bytes / executor.total_memory_bytes, memory)],
          [count(executor.task_count)],
          [executor.reserved],
          [`${Math.max(0, Math.round(Date.now() / 1000 - executor.last_heartbeat_s))} s ago`],
        ];
        return el(
          "tr",
          {},
          cells.map((cell, index) => el("td", { class: columns[index][1] }, cell)),
        );
      }),
    );
  }, 2000);
}
