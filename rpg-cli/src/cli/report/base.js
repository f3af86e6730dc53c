// What all parts of the page use: the data, what the reader has chosen, elements, numbers.

const data = JSON.parse(document.getElementById("data").textContent);
const runs = data.runs;

const byId = (id) => document.getElementById(id);

// What the reader has chosen. It survives a reload.
const DEFAULTS = {
  theme: "", filter: "", smoothing: 0.6, scale: "linear", axis: "step", hidden: [], open: ["overview"],
  run: 0, grade: "", source: "", from: "", to: "", text: "", colour: "logp", selected: "", page: 0, scroll: 0,
};
const STORE = "rpg-report " + runs.map((run) => run.path).join(" ");
const state = Object.assign({}, DEFAULTS, stored());

function stored() {
  // A browser may forbid storage to files.
  try {
    const theme = localStorage.getItem("rpg-report theme") || "";
    return Object.assign({ theme }, JSON.parse(sessionStorage.getItem(STORE) || "{}"));
  } catch {
    return {};
  }
}

function keep() {
  try {
    state.scroll = window.scrollY;
    sessionStorage.setItem(STORE, JSON.stringify(state));
    localStorage.setItem("rpg-report theme", state.theme);
  } catch {
    // Then the choices end with the page.
  }
}

// An element. Texts become text nodes: nothing of the data is ever read as HTML.
function element(name, attributes, ...children) {
  const made = document.createElement(name);
  fill(made, attributes, children);
  return made;
}

function svg(name, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  fill(made, attributes, children);
  return made;
}

function fill(made, attributes, children) {
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key === "style") {
      for (const [property, text] of Object.entries(value)) made.style.setProperty(property, text);
    } else if (key.startsWith("on")) {
      made.addEventListener(key.slice(2), value);
    } else if (value !== false && value !== undefined && value !== null) {
      made.setAttribute(key, value === true ? "" : value);
    }
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
}

// The colour of a run, by its place; from the ninth on they repeat, with dashes.
const colourOf = (idx) => ({ "--colour": `var(--run-${idx % 8})` });
const dashOf = (idx) => (idx < 8 ? null : "5 3");

// A number as people read it: at most four digits that count.
function shown(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value) && Math.abs(value) < 1e6) return String(value);
  const size = Math.abs(value);
  if (size >= 1e6 || size < 1e-3) return value.toExponential(2).replace("e+", "e");
  return String(Number(value.toPrecision(4)));
}

// A time in seconds.
function duration(seconds) {
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

// The theme: the reader's, or else the system's.
const prefersDark = window.matchMedia("(prefers-color-scheme: dark)");

function isDark() {
  return state.theme ? state.theme === "dark" : prefersDark.matches;
}

function applyTheme() {
  document.documentElement.dataset.theme = isDark() ? "dark" : "light";
  byId("theme").textContent = isDark() ? "Light" : "Dark";
}

function toggleTheme() {
  state.theme = isDark() ? "light" : "dark";
  applyTheme();
  keep();
}
