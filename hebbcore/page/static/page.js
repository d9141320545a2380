// The labelling page: what a key or a click does.
import { Classes } from "./classes.js";
import { Grid } from "./grid.js";
import { actionOf, tellKeys } from "./keys.js";
import { Outbox } from "./outbox.js";
import { Panel } from "./panel.js";
import { Photo } from "./photo.js";
import { Store } from "./store.js";
import { read } from "./tables.js";
import { $, closeErrors, done, failed, keepErrors, photos, tellKeptErrors } from "./words.js";

const TO_DO = ["next", "unlabelled", "doubtful"]; // views in which what has a label is skipped
const LOOK = 400; // milliseconds after the page changed the photos by itself, in which nobody has seen them
const filter = $("filter");
const photo = new Photo();
const store = new Store(changed, (error) => failed(error.message), replaced);
const outbox = new Outbox({ sent, refused: unsent, changed }, () => store.state?.photo_set);
const classes = new Classes({
  names: () => (store.state?.classes ?? []).map(({ name }) => name),
  send: (path, body) => outbox.add(path, body),
  give,
  changed,
});
const panel = new Panel({ chosen: (name) => give(name), rename: (name) => classes.ask(name) });
const grid = new Grid($("grid"), {
  item,
  total: () => store.list.total,
  needed,
  moved,
  open: () => photo.show(current()),
});
let reopen = false; // the queue is done: show the next one once all is sent
let fresh = false; // nobody has touched the list that is shown
let unseen = 0; // until then, by performance.now, nobody can have seen the photos
let leaving = false; // the page begins anew by itself
let was = null; // the state that was drawn last

/** Return the photo at an index of the list, with the label that waits to be sent. */
function item(index) {
  const id = store.list.ids[index], known = store.item(id);
  return known && { ...known, ...outbox.of(id) };
}

const current = () => item(grid.focus);
const view = () => store.list.query.view;

function needed(indices) {
  store.load(Math.min(...indices), Math.max(...indices));
  store.refresh(indices.map((index) => store.list.ids[index]).filter((id) => store.item(id)));
}

function moved() {
  fresh = reopen = false;
  if (photo.open) photo.show(current());
  if (grid.selected.size > 1) done(`${photos(grid.selected.size)} selected`);
}

/** Begin anew with another photo set; what waits for the former one is kept, and refused then. */
function replaced() {
  leaving = true;
  keepErrors();
  location.reload();
}

/** Draw what changed. */
function changed() {
  const lost = store.lost || outbox.lost;
  panel.update(store.state, { waiting: outbox.waiting.length, lost });
  if (!lost && grid.lost) grid.retry();
  grid.lost = Boolean(lost);
  outbox.unchecked ||= grid.lost; // what comes back may be another server
  grid.repaint();
  if (photo.open) photo.show(current());
  if (store.state && !lost) grid.timer ||= setTimeout(() => grid.fill(), 0);
  if (store.state) news(store.state);
  classes.hint();
}

/** Tell what happened on the server, and take a newer order where nobody works in the old one. */
function news(state) {
  if (state.learning.error && state.learning.error !== was?.learning.error) failed(`Learning failed: ${state.learning.error}`);
  const { error, written } = state.results;
  if (error && error !== was?.results.error) failed(`The results were not written: ${error}`);
  if (was && written && written !== was.results.written) {
    done("predictions.csv, next.csv, report.html and model are written");
  }
  was = state;
  store.list.guesses ??= state.guesses_version;
  const newer = store.list.guesses !== state.guesses_version && view() !== "all";
  $("reload").classList.toggle("newer", newer);
  if (!newer || view() !== "next" || outbox.waiting.length) return;
  if (fresh || nextOpen(0) === undefined) showUnseen();
}

// ---- labels

/** Return the photos that a label is for: those selected, else the one in focus. */
function targets() {
  const ids = grid.selected.size ? [...grid.selected] : [current()?.id];
  return ids.map((id) => store.item(id)).filter((known) => known !== undefined);
}

/** Return whether photos have just changed under the user's hands, or are not all selected yet; and say so. */
function tooSoon() {
  const soon = reopen || performance.now() < unseen;
  if (soon) done("New photos have just come: press again");
  if (grid.partial) done("Still selecting: press again in a moment");
  return soon || grid.partial;
}

/** Give the targets a class (null takes the label away), or mark them as unsure. */
function give(label, unsure = false) {
  const given = targets();
  if (!given.length || tooSoon()) return;
  send(given, label, unsure);
  advance(given);
}

function send(given, label, unsure) {
  outbox.add("/api/label", { images: given.map(({ id }) => id), label, unsure });
  const what = label ?? (unsure ? "unsure" : "no label");
  done(`${given.length === 1 ? given[0].name : photos(given.length)}: ${what}`);
}

/** Give each target the guess that is shown of it, none of one with a label. Every class is an action of its own. */
function accept() {
  const open = ({ guess, label, unsure }) => guess !== null && label === null && !unsure;
  const given = targets().filter((known) => open({ ...known, ...outbox.of(known.id) }));
  if (!given.length) return done("There is no guess to accept here");
  if (tooSoon()) return undefined;
  for (const guess of new Set(given.map((one) => one.guess))) {
    send(given.filter((one) => one.guess === guess), guess, false);
  }
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
  grid.go(next ?? last);
  reopen = next === undefined && view() === "next";
  return undefined;
}

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
  return done(`Taken back: ${photos(back.body.images.length)}`);
}

