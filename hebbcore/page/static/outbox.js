// What was clicked and is not yet on the server's disk. It is sent in order, one request at a time. A lost connection
// keeps it, here and over a reload of the page; an error of the server's own is tried some times and then told.
import { ask, Lost, Refused, wait } from "./api.js";

const KEPT = "hebbcore-unsent";
const TRIES = 5;

export class Outbox {
  /** heard: {sent(entry, answer), refused(entry, error), changed()}. photoSet(): which one the page shows, if known. */
  constructor(heard, photoSet) {
    this.heard = heard;
    this.photoSet = photoSet;
    this.waiting = JSON.parse(sessionStorage.getItem(KEPT) || "[]");
    this.unchecked = this.waiting.length > 0; // is it still the same photo set?
    this.lost = "";
    this.busy = false;
    this.overlay();
  }

  /** Send {path, body}. once: not sent again, as it may have arrived. */
  add(path, body, { once = false } = {}) {
    this.waiting.push({ path, body, once, photoSet: this.photoSet() });
    this.keep();
    this.run();
  }

  /** Take back the last entry if it never left; return it or undefined. */
  takeBack() {
    const first = this.busy && !this.lost ? 1 : 0;
    const last = this.waiting.length > first ? this.waiting.at(-1) : undefined;
    if (last === undefined || last.path !== "/api/label" || (last.tried && last === this.waiting[0])) return undefined;
    this.waiting.pop();
    this.keep();
    return last;
  }

  /** Return {label, unsure} of a photo that waits to be sent, or undefined. */
  of(id) {
    return this.labels.get(id);
  }

  keep() {
    try {
      sessionStorage.setItem(KEPT, JSON.stringify(this.waiting));
    } catch {
      // Storage is full or forbidden: they are kept in this page alone, and closing it asks first.
    }
    this.overlay();
    this.heard.changed();
  }

  overlay() {
    this.labels = new Map();
    for (const { path, body } of this.waiting) {
      if (path !== "/api/label") continue;
      for (const id of body.images) this.labels.set(id, { label: body.label, unsure: body.unsure });
    }
  }

  async run() {
    if (this.busy) return;
    this.busy = true;
    while (this.waiting.length) await this.first();
    this.busy = false;
    this.heard.changed();
  }

  /** Send the first entry; it stays the first where the connection is lost. */
  async first() {
    const entry = this.waiting[0];
    try {
      if (this.unchecked) await this.check();
      entry.tried = (entry.tried || 0) + 1;
      const answer = await ask(entry.path, { body: JSON.stringify(entry.body) });
      this.lost = "";
      this.heard.sent(entry, answer);
      this.done(entry);
    } catch (error) {
      if (error instanceof Lost && !entry.once && !(error.broken && entry.tried >= TRIES)) {
        this.lost = error.message;
        this.unchecked = true;
        this.heard.changed();
        await wait(1000);
      } else if (error instanceof Lost || error instanceof Refused) {
        this.lost = "";
        this.done(entry);
        this.heard.refused(entry, error);
      } else {
        throw error;
      }
    }
  }

  done(entry) {
    this.waiting = this.waiting.filter((other) => other !== entry);
    this.keep();
  }

  /** Refuse all where another photo set is served at this address now. */
  async check() {
    const { photo_set: served } = await ask("/api/state");
    this.unchecked = false;
    if (this.waiting.every(({ photoSet }) => photoSet === undefined || photoSet === served)) return;
    const count = this.waiting.length;
    this.waiting = this.waiting.slice(0, 1);
    throw new Refused(`Another photo set is served here now: ${count} actions of before were not sent.`);
  }
}
