// Which page is shown: the part of the address after '#'.

import { el, get } from "./base.js";
import { queriesPage } from "./queries.js";
import { queryPage } from "./query.js";
import { executorsPage } from "./executors.js";
import { queuesPage } from "./queues.js";
import { sqlPage } from "./sql.js";

const content = document.getElementById("content");
let leave = () => {};
let session = null;

/** The page's name and its argument. */
function route() {
  const [name, argument] = location.hash.replace(/^#\/?/, "").split("/");
  if (name === "query" && argument) return ["query", decodeURIComponent(argument)];
  return [["sql", "queues", "executors"].includes(name) ? name : "queries", undefined];
}

async function show() {
  leave();
  leave = () => {};
  const [name, argument] = route();
  for (const link of document.querySelectorAll("nav a")) {
    const page = name === "query" ? "queries" : name;
    if (link.dataset.page === page) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const pages = { queries: queriesPage, query: queryPage, executors: executorsPage, queues: queuesPage, sql: sqlPage };
  document.title = `${name === "sql" ? "SQL" : name[0].toUpperCase() + name.slice(1)} · Sluice`;
  const page = el("div");
  content.replaceChildren(page);
  leave = pages[name](page, session, argument);
}

async function begin() {
  try {
    session = await get("/api/session");
  } catch (error) {
    document.getElementById("live").textContent = `no answer from the service: ${error.message}`;
    setTimeout(begin, 2000);
    return;
  }
  const role = session.is_superuser ? "superuser" : session.is_monitor ? "monitor" : "own queries only";
  document.getElementById("whoami").textContent = `${session.user} (${role}) · ${session.version}`;
  if (!session.is_monitor) {
    for (const page of ["queues", "executors"]) document.querySelector(`nav a[data-page=${page}]`).remove();
  }
  window.addEventListener("hashchange", show);
  show();
}

document.addEventListener("keydown", event => {
  const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName);
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) {
    const filter = document.getElementById("filter");
    if (filter) {
      event.preventDefault();
      filter.focus();
      filter.select();
    }
  }
});
// '#content' is no page.
document.getElementById("skip").addEventListener("click", event => {
  event.preventDefault();
  content.focus();
});

begin();
