// Functions that the views share: choices, numbers over seeds, and the table of values at the cursor.

const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;
const degrees = (angle) => `${String(angle).replace("-", "−")}°`;
const percent = (share) => `${(100 * share).toFixed(0)} %`;
const PERCENT = [0, 0.25, 0.5, 0.75, 1].map((value) => ({ value, text: percent(value) }));

// [seeds][steps] → mean and range at every step; null if any seed has no value there.
function overSeeds(seeds) {
  const steps = seeds[0].map((_, i) => seeds.map((seed) => seed[i]));
  const of = (f) => steps.map((values) => (values.includes(null) ? null : f(values)));
  return { values: of(mean), low: of((v) => Math.min(...v)), high: of((v) => Math.max(...v)) };
}

// Fill a select with {value, text}; retain the selected option if it still exists.
function choose(select, options) {
  const before = select.value;
  select.replaceChildren(...options.map(({ value, text }) => new Option(text, value)));
  if (options.some(({ value }) => String(value) === before)) select.value = before;
  select.closest("label").hidden = options.length < 2;
}

// Show the values of the named curves at a step, one per row, and return them in words. Names are set as text, because
// they come from data.
function read(table, curves, step, show) {
  const rows = curves.filter(({ name }) => name).map((curve) => ({ ...curve, value: between(curve, step, show) }));
  table.tBodies[0].replaceChildren(...rows.map(({ color, kind, name, value }) => {
    const row = document.createElement("tr");
    const head = document.createElement("th");
    const key = draw("svg", { viewBox: "0 0 24 10", "aria-hidden": "true" });
    key.append(draw("path", { class: kind, stroke: color, d: "M1 5H23" }));
    const text = document.createElement("bdi");
    text.textContent = name;
    head.scope = "row";
    head.append(key, text);
    row.append(head);
    row.insertCell().textContent = value;
    return row;
  }));
  return rows.map(({ name, value }) => `${name} ${value}`).join(", ");
}

function between({ values, low, high }, step, show) {
  if (values[step] === null) return "–";
  const [from, to] = [show(low[step]), show(high[step])];
  const spread = from === to ? "" : ` (${from.replace(" %", "")} to ${to.replace(" %", "")})`;
  return show(values[step]) + spread;
}

// Ticks from 0 to above `most`, at most six of them.
function ticks(most) {
  const step = [0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5, 1, 2, 5, 10].find((s) => s * 5 >= most) ?? most / 5;
  const count = Math.max(1, Math.ceil(most / step - 1e-9));
  return Array.from({ length: count + 1 }, (_, i) => ({ value: i * step, text: String(+(i * step).toFixed(2)) }));
}

// One colour per layer, from the first to the last.
function depths(count) {
  return Array.from({ length: count }, (_, i) => {
    const at = 5 * i / Math.max(1, count - 1);
    const below = Math.min(4, Math.floor(at));
    return `color-mix(in oklab, var(--d${below + 1}) ${Math.round(100 * (at - below))}%, var(--d${below}))`;
  });
}

function view(name) {
  const section = document.getElementById(name);
  const box = section.querySelector(".view");
  box.hidden = false;
  section.querySelector(".without").hidden = true;
  const form = box.querySelector("form");
  form.addEventListener("submit", (event) => event.preventDefault());
  const find = (query) => box.querySelector(query);
  const on = (update) => {
    form.addEventListener("input", update);
    update();
  };
  return { form: form.elements, find, on };
}
