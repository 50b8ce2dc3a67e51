// The site table: thousands of rows, of which only those in view are elements. Sorting and filtering are arrays.

import { age, kilowatts, number } from "/static/format.js";

const ROW_PX = 27;
const SPARE_ROWS = 4;
const MISSING_LAST = 1;

// tier: 1 always shown, 2 from 672 px of the table's width on, 3 from 1012 px on (console.css)
const text = (value) => value ?? "—";
const COLUMNS = [
  { key: "site", tier: 1, title: "Site", width: "minmax(104px, 1.4fr)", narrow: "minmax(74px, 1.5fr)", value: (t, i) => t.roster.sites[i], show: text },
  { key: "group", tier: 3, title: "Group", width: "minmax(60px, .7fr)", value: (t, i) => t.roster.groups[i].join(", ") || null, show: text },
  { key: "soc", tier: 1, title: "Charge", unit: "%", width: "minmax(112px, 1.2fr)", narrow: "minmax(72px, 1fr)", numeric: true, value: (t, i) => t.columns.soc_permille[i], cell: chargeBar },
  { key: "inverter", tier: 1, title: "Inverter", unit: "kW", width: "minmax(96px, .8fr)", narrow: "minmax(86px, 1fr)", numeric: true, value: (t, i) => t.columns.inverter_power_w[i], show: (v) => kilowatts(v, true) },
  { key: "grid", tier: 2, title: "Grid", unit: "kW", width: "minmax(68px, .8fr)", numeric: true, value: (t, i) => t.columns.grid_power_w[i], show: (v) => kilowatts(v, true) },
  { key: "pv", tier: 3, title: "PV", unit: "kW", width: "minmax(58px, .7fr)", numeric: true, value: (t, i) => t.columns.pv_power_w[i], show: (v) => kilowatts(v) },
  { key: "frequency", tier: 3, title: "Freq.", unit: "Hz", width: "minmax(70px, .8fr)", numeric: true, value: (t, i) => t.columns.frequency_mhz[i], show: (v) => number(v === null ? null : v / 1000, 3) },
  { key: "service", tier: 2, title: "Armed service", width: "minmax(116px, 1.3fr)", value: (t, i) => t.services[t.columns.service[i]] ?? null, show: text },
  { key: "contracted", tier: 3, title: "Contract", unit: "kW", width: "minmax(98px, .8fr)", numeric: true, value: (t, i) => t.columns.contracted_w[i], show: (v) => kilowatts(v) },
  { key: "state", tier: 1, title: "State", width: "minmax(72px, .7fr)", narrow: "minmax(64px, 1fr)", value: (t, i) => t.states[t.columns.service_state[i]] ?? null, cell: badge },
  { key: "link", tier: 1, title: "Link", width: "minmax(56px, .6fr)", narrow: "minmax(44px, .7fr)", value: (t, i) => t.links[t.columns.link[i]] ?? null, cell: badge },
  { key: "age", tier: 3, title: "Age", width: "minmax(58px, .6fr)", numeric: true, value: (t, i) => t.columns.age_ms[i], show: age },
];

