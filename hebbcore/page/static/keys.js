// The keys, as the page obeys them and as its help tells them.

const KEYS = [
  ["1 … 9", "give the class of that number"],
  ["c", "type a class, also a new one; Enter gives it"],
  ["g", "accept the guess"],
  ["Space", "unsure: leave this photo out"],
  ["Delete", "take the label away"],
  ["z", "undo"],
  ["Arrows", "move; with Shift select on the way"],
  ["Home, End, Page Up, Page Down", "move far"],
  ["x", "select or deselect this photo"],
  ["a", "select all photos in the window"],
  ["Enter", "larger photo"],
  ["Esc", "close; deselect"],
  ["r", "newest order of the list"],
  ["v", "next view"],
  ["?", "these keys"],
];

const PLAIN = {
  c: "name", g: "accept", " ": "unsure", Delete: "clear", Backspace: "clear", z: "undo", x: "toggle", a: "all",
  Enter: "open", Escape: "escape", r: "reload", v: "view", "?": "help",
};
const MOVES = ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End", "PageUp", "PageDown"];

/** Return [action, argument] of a key that was pressed, or null where the key is not the page's. */
export function actionOf(event) {
  const { key, target } = event;
  if (event.altKey || event.isComposing) return null;
  if (target.closest("input:not([type=radio]), select, textarea, #rename, #keys")) return null;
  const command = event.ctrlKey || event.metaKey;
  if (command) return { z: ["undo"], a: ["all"] }[key.toLowerCase()] ?? null;
  // Arrows choose among radio buttons, and Space and Enter press buttons, where the focus is on one.
  const control = target.closest("button, a, input");
  if (control && (MOVES.includes(key) || key === " " || key === "Enter")) {
    const photo = target.closest("#photo") && MOVES.includes(key);
    if (!photo) return null;
  }
  if (MOVES.includes(key)) return ["move", { key, extend: event.shiftKey }];
  const action = PLAIN[key] ?? PLAIN[key.toLowerCase()];
  if (action) return [action];
  // Some keyboards have digits with Shift only: then the place of the key counts.
  const digit = /^[1-9]$/.exec(key)?.[0] ?? /^Digit([1-9])$/.exec(event.code)?.[1];
  return digit ? ["class", Number(digit) - 1] : null;
}

/** Write the keys into a list of terms. */
export function tellKeys(list) {
  for (const [keys, text] of KEYS) {
    const term = document.createElement("dt"), told = document.createElement("dd");
    term.textContent = keys;
    told.textContent = text;
    list.append(term, told);
  }
}
