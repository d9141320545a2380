// What the page asks of the server, and the two ways in which that fails.

/** The server's answer is no: the user is told why, and the request is not sent again. */
export class Refused extends Error {}

/** No answer, or none that counts: the request may be sent again. */
export class Lost extends Error {
  constructor(message, broken = false) {
    super(message);
    this.broken = broken; // the server answered, with an error of its own
  }
}

const SECONDS = 30; // a long poll answers within 20

/** Return what the server answers to a GET, or to a POST where there is a body. */
export async function ask(path, { body, type = "application/json", seconds = SECONDS } = {}) {
  const options = { signal: AbortSignal.timeout(seconds * 1000) };
  if (body !== undefined) Object.assign(options, { method: "POST", headers: { "Content-Type": type }, body });
  let answer, text;
  try {
    answer = await fetch(path, options);
    text = await answer.text();
  } catch {
    throw new Lost("No connection to the server. Is hebbcore label still running?");
  }
  if (answer.ok) return JSON.parse(text);
  const said = errorOf(text) || `The server answered ${answer.status}.`;
  if (answer.status === 403) throw new Lost(`${said} This page goes on once the address is open in another tab.`);
  throw answer.status >= 500 ? new Lost(said, true) : new Refused(said);
}

function errorOf(text) {
  try {
    return String(JSON.parse(text).error);
  } catch {
    return text.slice(0, 300);
  }
}

/** Return the images of ids as the server has them now: {version, items}. */
export function imagesOf(ids) {
  return ask(`/api/images?ids=${ids.join(",")}`);
}

export function wait(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
