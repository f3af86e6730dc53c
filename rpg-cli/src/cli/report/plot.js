// Curves as numbers: a metric of all runs, smoothed, and cut down to what a screen can show.

// The points of a metric in a run: {x, y} as arrays of numbers.
function pointsOf(run, table, name) {
  const { steps, values } = run.tables[table];
  const column = values[name];
  if (!column) return { x: [], y: [] };
  const at = state.axis === "hours" ? hoursOf(run, table) : steps;
  const x = [];
  const y = [];
  for (let i = 0; i < column.length; i++) {
    if (column[i] !== null) {
      x.push(at[i]);
      y.push(column[i]);
    }
  }
  return { x, y };
}

// Hours of work up to each line.
function hoursOf(run, table) {
  const seconds = run.tables[table].values["timing_s/step"] || [];
  let sum = 0;
  return run.tables[table].steps.map((_, i) => (sum += (seconds[i] || 0) / 3600));
}

// An exponential moving average whose beginning isn't drawn to zero, as TensorBoard has it.
function smoothed(y, weight) {
  if (weight <= 0) return y;
  let sum = 0;
  let norm = 0;
  return y.map((value) => {
    sum = weight * sum + (1 - weight) * value;
    norm = weight * norm + (1 - weight);
    return sum / norm;
  });
}

// The indices of the points to draw: of those that fall on one column of pixels, first, lowest, highest and last.
function visible(x, y, from, to, width) {
  if (x.length <= 2 * width) return x.map((_, i) => i);
  const kept = [];
  let column = -1;
  let bucket = null;
  const flush = () => {
    if (!bucket) return;
    const indices = [bucket.first, bucket.low, bucket.high, bucket.last];
    kept.push(...[...new Set(indices)].sort((a, b) => a - b));
  };
  for (let i = 0; i < x.length; i++) {
    const here = Math.floor(((x[i] - from) / (to - from || 1)) * width);
    if (here !== column) {
      flush();
      column = here;
      bucket = { first: i, low: i, high: i, last: i };
    }
    if (y[i] < y[bucket.low]) bucket.low = i;
    if (y[i] > y[bucket.high]) bucket.high = i;
    bucket.last = i;
  }
  flush();
  return kept;
}

// Round numbers between two others, at most about `n`.
function ticks(from, to, n) {
  const rough = (to - from) / n;
  if (!(rough > 0) || !Number.isFinite(rough)) return [from];
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((k) => k * power).find((s) => s >= rough * 0.999);
  const first = Math.ceil(from / step - 1e-9);
  const found = [];
  for (let i = 0; i <= 2 * n && (first + i) * step <= to + 1e-9 * step; i++) {
    found.push(Number(((first + i) * step).toPrecision(12)));
  }
  return found;
}

// Powers of ten between two numbers; where there are few, their doubles and fives as well.
function logTicks(from, to) {
  const found = [];
  const decades = Math.log10(to / from);
  const factors = decades < 1.5 ? [1, 2, 5] : [1];
  const every = Math.max(1, Math.ceil(decades / 5));
  for (let e = Math.floor(Math.log10(from)); e <= Math.ceil(Math.log10(to)); e++) {
    if (e % every !== 0) continue;
    for (const factor of factors) {
      const value = Number((factor * 10 ** e).toPrecision(3));
      if (value >= from * 0.999 && value <= to * 1.001) found.push(value);
    }
  }
  return found.length > 1 ? found : [from, to];
}

// The index of the value that is nearest in a sorted list.
function nearest(values, wanted) {
  let low = 0;
  let high = values.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (values[middle] < wanted) low = middle;
    else high = middle;
  }
  return Math.abs(values[low] - wanted) <= Math.abs(values[high] - wanted) ? low : high;
}

// Smallest and largest of lists of numbers.
function extent(lists) {
  let low = Infinity;
  let high = -Infinity;
  for (const list of lists) {
    for (const value of list) {
      if (value < low) low = value;
      if (value > high) high = value;
    }
  }
  return [low, high];
}
