// The three views and the downloads.

const data = JSON.parse(document.getElementById("data").textContent);
const pose = (angle, mirrored) => `${mirrored ? "mirrored, " : ""}turned ${degrees(angle)}`;
const apart = (name) => `\u2068${name}\u2069`; // isolates its writing direction
const circle = (start) => ({
  at: data.angles.map(degrees),
  ticks: data.angles.map((_, i) => i).filter((i) => data.angles[i] % 45 === 0),
  start: Math.max(0, data.angles.indexOf(start)),
});
const titles = () => data.methods.map(({ title }, i) => ({ value: i, text: title }));

function responses() {
  const { form, find, on } = view("responses");
  const picture = find(".stage img");
  const chart = new Chart(find(".chart"), {
    ...circle(0),
    quantity: "mean probability",
    moved: (step) => {
      const angle = data.angles[step];
      picture.style.transform = `rotate(${-angle}deg)${form.mirrored.checked ? " scaleX(-1)" : ""}`;
      const at = find(".angle").textContent = pose(angle, form.mirrored.checked);
      return `${at}: ${read(find(".readout"), chart.curves, step, percent)}`;
    },
  });
  function update() {
    const method = data.methods[form.method.value];
    const numbers = method.seeds.map(({ seed }) => ({ value: seed, text: seed }));
    const all = { value: "all", text: `mean of ${numbers.length}` };
    choose(form.seed, numbers.length > 1 ? [all, ...numbers] : numbers);
    const { classes } = data.images[method.images];
    choose(form.label, classes.map(({ name }, i) => ({ value: i, text: name })));
    const of = classes[form.label.value];
    const seeds = method.seeds.filter(({ seed }) => ["all", String(seed)].includes(form.seed.value));
    const curves = of.shown.map((name, k) => ({
      ...overSeeds(seeds.map((seed) => seed.responses[of.label][Number(form.mirrored.checked)][k])),
      name, color: `var(--k${k})`, kind: k ? "" : "first", band: true,
    }));
    picture.hidden = !of.picture;
    if (of.picture) picture.src = of.picture;
    picture.alt = `A test image of class ${of.name}`;
    const images = `${of.count} test image${of.count === 1 ? "" : "s"}`;
    find(".note").textContent = `Mean over ${images} of class ${apart(of.name)}`
      + (seeds.length > 1 ? `; the line is the mean of ${seeds.length} seeds, the shade their range. ` : ". ")
      + (of.picture ? "The picture is one of them. " : "") + "Angles are counter-clockwise.";
    chart.show(curves, PERCENT, `Mean probability of each class by turn, images of class ${of.name}, ${method.title}`);
  }
  picture.addEventListener("load", () => picture.classList.toggle("small", picture.naturalWidth < 120));
  choose(form.method, titles());
  on(update);
}

function unchanged() {
  const { form, find, on } = view("unchanged");
  const chart = new Chart(find(".chart"), {
    ...circle(90),
    quantity: "predictions unchanged",
    moved: (step) => {
      const at = find(".angle").textContent = pose(data.angles[step], form.mirrored.checked);
      return `${at}: ${read(find(".readout"), chart.curves, step, percent)}`;
    },
  });
  const count = [...new Set(data.images.map(({ turned }) => turned))].join(" or ");
  find(".note").textContent = `Shares of ${count} test images. Thick lines are means over seeds, thin lines single`
    + " seeds.";
  on(() => {
    const curves = data.methods.map((method, i) => {
      const seeds = method.seeds.map((seed) => seed.unchanged[Number(form.mirrored.checked)]);
      const look = { color: `var(--k${i % 7})`, kind: i < 7 ? "first" : "first dashed" };
      return { ...overSeeds(seeds), seeds, name: method.title, ...look };
    });
    const thin = curves.filter(({ seeds }) => seeds.length > 1)
      .flatMap(({ seeds, color }) => seeds.map((values) => ({ values, color, kind: "thin" })));
    chart.show([...thin, ...curves], PERCENT, "Share of predictions that are the same as for upright images, by turn");
  });
}

function errors() {
  const { form, find, on } = view("errors");
  const number = (value) => value.toFixed(2);
  const grey = "var(--k5)";
  const chart = new Chart(find(".chart"), {
    at: data.turns.map(degrees),
    ticks: data.turns.map((_, i) => i),
    start: Math.max(0, data.turns.indexOf(45)),
    quantity: "relative error",
    moved: (step) => {
      const at = find(".angle").textContent = pose(data.turns[step], form.mirrored.checked);
      return `${at}: ${read(find(".readout"), chart.curves, step, number)}`;
    },
  });
  // The totals of all layers with the range of the pixel grid's errors, or the total of one layer and its parts.
  function curvesOf(layers, part, one) {
    const colors = depths(layers.filter((layer) => layer !== "output").length);
    const look = (layer) => ({ name: layer, color: colors[layers.indexOf(layer)] ?? "var(--k6)" });
    if (one) {
      return [
        { ...part(one, "total"), ...look(one), kind: "first", band: true },
        { ...part(one, "interpolation"), name: "pixel grid", color: grey, kind: "dashed" },
        { ...part(one, "control"), name: "picture there and back", color: grey, kind: "dotted" },
      ];
    }
    const totals = layers.map((layer) => ({
      ...part(layer, "total"), ...look(layer), kind: layer === "output" ? "first" : "",
    }));
    const grid = layers.map((layer) => part(layer, "interpolation").values).filter((v) => !v.includes(null));
    if (!grid.length) return totals;
    return [...totals, { ...overSeeds(grid), name: "pixel grid, all layers", color: grey, kind: "dashed", band: true }];
  }
  choose(form.method, titles());
  on(() => {
    const method = data.methods[form.method.value];
    const layers = Object.keys(method.seeds[0].errors);
    choose(form.layer, [{ value: "", text: "all" }, ...layers.map((layer) => ({ value: layer, text: layer }))]);
    const mirrored = Number(form.mirrored.checked);
    const part = (layer, name) => overSeeds(method.seeds.map(({ errors }) => errors[layer][name][mirrored]));
    const curves = curvesOf(layers, part, form.layer.value)
      .filter(({ values }) => values.some((value) => value !== null));
    const most = Math.max(0.1, ...curves.flatMap(({ values, high, band }) => (band ? high : values)));
    find(".note").textContent = `Mean over ${data.images[method.images].compared} test images and the seeds, with the`
      + " range of the seeds. Pixel grid: the error of any network, because turned pixels fall between pixels."
      + " The axis shows the measured angles, not to scale."
      + (form.layer.value
        ? " Picture there and back: the loss when a smooth picture of the layer’s size is turned and turned back." : "");
    chart.show(curves, ticks(most), `Relative equivariance error by turn, ${method.title}`);
  });
}

function downloads() {
  for (const note of document.querySelectorAll("#downloads .without")) note.hidden = true;
  for (const button of document.querySelectorAll("button[data-file]")) {
    button.hidden = false;
    button.addEventListener("click", () => {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([data.files[button.dataset.file]], { type: "text/csv;charset=utf-8" }));
      link.download = button.dataset.file;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    });
  }
}

if (data.methods) [responses, unchanged, errors].forEach((start) => start());
downloads();
