// The curves: a chart per metric, in groups by the first part of the name.

// What tells most about a run, in this order.
const OVERVIEW = [
  /^critic\/rewards\/mean$/, /^critic\/score\/mean$/, /^val-core\/all\//, /^val-core\//, /^response_length\/mean$/,
  /^response_length\/clip_ratio$/, /^actor\/entropy$/, /^actor\/kl_loss$/, /^actor\/pg_clipfrac$/, /^actor\/grad_norm$/,
  /^frac_reward_zero_std$/, /^actor\/eff_sample_size$/,
];
const HEIGHT = 170;
const MARGIN = { left: 52, right: 10, top: 8, bottom: 20 };

const charts = [];
const observer = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const chart = charts.find((chart) => chart.node === entry.target);
    if (!chart) continue;
    chart.isVisible = entry.isIntersecting;
    if (chart.isVisible && chart.isStale) draw(chart);
  }
}, { rootMargin: "300px" });

// All metrics of all runs, as {name, table}: those of the warm start are counted by steps of their own.
function allMetrics() {
  const found = new Map();
  for (const run of runs) {
    for (const table of ["train", "warm_start"]) {
      for (const name of Object.keys(run.tables[table].values)) {
        const isOwn = table === "train" || name.startsWith("warm_start/");
        const key = isOwn ? name : "warm_start/" + name;
        if (!found.has(key)) found.set(key, { key, name, table });
      }
    }
  }
  return [...found.values()];
}

function groupsOf(metrics) {
  const groups = new Map();
  const overview = [];
  for (const pattern of OVERVIEW) {
    const fits = metrics.filter((metric) => metric.table === "train" && pattern.test(metric.key));
    overview.push(...fits.filter((metric) => !overview.includes(metric)).slice(0, 4));
  }
  groups.set("overview", overview);
  for (const metric of metrics) {
    const group = metric.key.includes("/") ? metric.key.split("/")[0] : "other";
    if (!groups.has(group)) groups.set(group, []);
    groups.get(group).push(metric);
  }
  return groups;
}

// Builds the charts anew: all groups, or only the metrics that fit the filter.
function showCurves() {
  const metrics = allMetrics();
  const words = state.filter.toLowerCase().split(/\s+/).filter((word) => word);
  const fits = metrics.filter((metric) => words.every((word) => metric.key.toLowerCase().includes(word)));
  observer.disconnect();
  charts.length = 0;
  const groups = byId("groups");
  if (metrics.length === 0) {
    groups.replaceChildren(element("p", { class: "note" }, "There is nothing to draw yet: no step is done."));
    byId("metric-count").textContent = "";
    return;
  }
  byId("metric-count").textContent = words.length ? `${fits.length} of ${metrics.length} metrics` : `${metrics.length} metrics`;
  if (words.length) {
    groups.replaceChildren(fits.length ? gridOf(fits) : element("p", { class: "note" }, "No metric has this in its name."));
    return;
  }
  groups.replaceChildren(...[...groupsOf(metrics)].filter(([, list]) => list.length).map(([name, list]) => {
    const details = element("details", { open: state.open.includes(name), "data-group": name },
      element("summary", {}, name + " ", element("span", { class: "quiet" }, String(list.length))));
    if (details.open) details.append(gridOf(list));
    details.addEventListener("toggle", () => {
      state.open = state.open.filter((other) => other !== name);
      if (details.open) state.open.push(name);
      if (details.open && details.children.length === 1) details.append(gridOf(list));
      keep();
    });
    return details;
  }));
}

function gridOf(metrics) {
  return element("div", { class: "grid" }, ...metrics.map((metric) => {
    const plot = svg("svg", { tabindex: "0", role: "img" });
    const node = element("div", { class: "chart", "data-metric": metric.key }, element("h3", {}, metric.key), plot);
    const chart = { ...metric, node, plot, isStale: true, isVisible: false, cursor: null, series: [] };
    plot.addEventListener("pointermove", (event) => hover(chart, event));
    plot.addEventListener("pointerleave", () => hideTip(chart));
    plot.addEventListener("blur", () => hideTip(chart));
    plot.addEventListener("keydown", (event) => moveCursor(chart, event));
    charts.push(chart);
    observer.observe(node);
    return node;
  }));
}