export class SiteTable {
  /**
   * @param {HTMLElement} host becomes the table
   * @param {{filter: HTMLInputElement, group: HTMLSelectElement, count: HTMLElement}} controls
   */
  constructor(host, { filter, group, count }) {
    Object.assign(this, { host, filter, group, count });
    this.roster = { sites: [], groups: [] };
    this.columns = null;
    this.services = [];
    this.states = [];
    this.links = [];
    this.order = [];
    this.rows = [];
    this.sort = { column: COLUMNS[0], descending: false };
    this.active = 0; // position in `order`
    this.#build();
    filter.addEventListener("input", () => this.#rearrange());
    group.addEventListener("change", () => this.#rearrange());
    this.body.addEventListener("scroll", () => this.#paint(), { passive: true });
    host.addEventListener("keydown", (event) => this.#key(event));
    this.body.addEventListener("pointerdown", (event) => this.#press(event));
    new ResizeObserver(() => this.#paint()).observe(this.body);
  }

  /** Who the sites are: {sites, groups}, parallel lists; the order of all columns. */
  setRoster(roster) {
    this.roster = roster;
    this.columns = null;
    const chosen = this.group.value;
    const groups = [...new Set(roster.groups.flat())].sort();
    this.group.replaceChildren(new Option("All groups", ""), ...groups.map((name) => new Option(name, name)));
    this.group.value = groups.includes(chosen) ? chosen : "";
  }

  /** What the codes in the columns mean. */
  setCodes({ services, states, links }) {
    Object.assign(this, { services, states, links });
  }

  setColumns(columns) {
    this.columns = columns;
    this.#rearrange();
  }

  #build() {
    this.host.setAttribute("role", "grid");
    this.host.setAttribute("aria-label", "Sites: arrow keys move");
    this.host.tabIndex = 0;
    this.host.setAttribute("aria-colcount", String(COLUMNS.length));
    for (const tier of [1, 2, 3]) {
      const shown = COLUMNS.filter((column) => column.tier <= tier);
      this.host.style.setProperty(`--columns-${tier}`, shown.map((column) => (tier === 1 && column.narrow) || column.width).join(" "));
    }
    const head = element("div", "row head", "row");
    head.setAttribute("aria-rowindex", "1");
    for (const column of COLUMNS) {
      const cell = element("div", cellClass(column), "columnheader");
      const button = document.createElement("button");
      button.type = "button";
      button.append(column.title);
      if (column.unit) button.append(" ", unit(column.unit));
      button.addEventListener("click", () => this.#sortBy(column));
      cell.append(button);
      head.append(cell);
      column.header = cell;
    }
    const headGroup = element("div", "head-group", "rowgroup");
    headGroup.append(head);
    this.body = element("div", "body", "rowgroup");
    this.body.tabIndex = -1; // scrolls, but the grid is what has the focus
    this.spacer = element("div", "spacer", "presentation");
    this.body.append(this.spacer);
    this.empty = element("p", "empty", "status");
    this.host.append(headGroup, this.body);
    this.host.after(this.empty);
    this.#showSort();
  }

  #sortBy(column) {
    this.sort = { column, descending: this.sort.column === column ? !this.sort.descending : Boolean(column.numeric) };
    this.#showSort();
    this.#rearrange();
  }

  #showSort() {
    for (const column of COLUMNS) {
      const sorted = column === this.sort.column;
      if (sorted) column.header.setAttribute("aria-sort", this.sort.descending ? "descending" : "ascending");
      else column.header.removeAttribute("aria-sort");
    }
  }

  /** Filters and sorts; the active row stays the same site. */
  #rearrange() {
    if (!this.columns) return;
    const activeSite = this.order[this.active];
    const words = this.filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    const group = this.group.value;
    const { column, descending } = this.sort;
    const found = [];
    for (let i = 0; i < this.roster.sites.length; i++) {
      if (group && !this.roster.groups[i].includes(group)) continue;
      if (words.length && !this.#matches(i, words)) continue;
      found.push(i);
    }
    const values = new Map(found.map((i) => [i, column.value(this, i)]));
    const direction = descending ? -1 : 1;
    found.sort((a, b) => compare(values.get(a), values.get(b), direction) || a - b);
    this.order = found;
    const kept = found.indexOf(activeSite);
    this.active = kept >= 0 ? kept : Math.min(this.active, Math.max(0, found.length - 1));
    const total = this.roster.sites.length;
    setText(this.count, found.length === total ? `${total}` : `${found.length} of ${total}`);
    setText(this.empty, found.length ? "" : total ? "No site matches the filter." : "No site is registered yet: vpp-cloud site add");
    this.host.setAttribute("aria-rowcount", String(found.length + 1));
    this.spacer.style.height = `${found.length * ROW_PX}px`;
    this.#paint();
  }

  #matches(i, words) {
    const hay = [
      this.roster.sites[i], ...this.roster.groups[i], this.services[this.columns.service[i]],
      this.states[this.columns.service_state[i]], this.links[this.columns.link[i]],
    ].join(" ").toLowerCase();
    return words.every((word) => hay.includes(word));
  }

  /** Fills the rows in view. */
  #paint() {
    if (!this.columns) return;
    const first = Math.max(0, Math.floor(this.body.scrollTop / ROW_PX) - SPARE_ROWS);
    const wanted = Math.min(this.order.length - first, Math.ceil(this.body.clientHeight / ROW_PX) + 2 * SPARE_ROWS);
    while (this.rows.length < wanted) this.rows.push(this.#newRow());
    this.rows.forEach((row, k) => {
      row.element.hidden = k >= wanted;
      if (k >= wanted) return;
      const position = first + k;
      const i = this.order[position];
      if (row.position !== position) {
        row.position = position;
        row.element.style.transform = `translateY(${position * ROW_PX}px)`;
        row.element.setAttribute("aria-rowindex", String(position + 2));
        row.element.classList.toggle("odd", position % 2 === 1);
      }
      row.element.dataset.link = this.links[this.columns.link[i]] ?? "";
      row.element.classList.toggle("active", position === this.active);
      row.element.setAttribute("aria-selected", String(position === this.active));
      COLUMNS.forEach((column, c) => {
        const value = column.value(this, i);
        if (row.values[c] === value) return;
        row.values[c] = value;
        if (column.cell) column.cell(row.cells[c], value);
        else setText(row.cells[c], column.show(value));
      });
    });
    const active = this.rows.find((row) => !row.element.hidden && row.position === this.active);
    if (active) this.host.setAttribute("aria-activedescendant", active.element.id);
    else this.host.removeAttribute("aria-activedescendant");
  }

  #newRow() {
    const row = { element: element("div", "row", "row"), cells: [], values: [], position: -1 };
    row.element.id = `site-row-${this.rows.length}`;
    for (const column of COLUMNS) {
      const cell = element("div", cellClass(column), "gridcell");
      row.cells.push(cell);
      row.values.push(undefined);
      row.element.append(cell);
    }
    this.spacer.append(row.element);
    return row;
  }

  #key(event) {
    const page = Math.max(1, Math.floor(this.body.clientHeight / ROW_PX) - 1);
    const last = this.order.length - 1;
    const moves = {
      ArrowDown: this.active + 1, ArrowUp: this.active - 1, PageDown: this.active + page, PageUp: this.active - page, Home: 0, End: last,
    };
    if (event.target.closest("button") || !(event.key in moves) || event.ctrlKey || event.altKey || event.metaKey || last < 0) return;
    event.preventDefault();
    this.active = Math.min(last, Math.max(0, moves[event.key]));
    const top = this.active * ROW_PX;
    const { scrollTop, clientHeight } = this.body;
    if (top < scrollTop) this.body.scrollTop = top;
    else if (top + ROW_PX > scrollTop + clientHeight) this.body.scrollTop = top + ROW_PX - clientHeight;
    this.#paint();
  }

  #press(event) {
    const row = this.rows.find(({ element }) => element.contains(event.target));
    if (!row) return;
    this.active = row.position;
    this.#paint();
  }
}

function cellClass({ key, tier, numeric }) {
  return `cell ${key} tier-${tier}${numeric ? " numeric" : ""}`;
}

function chargeBar(cell, permille) {
  if (!cell.firstChild) {
    const track = element("span", "charge-track", "presentation");
    track.append(element("span", "charge-level", "presentation"));
    cell.append(track, element("span", "charge-text", "presentation"));
  }
  const [track, label] = cell.children;
  track.firstChild.style.width = `${Math.min(100, Math.max(0, (permille ?? 0) / 10))}%`;
  setText(label, number(permille === null ? null : permille / 10, 1));
}

function badge(cell, value) {
  cell.dataset.state = value ?? "none";
  setText(cell, text(value));
}

function compare(a, b, direction) {
  if (a === b) return 0;
  if (a === null || a === undefined) return MISSING_LAST;
  if (b === null || b === undefined) return -MISSING_LAST;
  return (typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b) * direction;
}

function element(tag, className, role) {
  const made = document.createElement(tag);
  made.className = className;
  made.setAttribute("role", role);
  return made;
}

function unit(name) {
  const made = document.createElement("span");
  made.className = "unit";
  made.textContent = name;
  return made;
}

function setText(node, value) {
  if (node.textContent !== value) node.textContent = value;
}
