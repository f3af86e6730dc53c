// Puts the page together: runs, alarms, configs, the controls, keys, and the reload of a page that is followed.

const lastOf = (run, name) => {
  const column = run.tables.train.values[name] || [];
  for (let i = column.length - 1; i >= 0; i--) if (column[i] !== null) return column[i];
  return null;
};

// The held-out accuracies of a run: those of all sources together, where there are several.
function heldOut(run) {
  const names = Object.keys(run.tables.train.values).filter((name) => /^val-core\/.*\/acc\/mean@/.test(name));
  const name = names.find((name) => name.startsWith("val-core/all/")) || names[0];
  return name ? { name, y: run.tables.train.values[name].filter((value) => value !== null) } : null;
}

function showRuns() {
  byId("runs").replaceChildren(...runs.map((run, idx) => {
    const { steps } = run.tables.train;
    const done = steps.length ? steps[steps.length - 1] : 0;
    const accuracy = heldOut(run);
    const seconds = ["train", "warm_start"].reduce((sum, table) =>
      sum + (run.tables[table].values["timing_s/step"] || []).reduce((a, b) => a + (b || 0), 0), 0);
    const facts = [
      ["steps", run.n_steps === null ? String(done) : `${done} of ${run.n_steps}`],
      ["reward", shown(lastOf(run, "critic/rewards/mean"))],
      ["work", duration(seconds)],
    ];
    if (accuracy) {
      const name = accuracy.name.split("/").pop();
      const [first, last] = [accuracy.y[0], accuracy.y[accuracy.y.length - 1]].map((value) => value.toFixed(3));
      facts.push([`held-out ${name}`, accuracy.y.length > 1 ? `${first} → ${last}` : first]);
      if (accuracy.y.length > 1) facts.push(["best", Math.max(...accuracy.y).toFixed(3)]);
    }
    const isHidden = state.hidden.includes(run.label);
    const eye = runs.length > 1
      ? element("button", { type: "button", "aria-pressed": String(!isHidden), onclick: () => toggleRun(run.label) }, isHidden ? "Show" : "Hide")
      : null;
    return element("div", { class: isHidden ? "run hidden" : "run", style: colourOf(idx) },
      element("div", { class: "head" }, element("h3", { title: run.path }, run.label), element("span", { class: "status " + run.status }, run.status), eye),
      element("dl", {}, ...facts.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)])));
  }));
}

function toggleRun(label) {
  state.hidden = state.hidden.includes(label) ? state.hidden.filter((other) => other !== label) : [...state.hidden, label];
  showRuns();
  redraw();
  keep();
}