// Draws what is seen again, and the rest once it is seen.
function redraw() {
  for (const chart of charts) {
    chart.isStale = true;
    if (chart.isVisible) draw(chart);
  }
}

function seriesOf(chart) {
  const found = [];
  runs.forEach((run, idx) => {
    if (state.hidden.includes(run.label)) return;
    let { x, y } = pointsOf(run, chart.table, chart.name);
    if (state.scale === "log") {
      const positive = y.map((value) => value > 0);
      x = x.filter((_, i) => positive[i]);
      y = y.filter((_, i) => positive[i]);
    }
    if (y.length) found.push({ run, idx, x, y });
  });
  // Smoothing is for what is noisy: a few points, and held-out measurements, are left as they are.
  const most = Math.max(0, ...found.map((series) => series.y.length));
  const isSparse = most < 12 || (chart.key.startsWith("val-") && most < 100);
  for (const series of found) {
    series.isSparse = isSparse;
    series.smooth = isSparse ? series.y : smoothed(series.y, state.smoothing);
  }
  return found;
}

function draw(chart) {
  chart.isStale = false;
  const { plot } = chart;
  const width = Math.max(160, plot.clientWidth || plot.parentNode.clientWidth);
  plot.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
  chart.series = seriesOf(chart);
  plot.setAttribute("aria-label", describe(chart));
  if (!chart.series.length) {
    const why = state.scale === "log" ? "no values above 0" : "no values";
    plot.replaceChildren(svg("text", { class: "empty", x: width / 2, y: HEIGHT / 2, "text-anchor": "middle" }, why));
    return;
  }
  const scales = scalesOf(chart, width);
  chart.scales = scales;
  const path = (series, values) => {
    const at = visible(series.x, values, scales.from, scales.to, width - MARGIN.left - MARGIN.right);
    return "M" + at.map((i) => `${scales.x(series.x[i]).toFixed(1)},${scales.y(values[i]).toFixed(1)}`).join("L");
  };
  const lines = chart.series.flatMap((series) => {
    const style = colourOf(series.idx);
    const dash = dashOf(series.idx);
    const made = [];
    if (series.smooth !== series.y) made.push(svg("path", { class: "raw", d: path(series, series.y), style }));
    made.push(svg("path", { class: "curve", d: path(series, series.smooth), style, "stroke-dasharray": dash }));
    if (series.isSparse) {
      made.push(...series.x.map((x, i) => svg("circle", { class: "dot", r: 2.5, cx: scales.x(x), cy: scales.y(series.y[i]), style })));
    }
    return made;
  });
  plot.replaceChildren(...axesOf(scales, width), ...lines, svg("g", { class: "marks" }));
  if (chart.cursor !== null) mark(chart);
}

function scalesOf(chart, width) {
  let [from, to] = extent(chart.series.map((series) => series.x));
  if (from === to) [from, to] = [from - 0.5, to + 0.5];
  let [low, high] = extent(chart.series.flatMap((series) => [series.y, series.smooth]));
  const isLog = state.scale === "log";
  // A constant stays one when rounding has touched its mean.
  const size = Math.max(Math.abs(low), Math.abs(high));
  if (high - low <= 1e-9 * size) [low, high] = isLog ? [low / 2, high * 2] : [low - (size || 1) * 0.1, high + (size || 1) * 0.1];
  const room = isLog ? 0 : (high - low) * 0.04;
  [low, high] = [low - room, high + room];
  const right = width - MARGIN.right;
  const bottom = HEIGHT - MARGIN.bottom;
  const across = (share) => MARGIN.left + share * (right - MARGIN.left);
  const up = (share) => bottom - share * (bottom - MARGIN.top);
  return {
    from, to, low, high, isLog,
    x: (value) => across((value - from) / (to - from)),
    y: (value) => up(isLog ? Math.log(value / low) / Math.log(high / low) : (value - low) / (high - low)),
    valueAt: (pixel) => from + ((pixel - MARGIN.left) / (right - MARGIN.left)) * (to - from),
  };
}

