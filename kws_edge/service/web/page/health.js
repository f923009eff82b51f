// How the rooms and the outputs fare, and what the doctor finds.
import { $, attempt, make, post } from "./api.js";

const decibels = (value) => (value === null ? "unknown" : `${value.toFixed(0)} dBFS`);

function hours(seconds) {
  if (seconds < 120) return `${seconds.toFixed(0)} s`;
  return seconds < 7200 ? `${(seconds / 60).toFixed(0)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

export class Health {
  constructor(current) {
    this.current = current;
    this.known = new Map();
    $("examine").addEventListener("click", () => this.examine());
  }

  begin(state) {
    this.known = new Map(state.telemetry.map((one) => [one.room, one]));
    this.outputs(state.outputs);
  }

  show() {
    $("findings").replaceChildren();
    const one = this.known.get(this.current()?.room);
    if (one) this.telemetry(one);
    else $("health").replaceChildren();
  }

  telemetry(one) {
    this.known.set(one.room, one);
    if (one.room !== this.current()?.room) return;
    const values = {
      Microphone: one.present ? "there" : "gone",
      "Noise floor": decibels(one.noise_db),
      Latency: one.latency_s === null ? "unknown" : `${(1000 * one.latency_s).toFixed(1)} ms`,
      "Audio heard": hours(one.heard_s),
      "Audio lost": `${one.lost_s.toFixed(1)} s`,
      Outages: one.outages,
      Detections: one.detections,
    };
    if (one.temperature_c !== null) values.Processor = `${one.temperature_c.toFixed(0)} °C`;
    $("health").replaceChildren(...Object.entries(values).flatMap(([name, value]) => [
      make("dt", { textContent: name }), make("dd", { textContent: value })]));
  }

  outputs(counts) {
    $("outputs").replaceChildren(...Object.entries(counts).map(([name, one]) => make("tr", {},
      make("th", { scope: "row", textContent: name }),
      ...["sent", "dropped", "failed", "waiting"].map((kind) => make("td", { textContent: one[kind] })))));
  }

  async examine() {
    $("examine").disabled = true;
    const place = $("findings");
    place.replaceChildren();
    const found = await attempt(place, () => post("/api/examine", { room: this.current().room }));
    $("examine").disabled = false;
    if (!found) return;
    if (!found.signal) {
      place.textContent = "There is no audio to examine.";
      return;
    }
    const { level_db: level, floor_db: floor, peak_db: peak } = found.signal;
    const rows = [make("p", { textContent: `${found.seconds} s: loud ${level.toFixed(0)} dBFS, quiet ${floor.toFixed(0)} dBFS, peak ${peak.toFixed(0)} dBFS.` })];
    for (const one of found.findings) {
      rows.push(make("p", { className: one.level }, make("strong", { textContent: `${one.code}: ` }), `${one.what}. `, one.remedy ? `Do: ${one.remedy}.` : ""));
    }
    if (!found.findings.length) rows.push(make("p", { className: "good", textContent: "Nothing is wrong with the sound." }));
    place.replaceChildren(...rows);
  }
}
