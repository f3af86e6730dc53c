// The browser of samples: a list that filters narrow, and one sample with its tokens in colour.

const PAGE_LENGTH = 100;

// The newest first. Each has a key of its own, also where a step has a problem twice.
const allSamples = runs.map((run) => {
  const seen = new Map();
  for (const sample of run.samples) {
    const key = `${sample.step} ${sample.id}`;
    const n = seen.get(key) || 0;
    seen.set(key, n + 1);
    sample.key = n ? `${key} ${n + 1}` : key;
  }
  return run.samples.slice().reverse();
});

const gradeOf = (sample) => (sample.correct === true ? "right" : sample.correct === false ? "wrong" : "none");

function found() {
  const words = state.text.toLowerCase();
  const from = state.from === "" ? -Infinity : Number(state.from);
  const to = state.to === "" ? Infinity : Number(state.to);
  return (allSamples[state.run] || []).filter((sample) => {
    if (state.grade && gradeOf(sample) !== state.grade) return false;
    if (state.source && sample.source !== state.source) return false;
    if (sample.step < from || sample.step > to) return false;
    if (!words) return true;
    return [sample.prompt, sample.completion, sample.answer, sample.id]
      .some((text) => String(text === undefined ? "" : text).toLowerCase().includes(words));
  });
}

let list = [];

// Shows the list of the samples that the filters leave, and the chosen one.
function showSamples() {
  list = found();
  const all = allSamples[state.run] || [];
  const run = runs[state.run];
  let count = list.length === all.length ? `${all.length} samples` : `${list.length} of ${all.length} samples`;
  if (run && run.samples_note) count += `. ${run.samples_note}`;
  byId("sample-count").textContent = count;
  if (!list.some((sample) => sample.key === state.selected)) state.selected = list.length ? list[0].key : "";
  const last = Math.max(0, Math.ceil(list.length / PAGE_LENGTH) - 1);
  state.page = Math.min(state.page, last);
  byId("newer").disabled = state.page === 0;
  byId("older").disabled = state.page === last;
  byId("newer").parentNode.hidden = last === 0;
  byId("page-label").textContent = last ? `${state.page + 1} of ${last + 1}` : "";
  const shownNow = list.slice(state.page * PAGE_LENGTH, (state.page + 1) * PAGE_LENGTH);
  byId("sample-list").replaceChildren(...shownNow.map(rowOf));
  if (!list.length) {
    const why = all.length ? "No sample fits the filters." : "This run has no samples yet.";
    byId("sample-list").replaceChildren(element("li", { class: "quiet" }, why));
  }
  showSample();
}

function rowOf(sample) {
  const key = sample.key;
  const grade = gradeOf(sample);
  const row = element("li", { role: "option", id: "sample " + key, "aria-selected": String(key === state.selected), onclick: () => select(key) },
    element("div", { class: "first" },
      element("span", {}, `step ${sample.step}`),
      element("span", { class: grade }, { right: "✓ right", wrong: "✗ wrong", none: "not graded" }[grade]),
      element("span", {}, `reward ${shown(sample.reward)}`),
      element("span", {}, `${sample.n_tokens} tokens`)),
    element("div", { class: "text" }, sample.completion.trim().slice(0, 160) || "(empty)"));
  row.dataset.key = key;
  return row;
}

function select(key) {
  state.selected = key;
  const idx = list.findIndex((sample) => sample.key === key);
  const page = Math.max(0, Math.floor(idx / PAGE_LENGTH));
  if (page !== state.page) {
    state.page = page;
    showSamples();
  }
  let chosen = null;
  for (const row of byId("sample-list").children) {
    const isChosen = row.dataset.key === key;
    row.setAttribute("aria-selected", String(isChosen));
    if (isChosen) chosen = row;
  }
  if (chosen) {
    byId("sample-list").setAttribute("aria-activedescendant", chosen.id);
    // Only the list scrolls, not the page.
    const box = byId("sample-list");
    if (chosen.offsetTop < box.offsetTop + box.scrollTop) box.scrollTop = chosen.offsetTop - box.offsetTop;
    const below = chosen.offsetTop + chosen.offsetHeight - box.offsetTop - box.clientHeight;
    if (below > box.scrollTop) box.scrollTop = below;
  }
  showSample();
  keep();
}

