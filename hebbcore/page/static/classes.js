// Classes by name: typed, new, renamed.
import { $, set, tidy } from "./words.js";

export class Classes {
  /** names(): of the classes; send(path, body): to the server; give(name): labels with a class; changed(): draws anew. */
  constructor({ names, send, give, changed }) {
    Object.assign(this, { names, send, give, changed });
    $("named").addEventListener("submit", (event) => this.byName(event));
    $("name").addEventListener("input", changed);
    $("rename").firstElementChild.addEventListener("submit", (event) => this.rename(event));
  }

  get typed() {
    return tidy($("name").value);
  }

  /** Give the class that is typed; one that is new is added first. */
  byName(event) {
    event.preventDefault();
    const name = this.typed;
    if (!name) return;
    if (!this.names().includes(name)) this.send("/api/classes", { name });
    $("name").value = "";
    this.give(name);
    this.changed();
    $("grid").focus();
  }

  /** Say what Enter would do. */
  hint() {
    const name = this.typed, known = this.names().includes(name);
    set($("name-hint"), !name ? "" : known ? `Gives ${name}` : `Adds ${name} as a new class and gives it`);
  }

  /** Ask for another name of a class. */
  ask(name) {
    $("rename").dataset.old = name;
    $("new-name").value = name;
    $("rename").showModal();
    $("new-name").select();
  }

  rename(event) {
    event.preventDefault();
    const { old } = $("rename").dataset, name = tidy($("new-name").value);
    $("rename").close();
    if (name !== old) this.send("/api/classes/rename", { old, new: name });
  }
}
