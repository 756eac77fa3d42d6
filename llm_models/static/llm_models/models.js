// The pulls on the page of the models: watched as they go, begun, cancelled and resumed. Without it, the forms do that.

// A browser opens six connections to one server, for all its tabs, and each stream takes one.
const WATCHED_AT_ONCE = 3;
const LOOK_AGAIN_MS = 3000;
const SPEED_HOLDS_MS = 6000;

const panel = document.getElementById("pulls");
const streams = new Map(); // by item
const heardAt = new WeakMap(); // by item
let isListOld = false;

if (panel) {
  panel.addEventListener("submit", submitted);
  document.addEventListener("visibilitychange", attend);
  window.addEventListener("pagehide", closeAll);
  window.addEventListener("pageshow", attend);
  setInterval(lookAgain, LOOK_AGAIN_MS);
}

// --- What people do

async function submitted(event) {
  const form = event.target;
  event.preventDefault();
  const button = form.querySelector("button");
  button.disabled = true;
  say("trouble", "");
  try {
    await (form.dataset.does === "cancel" ? cancel(form) : pull(form));
  } catch (trouble) {
    say("trouble", trouble.message);
  } finally {
    button.disabled = false;
  }
}

async function pull(form) {
  const name = form.elements.model_name;
  const job = await ask("POST", panel.dataset.pullUrl, form, { model_name: name.value.trim() });
  if (name.type !== "hidden") name.value = "";
  const item = itemFor(job);
  show(item, job);
  attend();
  say("news", `${job.model_name} is being pulled.`);
  refreshList();
}

async function cancel(form) {
  const item = form.closest(".pull");
  part(item, "said").textContent = "cancelling …";
  try {
    await ask("DELETE", urlOf(item), form);
  } finally {
    await look(item); // it may have ended before
  }
}

async function ask(method, url, form, body) {
  const headers = { Accept: "application/json" };
  if (form) headers["X-CSRFToken"] = form.elements.csrfmiddlewaretoken.value;
  if (body) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(url, { method, headers, body: body && JSON.stringify(body) });
  } catch {
    throw new Error("The server cannot be reached.");
  }
  const told = await answer.json().catch(() => ({}));
  if (answer.ok) return told;
  throw new Error(told.errors?.[0]?.detail ?? `The server answered ${answer.status}.`);
}

// --- What pulls tell

function running() {
  return [...panel.querySelectorAll(".pull")].filter(isRunning);
}

function isRunning(item) {
  return ["queued", "running"].includes(item.dataset.status);
}

function attend() {
  if (document.hidden) {
    closeAll();
    return;
  }
  for (const item of running()) {
    if (streams.size >= WATCHED_AT_ONCE) return;
    if (!streams.has(item)) watch(item);
  }
}

function watch(item) {
  const stream = new EventSource(`${urlOf(item)}/events`);
  streams.set(item, stream);
  stream.addEventListener("progress", (event) => {
    const { status: detail, ...bytes } = JSON.parse(event.data);
    heardAt.set(item, performance.now());
    show(item, { status: "running", detail, ...bytes });
  });
  const end = () => {
    leave(item);
    look(item);
  };
  stream.addEventListener("done", end);
  stream.addEventListener("error", (event) => {
    if (event.data) {
      end(); // the pull's own word; that of the connection has no data
    } else if (stream.readyState === EventSource.CLOSED) {
      leave(item); // and look again in a while
    } else {
      part(item, "said").textContent = "The connection is lost. Trying again …";
    }
  });
}

async function look(item) {
  try {
    const job = await ask("GET", urlOf(item));
    const hasEnded = isRunning(item) && job.finished_at;
    show(item, job);
    if (hasEnded) ended(item, job);
  } catch (trouble) {
    part(item, "said").textContent = trouble.message;
    leave(item);
  }
}

function ended(item, job) {
  leave(item);
  const is = job.status === "completed" ? "is installed" : job.status;
  say("news", `${job.model_name}: ${is}. ${said(job)}`);
  attend();
  refreshList();
}

async function lookAgain() {
  if (document.hidden) return;
  if (isListOld) reloadWhenIdle();
  for (const item of streams.keys()) {
    if (performance.now() - heardAt.get(item) > SPEED_HOLDS_MS) {
      part(item, "speed").textContent = part(item, "left").textContent = "";
    }
  }
  await Promise.all(running().filter((item) => !streams.has(item)).map(look));
  attend();
}

function leave(item) {
  streams.get(item)?.close();
  streams.delete(item);
}

function closeAll() {
  for (const item of [...streams.keys()]) leave(item);
}

// --- How it is shown

