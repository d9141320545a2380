// One photo, larger.
import { $, saysOf, set } from "./words.js";

export class Photo {
  constructor() {
    this.dialog = $("photo");
    this.image = $("photo-image");
    this.dialog.addEventListener("close", () => this.clear());
    this.clear();
  }

  get open() {
    return this.dialog.open;
  }

  /** Show a photo; the dialog opens if it is not. */
  show(item) {
    if (item === undefined) return;
    $("photo-name").textContent = item.name;
    const says = saysOf(item).long;
    set($("photo-says"), says[0].toUpperCase() + says.slice(1));
    if (this.shown !== item.id) this.load(item.id);
    if (!this.open) this.dialog.showModal();
  }

  /** Show the thumbnail, which is mostly there, until the photo has come. */
  load(id) {
    this.clear();
    this.shown = id;
    this.image.src = `/thumb/${id}`;
    this.image.classList.add("coming");
    set($("photo-loads"), "Loading …");
    const coming = Object.assign(new Image(), { id: "photo-image", alt: "" });
    coming.onload = () => {
      coming.onload = coming.onerror = null;
      if (this.coming !== coming) return;
      this.image.replaceWith(coming);
      this.image = coming;
      set($("photo-loads"), "");
    };
    coming.onerror = () => this.coming === coming && set($("photo-loads"), "This photo cannot be read.");
    this.coming = coming;
    coming.src = `/photo/${id}`;
  }

  /** Forget the photo, and end the request for it. */
  clear() {
    const { coming } = this;
    this.shown = this.coming = null;
    coming?.removeAttribute("src");
    this.image.removeAttribute("src");
    this.image.classList.remove("coming");
  }
}