// The next sample of the list, or the one before.
function moveSample(by) {
  const idx = list.findIndex((sample) => sample.key === state.selected);
  const next = list[idx + by];
  if (next) select(next.key);
}

// The first sample of the step after, or before; the list begins with the newest step.
function moveStep(by) {
  const current = list.find((sample) => sample.key === state.selected);
  if (!current) return;
  const steps = [...new Set(list.map((sample) => sample.step))].sort((a, b) => a - b);
  const step = steps[steps.indexOf(current.step) + by];
  const next = list.find((sample) => sample.step === step);
  if (next) select(next.key);
}

function showSample() {
  const sample = list.find((sample) => sample.key === state.selected);
  const place = byId("sample");
  if (!sample) return place.replaceChildren();
  const grade = gradeOf(sample);
  const facts = [
    ["expected", sample.answer],
    ["found", sample.extracted === null ? "nothing" : sample.extracted],
    ["why", sample.reason],
    ["reward", shown(sample.reward)],
    ...Object.entries(sample.parts || {}).map(([name, value]) => [`reward, ${name}`, shown(value)]),
    ["advantage", sample.advantage === undefined ? undefined : sample.advantage === null ? "not trained on in this step" : shown(sample.advantage)],
    ["ended by", { eos: "end of sequence", length: "the limit of tokens", stop_token: "a stop token", stop_string: "a stop string" }[sample.stop] || sample.stop],
    ["source", sample.source],
    ["error", sample.error],
  ].filter(([, value]) => value !== undefined);
  place.replaceChildren(
    element("h3", {}, `Step ${sample.step}, `, element("span", { class: grade }, { right: "right", wrong: "wrong", none: "not graded" }[grade]), ` · ${sample.id}`),
    element("h4", {}, "Prompt"), element("pre", {}, sample.prompt),
    element("h4", {}, `Completion, ${sample.n_tokens} tokens `, legendOf(sample)),
    element("pre", { id: "completion" }, ...tokensOf(sample)),
    element("dl", {}, ...facts.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, String(value))])),
  );
}

// How strong a token's colour is, and which: [colour, share].
function colourOfToken(tokens, i) {
  if (state.colour === "logp") return ["--low", Math.min(1, -tokens.logp[i] / 4)];
  if (state.colour !== "weight" || !tokens.weight) return ["--low", 0];
  const log = Math.log(tokens.weight[i]);
  return [log < 0 ? "--below" : "--above", Math.min(1, Math.abs(log) / Math.log(1.5))];
}

function tokensOf(sample) {
  const { tokens } = sample;
  if (!tokens || !tokens.text) return [sample.completion];
  return tokens.text.map((text, i) => {
    const [colour, share] = colourOfToken(tokens, i);
    const isLast = i === tokens.text.length - 1;
    const isSpecial = isLast && sample.stop === "eos";
    const weight = tokens.weight ? `, weight ${shown(tokens.weight[i])}` : "";
    const title = `log-prob ${shown(tokens.logp[i])} (p ${shown(Math.exp(tokens.logp[i]))})${weight}`;
    const token = element("span", { class: isSpecial ? "token special" : "token", title }, text);
    if (share > 0.02) token.style.backgroundColor = `rgba(var(${colour}), ${(0.55 * share).toFixed(3)})`;
    return token;
  });
}

function legendOf(sample) {
  const { tokens } = sample;
  if (state.colour === "none") return null;
  if (!tokens || !tokens.text) return element("span", { class: "legend" }, "this run wrote no tokens");
  const bar = (...stops) => element("i", { style: { background: `linear-gradient(90deg, ${stops.join(", ")})` } });
  const at = (colour, share) => `rgba(var(${colour}), ${0.55 * share})`;
  if (state.colour === "logp") {
    return element("span", { class: "legend" }, "p = 1", bar(at("--low", 0), at("--low", 1)), "p < 0.02");
  }
  if (!tokens.weight) return element("span", { class: "legend" }, "not trained on in this step: no weights");
  return element("span", { class: "legend" }, "w < 0.67", bar(at("--below", 1), at("--below", 0), at("--above", 1)), "w > 1.5");
}
