// One photo, larger.
import { $, saysOf } from "./words.js";

export class Photo {
  constructor() {
    this.dialog = $("photo");
    this.image = $("photo-image");
    this.image.addEventListener("error", () => {
      if (this.image.getAttribute("src")) $("photo-says").textContent = "This photo cannot be read.";
    });
    this.dialog.addEventListener("close", () => this.image.removeAttribute("src"));
  }

  get open() {
    return this.dialog.open;
  }

  /** Show a photo; the dialog opens if it is not. */
  show(item) {
    if (item === undefined) return;
    $("photo-name").textContent = item.name;
    const says = saysOf(item).long;
    $("photo-says").textContent = says[0].toUpperCase() + says.slice(1);
    const address = `/photo/${item.id}`;
    if (this.image.getAttribute("src") !== address) this.image.src = address;
    if (!this.open) this.dialog.showModal();
  }
}
