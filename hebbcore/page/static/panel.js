// The words and counts around the photos: classes, estimate, what is saved, what is learned.
import { draw } from "./curve.js";
import { $, count, percent, photos, set } from "./words.js";

const LISTED = 100; // classes drawn at a time

export class Panel {
  /** heard: {chosen(name), rename(name)}. */
  constructor(heard) {
    this.heard = heard;
    this.drawn = {};
    new ResizeObserver(() => this.curve(true)).observe($("curve"));
  }

  /** Draw the server's state; the waiting are the outbox's. */
  update(state, { waiting, lost }) {
    this.saved(waiting, lost);
    if (state === null) return;
    this.state = state;
    const unsure = state.unsure ? `, ${count(state.unsure)} unsure` : "";
    set($("progress"), `${count(state.labelled)} of ${photos(state.images)} labelled${unsure}`);
    this.learning(state.learning, state.results);
    this.classes(state.classes);
    this.estimate(state);
    this.curve();
    $("undo").disabled = !state.can_undo && !waiting;
  }

  saved(waiting, lost) {
    $("saved").className = lost ? "waits" : waiting ? "saving" : "safe";
    if (!waiting) set($("saved"), lost ? "No connection" : "Every label is on disk");
    else set($("saved"), lost ? `${count(waiting)} not sent yet` : "Saving …");
    $("lost").hidden = !lost;
    if (!lost) return;
    const kept = waiting ? ` ${count(waiting)} action${waiting === 1 ? " is" : "s are"} kept here and sent then.` : "";
    set($("lost"), `${lost} Trying again.${kept}`);
  }

  learning(learning, results) {
    $("learning").className = learning.error ? "failed" : learning.running ? "running" : "";
    if (learning.error) set($("learning"), `Learning failed: ${learning.error}`);
    else if (learning.running) set($("learning"), "Learning …");
    else if (learning.labels) set($("learning"), `Learned from ${count(learning.labels)} labels`);
    else set($("learning"), "Guesses come when two classes have labels");
    $("results").disabled = results.running;
    set($("results"), results.running ? "Writing results …" : "Write results");
  }

  /** Draw the classes, or those that match what is typed. */
  classes(classes) {
    const typed = $("name").value.trim().toLowerCase();
    if (!this.isNew("classes", [classes, typed])) return;
    const numbered = classes.map((one, index) => ({ ...one, key: index < 9 ? String(index + 1) : "" }));
    const fitting = numbered.filter(({ name }) => name.toLowerCase().includes(typed));
    const shown = (fitting.length ? fitting : numbered).slice(0, LISTED);
    const list = $("classes");
    while (list.children.length > shown.length) list.lastElementChild.remove();
    while (list.children.length < shown.length) list.append(this.row());
    shown.forEach((one, index) => fill(list.children[index], one));
    $("more-classes").hidden = shown.length === classes.length;
    set($("more-classes"), `${count(shown.length)} of ${count(classes.length)} classes. Type to find others.`);
    if (!this.isNew("names", classes.map(({ name }) => name))) return;
    options($("names"), classes, []);
    const select = document.querySelector("#filter [name=class]");
    options(select, classes, [select.options[0]]);
  }

  row() {
    const row = document.createElement("li");
    const choose = Object.assign(document.createElement("button"), { type: "button", className: "class" });
    choose.append(document.createElement("kbd"), " ", document.createElement("b"), counted("labelled,"), counted("guessed"));
    const rename = Object.assign(document.createElement("button"), { type: "button", className: "rename" });
    rename.append(Object.assign(document.createElement("span"), { textContent: "✎", ariaHidden: "true" }));
    choose.addEventListener("click", () => this.heard.chosen(row.dataset.name));
    rename.addEventListener("click", () => this.heard.rename(row.dataset.name));
    row.append(choose, rename);
    return row;
  }

  estimate({ estimate }) {
    set($("estimate"), estimate === null ? "–" : percent(estimate.value));
    const bounds = estimate === null ? "" : `likely ${percent(estimate.low)} to ${percent(estimate.high)}, `;
    const told = `${bounds}estimated from your labels. A wrong label counts as a wrong guess.`;
    set($("interval"), estimate === null ? "Told from about ten labels on." : told);
  }

  curve(resized = false) {
    const points = this.state?.curve ?? [];
    if (!this.isNew("curve", points) && !resized) return;
    if (points.length) draw($("curve"), points);
    else $("curve").replaceChildren();
  }

  isNew(part, value) {
    const text = JSON.stringify(value), old = this.drawn[part];
    this.drawn[part] = text;
    return text !== old;
  }
}

/** Return a place for a count, and what it counts, which only a screen reader says. */
function counted(what) {
  const place = document.createElement("span"), said = document.createElement("small");
  said.className = "hidden";
  said.textContent = ` ${what} `;
  place.append(document.createElement("i"), said);
  return place;
}

/** Write a class into its row. */
function fill(row, { name, labelled, guessed, key }) {
  const [choose, rename] = row.children, [number, label, labels, guesses] = choose.children;
  row.dataset.name = name;
  set(number, key);
  number.hidden = !key;
  set(label, name);
  set(labels.firstElementChild, count(labelled));
  set(guesses.firstElementChild, count(guessed));
  choose.title = name;
  if (key) choose.setAttribute("aria-keyshortcuts", key);
  else choose.removeAttribute("aria-keyshortcuts");
  rename.setAttribute("aria-label", `Rename ${name}`);
  rename.title = "Rename";
}

/** Fill a list of options with the classes' names; what is chosen stays, under its place if it was renamed. */
function options(element, classes, before) {
  const { selectedIndex } = element;
  const made = classes.map(({ name }) => {
    const option = document.createElement("option");
    option.value = name;
    option.textContent = name;
    return option;
  });
  element.replaceChildren(...before, ...made);
  if (selectedIndex > 0) element.selectedIndex = selectedIndex;
}
