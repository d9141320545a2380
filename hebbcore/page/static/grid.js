// A grid of photos of which only the rows in sight are in the document.
import { saysOf } from "./words.js";

const CAPTION = 2.25; // rem below a picture
const GAP = 0.5; // rem between cells
const OVERSCAN = 1; // rows beyond the window
const TALLEST = 8e6; // pixels: browsers end near 17 million, so longer lists scroll faster than they are drawn
const FILL = 60; // milliseconds: rows that fly past are not loaded

export class Grid {
  /**
   * source: {item(index), total(), needed(first, last), moved(), open()}: the photo at an index or undefined, how many
   * there are, rows came into sight, focus or selection changed, a photo is to be seen larger.
   */
  constructor(element, source) {
    this.element = element;
    this.inner = element.firstElementChild;
    this.source = source;
    this.size = 200; // pixels of a picture's side, before a row's spare room is shared
    this.focus = 0;
    this.anchor = 0;
    this.selected = new Set(); // ids
    this.rows = new Map(); // number: element
    this.partial = false; // photos between anchor and focus are not known yet
    this.timer = 0;
    element.addEventListener("scroll", () => this.render(), { passive: true });
    element.addEventListener("click", (event) => this.clicked(event));
    element.addEventListener("dblclick", (event) => event.target.closest(".pick") || source.open());
    new ResizeObserver(() => this.layout()).observe(element);
  }

  /** Draw a new list; keep: the id of a photo to stay at, if it is near the start. */
  reset(keep) {
    this.selected.clear();
    this.partial = false;
    const total = this.source.total();
    let at = 0;
    for (let index = 0; keep !== undefined && index < Math.min(total, 200); index++) {
      if (this.source.item(index)?.id === keep) at = index;
    }
    this.focus = this.anchor = at;
    this.element.scrollTop = 0;
    this.layout();
  }

  /** Measure, and draw all rows anew with the photo in focus in sight. */
  layout() {
    const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
    const width = this.inner.clientWidth;
    if (!width) return;
    this.gap = GAP * rem;
    this.columns = Math.max(2, Math.floor((width + this.gap) / (this.size + this.gap)));
    const side = Math.floor((width - (this.columns - 1) * this.gap) / this.columns);
    this.step = side + CAPTION * rem + this.gap;
    this.element.style.setProperty("--side", `${side}px`);
    const total = this.source.total(), rows = Math.ceil(total / this.columns);
    this.full = rows * this.step;
    this.inner.style.height = `${Math.min(this.full, TALLEST)}px`;
    this.element.setAttribute("aria-rowcount", rows);
    this.element.setAttribute("aria-colcount", this.columns);
    for (const row of this.rows.values()) row.remove();
    this.rows.clear();
    this.show();
  }

  /** Return how many pixels of the whole list one pixel of the scroll bar stands for. */
  get factor() {
    const view = this.element.clientHeight;
    return this.full <= TALLEST ? 1 : (this.full - view) / (TALLEST - view);
  }

  get page() {
    return Math.max(1, Math.floor(this.element.clientHeight / this.step));
  }

  /** Draw the rows in sight and the row in focus, and no other. */
  render() {
    const total = this.source.total(), { factor } = this, shift = this.element.scrollTop * (1 - factor);
    const top = this.element.scrollTop * factor, rows = Math.ceil(total / this.columns);
    const first = Math.max(0, Math.floor(top / this.step) - OVERSCAN);
    const last = Math.min(rows, Math.ceil((top + this.element.clientHeight) / this.step) + OVERSCAN);
    const wanted = new Set(total ? [Math.floor(this.focus / this.columns)] : []);
    for (let row = first; row < last; row++) wanted.add(row);
    for (const [row, element] of this.rows) {
      if (wanted.has(row)) continue;
      for (const image of element.querySelectorAll("img")) image.removeAttribute("src"); // ends its request
      element.remove();
      this.rows.delete(row);
    }
    for (const row of [...wanted].sort((a, b) => a - b)) {
      if (!this.rows.has(row)) this.insert(row, total);
      this.rows.get(row).style.transform = `translateY(${row * this.step + shift}px)`;
    }
    this.mark();
    this.timer ||= setTimeout(() => this.fill(), FILL);
  }

  /** Put a row into the document, in its order. */
  insert(row, total) {
    const element = make("div", "row", { role: "row", "aria-rowindex": row + 1 });
    const end = Math.min(total, (row + 1) * this.columns);
    for (let index = row * this.columns; index < end; index++) element.append(cellOf(index, this.columns));
    const after = [...this.rows.keys()].filter((other) => other > row).sort((a, b) => a - b)[0];
    this.inner.insertBefore(element, after === undefined ? null : this.rows.get(after));
    this.rows.set(row, element);
    for (const cell of element.children) this.paint(cell);
  }

  /** Ask for what the rows in the document lack, and load their pictures. */
  fill() {
    this.timer = 0;
    const indices = this.indices();
    if (!indices.length) return;
    this.source.needed(indices);
    this.repaint();
  }

  indices() {
    return [...this.inner.querySelectorAll(".cell")].map((cell) => Number(cell.dataset.index));
  }

