// A calibration, and how far it is.
import { $, attempt, post } from "./api.js";

export class Calibration {
  constructor(current) {
    this.current = current;
    $("calibration").addEventListener("submit", (event) => {
      event.preventDefault();
      attempt($("calibration-status"), () => post("/api/calibration", {
        room: this.current().room, minutes: Number($("minutes").value), budget: Number($("budget").value),
      }));
    });
    $("stop-calibration").addEventListener("click", () => attempt($("calibration-status"), () => post("/api/calibration/stop")));
  }

  begin(state) {
    this.calibration(state.calibration);
  }

  calibration(one) {
    const runs = one.state === "listening" || one.state === "choosing";
    $("calibrate").disabled = runs;
    $("stop-calibration").hidden = one.state !== "listening";
    $("calibration-progress").hidden = !runs;
    const status = $("calibration-status");
    status.classList.toggle("error", one.state === "failed");
    if (one.state === "listening") {
      $("calibration-progress").value = one.heard / one.minutes;
      const left = `${one.room}: ${Math.ceil(one.minutes - one.heard)} min left.`;
      if (status.textContent !== left) status.textContent = left;
    } else if (one.state === "choosing") {
      $("calibration-progress").removeAttribute("value");
      status.textContent = "Choosing thresholds.";
    } else if (one.state === "failed") {
      status.textContent = `Nothing was changed: ${one.text}.`;
    } else if (one.state === "done") {
      status.textContent = `${one.room}: ${one.text}. Save keeps them after a restart.`;
    }
  }
}
