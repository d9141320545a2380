// What the page knows of the server: its state, the photos seen so far, and the list that is shown. A list keeps its
// order while one works on it: what changes is drawn in place, and a new order comes when it is asked for.
import { ask, imagesOf, Lost, Refused, wait } from "./api.js";

const PAGE = 200; // photos a request
const HIDDEN = 1000; // milliseconds between looks of a tab in the background
const QUEUE = 48; // photos of "next" at a time: labels change what comes after

export class Store {
  /**
   * changed(): state, photos or list are new. failed(error): a request was refused. replaced(): another photo set is
   * served here now.
   */
  constructor(changed, failed, replaced) {
    this.changed = changed;
    this.failed = failed;
    this.replaced = replaced;
    this.state = null;
    this.lost = "";
    this.items = new Map(); // id: {item, seen: version}
    this.list = { query: {}, ids: [], total: 0, asked: new Set(), guesses: null };
    this.refreshing = new Set();
  }

  /** Follow the server's state for ever. */
  async watch() {
    for (let failures = 0; ; ) {
      // A browser has six connections to a server, for all tabs: those in the background must not hold them.
      if (document.hidden && this.state) await wait(HIDDEN);
      const after = this.state && !this.lost && !document.hidden ? `?after=${this.state.version}` : "";
      try {
        const state = await ask(`/api/state${after}`);
        // A server that was started again may count from anew: what was seen before says nothing about it.
        if (this.lost) for (const known of this.items.values()) known.seen = -1;
        this.lost = "";
        failures = 0;
        if (this.state && this.state.photo_set !== state.photo_set) this.replaced();
        this.state = state;
      } catch (error) {
        if (!(error instanceof Lost || error instanceof Refused)) throw error;
        this.lost = error.message;
        await wait(Math.min(2000, 250 * 2 ** failures++));
      }
      this.changed();
    }
  }

  /** Show the photos of a query {view, class, low, high} from its start. */
  async open(query) {
    const list = { query, ids: [], total: 0, asked: new Set([0]), guesses: this.state?.guesses_version ?? null };
    this.wanted = list;
    const answer = await this.page(list, 0);
    if (answer === null || this.wanted !== list) return false;
    list.total = query.view === "next" ? Math.min(answer.total, QUEUE) : answer.total;
    this.list = list;
    return true;
  }

  /** Ask for the photos first … last of the list that are not there yet. */
  async load(first, last) {
    const { list } = this;
    const pages = [];
    for (let page = Math.floor(first / PAGE); page <= Math.floor(last / PAGE); page++) {
      if (page * PAGE < list.total && !list.asked.has(page)) pages.push(page);
    }
    for (const page of pages) list.asked.add(page);
    const answers = await Promise.all(pages.map((page) => this.page(list, page)));
    if (answers.some((answer) => answer !== null)) this.changed();
  }

  async page(list, page) {
    const { view, ...rest } = list.query;
    const query = new URLSearchParams({ view, offset: page * PAGE, limit: view === "next" ? QUEUE : PAGE, ...rest });
    try {
      const answer = await ask(`/api/images?${query}`);
      answer.items.forEach((item, index) => (list.ids[page * PAGE + index] = item.id));
      this.merge(answer);
      return answer;
    } catch (error) {
      list.asked.delete(page); // asked again when it is drawn again
      this.said(error);
      return null;
    }
  }

  /** Bring photos up to the state's version. */
  async refresh(ids) {
    const now = this.state?.version ?? -1;
    const old = ids.filter((id) => !this.refreshing.has(id) && this.items.get(id).seen < now);
    for (const id of old) this.refreshing.add(id);
    try {
      for (let at = 0; at < old.length; at += PAGE) this.merge(await imagesOf(old.slice(at, at + PAGE)));
    } catch (error) {
      this.said(error);
      return;
    } finally {
      for (const id of old) this.refreshing.delete(id);
    }
    if (old.length) this.changed();
  }

  said(error) {
    if (error instanceof Refused) this.failed(error);
    else if (!(error instanceof Lost)) throw error; // watch() tells of a lost connection
  }

  merge({ items, version }) {
    for (const item of items) {
      const known = this.items.get(item.id);
      if (!known || known.seen <= version) this.items.set(item.id, { item, seen: version });
    }
  }

  /** Note what the server has taken: photos have this label since version. */
  labelled(ids, label, unsure, version) {
    for (const id of ids) {
      const known = this.items.get(id);
      if (known && known.seen <= version) this.items.set(id, { item: { ...known.item, label, unsure }, seen: version });
    }
  }

  /** Return the photo of an id, or undefined. */
  item(id) {
    return this.items.get(id)?.item;
  }
}
