// Taught words: list and remove them, and teach one from clips.
import { $, aria, attempt, get, make, post } from "./api.js";

export class Taught {
  constructor(clips) {
    this.clips = clips;
    this.there = false;
    this.known = "none yet";
    document.addEventListener("clips-chosen", () => this.count());
    $("teach").addEventListener("submit", (event) => {
      event.preventDefault();
      this.teach();
    });
  }

  begin(state) {
    this.there = state.taught;
    this.known = "none yet";
    $("taught-section").hidden = !state.taught;
    $("teach").hidden = !state.clips;
    $("teach-without").hidden = state.clips;
    this.count();
  }

  settings() {
    if (this.there) this.list();
  }

  show() {
    this.settings();
  }

  count() {
    const n = this.clips.chosen.size;
    $("teach-count").textContent = n === 0 ? "Choose 3 to 10 clips of the word below." : `${n} ${n === 1 ? "clip is" : "clips are"} chosen.`;
  }

  async list() {
    const found = await attempt($("taught-status"), () => get("/api/taught"));
    if (!found) return;
    const rows = found.words.map((word) => this.row(word));
    const text = rows.map((row) => row.textContent).join("\n");
    if (text === this.known) return; // do not take away what somebody is about to press
    this.known = text;
    $("taught").replaceChildren(...rows);
    $("no-taught").hidden = rows.length > 0;
  }

  row(word) {
    const learnt = word.wrong > 0 ? ", has learnt from mistakes" : "";
    const about = `${word.takes} takes, ${new Date(word.date).toLocaleDateString()}${learnt}`;
    const remove = aria(make("button", { type: "button", textContent: "Remove", className: "danger" }), { label: `Remove ${word.name}` });
    remove.addEventListener("click", () => {
      if (remove.textContent === "Remove") {
        remove.textContent = "Really remove?";
        remove.removeAttribute("aria-label");
      } else {
        attempt($("taught-status"), () => post("/api/taught/remove", { name: word.name }), `Removed ${word.name}.`).then(() => this.list());
      }
    });
    return make("li", {}, make("strong", { textContent: word.name }), make("small", { textContent: about }), remove);
  }

  async teach() {
    const name = $("teach-name").value.trim();
    const clips = [...this.clips.chosen];
    const done = await attempt($("taught-status"), () => post("/api/taught/teach", { name, clips }), `Taught ${name}. It is heard from now on.`);
    if (done === undefined) return;
    $("teach-name").value = "";
    this.clips.chosen.clear();
    this.count();
    this.list();
    document.dispatchEvent(new Event("clips-changed"));
  }
}
