// Requests to the service. What it refuses becomes an Error with its text.

async function answer(response) {
  const values = await response.json();
  if (!response.ok) throw new Error(values.error || `the service answered ${response.status}`);
  return values;
}

export async function get(path) {
  return answer(await fetch(path));
}

export async function post(path, values = {}) {
  return answer(await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(values),
  }));
}

export const $ = (id) => document.getElementById(id);

// Set an attribute of ARIA: aria(element, { label: "Level", valuenow: -20 }).
export function aria(element, values) {
  for (const [name, value] of Object.entries(values)) element.setAttribute(`aria-${name}`, value);
  return element;
}

// An element with properties and children; texts are never read as HTML.
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

export function clock(time) {
  return new Date(time).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
}

// Do what a button asks, and tell in `status` what went wrong.
export async function attempt(status, work, done = "") {
  status.classList.remove("error");
  try {
    const result = await work();
    if (done) status.textContent = done;
    return result;
  } catch (error) {
    status.classList.add("error");
    status.textContent = `Not done: ${error.message}.`;
    return undefined;
  }
}