function showAlarms() {
  const all = runs.flatMap((run) => run.alarms.map((alarm) => ({ run, alarm })));
  byId("alarm-count").textContent = all.length ? String(all.length) : "";
  const made = all.map(({ run, alarm }) => element("div", { class: "alarm" },
    element("h3", { title: `In the newest ten steps: ${alarm.when.replaceAll("`", "")}` }, alarm.name, runs.length > 1 ? element("span", { class: "who" }, ` · ${run.label}`) : null),
    element("p", {}, alarm.text + " ", element("a", { href: "#curves", onclick: () => setFilter(alarm.metric) }, alarm.metric)),
    element("p", { class: "quiet" }, alarm.advice)));
  const isEmpty = runs.every((run) => run.tables.train.values["critic/rewards/mean"] === undefined);
  const none = isEmpty ? "No step is done yet." : "None: nothing that these runs log looks wrong.";
  byId("alarm-list").replaceChildren(...(made.length ? made : [element("p", { class: "note" }, none)]));
}

function showConfigs() {
  const parts = [];
  const table = (head, rows) => element("div", { class: "scroll" }, element("table", { class: "config" },
    element("thead", {}, element("tr", {}, ...head.map((text) => element("th", { scope: "col" }, text)))),
    element("tbody", {}, ...rows.map(([key, ...values]) => element("tr", {}, element("th", { scope: "row" }, key),
      ...values.map((value) => element("td", {}, value === null ? "–" : value)))))));
  if (runs.length > 1) {
    const rows = data.differences.map((row) => [row.key, ...row.values]);
    parts.push(rows.length
      ? table(["key", ...runs.map((run) => run.label)], rows)
      : element("p", { class: "note" }, "The configs of these runs are the same."));
  }
  for (const run of runs) {
    parts.push(element("details", {}, element("summary", {}, runs.length > 1 ? `All of ${run.label}` : "All keys"), table(["key", "value"], run.config)));
  }
  byId("config-list").replaceChildren(...parts);
}

function setFilter(text) {
  byId("metric-filter").value = text;
  state.filter = text;
  showCurves();
  keep();
}

function setSmoothing(value) {
  state.smoothing = Math.min(0.99, Math.max(0, value));
  byId("smoothing").value = state.smoothing;
  byId("smoothing-value").textContent = state.smoothing.toFixed(2);
  redraw();
  keep();
}

function setScale(value) {
  state.scale = value;
  byId("scale").value = value;
  redraw();
  keep();
}

function setColour(value) {
  state.colour = value;
  byId("colour").value = value;
  showSample();
  keep();
}

// Connects a control of the samples with what it sets.
function filterBy(id, key) {
  const control = byId(id);
  control.value = state[key];
  control.addEventListener("input", () => {
    state[key] = key === "run" ? Number(control.value) : control.value;
    state.page = 0;
    if (key === "run") showSources();
    showSamples();
    keep();
  });
}

function showSources() {
  const sources = [...new Set((allSamples[state.run] || []).map((sample) => sample.source).filter((source) => source))].sort();
  if (!sources.includes(state.source)) state.source = "";
  byId("sample-source").replaceChildren(element("option", { value: "" }, "all"), ...sources.map((source) => element("option", { value: source }, source)));
  byId("sample-source").value = state.source;
  byId("sample-source-label").hidden = sources.length < 2;
}

function connect() {
  byId("theme").addEventListener("click", toggleTheme);
  prefersDark.addEventListener("change", applyTheme);
  byId("help-button").addEventListener("click", () => byId("help").showModal());
  byId("metric-filter").value = state.filter;
  byId("metric-filter").addEventListener("input", (event) => setFilter(event.target.value));
  byId("smoothing").addEventListener("input", (event) => setSmoothing(Number(event.target.value)));
  byId("scale").addEventListener("input", (event) => setScale(event.target.value));
  byId("axis").value = state.axis;
  byId("axis").addEventListener("input", (event) => {
    state.axis = event.target.value;
    redraw();
    keep();
  });
  if (!runs[state.run]) state.run = 0;
  byId("sample-run").replaceChildren(...runs.map((run, idx) => element("option", { value: idx }, run.label)));
  byId("sample-run-label").hidden = runs.length < 2;
  showSources();
  for (const [id, key] of [
    ["sample-run", "run"], ["sample-grade", "grade"], ["sample-source", "source"], ["step-from", "from"], ["step-to", "to"], ["sample-text", "text"],
  ]) filterBy(id, key);
  byId("colour").addEventListener("input", (event) => setColour(event.target.value));
  for (const [id, by] of [["newer", -1], ["older", 1]]) {
    byId(id).addEventListener("click", () => {
      state.page += by;
      state.selected = list[state.page * PAGE_LENGTH].key;
      showSamples();
      keep();
    });
  }
  document.addEventListener("keydown", onKey);
  let width = window.innerWidth;
  window.addEventListener("resize", () => {
    if (window.innerWidth !== width) redraw();
    width = window.innerWidth;
  });
  window.addEventListener("pagehide", keep);
}

const COLOURS = ["logp", "weight", "none"];
const KEYS = {
  "/": () => byId("metric-filter").focus(),
  "?": () => byId("help").showModal(),
  t: toggleTheme,
  l: () => setScale(state.scale === "log" ? "linear" : "log"),
  "[": () => setSmoothing(state.smoothing - 0.05),
  "]": () => setSmoothing(state.smoothing + 0.05),
  j: () => moveSample(1),
  k: () => moveSample(-1),
  c: () => setColour(COLOURS[(COLOURS.indexOf(state.colour) + 1) % COLOURS.length]),
  ArrowLeft: () => moveStep(-1),
  ArrowRight: () => moveStep(1),
};

function onKey(event) {
  const isField = event.target.matches("input, select, textarea");
  if (isField && event.key === "Escape") event.target.blur();
  if (isField || byId("help").open || event.ctrlKey || event.metaKey || event.altKey) return;
  const isInList = event.target.id === "sample-list";
  const moves = { ArrowDown: 1, ArrowUp: -1 };
  if (isInList && moves[event.key]) {
    event.preventDefault();
    moveSample(moves[event.key]);
    return;
  }
  const action = KEYS[event.key];
  if (!action) return;
  event.preventDefault();
  action();
}

// A page that is followed loads itself again, but not while somebody reads with the pointer, types or selects.
function follow() {
  if (!data.reload) return;
  byId("live").textContent = "following";
  let lastTouch = 0;
  for (const kind of ["pointermove", "keydown", "input", "wheel"]) {
    document.addEventListener(kind, () => (lastTouch = Date.now()), { passive: true });
  }
  const later = () => setTimeout(() => {
    const isBusy = Date.now() - lastTouch < 2000 || byId("help").open || !getSelection().isCollapsed || document.hidden;
    if (isBusy) return later();
    keep();
    location.reload();
  }, data.reload * 1000);
  later();
}

// What follows keeps choices, and with them where the page is by then.
const scrolled = state.scroll;
applyTheme();
document.title = `${runs.map((run) => run.label).join(", ")} · rpg report`;
connect();
showRuns();
showAlarms();
showCurves();
showConfigs();
setScale(state.scale);
setColour(state.colour);
setSmoothing(state.smoothing);
showSamples();
byId("footer").textContent = `rpg ${data.version} · ${runs.map((run) => run.path).join(" · ")}`;
if ("scrollRestoration" in history) history.scrollRestoration = "manual";
window.scrollTo(0, scrolled);
keep();
follow();
