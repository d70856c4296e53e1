// What a client has used, and for those who may read it, what all clients have.
import { announce } from "./announce.js";
import { allUsage, ownUsage } from "./api.js";
import { visible } from "./exact.js";
import { askForKey, clientKey } from "./key.js";

const UNAUTHORIZED = 401;
const FORBIDDEN = 403;
const DAY_MILLISECONDS = 86_400_000;
const SHOWN_DAYS = 30;

const [problem, own, all, period, since, forget] = ["problem", "own", "all", "period", "since", "forget-key"].map((id) =>
  document.getElementById(id),
);

// The request in progress.
let latest = new AbortController();

async function load() {
  show(own, false);
  show(all, false);
  if (await attempt(loadOwn)) {
    await loadAll();
  }
}

async function loadOwn(signal) {
  const found = await ownUsage({ key: clientKey(), signal });
  const { client, tenant, period: named, complete, used, used_by_tenant: ofTenant } = found;
  const rows = [limited(client, used), ...(ofTenant ? [limited(`all of ${tenant}`, ofTenant)] : [])];
  const known = complete ? "" : " The usage of other pods is not known now.";
  fill(own, rows, `In ${named} (UTC).${known}`);
  announce(`You have used ${count(used.tokens)} tokens in ${named}.`);
}

/** Shows the usage of all clients, unless this one may not read it, and returns whether it is shown. */
function loadAll() {
  return attempt(async (signal) => {
    const { since: first, until, usage } = await allUsage({ key: clientKey(), since: since.value, signal });
    const rows = usage.map((row) => [
      row.tenant ?? "–",
      row.name,
      ...[row.requests, row.input_tokens, row.output_tokens, row.cache_read_tokens, row.cache_write_tokens].map(count),
      money(row.cost),
    ]);
    fill(all, rows, `${rows.length ? "From" : "No client used the agent from"} ${first} to ${until} (UTC).`);
  }, FORBIDDEN);
}

/**
 * Runs a request, which ends the one before it, and returns whether it succeeded. `expected` is a status that is no
 * problem.
 */
async function attempt(request, expected) {
  latest.abort();
  latest = new AbortController();
  const { signal } = latest;
  show(problem, false);
  try {
    await request(signal);
    return true;
  } catch (error) {
    if (error.status === UNAUTHORIZED) {
      askForKey(load);
    } else if (!signal.aborted && error.status !== expected) {
      problem.textContent = error.message;
      show(problem, true);
    }
    return false;
  }
}

function limited(name, used) {
  const limits = [used.limit_tokens === null ? "–" : count(used.limit_tokens), money(used.limit_cost)];
  return [name, count(used.tokens), limits[0], money(used.cost), limits[1]];
}

/** Replaces the rows of a section's table. The last cells of a row are numbers; its head is the name. */
function fill(section, rows, facts) {
  const heads = [...section.querySelectorAll("thead th")];
  const body = rows.map((cells) => {
    const row = document.createElement("tr");
    cells.forEach((text, column) => {
      const isNumber = heads[column].className === "number";
      const isName = !isNumber && heads[column + 1]?.className === "number";
      const cell = row.appendChild(document.createElement(isName ? "th" : "td"));
      cell.className = heads[column].className;
      cell.textContent = visible(text);
      if (isName) {
        cell.scope = "row";
      }
    });
    return row;
  });
  section.querySelector("tbody").replaceChildren(...body);
  show(section.querySelector(".scroll"), rows.length > 0);
  section.querySelector(".facts").textContent = facts;
  show(section, true);
}

function show(element, shown) {
  element.hidden = !shown;
}

function count(value) {
  return number(value).toLocaleString("en");
}

function money(value) {
  return value === null ? "–" : number(value).toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: 6 });
}

// The parser keeps the digits of numbers that are written in another way than JavaScript does, such as 2.0.
function number(value) {
  return Number(value?.rawJSON ?? value);
}

since.value = new Date(Date.now() - SHOWN_DAYS * DAY_MILLISECONDS).toISOString().slice(0, 10);
period.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (await loadAll()) {
    announce(all.querySelector(".facts").textContent);
  }
});
forget.addEventListener("click", () => {
  show(own, false);
  show(all, false);
  load();
});
load();
