// Level, spectrogram, posteriors and detections.
import { $, aria, attempt, clock, make, post } from "./api.js";

const SECONDS = 10;
const MOST_LISTED = 100;
const COLOURS = [[0, 0, 4], [58, 15, 110], [140, 41, 129], [222, 73, 104], [254, 159, 109], [252, 253, 191]];

// The colour of each level, 0 to 255, as the bytes of a pixel. A room's sound lies between these shares of the range.
const DARKEST = 0.2;
const BRIGHTEST = 0.75;
const PALETTE = new Uint8ClampedArray(256 * 4);
for (let level = 0; level < 256; level += 1) {
  const share = Math.max(0, Math.min(1, (level / 255 - DARKEST) / (BRIGHTEST - DARKEST)));
  const at = share * (COLOURS.length - 1);
  const from = COLOURS[Math.floor(at)];
  const to = COLOURS[Math.ceil(at)];
  for (let part = 0; part < 3; part += 1) PALETTE[4 * level + part] = from[part] + (to[part] - from[part]) * (at % 1);
  PALETTE[4 * level + 3] = 255;
}

class Waterfall {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { alpha: false });
    this.marks = [];
  }

  clear() {
    this.context.fillStyle = "#000";
    this.context.fillRect(0, 0, this.canvas.width, this.canvas.height);
  }

  // Draw frames at the right edge; what was there moves to the left.
  add(bytes, bands, framesPerSecond) {
    const frames = bytes.length / bands;
    const columns = Math.round(framesPerSecond * SECONDS);
    if (this.canvas.width !== columns || this.canvas.height !== bands) {
      this.canvas.width = columns;
      this.canvas.height = bands;
      this.clear();
    }
    const image = this.context.createImageData(frames, bands);
    for (let frame = 0; frame < frames; frame += 1) {
      for (let band = 0; band < bands; band += 1) {
        const level = bytes.charCodeAt(frame * bands + band);
        image.data.set(PALETTE.subarray(4 * level, 4 * level + 4), 4 * ((bands - 1 - band) * frames + frame));
      }
    }
    this.context.drawImage(this.canvas, -frames, 0);
    this.context.putImageData(image, columns - frames, 0);
  }

  mark() {
    const width = Math.max(2, Math.round(2 * this.canvas.width / this.canvas.clientWidth)); // seen on a phone, too
    this.context.fillStyle = "#fff";
    this.context.fillRect(this.canvas.width - width, 0, width, this.canvas.height);
  }
}

export class Live {
  constructor(current) {
    this.current = current;
    this.waterfall = new Waterfall($("waterfall"));
    this.rows = [];
    this.told = 0;
    this.all = [];
    this.keepsClips = false;
  }

  begin(state) {
    this.all = state.detections;
    this.keepsClips = state.clips;
  }

  show() {
    this.waterfall.clear();
    this.list();
    const settings = this.current();
    if (settings) this.settings(settings);
  }

  list() {
    const room = this.current()?.room;
    $("detections").replaceChildren();
    for (const one of this.all) if (one.room === room) this.row(one);
    $("no-detections").hidden = $("detections").childElementCount > 0;
  }

  settings(settings) {
    this.rows = settings.keywords.map((word) => {
      const fill = make("span");
      const mark = make("i");
      const bar = make("div", { className: "bar" }, fill, mark);
      bar.setAttribute("role", "meter");
      aria(bar, { label: word, valuemin: 0, valuemax: 1, valuenow: 0 });
      const number = aria(make("span", { className: "number", textContent: "0.00" }), { hidden: true });
      const item = make("li", {}, make("span", { textContent: word, title: word }), bar, number);
      return { index: settings.labels.indexOf(word), fill, mark, bar, number, item };
    });
    $("scores").replaceChildren(...this.rows.map((row) => row.item));
    $("armed").textContent = "";
  }

  scores(values) {
    const settings = this.current();
    if (!settings) return;
    const now = Date.now();
    const tell = now - this.told > 1000; // a screen reader need not hear ten values a second
    if (tell) this.told = now;
    const level = Math.max(-70, Math.min(0, values.level));
    $("level").firstElementChild.style.transform = `scaleX(${1 + level / 70})`;
    $("level-value").textContent = `${level.toFixed(0)} dBFS`;
    if (tell) aria($("level"), { valuenow: level.toFixed(0), valuetext: `${level.toFixed(0)} dBFS` });
    for (const row of this.rows) {
      const score = values.p[row.index] / 1000;
      const threshold = values.at[row.index] / 1000;
      row.fill.style.transform = `scaleX(${Math.min(1, score)})`;
      row.mark.style.left = `${100 * Math.min(1, threshold)}%`;
      row.item.classList.toggle("over", score >= threshold);
      row.number.textContent = score.toFixed(2);
      if (tell) aria(row.bar, { valuenow: score.toFixed(2) });
    }
    if (settings.wake_word) {
      const text = values.armed ? `Heard ${settings.wake_word}: now a command` : `Waiting for ${settings.wake_word}`;
      if ($("armed").textContent !== text) $("armed").textContent = text;
    }
    const bytes = atob(values.mel);
    this.waterfall.add(bytes, values.bands, bytes.length / values.bands / settings.step_s);
  }

  detection(values) {
    this.all.push(values);
    if (this.all.length > MOST_LISTED) this.all.shift();
    if (values.room !== this.current()?.room) return;
    this.waterfall.mark();
    this.row(values);
    $("no-detections").hidden = true;
  }

  row(values) {
    const about = `${clock(values.time)}, ${values.score.toFixed(2)} of ${values.threshold.toFixed(2)}`;
    const item = make("li", {}, make("strong", { textContent: values.keyword }), make("span", { className: "when", textContent: about }));
    if (this.keepsClips) {
      const wrong = make("button", { type: "button", textContent: "That was wrong" });
      aria(wrong, { label: `That was wrong: ${values.keyword} at ${clock(values.time)}` });
      wrong.addEventListener("click", async () => {
        wrong.disabled = true;
        const status = make("span");
        status.setAttribute("role", "status");
        item.append(status);
        await attempt(status, () => post("/api/wrong", { room: values.room, end_s: values.end_s }), "Noted");
        if (!status.classList.contains("error")) wrong.remove();
        document.dispatchEvent(new Event("clips-changed"));
      });
      item.append(wrong);
    }
    $("detections").prepend(item);
    while ($("detections").childElementCount > MOST_LISTED) $("detections").lastElementChild.remove();
  }
}
