// The labelling page: what a key or a click does.
import { ask, Lost, Refused } from "./api.js";
import { Grid } from "./grid.js";
import { actionOf, KEYS } from "./keys.js";
import { Outbox } from "./outbox.js";
import { $, Panel, photos, set } from "./panel.js";
import { Photo } from "./photo.js";
import { Store } from "./store.js";

const TO_DO = ["next", "unlabelled", "doubtful"]; // views in which what has a label is skipped
const filter = $("filter");
const photo = new Photo();
const panel = new Panel({ chosen: (name) => give(name), rename: askName });
const store = new Store(changed, refused);
const outbox = new Outbox({ sent, refused: unsent, changed });
const grid = new Grid($("grid"), {
  item,
  total: () => store.list.total,
  needed,
  moved,
  open: () => photo.show(current()),
});

function moved() {
  if (photo.open) photo.show(current());
  if (grid.selected.size > 1) done(`${photos(grid.selected.size)} selected`);
}

/** Return the photo at an index of the list, with the label that waits to be sent. */
function item(index) {
  const id = store.list.ids[index], known = store.item(id);
  return known && { ...known, ...outbox.of(id) };
}

const current = () => item(grid.focus);
const view = () => store.list.query.view;

/** Return the photos that a label is for: those selected, else the one in focus. */
function targets() {
  const ids = grid.selected.size ? [...grid.selected] : [current()?.id];
  return ids.map((id) => store.item(id)).filter((known) => known !== undefined);
}

function needed(indices) {
  store.load(Math.min(...indices), Math.max(...indices));
  store.refresh(indices.map((index) => store.list.ids[index]).filter((id) => store.item(id)));
}

let wasLost = false;

/** Draw what changed. */
function changed() {
  const lost = store.lost || outbox.lost;
  panel.update(store.state, { waiting: outbox.waiting.length, lost });
  if (wasLost && !lost) grid.retry();
  wasLost = Boolean(lost);
  grid.repaint();
  if (photo.open) photo.show(current());
  if (store.state && !lost) grid.timer ||= setTimeout(() => grid.fill(), 0);
  news();
  hintName();
}

/** Tell of a newer order, and take it where nothing is left to do in the old one. */
function news() {
  const newer = store.state !== null && store.list.guesses !== store.state.guesses_version && view() !== "all";
  $("reload").classList.toggle("newer", newer);
  if (newer && view() === "next" && nextOpen(0) === undefined && !outbox.waiting.length) show();
}

// ---- labels

/** Give the targets a class (null takes the label away), or mark them as unsure. */
function give(label, unsure = false) {
  const given = targets();
  if (given.length) send(given, label, unsure);
  if (given.length) advance(given);
}

function send(given, label, unsure) {
  const names = Object.fromEntries(given.map(({ id, name }) => [id, name]));
  outbox.add("/api/label", { images: given.map(({ id }) => id), label, unsure }, { names });
  const what = label ?? (unsure ? "unsure" : "no label");
  done(`${given.length === 1 ? given[0].name : photos(given.length)}: ${what}`);
}

/** Give each target its guess. Every class is an action of its own. */
function accept() {
  const given = targets().filter(({ guess }) => guess !== null);
  if (!given.length) return done("There is no guess to accept here");
  for (const [guess, some] of Map.groupBy(given, (one) => one.guess)) send(some, guess, false);
  return advance(given);
}

/** Go on to the photo after those that got a label. */
function advance(given) {
  const ids = new Set(given.map(({ id }) => id));
  let last = grid.focus;
  for (const index of grid.indices()) if (ids.has(store.list.ids[index])) last = Math.max(last, index);
  grid.selected.clear();
  if (!TO_DO.includes(view())) return grid.go(last + 1);
  const next = nextOpen(last + 1) ?? nextOpen(0);
  if (next === undefined && view() === "next") reopen = true; // once it is sent
  return grid.go(next ?? last);
}

let reopen = false;

