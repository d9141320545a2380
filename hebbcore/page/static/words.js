// What the page says, and how it counts.
export const $ = (id) => document.getElementById(id);
export const count = (n) => n.toLocaleString("en");
export const photos = (n) => `${count(n)} photo${n === 1 ? "" : "s"}`;
export const percent = (share) => `${Math.round(share * 100)} %`;

/** Return the name of a class without what nobody sees, as the server has it (hebbcore.texts.tidy). */
export function tidy(name) {
  const seen = name.replace(/\p{Cf}/gu, (mark) => ("\u200c\u200d".includes(mark) ? mark : "")).normalize("NFC");
  const joined = seen.replace(/[\p{Zs}\t-\r\u0085\u2028\u2029]+/gu, " ").replace(
    /([^\0-\u036f\u200c\u200d])([\u200c\u200d])[\u200c\u200d]*(?=[^\0-\u036f\u200c\u200d])|[\u200c\u200d]/gu, "$1$2",
  );
  return joined.normalize("NFC").replace(/ +/g, " ").trim();
}

const KEPT = 3; // errors shown at a time
const ERRORS = "hebbcore-errors";

/** Write a text where it changed, so that a screen reader is not told the same again. */
export function set(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Say what was done. */
export function done(text) {
  set($("done"), text);
}

/** Say what did not work; it stays until it is closed. */
export function failed(text) {
  const list = $("errors"), line = document.createElement("li");
  line.textContent = text[0].toUpperCase() + text.slice(1);
  if (list.lastElementChild?.textContent !== line.textContent) list.append(line);
  while (list.children.length > KEPT) list.firstElementChild.remove();
  $("error").hidden = false;
}

/** Keep the errors that are shown for the page that is loaded next; tell those that the page before kept. */
export function keepErrors() {
  sessionStorage.setItem(ERRORS, JSON.stringify([...$("errors").children].map((line) => line.textContent)));
}

export function tellKeptErrors() {
  for (const text of JSON.parse(sessionStorage.getItem(ERRORS) || "[]")) failed(text);
  sessionStorage.removeItem(ERRORS);
}

export function closeErrors() {
  $("error").hidden = true;
  $("errors").replaceChildren();
}

const LEFTWARD = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufeff]/; // letters that are written from right to left

/** Return a name that takes along no number behind it where it is written from right to left. */
const alone = (name) => (LEFTWARD.test(name) ? `\u2068${name}\u2069` : name);

/** Return what is said of a photo: {kind, short, share, long}. */
export function saysOf({ label, unsure, guess, confidence, second }) {
  if (label !== null) return { kind: "label", short: label, share: "", long: `labelled ${alone(label)}` };
  const share = confidence === null ? "" : percent(confidence);
  if (unsure) return { kind: "unsure", short: "unsure", share: "", long: "unsure" };
  if (guess === null) return { kind: "none", short: "no label", share: "", long: "no label" };
  const after = second === null || second === guess ? "" : `, or ${alone(second)}`;
  return { kind: "guess", short: guess, share, long: `guess ${alone(guess)} ${share}${after}` };
}