function axesOf(scales, width) {
  const { from, to, low, high } = scales;
  const made = [];
  for (const value of scales.isLog ? logTicks(low, high) : ticks(low, high, 5)) {
    const y = scales.y(value);
    made.push(svg("line", { class: "gridline", x1: MARGIN.left, x2: width - MARGIN.right, y1: y, y2: y }));
    made.push(svg("text", { class: "axis", x: MARGIN.left - 5, y: y + 4, "text-anchor": "end" }, shown(value)));
  }
  const across = ticks(from, to, Math.max(2, Math.floor(width / 90)));
  for (const value of state.axis === "step" ? across.filter(Number.isInteger) : across) {
    const isLast = scales.x(value) > width - MARGIN.right - 14;
    made.push(svg("text", { class: "axis", x: scales.x(value), y: HEIGHT - 5, "text-anchor": isLast ? "end" : "middle" }, shown(value)));
  }
  return made;
}

// What a reader who doesn't see the curve is told.
function describe(chart) {
  const of = (series) => {
    const n = series.y.length;
    return `${series.run.label} from ${shown(series.y[0])} to ${shown(series.y[n - 1])} in ${n} points`;
  };
  return `${chart.key}: ${chart.series.map(of).join("; ") || "no values"}`;
}

function hover(chart, event) {
  if (!chart.scales || !chart.series.length) return;
  const box = chart.plot.getBoundingClientRect();
  chart.cursor = chart.scales.valueAt(event.clientX - box.left);
  mark(chart);
}

// Moves to the point before or after with the arrow keys.
function moveCursor(chart, event) {
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!by || !chart.series.length) return;
  event.preventDefault();
  event.stopPropagation();
  const longest = chart.series.reduce((a, b) => (b.x.length > a.x.length ? b : a)).x;
  const last = longest.length - 1;
  const here = chart.cursor === null ? last + (by > 0 ? 0 : 1) : nearest(longest, chart.cursor);
  chart.cursor = longest[Math.min(Math.max(here + by, 0), last)];
  mark(chart);
}

// Marks the points at the cursor, and shows their values.
function mark(chart) {
  const marks = chart.plot.querySelector(".marks");
  if (!marks) return;
  const { scales } = chart;
  const points = chart.series.map((series) => ({ series, i: nearest(series.x, chart.cursor) }));
  const closest = points.reduce((a, b) => {
    const distance = (point) => Math.abs(point.series.x[point.i] - chart.cursor);
    return distance(b) < distance(a) ? b : a;
  });
  const at = closest.series.x[closest.i];
  const x = scales.x(at);
  marks.replaceChildren(
    svg("line", { class: "cursor", x1: x, x2: x, y1: MARGIN.top, y2: HEIGHT - MARGIN.bottom }),
    ...points.map(({ series, i }) => svg("circle", {
      class: "dot", r: 4, cx: scales.x(series.x[i]), cy: scales.y(series.smooth[i]), style: colourOf(series.idx),
    })),
  );
  const unit = state.axis === "step" ? `step ${at}` : `${at.toFixed(2)} hours`;
  const row = ({ series, i }) => {
    const label = runs.length > 1 ? series.run.label : "value";
    const own = series.x[i] === at ? "" : state.axis === "step" ? ` (${series.x[i]})` : "";
    const smooth = series.smooth === series.y ? "" : `smooth ${shown(series.smooth[i])}`;
    return element("tr", {},
      element("td", {}, element("span", { class: "swatch", style: colourOf(series.idx) }), label + own),
      element("td", {}, shown(series.y[i])), element("td", { class: "quiet" }, smooth));
  };
  showTip(chart, x, element("div", {}, element("strong", {}, unit), element("table", {}, element("tbody", {}, ...points.map(row)))));
}

function showTip(chart, x, content) {
  const tip = byId("tip");
  tip.replaceChildren(content);
  tip.hidden = false;
  const box = chart.plot.getBoundingClientRect();
  const { offsetWidth, offsetHeight } = tip;
  const isLeft = box.left + x + offsetWidth + 16 > window.innerWidth;
  const left = isLeft ? box.left + x - offsetWidth - 12 : box.left + x + 12;
  const top = Math.min(box.top + 6, window.innerHeight - offsetHeight - 6);
  tip.style.left = `${Math.max(4, left)}px`;
  tip.style.top = `${Math.max(4, top)}px`;
}

function hideTip(chart) {
  chart.cursor = null;
  byId("tip").hidden = true;
  const marks = chart.plot.querySelector(".marks");
  if (marks) marks.replaceChildren();
}
