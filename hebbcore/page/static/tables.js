// Tables of labels from elsewhere.
import { ask, Lost, Refused } from "./api.js";
import { done, failed, photos } from "./words.js";

/** Send the table that was chosen in a field for files, and say what came of it. */
export async function read(event) {
  const [file] = event.target.files;
  if (file === undefined) return;
  done(`Reading ${file.name} …`);
  try {
    const { labelled, replaced = 0, unknown = [], unknowns = unknown.length, remarks = [] } = await ask(
      "/api/import", { body: file, type: "text/csv", seconds: 300 },
    );
    const lost = replaced ? `; ${photos(replaced)} had another label, z takes the table back` : "";
    done(`${photos(labelled)} labelled from ${file.name}${lost}`);
    const named = unknown.slice(0, 5).join(", "), more = unknowns > 5 ? ` and ${unknowns - 5} more` : "";
    if (unknowns) failed(`Not among the photos: ${named}${more}`);
    for (const remark of remarks) failed(`${file.name}: ${remark}`);
  } catch (error) {
    if (!(error instanceof Refused || error instanceof Lost)) throw error;
    failed(`${file.name}: ${error.message}`);
  }
  event.target.value = ""; // the same file may be read again
}
