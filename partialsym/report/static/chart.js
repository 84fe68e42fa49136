// A line chart over equal steps. A range input, a pointer or a finger moves its cursor.

const SVG = "http://www.w3.org/2000/svg";
const LEFT = 46, RIGHT = 14, TOP = 30, BOTTOM = 26, THUMB = 8;

function draw(tag, attributes = {}, text = "") {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.textContent = text;
  return element;
}

class Chart {
  // at: names of the steps; ticks: steps with a label; start: first position of the cursor; quantity: name of the
  // vertical axis; moved(step): called when the cursor moves, returns the values at the cursor in words.
  constructor(figure, { at, ticks, start, quantity, moved }) {
    this.svg = figure.querySelector("svg");
    this.range = figure.querySelector("input");
    Object.assign(this, { at, ticks, quantity, moved, curves: [], y: [], label: "" });
    Object.assign(this.range, { min: 0, max: at.length - 1, step: 1, value: start });
    this.range.addEventListener("input", () => this.point());
    for (const kind of ["pointerdown", "pointermove"]) this.svg.addEventListener(kind, (event) => this.follow(event));
    new ResizeObserver(() => this.render()).observe(figure);
  }

  get step() { return Number(this.range.value); }

  // curves: {values, low, high, color, kind, band?}, with null for missing values; y: ticks in ascending order.
  show(curves, y, label) {
    Object.assign(this, { curves, y, label });
    this.render();
  }

  follow(event) {
    const box = this.svg.getBoundingClientRect();
    const share = (event.clientX - box.left - LEFT) / (box.width - LEFT - RIGHT);
    this.range.value = Math.round(share * (this.at.length - 1));
    this.point();
  }

  render() {
    const width = Math.max(240, Math.round(this.svg.parentElement.clientWidth));
    this.width = width;
    this.height = Math.round(Math.min(300, Math.max(200, 0.5 * width)));
    this.svg.setAttribute("viewBox", `0 0 ${width} ${this.height}`);
    this.svg.setAttribute("aria-label", this.label);
    this.range.style.marginLeft = `${100 * (LEFT - THUMB) / width}%`;
    this.range.style.width = `${100 * (width - LEFT - RIGHT + 2 * THUMB) / width}%`;
    this.cursor = draw("path", { class: "cursor" });
    this.dots = draw("g");
    const curves = this.curves.flatMap((curve) => this.curve(curve));
    this.svg.replaceChildren(...this.axes(), ...curves, this.cursor, this.dots);
    this.point();
  }

  px(step) { return LEFT + (this.width - LEFT - RIGHT) * step / (this.at.length - 1); }

  py(value) {
    const [low, high] = [this.y[0].value, this.y.at(-1).value];
    return this.height - BOTTOM - (this.height - TOP - BOTTOM) * (value - low) / (high - low);
  }

  axes() {
    const few = this.ticks.filter((_, i) => this.width >= 480 || i % 2 === 0 || i === this.ticks.length - 1);
    return [
      draw("text", { x: 0, y: 14 }, this.quantity),
      ...this.y.flatMap(({ value, text }) => [
        draw("path", { class: "grid", d: `M${LEFT} ${this.py(value)}H${this.width - RIGHT}` }),
        draw("text", { x: LEFT - 8, y: this.py(value) + 4, "text-anchor": "end" }, text),
      ]),
      ...few.map((step) =>
        draw("text", { x: this.px(step), y: this.height - 6, "text-anchor": "middle" }, this.at[step])),
    ];
  }

  curve({ values, low, high, color, kind, band }) {
    const of = (list) => list.map((v, i) => [i, v]).filter(([, v]) => v !== null);
    const line = draw("path", { class: `line ${kind}`, stroke: color, d: this.path(of(values)) });
    const edge = band ? this.path([...of(high), ...of(low).reverse()]) : "";
    return edge ? [draw("path", { class: "band", fill: color, d: `${edge}Z` }), line] : [line];
  }

  path(points) {
    return points.map(([i, v], n) => `${n ? "L" : "M"}${this.px(i).toFixed(1)} ${this.py(v).toFixed(1)}`).join("");
  }

  point() {
    if (!this.cursor) return;
    const step = this.step;
    this.cursor.setAttribute("d", `M${this.px(step)} ${TOP}V${this.height - BOTTOM}`);
    this.dots.replaceChildren(...this.curves
      .filter(({ values, kind }) => values[step] !== null && !kind.includes("thin"))
      .map(({ values, color }) => draw("circle", { cx: this.px(step), cy: this.py(values[step]), r: 4, fill: color })));
    this.range.setAttribute("aria-valuetext", this.moved(step));
  }
}