/** Return the first index from start on whose photo has neither label nor doubt, or undefined. */
function nextOpen(start) {
  for (let index = start; index < store.list.total; index++) {
    const one = item(index);
    if (one === undefined || (one.label === null && !one.unsure)) return index;
  }
  return undefined;
}

function undo() {
  const back = outbox.takeBack();
  if (back === undefined) return outbox.add("/api/undo", {}, { once: true });
  changed();
  return done(`Taken back: ${photos(back.body.images.length)}`);
}

function sent({ path, body }, answer) {
  if (path === "/api/label") store.labelled(body.images, body.label, body.unsure, answer.version);
  if (path === "/api/undo") undone(answer.images);
  if (path === "/api/classes") done(`New class: ${body.name}`);
  if (path === "/api/classes/rename") done(`${body.old} is now ${body.new}`);
  if (path === "/api/results") done("Results are being written");
  if (reopen && outbox.waiting.length <= 1) {
    reopen = false;
    show();
  }
}

/** Show what an undo took back. */
function undone(ids) {
  for (const id of ids) if (store.items.has(id)) store.items.get(id).seen = -1;
  const index = store.list.ids.indexOf(ids[0]);
  if (index >= 0) grid.go(index);
  done(`Taken back: ${photos(ids.length)}`);
}

/** Tell that an entry of the outbox was not taken. */
function unsent({ path, body }, error) {
  const what = path === "/api/label" ? `${photos(body.images.length)}, ${body.label ?? "no label"}: not saved. ` : "";
  refused(new Refused(what + error.message));
}

// ---- classes

/** Give the class that is typed; one that is new is added first. */
function byName(event) {
  event.preventDefault();
  const name = $("name").value.trim();
  if (!name) return;
  if (!known(name)) outbox.add("/api/classes", { name });
  $("name").value = "";
  give(name);
  changed();
  $("grid").focus();
}

const known = (name) => (store.state?.classes ?? []).some((one) => one.name === name);

function hintName() {
  const name = $("name").value.trim();
  set($("name-hint"), !name ? "" : known(name) ? `Gives ${name}` : `Adds ${name} as a new class and gives it`);
}

function askName(name) {
  $("rename").dataset.old = name;
  $("new-name").value = name;
  $("rename").showModal();
  $("new-name").select();
}

function rename(event) {
  event.preventDefault();
  const old = $("rename").dataset.old, name = $("new-name").value.trim();
  $("rename").close();
  if (name !== old) outbox.add("/api/classes/rename", { old, new: name });
}

// ---- the list

function queryOf() {
  const form = new FormData(filter), query = { view: form.get("view") };
  const low = Number(form.get("low")) / 100, high = Number(form.get("high")) / 100;
  if (form.get("class")) query.class = form.get("class");
  if (low > 0) query.low = low;
  if (high < 1) query.high = high;
  return query;
}

const EMPTY = {
  next: "Nothing is left to label: every photo has a label.",
  unsure: "No photo is marked as unsure. Space marks one.",
  doubtful: "No guesses yet: give labels to photos of two classes or more.",
  wrong: "The classifier doubts none of your labels.",
  labelled: "No photo here has a label yet.",
};

/** Show the list that the filter asks for, in its newest order. */
async function show() {
  const query = queryOf(), same = JSON.stringify(query) === JSON.stringify(store.list.query);
  const keep = same ? current()?.id : undefined;
  if (!(await store.open(query))) return;
  grid.reset(keep);
  if (TO_DO.includes(query.view)) grid.go(nextOpen(grid.focus) ?? nextOpen(0) ?? 0);
  const { total } = store.list;
  $("grid").setAttribute("aria-label", `Photos: ${viewName(query.view)}`);
  $("shown").textContent = photos(total);
  $("empty").hidden = total > 0;
  const filtered = Object.keys(query).length > 1;
  $("empty").textContent = filtered ? "No photo fits this filter." : (EMPTY[query.view] ?? "There are no photos here.");
  changed();
}

const viewName = (name) => filter.querySelector(`[value=${name}]`).parentElement.textContent.trim();

