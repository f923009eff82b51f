// Sensitivity, thresholds and active words. A change holds at once, and is sent when a slider is released.
import { $, aria, attempt, make, post } from "./api.js";

export class Settings {
  constructor(current) {
    this.current = current;
    this.rows = new Map();
    $("sensitivity").addEventListener("input", () => {
      $("sensitivity-value").textContent = Number($("sensitivity").value).toFixed(2);
    });
    $("sensitivity").addEventListener("change", () => this.change({ sensitivity: Number($("sensitivity").value) }));
    $("settings").addEventListener("submit", (event) => {
      event.preventDefault();
      attempt($("settings-status"), () => post("/api/save"), "Saved. It holds after a restart, too.");
    });
  }

  change(values) {
    const taught = Object.keys(values.thresholds ?? {}).some((word) => this.current().taught.includes(word));
    return attempt(
      $("settings-status"),
      () => post("/api/settings", { room: this.current().room, ...values }),
      taught ? "Changed in every room, and saved." : "Changed, but not saved yet.",
    ).then((result) => {
      if (result === undefined) this.settings(this.current()); // show what holds
    });
  }

  show() {
    this.rows.clear();
    if (this.current()) this.settings(this.current());
  }

  settings(settings) {
    if (settings.possible.join("\n") !== [...this.rows.keys()].join("\n")) this.makeRows(settings.possible);
    if (document.activeElement !== $("sensitivity") || settings.sensitivity !== null) {
      $("sensitivity").value = settings.sensitivity ?? 0.5;
      $("sensitivity-value").textContent = settings.sensitivity === null ? "not set" : settings.sensitivity.toFixed(2);
      aria($("sensitivity"), { valuetext: settings.sensitivity ?? "thresholds of your own" });
    }
    $("sensitivity").disabled = !settings.has_sensitivity;
    $("sensitivity-missing").hidden = settings.has_sensitivity;
    for (const [word, row] of this.rows) {
      row.active.checked = settings.keywords.includes(word);
      row.active.disabled = word === settings.wake_word;
      row.slider.disabled = !row.active.checked;
      row.slider.value = settings.thresholds[word];
      row.value.textContent = settings.thresholds[word].toFixed(2);
    }
  }

  name(word) {
    return this.current().taught.includes(word) ? `${word} (taught)` : word;
  }

  makeRows(words) {
    this.rows = new Map(words.map((word) => {
      const active = make("input", { type: "checkbox" });
      const slider = aria(make("input", { type: "range", min: 0.05, max: 1, step: 0.01 }), { label: `Threshold of ${word}` });
      const value = aria(make("output"), { hidden: true });
      slider.addEventListener("input", () => { value.textContent = Number(slider.value).toFixed(2); });
      slider.addEventListener("change", () => this.change({ thresholds: { [word]: Number(slider.value) } }));
      active.addEventListener("change", () => {
        this.change({ keywords: [...this.rows].filter(([, row]) => row.active.checked).map(([name]) => name) });
      });
      return [word, { active, slider, value, item: make("li", {}, make("label", {}, active, this.name(word)), slider, value) }];
    }));
    $("words").replaceChildren(...[...this.rows.values()].map((row) => row.item));
  }
}
