// Clips: hear, label and delete them.
import { $, aria, attempt, get, make, post } from "./api.js";

const PAGE = 8;
const KINDS = { hit: "heard as", near: "almost heard as", wrong: "wrongly heard as", checked: "checked, heard as" };
const REALLY_MS = 4000;

export class Clips {
  constructor(current) {
    this.current = current;
    this.kept = false;
    this.most = PAGE;
    this.timer = 0;
    this.teaches = false;
    this.chosen = new Set(); // names of the clips to teach a word from
    $("more-clips").addEventListener("click", () => {
      this.most += PAGE;
      this.list();
    });
    document.addEventListener("clips-changed", () => this.later());
  }

  begin(state) {
    this.kept = state.clips;
    this.teaches = state.taught;
    $("clips-status").textContent = "No clips are kept. A section [clips] in the configuration keeps them.";
  }

  show() {
    if (this.kept) this.list();
  }

  detection() {
    this.later();
  }

  later() { // a clip is written when its last sample was heard
    clearTimeout(this.timer);
    if (this.kept) this.timer = setTimeout(() => this.list(), 1000);
  }

  async list() {
    const playing = [...$("clips").querySelectorAll("audio")].some((audio) => !audio.paused);
    if (playing || $("clips").contains(document.activeElement)) {
      this.later(); // do not take away what somebody uses
      return;
    }
    const found = await attempt($("clips-status"), () => get("/api/clips"));
    if (!found) return;
    $("clips-status").textContent = found.count === 0
      ? "There are no clips yet."
      : `${found.count} ${found.count === 1 ? "clip" : "clips"}, ${(found.bytes / 1e6).toFixed(1)} MB.`;
    $("clips").replaceChildren(...found.clips.slice(0, this.most).map((clip) => this.row(clip)));
    $("more-clips").hidden = found.clips.length <= this.most;
  }

  row(clip) {
    const when = new Date(clip.time).toLocaleString();
    const what = make("p", { className: "what" }, make("strong", { textContent: clip.word }),
      make("small", { textContent: `${KINDS[clip.kind]} ${clip.heard}, ${clip.score.toFixed(2)}, ${clip.room}, ${when}` }));
    const about = `${clip.word}, ${when}`;
    const source = `/api/clip?name=${encodeURIComponent(clip.name)}`;
    const audio = aria(make("audio", { controls: true, preload: "none", src: source }), { label: `Clip ${about}` });
    const words = [...(this.current()?.possible ?? []), "unknown"].map((word) => make("option", {
      value: word, textContent: word === "unknown" ? "another word, or noise" : word, selected: word === clip.word }));
    const label = aria(make("select", {}, ...words), { label: `Word of clip ${about}` });
    const set = aria(make("button", { type: "button", textContent: "It is this word" }), { label: `It is this word: clip ${about}` });
    const remove = aria(make("button", { type: "button", textContent: "Delete", className: "danger" }), { label: `Delete clip ${about}` });
    const item = make("li", {}, what, audio, make("div", { className: "do" }, label, set, remove));
    if (this.teaches) item.append(this.choice(clip, about));
    set.addEventListener("click", () => this.change(item, "/api/clips/label", { name: clip.name, word: label.value },
      ({ learnt, note }) => `Labelled.${learnt.length ? ` ${learnt.join(", ")} learnt from it.` : ""}${note ? ` ${note}.` : ""}`));
    remove.addEventListener("click", () => this.reallyDelete(remove, item, clip));
    return item;
  }

  choice(clip, about) {
    const box = aria(make("input", { type: "checkbox", checked: this.chosen.has(clip.name) }), { label: `Teach from clip ${about}` });
    box.addEventListener("change", () => {
      if (box.checked) this.chosen.add(clip.name);
      else this.chosen.delete(clip.name);
      document.dispatchEvent(new Event("clips-chosen"));
    });
    return make("label", { className: "choice" }, box, "Teach from it");
  }

  reallyDelete(button, item, clip) {
    if (button.textContent === "Delete") {
      button.textContent = "Really delete?";
      button.removeAttribute("aria-label"); // the new text is read out
      setTimeout(() => {
        button.textContent = "Delete";
        aria(button, { label: `Delete clip ${clip.word}` });
      }, REALLY_MS);
    } else {
      this.change(item, "/api/clips/delete", { name: clip.name }, () => "Deleted.");
    }
  }

  async change(item, path, values, done) {
    const result = await attempt($("clips-status"), () => post(path, values));
    if (result === undefined) return;
    this.chosen.delete(values.name);
    document.dispatchEvent(new Event("clips-chosen"));
    const next = item.nextElementSibling ?? item.previousElementSibling;
    item.remove();
    next?.querySelector("audio")?.focus();
    document.activeElement?.blur();
    await this.list();
    $("clips-status").textContent = `${done(result)} ${$("clips-status").textContent}`;
  }
}
