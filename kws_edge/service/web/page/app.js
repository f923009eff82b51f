// Log-in, the stream of events, and which room is shown.
import { $, get, make, post } from "./api.js";
import { Calibration } from "./calibration.js";
import { Clips } from "./clips.js";
import { Health } from "./health.js";
import { Live } from "./live.js";
import { Settings } from "./settings.js";
import { Taught } from "./taught.js";

const rooms = new Map();
let room = "";
let events = null;
let silence = 0;
const current = () => rooms.get(room);
const live = new Live(current);
const clips = new Clips(current);
const parts = [live, new Settings(current), new Health(current), new Calibration(current), clips, new Taught(clips)];

function connection(text, kind) {
  if ($("connection").textContent !== text) $("connection").textContent = text;
  $("connection").className = kind;
}

function show(name) {
  room = name;
  for (const part of parts) part.show?.();
}

function chooseRooms() {
  const names = [...rooms.keys()];
  $("choose-room").hidden = names.length < 2;
  $("room").replaceChildren(...names.map((name) => make("option", { value: name, textContent: name })));
  if (!rooms.has(room)) room = names[0] ?? "";
  $("room").value = room;
}

function begin(state) {
  rooms.clear();
  for (const settings of state.rooms) rooms.set(settings.room, settings);
  const wanted = room;
  chooseRooms();
  $("version").textContent = state.version;
  $("logout").hidden = !state.login;
  for (const part of parts) part.begin?.(state);
  show(room);
  if (wanted !== room && room) follow(); // the stream shows one room
}

const handlers = {
  begin,
  settings(values) {
    const known = rooms.has(values.room);
    rooms.set(values.room, values);
    if (!known) chooseRooms();
    if (values.room === room) for (const part of parts) part.settings?.(values);
  },
  scores(values) {
    silence = Date.now();
    live.scores(values);
  },
  detection(values) {
    for (const part of parts) part.detection?.(values);
  },
  telemetry(values) {
    for (const part of parts) part.telemetry?.(values);
  },
  outputs(values) {
    for (const part of parts) part.outputs?.(values);
  },
  calibration(values) {
    for (const part of parts) part.calibration?.(values);
  },
};

function follow() {
  events?.close();
  events = new EventSource(`/api/live?room=${encodeURIComponent(room)}`);
  const mine = events;
  for (const [kind, handle] of Object.entries(handlers)) {
    mine.addEventListener(kind, (event) => mine === events && handle(JSON.parse(event.data)));
  }
  mine.onopen = () => connection("Connected", "good");
  mine.onerror = () => {
    connection("No connection to the service", "bad");
    if (mine.readyState === EventSource.CLOSED) setTimeout(start, 2000);
  };
}

setInterval(() => {
  if (events?.readyState !== EventSource.OPEN) return;
  if (Date.now() - silence > 3000) connection("Connected, but no audio arrives", "bad");
  else connection("Hearing", "good");
}, 1000);

async function start() {
  try {
    const { known } = await get("/api/session");
    $("login").hidden = known;
    $("page").hidden = !known;
    if (known) follow();
    else {
      connection("Log in", "");
      $("token").focus();
    }
  } catch {
    setTimeout(start, 2000);
  }
}

$("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    await post("/api/login", { token: $("token").value });
    $("token").value = "";
    $("login-error").textContent = "";
    start();
  } catch (error) {
    $("login-error").textContent = `Not logged in: ${error.message}.`;
  }
});

$("logout").addEventListener("click", async () => {
  await post("/api/logout");
  events?.close();
  events = null;
  start();
});

$("room").addEventListener("change", () => {
  show($("room").value);
  follow();
});

start();