function itemFor(job) {
  const items = [...panel.querySelectorAll(".pull")];
  const known = items.find((item) => item.dataset.id === job.id);
  if (known) return known;
  const former = items.find((item) => !isRunning(item) && sameName(part(item, "name").textContent, job.model_name));
  former?.remove();
  const item = panel.querySelector("template").content.firstElementChild.cloneNode(true);
  item.dataset.id = job.id;
  part(item, "name").textContent = job.model_name;
  for (const name of item.querySelectorAll("[data-part=for]")) name.textContent = ` ${job.model_name}`;
  for (const name of item.querySelectorAll("[name=model_name]")) name.value = job.model_name;
  item.querySelector("progress").setAttribute("aria-label", job.model_name);
  item.querySelector(".pull-head .model-note").textContent = job.requested_by ?? "by command";
  panel.querySelector(".pull-list").prepend(item);
  return item;
}

function show(item, job) {
  const isOver = !["queued", "running"].includes(job.status);
  const isWhole = job.status === "completed";
  const { completed_bytes: has, total_bytes: all, bytes_per_second: speed } = job;
  item.dataset.status = job.status;
  part(item, "status").textContent = job.status;
  part(item, "percent").textContent = all && !isWhole ? `${Math.floor((100 * has) / all)} %` : "";
  part(item, "amount").textContent = all ? (isWhole ? human(all) : `${human(has)} of ${human(all)}`) : "";
  part(item, "speed").textContent = speed && !isOver ? `${human(speed)}/s` : "";
  part(item, "left").textContent = speed && all > has && !isOver ? `${lasting((all - has) / speed)} left` : "";
  part(item, "said").textContent = said(job);
  const bar = item.querySelector("progress");
  bar.hidden = isOver;
  if (all) {
    bar.max = all;
    bar.value = has;
  }
  hide(item, "cancel", isOver);
  hide(item, "pull", !isOver || isWhole);
}

function said(job) {
  return ["completed", "cancelled"].includes(job.status) ? "" : job.detail;
}

function hide(item, what, isHidden) {
  const form = item.querySelector(`form[data-does=${what}]`);
  if (form) form.hidden = isHidden;
}

function part(item, name) {
  return item.querySelector(`[data-part=${name}]`);
}

function say(where, text) {
  const line = part(panel, where);
  line.textContent = text;
  if (where === "trouble") line.hidden = !text;
}

function urlOf(item) {
  return `${panel.dataset.jobUrl}/${item.dataset.id}`;
}

function sameName(one, other) {
  const whole = (name) => (name.split("/").pop().includes(":") ? name : `${name}:latest`).toLowerCase();
  return whole(one) === whole(other);
}

function human(count) {
  const units = ["B", "KB", "MB", "GB"];
  while (count >= 999.5 && units.length > 1) {
    count /= 1000;
    units.shift();
  }
  return `${count < 9.95 && units[0] !== "B" ? count.toFixed(1) : count.toFixed(0)} ${units[0]}`;
}

function lasting(seconds) {
  if (seconds < 60) return `${Math.ceil(seconds)} s`;
  if (seconds < 3600) return `${Math.ceil(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

// --- The list below: what was pulled is installed

let refreshing = Promise.resolve();

// One after the other: an answer that is under way may not know yet what has just happened.
function refreshList() {
  refreshing = refreshing.then(updateList).catch(() => {});
}

async function updateList() {
  const answer = await fetch(location.href);
  if (!answer.ok || answer.redirected) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const rows = rowsOf(document);
  const newRows = rowsOf(page);
  if (rows.map(keyOf).join() === newRows.map(keyOf).join()) {
    rows.forEach((row, index) => update(row, document.adoptNode(newRows[index])));
  } else {
    reloadWhenIdle();
  }
}

function rowsOf(page) {
  return [...page.querySelectorAll("#result_list tbody tr")];
}

function keyOf(row) {
  return row.querySelector("a[href*='/change/']")?.getAttribute("href");
}

function update(row, newRow) {
  [...row.cells].forEach((cell, index) => {
    const isInUse = cell.contains(document.activeElement) || cell.querySelector("input");
    if (!isInUse) cell.replaceChildren(...newRow.cells[index].childNodes);
  });
}

// Rows that come and go are left to the browser, which keeps the place; but not while someone selects or types.
function reloadWhenIdle() {
  const inputs = [...document.querySelectorAll("#content-main input:not([type=checkbox])")];
  const isSomethingSelected = document.querySelector(".action-select:checked") !== null;
  isListOld = isSomethingSelected || inputs.some((input) => input.value !== input.defaultValue);
  if (!isListOld) location.reload();
}
