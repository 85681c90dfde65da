// A table of many runs, of which only those rows exist that can be seen.
"use strict";

function runColumns(quantities, values, labelOf, withMark) {
  const { number, date } = obsclusterText;
  const columns = [
    {
      key: "label", label: "group", numeric: false, value: (row) => (labelOf(row) === -1 ? 1e9 : labelOf(row)),
      show: (row) => withMark(labelOf(row), labelOf(row) === -1 ? "none" : String(labelOf(row))),
    },
    {
      key: "obs_id", label: "OBS_ID", numeric: true, value: (row) => Number(values("obs_id")[row]),
      show: (row) => values("obs_id")[row],
    },
  ];
  if (values("target")) {
    columns.push({
      key: "target", label: "target", numeric: false, value: (row) => values("target")[row],
      show: (row) => values("target")[row],
    });
  }
  if (values("time")) {
    columns.push({
      key: "time", label: "date", unit: "UTC", numeric: false, value: (row) => values("time")[row],
      show: (row) => date(values("time")[row]),
    });
  }
  for (const column of quantities) {
    if (column.hidden) continue;
    columns.push({
      key: column.key, label: column.label, unit: column.unit, numeric: true,
      value: (row) => values(column.key)[row],
      show: (row) => number(values(column.key)[row]),
    });
  }
  return columns;
}

function makeRunTable(place, columns, callbacks) {
  const ROW = 32;
  const EXTRA = 12;
  let order = [];
  let shown = [];
  let sort = { key: null, rising: true };
  let filter = () => true;

  const table = document.createElement("table");
  const head = table.createTHead().insertRow();
  const body = table.createTBody();
  table.setAttribute("aria-label", "Runs");
  place.append(table);

  const mark = document.createElement("th");
  mark.scope = "col";
  const all = document.createElement("input");
  all.type = "checkbox";
  all.setAttribute("aria-label", "Select all runs that are listed");
  all.style.margin = "0 10px";
  all.addEventListener("change", () => callbacks.selectMany(shown, all.checked));
  mark.append(all);
  head.append(mark);
  for (const column of columns) {
    const cell = document.createElement("th");
    cell.scope = "col";
    if (column.numeric) cell.className = "number";
    const button = document.createElement("button");
    button.type = "button";
    button.append(column.label);
    const unit = document.createElement("span");
    unit.className = "unit";
    unit.textContent = column.unit || "";
    button.append(unit);
    button.title = `Sort by ${column.label}`;
    button.addEventListener("click", () => {
      const again = sort.key === column.key;
      sort = { key: column.key, rising: again ? !sort.rising : true };
      for (const other of head.cells) other.removeAttribute("aria-sort");
      cell.setAttribute("aria-sort", sort.rising ? "ascending" : "descending");
      update();
    });
    cell.append(button);
    head.append(cell);
  }

  function compare(a, b) {
    const column = columns.find((one) => one.key === sort.key);
    if (!column) return a - b;
    const x = column.value(a);
    const y = column.value(b);
    // Runs without a value come last, whichever way it goes.
    const missing = Number(x === "" || Number.isNaN(x)) - Number(y === "" || Number.isNaN(y));
    if (missing) return missing;
    const sign = x < y ? -1 : x > y ? 1 : 0;
    return (sort.rising ? sign : -sign) || a - b;
  }

  function update() {
    order = Array.from({ length: callbacks.count }, (_, row) => row);
    if (sort.key !== null) order.sort(compare);
    shown = order.filter(filter);
    draw();
  }

  function spacer(rows) {
    const row = document.createElement("tr");
    row.className = "spacer";
    row.setAttribute("aria-hidden", "true");
    const cell = row.insertCell();
    cell.colSpan = columns.length + 1;
    cell.style.height = `${rows * ROW}px`;
    return row;
  }

  function makeRow(index) {
    const row = document.createElement("tr");
    const selected = callbacks.isSelected(index);
    row.dataset.row = index;
    row.setAttribute("aria-selected", selected);
    const box = document.createElement("input");
    box.type = "checkbox";
    box.checked = selected;
    box.setAttribute("aria-label", `Run ${callbacks.name(index)}`);
    row.insertCell().append(box);
    for (const column of columns) {
      const cell = row.insertCell();
      if (column.numeric) cell.className = "number";
      const content = column.show(index);
      cell.append(content);
      if (typeof content === "string" && content.length > 18) cell.title = content;
    }
    return row;
  }

  function draw() {
    // What has the focus must have it after its row was made anew.
    const focused = document.activeElement?.closest?.("#table tr[data-row]")?.dataset.row;
    const first = Math.max(Math.floor(place.scrollTop / ROW) - EXTRA, 0);
    const last = Math.min(first + Math.ceil(place.clientHeight / ROW) + 2 * EXTRA, shown.length);
    const rows = shown.slice(first, last).map(makeRow);
    body.replaceChildren(spacer(first), ...rows, spacer(shown.length - last));
    const chosen = shown.filter(callbacks.isSelected).length;
    all.checked = chosen > 0 && chosen === shown.length;
    all.indeterminate = chosen > 0 && chosen < shown.length;
    table.setAttribute("aria-rowcount", shown.length + 1);
    if (focused !== undefined) {
      body.querySelector(`tr[data-row="${focused}"] input`)?.focus({ preventScroll: true });
    }
  }

  body.addEventListener("click", (event) => {
    const row = event.target.closest("tr[data-row]");
    if (row) callbacks.toggle(Number(row.dataset.row));
  });
  let waiting = false;
  place.addEventListener("scroll", () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      draw();
    });
  });
  new ResizeObserver(draw).observe(place);

  return {
    update,
    draw,
    get shown() {
      return shown;
    },
    setFilter(keeps) {
      filter = keeps;
      place.scrollTop = 0;
      update();
    },
    scrollTo(index) {
      const at = shown.indexOf(index);
      const top = at * ROW;
      const seen = top >= place.scrollTop && top < place.scrollTop + place.clientHeight - 3 * ROW;
      if (at >= 0 && !seen) place.scrollTop = Math.max(top - ROW, 0);
    },
  };
}
