// The event list: newest first, bounded, streaming.

import { clock } from "/static/format.js";

const KEPT = 300;
const SHAPE = { info: "●", warning: "▲", alarm: "■" };

export class EventList {
  /**
   * @param {HTMLOListElement} list
   * @param {HTMLInputElement} seriousOnly shows warnings and alarms only while checked
   */
  constructor(list, seriousOnly) {
    this.list = list;
    this.newest = 0;
    seriousOnly.addEventListener("change", () => list.classList.toggle("serious-only", seriousOnly.checked));
  }

  clear() {
    this.newest = 0;
    this.list.replaceChildren();
  }

  /** Adds events, oldest first; one that is there already is not added again. */
  add(events) {
    for (const event of events) {
      if (event.number <= this.newest) continue;
      this.newest = event.number;
      this.list.prepend(item(event));
    }
    while (this.list.childElementCount > KEPT) this.list.lastElementChild.remove();
  }
}

function item({ at_ms, severity, site, code, text }) {
  const row = document.createElement("li");
  row.className = `event ${severity}`;
  const shape = span("severity", SHAPE[severity] ?? SHAPE.info);
  shape.setAttribute("aria-hidden", "true");
  const time = document.createElement("time");
  time.dateTime = new Date(at_ms).toISOString();
  time.textContent = clock(at_ms);
  time.title = `${time.dateTime} · ${code}`;
  row.append(shape, span("visually-hidden", severity), time, span("site", site ?? "coordinator"), span("text", text));
  return row;
}

function span(className, text) {
  const element = document.createElement("span");
  element.className = className;
  element.textContent = text;
  return element;
}