// ---- what the server answered

function sent({ path, body }, answer) {
  if (path === "/api/label") store.labelled(body.images, body.label, body.unsure, answer.version);
  if (path === "/api/undo") undone(answer.images);
  if (path === "/api/classes") done(`New class: ${body.name}`);
  if (path === "/api/classes/rename") renamed(body);
  if (path === "/api/results") {
    if (was) was = { ...was, results: { ...was.results, error: null } }; // the same error is told again
    done("Results are being written");
  }
  if (reopen && outbox.waiting.length <= 1) showUnseen();
}

function renamed({ old, new: name }) {
  done(`${old} is now ${name}`);
  const select = filter.elements.class;
  if (store.list.query.class !== old) return;
  select.options[select.selectedIndex].value = name;
  show();
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
  const what = body.label ?? (body.unsure ? "unsure" : "no label");
  const whose = path === "/api/label" ? `${photos(body.images.length)}, ${what}: not saved, ` : "";
  failed(whose + error.message);
  if (leaving) keepErrors();
}

// ---- the list

function queryOf() {
  const form = new FormData(filter), query = { view: form.get("view") };
  const low = Number(form.get("low")) / 100, high = Number(form.get("high")) / 100;
  if (form.get("class")) query.class = form.get("class");
  if (low > 0) query.low = Math.min(low, 1);
  if (high < 1) query.high = Math.max(high, 0);
  return query;
}

const EMPTY = {
  next: "Nothing is left to label.",
  unsure: "No photo is marked as unsure. Space marks one.",
  doubtful: "No guesses yet: give labels to photos of two classes or more.",
  wrong: "The classifier doubts none of your labels.",
  labelled: "No photo has a label yet.",
  unlabelled: "Every photo has a label.",
};

/** Show the list that the filter asks for, in its newest order. */
async function show() {
  const query = queryOf(), same = JSON.stringify(query) === JSON.stringify(store.list.query);
  const keep = same ? current()?.id : undefined;
  if (!(await store.open(query))) return false;
  grid.reset(keep);
  if (TO_DO.includes(query.view)) grid.go(nextOpen(grid.focus) ?? nextOpen(0) ?? 0);
  fresh = true;
  reopen = false;
  const { total } = store.list;
  $("grid").setAttribute("aria-label", `Photos: ${viewName(query.view)}`);
  $("shown").textContent = photos(total);
  $("empty").hidden = total > 0;
  $("empty").textContent = Object.keys(query).length > 1 ? "No photo fits this filter." : (EMPTY[query.view] ?? "");
  changed();
  return true;
}

/** Show a list that nobody asked for: a key pressed at the same moment was meant for other photos. */
async function showUnseen() {
  const before = store.list.ids[grid.focus];
  if ((await show()) && store.list.ids[grid.focus] !== before) unseen = performance.now() + LOOK;
}

const viewName = (name) => filter.querySelector(`[value=${name}]`).parentElement.textContent.trim();

function nextView() {
  const radios = [...filter.elements.view];
  radios[(radios.findIndex((radio) => radio.checked) + 1) % radios.length].checked = true;
  done(`View: ${viewName(filter.elements.view.value)}`);
  show();
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
    closeErrors();
    grid.deselect();
  },
  reload: () => show().then((shown) => shown && done("Newest order")),
  view: nextView,
  help: () => $("keys").showModal(),
  move: ({ key, extend }) => grid.move(key, extend),
};

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && event.target === $("name")) return $("grid").focus();
  const found = actionOf(event);
  if (found === null || (photo.open && ["name", "escape", "help", "view"].includes(found[0]))) return undefined;
  event.preventDefault();
  return ACTIONS[found[0]](found[1]);
});

const pressed = {
  undo, accept, unsure: ACTIONS.unsure, clear: ACTIONS.clear, larger: ACTIONS.open, reload: ACTIONS.reload,
  help: ACTIONS.help, import: () => $("file").click(), results: () => outbox.add("/api/results", {}),
};
for (const [id, act] of Object.entries(pressed)) $(id).addEventListener("click", () => act());
// After the mouse, keys are for the photos again: Space would press the button once more.
document.addEventListener("click", ({ detail, target }) => {
  if (detail > 0 && target.closest("aside button, header button, #reload, #views") && !document.querySelector("[open]")) {
    setTimeout(() => $("grid").focus(), 0);
  }
});
for (const button of document.querySelectorAll("[data-close]")) {
  button.addEventListener("click", () => button.closest("dialog").close());
}
for (const button of document.querySelectorAll("[data-step]")) {
  button.addEventListener("click", () => grid.go(grid.focus + Number(button.dataset.step)));
}
$("error").lastElementChild.addEventListener("click", closeErrors);
$("file").addEventListener("change", read);
photo.dialog.addEventListener("close", () => $("grid").focus());
filter.addEventListener("submit", (event) => event.preventDefault());
filter.addEventListener("change", (event) => event.target.name !== "size" && show());
filter.elements.size.addEventListener("input", (event) => {
  grid.size = event.target.valueAsNumber;
  localStorage.setItem("hebbcore-size", grid.size);
  grid.layout();
});
addEventListener("beforeunload", (event) => !leaving && outbox.waiting.length && event.preventDefault());

tellKeys($("keys").querySelector("dl"));
grid.size = Number(localStorage.getItem("hebbcore-size")) || 208;
filter.elements.size.value = grid.size;
$("grid").focus();
tellKeptErrors();
store.watch();
outbox.run();
show();