  /** Draw what is known of the photos in the document. */
  repaint() {
    if (this.partial) {
      this.range();
      if (!this.partial) this.source.moved();
    }
    for (const cell of this.inner.querySelectorAll(".cell")) this.paint(cell, true);
    this.mark();
  }

  paint(cell, load = false) {
    const item = this.source.item(Number(cell.dataset.index));
    if (item === undefined) return;
    const [image, caption] = cell.children;
    const address = `/thumb/${item.id}`;
    if (load && image.getAttribute("src") !== address) image.src = address;
    const says = saysOf(item);
    cell.setAttribute("aria-label", `${item.name}, ${says.long}`);
    cell.title = item.name;
    caption.className = `caption ${says.kind}`;
    caption.firstElementChild.textContent = says.short;
    caption.lastElementChild.textContent = says.share;
  }

  /** Load pictures again that failed. */
  retry() {
    for (const image of this.inner.querySelectorAll("img.failed")) {
      image.classList.remove("failed");
      const address = image.getAttribute("src");
      image.removeAttribute("src");
      image.src = address;
    }
  }

  /** Show focus and selection. */
  mark() {
    for (const cell of this.inner.querySelectorAll(".cell")) {
      const index = Number(cell.dataset.index), id = this.source.item(index)?.id;
      cell.classList.toggle("focus", index === this.focus);
      cell.setAttribute("aria-selected", this.selected.has(id));
    }
    if (this.source.total()) this.element.setAttribute("aria-activedescendant", `photo-${this.focus}`);
    else this.element.removeAttribute("aria-activedescendant");
  }

  /** Scroll so that the photo in focus is in sight. */
  show() {
    const { factor } = this, top = Math.floor(this.focus / this.columns) * this.step;
    const seen = this.element.scrollTop * factor, view = this.element.clientHeight;
    if (top < seen) this.element.scrollTop = top / factor;
    else if (top + this.step > seen + view) this.element.scrollTop = (top + this.step - view) / factor;
    this.render();
  }

  /** Move the focus; extend: select all from the anchor to there. */
  go(index, extend = false) {
    this.focus = Math.max(0, Math.min(this.source.total() - 1, index));
    if (extend) this.range();
    else {
      this.anchor = this.focus;
      this.partial = false;
    }
    this.show();
    this.source.moved();
  }

  range() {
    const [first, last] = [this.anchor, this.focus].sort((a, b) => a - b);
    this.selected.clear();
    this.partial = false;
    for (let index = first; index <= last; index++) this.partial ||= !this.pick(index);
    if (this.partial) this.source.needed([first, last]); // the rest is selected when it is there
  }

  pick(index) {
    const item = this.source.item(index);
    if (item) this.selected.add(item.id);
    return item !== undefined;
  }

  /** Select or deselect the photo at an index. */
  toggle(index) {
    const id = this.source.item(index)?.id;
    if (id !== undefined && !this.selected.delete(id)) this.selected.add(id);
    this.go(index);
  }

  /** Select all photos in the window. */
  all() {
    const { top, bottom } = this.element.getBoundingClientRect();
    for (const cell of this.inner.querySelectorAll(".cell")) {
      const box = cell.firstElementChild.getBoundingClientRect();
      if (box.bottom > top && box.top < bottom) this.pick(Number(cell.dataset.index));
    }
    this.mark();
    this.source.moved();
  }

  deselect() {
    this.selected.clear();
    this.mark();
    this.source.moved();
  }

  move(key, extend) {
    const { columns } = this, far = this.page * columns;
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns, PageUp: -far, PageDown: far };
    const total = this.source.total();
    if (key === "Home" || key === "End") return this.go(key === "Home" ? 0 : total - 1, extend);
    const next = this.focus + steps[key];
    // A row up or down keeps its column; past the ends nothing moves.
    if (Math.abs(steps[key]) === columns && (next < 0 || next >= total)) return undefined;
    return this.go(next, extend);
  }

  clicked(event) {
    const cell = event.target.closest(".cell");
    if (!cell) return;
    const index = Number(cell.dataset.index);
    if (event.target.closest(".pick") || event.ctrlKey || event.metaKey) this.toggle(index);
    else {
      if (!event.shiftKey) this.selected.clear();
      this.go(index, event.shiftKey);
    }
  }
}

/** Return an empty cell: a picture, its caption and a corner to pick it with the mouse. */
function cellOf(index, columns) {
  const cell = make("div", "cell", { role: "gridcell", id: `photo-${index}`, "aria-colindex": (index % columns) + 1 });
  cell.dataset.index = index;
  const image = make("img", "", { alt: "", draggable: "false", decoding: "async" });
  image.addEventListener("error", () => image.classList.add("failed"));
  image.addEventListener("load", () => image.classList.remove("failed"));
  const caption = make("div", "caption", {});
  caption.append(make("span", "", {}), " ", make("span", "", {}));
  cell.append(image, caption, make("span", "pick", { "aria-hidden": "true" }));
  return cell;
}

function make(name, className, attributes) {
  const element = document.createElement(name);
  element.className = className;
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}
