// A strip chart: the last minutes of a few series on UTC, drawn by uPlot.

import uPlot from "/static/vendor/uPlot.esm.js";
import { clock } from "/static/format.js";

export const WINDOW_S = 120;
const USUAL_LAG_S = 4; // sites report every second, and an instant is drawn when all have
const OLD_S = 6; // a sample older than this says nothing about now
const Y_AXIS_PX = 66;
const LABEL_GAP_PX = 4;

const styles = getComputedStyle(document.documentElement);
const color = (name) => styles.getPropertyValue(`--${name}`).trim();
const font = `11px ${styles.getPropertyValue("--font").trim() || "sans-serif"}`;

export class StripChart {
  /**
   * @param {HTMLElement} host filled by the chart, also when it is resized
   * @param {{series: {label: string, color: string, width: number, dash?: number[]}[],
   *   range: (low: number, high: number) => [number, number], tick: (value: number) => string, now_ms: () => number}} options
   *   range: the y scale for the lowest and highest value in the window; now_ms: the clock that samples are on
   */
  constructor(host, { series, range, tick, now_ms }) {
    this.lines = [];
    this.data = [[], ...series.map(() => [])];
    this.tick = tick;
    this.now_ms = now_ms;
    const axis = { stroke: color("muted"), font, ticks: { stroke: color("rule"), size: 4 }, grid: { stroke: color("grid"), width: 1 } };
    this.plot = new uPlot(
      {
        ...size(host),
        padding: [8, 30, 0, 0],
        legend: { show: false },
        cursor: { y: false, drag: { setScale: false, x: false, y: false }, points: { show: false } },
        scales: {
          x: { time: true, range: () => this.#window() },
          y: { range: (_, low, high) => range(low ?? NaN, high ?? NaN) },
        },
        axes: [
          { ...axis, size: 26, gap: 4, space: 70, incrs: [5, 10, 15, 20, 30, 60], values: (_, seconds) => seconds.map((s) => clock(s * 1000)) },
          { ...axis, size: Y_AXIS_PX, gap: 6, space: 28, values: (_, values) => values.map((value) => this.tick(value)) },
        ],
        series: [
          {},
          ...series.map(({ label, color: name, width, dash }) => ({ label, stroke: color(name), width, dash, points: { show: false }, spanGaps: false })),
        ],
        hooks: { drawAxes: [(plot) => this.#drawLines(plot)] },
      },
      this.data,
      host,
    );
    new ResizeObserver(() => this.plot.setSize(size(host))).observe(host);
  }

  /** Horizontal lines: {value, text, color}. */
  setLines(lines) {
    this.lines = lines;
  }

  clear() {
    for (const column of this.data) column.length = 0;
  }

  /** Adds samples from t0_ms on, one each step_ms, a list per series; null is a hole. Samples known already are replaced. */
  append(t0_ms, step_ms, columns) {
    const [times, ...values] = this.data;
    const count = columns[0].length;
    while (times.length && Math.round(times[times.length - 1] * 1000) >= t0_ms) for (const column of this.data) column.pop();
    for (let i = 0; i < count; i++) {
      times.push((t0_ms + i * step_ms) / 1000);
      values.forEach((column, series) => column.push(columns[series][i]));
    }
    const oldest = times[times.length - 1] - WINDOW_S - 1;
    let drop = 0;
    while (drop < times.length && times[drop] < oldest) drop++;
    if (drop) for (const column of this.data) column.splice(0, drop);
  }

  draw() {
    this.plot.setData(this.data);
  }

  /** The newest value of a series, or null if it is a hole or old. */
  latest(series) {
    const times = this.data[0];
    const last = times.length - 1;
    return last >= 0 && times[last] > this.now_ms() / 1000 - OLD_S ? this.data[series + 1][last] : null;
  }

  /** The largest magnitude in the window. */
  magnitude() {
    let largest = 0;
    for (const column of this.data.slice(1)) for (const value of column) if (value !== null) largest = Math.max(largest, Math.abs(value));
    return largest;
  }

  /** Ends with the newest sample, and moves on when none comes. */
  #window() {
    const newest_s = this.data[0].at(-1) ?? 0;
    const end_s = Math.max(newest_s, this.now_ms() / 1000 - USUAL_LAG_S);
    return [end_s - WINDOW_S, end_s];
  }

  #drawLines(plot) {
    const { ctx, bbox } = plot;
    const ratio = devicePixelRatio;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    ctx.font = font.replace("11px", `${11 * ratio}px`);
    ctx.textAlign = "left";
    ctx.textBaseline = "bottom";
    for (const { value, text, color: name } of this.lines) {
      const y = Math.round(plot.valToPos(value, "y", true)) + 0.5;
      ctx.strokeStyle = ctx.fillStyle = color(name);
      ctx.lineWidth = ratio;
      ctx.setLineDash([5 * ratio, 4 * ratio]);
      ctx.beginPath();
      ctx.moveTo(bbox.left, y);
      ctx.lineTo(bbox.left + bbox.width, y);
      ctx.stroke();
      if (text) ctx.fillText(text, bbox.left + 6 * ratio, y - LABEL_GAP_PX * ratio * 0.5);
    }
    ctx.restore();
  }
}

function size(host) {
  return { width: Math.max(200, host.clientWidth), height: Math.max(90, host.clientHeight) };
}