function nextView() {
  const radios = [...filter.elements.view];
  radios[(radios.findIndex((radio) => radio.checked) + 1) % radios.length].checked = true;
  done(`View: ${viewName(filter.elements.view.value)}`);
  show();
}

// ---- files

async function read(event) {
  const [file] = event.target.files;
  if (file === undefined) return;
  done(`Reading ${file.name} …`);
  try {
    const answer = await ask("/api/import", { body: await file.text(), type: "text/csv", seconds: 300 });
    const unknown = answer.unknown ?? [];
    done(`${photos(answer.labelled)} labelled from ${file.name}`);
    if (unknown.length) refused(new Refused(`Not among the photos: ${unknown.slice(0, 5).join(", ")}${more(unknown)}`));
  } catch (error) {
    if (!(error instanceof Refused || error instanceof Lost)) throw error;
    refused(new Refused(`${file.name}: ${error.message}`));
  }
  event.target.value = ""; // the same file may be read again
}

const more = (names) => (names.length > 5 ? ` and ${names.length - 5} more` : "");

// ---- words

function done(text) {
  set($("done"), text);
}

function refused(error) {
  set($("error").firstElementChild, error.message);
  $("error").hidden = false;
}

// ---- keys and clicks

const ACTIONS = {
  accept,
  undo,
  class: (index) => {
    const one = store.state?.classes[index];
    return one ? give(one.name) : done(`There is no class ${index + 1}`);
  },
  unsure: () => give(null, true),
  clear: () => give(null),
  name: () => $("name").focus(),
  toggle: () => grid.toggle(grid.focus),
  all: () => grid.all(),
  open: () => (photo.open ? photo.dialog.close() : photo.show(current())),
  escape: () => {
    $("error").hidden = true;
    grid.deselect();
  },
  reload: () => show().then(() => done("Newest order")),
  view: nextView,
  help: () => $("keys").showModal(),
  move: ({ key, extend }) => grid.move(key, extend),
};

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && event.target === $("name")) return $("grid").focus();
  const found = actionOf(event);
  if (found === null || (photo.open && ["name", "escape", "help"].includes(found[0]))) return undefined;
  event.preventDefault();
  return ACTIONS[found[0]](found[1]);
});

const pressed = {
  undo, accept, unsure: ACTIONS.unsure, clear: ACTIONS.clear, reload: ACTIONS.reload, help: ACTIONS.help,
  import: () => $("file").click(),
  results: () => outbox.add("/api/results", {}),
};
for (const [id, act] of Object.entries(pressed)) $(id).addEventListener("click", () => act());
for (const button of document.querySelectorAll("[data-close]")) {
  button.addEventListener("click", () => button.closest("dialog").close());
}
for (const button of document.querySelectorAll("[data-step]")) {
  button.addEventListener("click", () => grid.go(grid.focus + Number(button.dataset.step)));
}
$("error").lastElementChild.addEventListener("click", () => ($("error").hidden = true));
$("file").addEventListener("change", read);
$("named").addEventListener("submit", byName);
$("name").addEventListener("input", changed);
$("rename").firstElementChild.addEventListener("submit", rename);
photo.dialog.addEventListener("close", () => $("grid").focus());
filter.addEventListener("submit", (event) => event.preventDefault());
filter.addEventListener("change", (event) => event.target.name !== "size" && show());
filter.elements.size.addEventListener("input", (event) => {
  grid.size = event.target.valueAsNumber;
  localStorage.setItem("hebbcore-size", grid.size);
  grid.layout();
});
addEventListener("beforeunload", (event) => outbox.waiting.length && event.preventDefault());

for (const [keys, text] of KEYS) {
  const term = document.createElement("dt"), told = document.createElement("dd");
  term.textContent = keys;
  told.textContent = text;
  $("keys").querySelector("dl").append(term, told);
}
grid.size = Number(localStorage.getItem("hebbcore-size")) || 208;
filter.elements.size.value = grid.size;
$("grid").focus();
store.watch();
outbox.run();
show();
