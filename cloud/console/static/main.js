// The live page: one stream in, a few views out.

import { EventList } from "/static/events.js";
import { clock, number, powerUnit } from "/static/format.js";
import { SiteTable } from "/static/sites.js";
import { StripChart } from "/static/strip.js";

const SILENT_MS = 3000;
const OFF_TARGET = 0.1; // of what is armed, from which the difference is marked
const FREQUENCY_SPAN_HZ = 0.1; // at least, so that a calm grid is not drawn as a storm

const $ = (id) => document.getElementById(id);

let unit = powerUnit(0);
let nominal_hz = null;
let armed_w = 0;
let clockOffset_ms = 0;
let heard_ms = performance.now();
let newest_ms = null;

const frequencyChart = new StripChart($("frequency-chart"), {
  series: [{ label: "frequency", color: "frequency", width: 1.5 }],
  range: frequencyRange,
  tick: (hz) => number(hz, 3),
  now_ms: coordinatorNow_ms,
});
const powerChart = new StripChart($("power-chart"), {
  series: [
    { label: "target", color: "target", width: 1.5, dash: [6, 4] },
    { label: "fleet power", color: "power", width: 1.5 },
  ],
  range: powerRange,
  tick: (w) => number(w / unit.watts, 1),
  now_ms: coordinatorNow_ms,
});
const table = new SiteTable($("sites-table"), { filter: $("filter"), group: $("group"), count: $("sites-count") });
const events = new EventList($("event-list"), $("serious"));

function coordinatorNow_ms() {
  return Date.now() + clockOffset_ms;
}

function frequencyRange(low, high) {
  const centre = nominal_hz ?? (Number.isFinite(low) ? (low + high) / 2 : 50);
  const values = [centre - FREQUENCY_SPAN_HZ / 2, centre + FREQUENCY_SPAN_HZ / 2, ...frequencyChart.lines.map(({ value }) => value)];
  if (Number.isFinite(low)) values.push(low, high);
  const least = Math.min(...values);
  const most = Math.max(...values);
  const margin = (most - least) * 0.1;
  return [least - margin, most + margin];
}

function powerRange(low, high) {
  if (!Number.isFinite(low)) return [-1000, 1000];
  const margin = Math.max((high - low) * 0.12, Math.max(Math.abs(low), Math.abs(high)) * 0.02, 50);
  return [Math.min(0, low) - (low < 0 ? margin : margin / 2), Math.max(0, high) + margin];
}

/** Applies a message; `whole` replaces what is there. */
function apply(message, whole) {
  heard_ms = performance.now();
  newest_ms = message.now_ms;
  clockOffset_ms = message.now_ms - Date.now();
  document.body.dataset.stream = "live";
  $("stream-lost").hidden = true;
  if (whole) {
    frequencyChart.clear();
    powerChart.clear();
    events.clear();
  }
  if (message.system) showSystem(message.system);
  if (message.roster) table.setRoster(message.roster);
  if (message.columns) table.setColumns(message.columns);
  if (message.events) events.add(message.events);
  if (message.samples) take(message.samples);
  draw();
}

function showSystem(system) {
  state("broker", system.broker ? "connected" : "lost", system.broker ? "good" : "bad");
  const missing = system.sites - system.online;
  state("online", `${system.online} of ${system.sites}`, missing > 0 ? "bad" : system.sites ? "good" : "unknown");
  const armed = system.armed.map(({ service, sites, contracted_w }) => {
    const size = powerUnit(contracted_w);
    return `${service} ${number(contracted_w / size.watts, 1)} ${size.name} at ${sites} ${sites === 1 ? "site" : "sites"}`;
  });
  state("armed", armed.join(" · ") || "none", armed.length ? "good" : "unknown");
  nominal_hz = system.nominal_hz;
  armed_w = system.armed.reduce((sum, { contracted_w }) => sum + contracted_w, 0);
  const lines = system.armed.flatMap(({ service, thresholds_hz }) =>
    thresholds_hz.map((value) => ({ value, text: `${service} ${number(value, 3)}`, color: "threshold" })),
  );
  if (nominal_hz !== null) lines.unshift({ value: nominal_hz, text: "", color: "nominal" });
  frequencyChart.setLines(lines);
  table.setCodes(system);
}

function take({ t0_ms, step_ms, frequency_mhz, power_w, target_w }) {
  frequencyChart.append(t0_ms, step_ms, [frequency_mhz.map((mhz) => (mhz === null ? null : mhz / 1000))]);
  powerChart.append(t0_ms, step_ms, [target_w, power_w]);
}

function draw() {
  unit = powerUnit(powerChart.magnitude());
  powerChart.setLines([{ value: 0, text: "", color: "nominal" }]);
  frequencyChart.draw();
  powerChart.draw();
  const hz = frequencyChart.latest(0);
  const power = powerChart.latest(1);
  const target = powerChart.latest(0);
  const scaled = (w, signed) => number(w === null ? null : w / unit.watts, unit.decimals, signed);
  $("frequency").textContent = number(hz, 3);
  $("deviation").textContent = number(hz === null || nominal_hz === null ? null : (hz - nominal_hz) * 1000, 0, true);
  $("power").textContent = scaled(power, true);
  $("power-unit").textContent = unit.name;
  $("target").textContent = scaled(target, true);
  const off_w = power === null || target === null ? null : power - target;
  $("off-target").textContent = scaled(off_w, true);
  $("off-target").dataset.state = armed_w > 0 && Math.abs(off_w ?? 0) > OFF_TARGET * armed_w ? "warning" : "good";
}

function state(id, text, kind) {
  const element = $(id);
  if (element.textContent !== text) element.textContent = text;
  element.dataset.state = kind;
}

function tick() {
  if (newest_ms !== null) $("clock").textContent = clock(coordinatorNow_ms());
  const silent_ms = performance.now() - heard_ms;
  if (silent_ms <= SILENT_MS) return;
  document.body.dataset.stream = "lost";
  const since = newest_ms === null ? "No data yet" : `No data since ${clock(newest_ms)} UTC (${Math.round(silent_ms / 1000)} s): the values below are old`;
  $("stream-lost").textContent = `${since}. Trying to reconnect.`;
  $("stream-lost").hidden = false;
}

function listen() {
  const stream = new EventSource("/events");
  stream.addEventListener("picture", ({ data }) => apply(JSON.parse(data), true));
  stream.addEventListener("change", ({ data }) => apply(JSON.parse(data), false));
  stream.addEventListener("end", ({ data }) => {
    if (JSON.parse(data).reason !== "logged-out") return; // the server stops: EventSource tries again by itself
    stream.close();
    location.assign("/log-in");
  });
  stream.addEventListener("error", () => {
    // A refusal (the session is over, or a proxy answered) is final for EventSource: the log-in page decides.
    if (stream.readyState === EventSource.CLOSED) location.assign("/log-in");
  });
  // Else the stream's own end would race with the answer to the form.
  document.querySelector("form.account").addEventListener("submit", () => stream.close());
}

listen();
setInterval(tick, 250);
