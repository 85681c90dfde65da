// The explorer: groups of any number, groups by hand, and the same runs marked everywhere.
(() => {
  "use strict";
  const $ = (id) => document.getElementById(id);
  const data = JSON.parse($("explorer-data").textContent);
  const { plural, time, number, percent, date } = obsclusterText;
  const UNASSIGNED = -1;
  const count = data.labels.length;
  const numbers = Object.keys(data.partitions).map(Number);
  let labels = data.labels.slice();
  let shownNumber = data.n_groups;
  let selected = new Set();
  const past = [];
  let source;
  let model;
  let table;

  const isDark = () => document.documentElement.dataset.theme === "dark";
  const look = (label) => data.looks[label] ?? data.looks[((label - 1) % 10) + 1];
  const colour = (label) => look(label)[isDark() ? 1 : 0];
  const groupName = (label) => (label === UNASSIGNED ? "no group" : `group ${label}`);
  const same = (a, b) => a.length === b.length && a.every((value, i) => value === b[i]);
  const values = (key) => source.data[key];

  function markOf(label) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("class", "mark");
    svg.setAttribute("viewBox", "0 0 12 12");
    svg.setAttribute("aria-hidden", "true");
    svg.style.color = colour(label);
    const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
    use.setAttribute("href", `#mark-${look(label)[2]}`);
    svg.append(use);
    return svg;
  }
  function withMark(label, ...texts) {
    const cell = document.createElement("span");
    cell.className = "who-cell";
    cell.append(markOf(label), ...texts);
    return cell;
  }

  // Labels ---------------------------------------------------------------------------------------
  function setLabels(changed, shown) {
    past.push([labels, shownNumber]);
    if (past.length > 100) past.shift();
    labels = changed;
    shownNumber = shown;
    showLabels();
  }
  function showLabels() {
    showColours();
    showGroups();
  }
  function showColours() {
    const changed = {
      color: labels.map(colour),
      marker: labels.map((label) => look(label)[2]),
      lane: Float64Array.from(labels, (label) => (label === UNASSIGNED ? 0 : label)),
    };
    if ($("time-y")?.value === "lane") changed.ty = changed.lane;
    source.data = Object.assign({}, source.data, changed);
  }
  function showGroups() {
    showTree();
    showLegend();
    showState();
    table.update();
  }
  function showTree() {
    const branches = model("branches");
    if (!branches || !data.tree) return;
    const { left, right, rows, first } = data.tree;
    const leaves = left.length + 1;
    const owner = new Array(2 * leaves - 1);
    rows.forEach((row, leaf) => {
      owner[leaf] = labels[row];
    });
    const trunk = isDark() ? "#8b94a0" : "#5d646e";
    const colours = [];
    for (let i = 0; i < left.length; i += 1) {
      const a = owner[left[i]];
      owner[leaves + i] = a === owner[right[i]] ? a : null;
      if (i >= first) colours.push(owner[leaves + i] === null ? trunk : colour(owner[leaves + i]));
    }
    branches.data = Object.assign({}, branches.data, { color: colours });
    const cut = shownNumber === null ? null : data.tree.cuts[shownNumber];
    model("cut").visible = cut !== null && cut !== undefined;
    if (cut) model("cut").location = cut;
  }
  function groupsNow() {
    const groups = new Map();
    labels.forEach((label, row) => {
      const group = groups.get(label) ?? { runs: 0, hours: 0 };
      group.runs += 1;
      group.hours += data.hours[row];
      groups.set(label, group);
    });
    const sorted = [...groups.keys()].sort((a, b) => (a === UNASSIGNED) - (b === UNASSIGNED) || a - b);
    return sorted.map((label) => [label, groups.get(label)]);
  }
  function showLegend() {
    const original = same(labels, data.labels);
    const groups = groupsNow();
    const knowsTime = data.hours.some((hours) => hours > 0);
    $("explorer-legend").replaceChildren(
      ...groups.map(([label, group]) => {
        const button = document.createElement("button");
        button.type = "button";
        const words = original && data.words[label] ? `, ${data.words[label]}` : "";
        const sum = knowsTime ? `, ${time(group.hours)}` : "";
        button.append(markOf(label), `${groupName(label)}${words} (${plural(group.runs, "run")}${sum})`);
        button.title = `Select the runs of ${groupName(label)}`;
        button.addEventListener("click", () =>
          select(labels.flatMap((other, row) => (other === label ? [row] : []))),
        );
        const item = document.createElement("li");
        item.append(button);
        return item;
      }),
    );
    const before = $("target-group").value;
    const options = groups.filter(([label]) => label !== UNASSIGNED).map(([label]) => [label, groupName(label)]);
    options.push(["new", "a new group"], [UNASSIGNED, "no group"]);
    $("target-group").replaceChildren(...options.map(([value, text]) => new Option(text, value)));
    if (options.some(([value]) => String(value) === before)) $("target-group").value = before;
  }
  function showState() {
    const groups = groupsNow().filter(([label]) => label !== UNASSIGNED).length;
    const parts = [];
    if (shownNumber === null) {
      parts.push(`${plural(groups, "group")}, changed by hand`);
    } else {
      const known = data.known[shownNumber] ?? {};
      const asGrouped = shownNumber === data.n_groups ? ", as grouped" : "";
      parts.push(`${plural(groups, "group")}${asGrouped}`);
      if (known.silhouette !== undefined) parts.push(`silhouette ${known.silhouette.toFixed(2)}`);
      if (known.loss !== undefined) parts.push(`stacking loses ${percent(known.loss)} of the information`);
    }
    $("state").textContent = parts.join(" · ");
    const slider = $("number");
    if (slider) {
      $("number-text").textContent = shownNumber === null ? "by hand" : plural(shownNumber, "group");
      if (shownNumber !== null) slider.value = numbers.indexOf(shownNumber);
      slider.setAttribute("aria-valuetext", $("number-text").textContent);
    }
    $("undo").disabled = past.length === 0;
    $("reset").disabled = same(labels, data.labels);
  }

  // Selection ------------------------------------------------------------------------------------
  function select(rows) {
    source.selected.indices = [...rows].sort((a, b) => a - b);
  }
  function showSelection() {
    selected = new Set(source.selected.indices);
    $("selected").textContent =
      selected.size === 0 ? "No runs selected" : `${plural(selected.size, "run")} selected`;
    for (const id of ["move", "clear", "target-group"]) $(id).disabled = selected.size === 0;
    if ($("only").checked) table.update();
    else table.draw();
    if (selected.size > 0) table.scrollTo(table.shown.find((row) => selected.has(row)));
  }
  function move() {
    const wanted = $("target-group").value;
    const label = wanted === "new" ? Math.max(0, ...labels) + 1 : Number(wanted);
    const changed = labels.map((old, row) => (selected.has(row) ? label : old));
    if (same(changed, labels)) return;
    setLabels(changed, null);
    $("done").textContent = `${plural(selected.size, "run")} moved to ${groupName(label)}`;
  }

  // Search ---------------------------------------------------------------------------------------
  function applyFilter() {
    const wanted = $("search").value.split(/[\s,;]+/).filter(Boolean);
    const only = $("only").checked;
    const ids = values("obs_id");
    table.setFilter(
      (row) =>
        (!only || selected.has(row)) &&
        (wanted.length === 0 || wanted.some((part) => ids[row].includes(part))),
    );
    const found = table.shown.length;
    $("found").textContent = wanted.length ? `${plural(found, "run")} found, Enter selects` : "";
  }

  // Plots ----------------------------------------------------------------------------------------
  const ink = () => (isDark() ? ["#e9ebee", "#a4acb7", "#2c323a"] : ["#16191d", "#5d646e", "#e4e6ea"]);
  function showTheme() {
    const [text, quiet, grid] = ink();
    for (const name of Object.keys(data.roots)) {
      const plot = model(name);
      for (const axis of [...plot.below, ...plot.left]) {
        axis.setv({
          axis_line_color: quiet, major_tick_line_color: quiet,
          axis_label_text_color: text, major_label_text_color: text,
        });
      }
      for (const item of plot.center) if ("grid_line_color" in item) item.grid_line_color = grid;
      for (const renderer of plot.renderers) {
        if (renderer.name === "graticule") renderer.glyph.line_color = grid;
        if (renderer.name === "points") renderer.selection_glyph.line_color = text;
      }
    }
    if (model("cut")) model("cut").line_color = text;
  }
  function chooser(id, plot, field, axis, first, extra = []) {
    const choices = data.columns.filter((column) => column.varies || column.key === first);
    fillChooser($(id), choices, extra);
    const showAxis = () => {
      const column = [...extra, ...choices].find((one) => one.key === $(id).value);
      model(plot)[axis][0].axis_label = titleOf(column);
    };
    $(id).value = first;
    $(id).addEventListener("change", () => {
      source.data = Object.assign({}, source.data, { [field]: values($(id).value) });
      showAxis();
    });
    showAxis();
  }

  // What the pointer is over -----------------------------------------------------------------------
  function factsOf(row) {
    const facts = [];
    if (values("target")) facts.push(["target", values("target")[row]]);
    if (values("time")) facts.push(["date", `${date(values("time")[row])} UTC`]);
    for (const column of data.columns.filter((one) => !one.hidden && one.varies).slice(0, 10)) {
      facts.push([column.label, `${number(values(column.key)[row])} ${column.unit}`.trim()]);
    }
    return facts;
  }
  const tip = makeTip($("tip"), $("explorer-plots"), (rows) => {
    const facts = factsOf(rows[0]);
    if (rows.length > 1) facts.push(["beneath", plural(rows.length - 1, "other run")]);
    const name = `run ${values("obs_id")[rows[0]]}, ${groupName(labels[rows[0]])}`;
    return [withMark(labels[rows[0]], name), facts];
  });

  // Start ------------------------------------------------------------------------------------------
  function makeTable() {
    const columns = runColumns(data.columns, values, (row) => labels[row], withMark);
    table = makeRunTable($("table"), columns, {
      count,
      isSelected: (row) => selected.has(row),
      name: (row) => values("obs_id")[row],
      toggle: (row) => {
        const rows = new Set(selected);
        if (!rows.delete(row)) rows.add(row);
        select(rows);
      },
      selectMany: (rows, on) => select(on ? rows : []),
    });
  }
  function start() {
    const document_ = Bokeh.documents[0];
    model = (name) => document_.get_model_by_name(name);
    source = model("runs");
    makeTable();
    chooser("conditions-x", "conditions", "cx", "below", data.pairs.conditions[0]);
    chooser("conditions-y", "conditions", "cy", "left", data.pairs.conditions[1]);
    chooser("features-x", "features", "fx", "below", data.pairs.features[0]);
    chooser("features-y", "features", "fy", "left", data.pairs.features[1]);
    if (data.roots.time) {
      const lane = { key: "lane", label: "group", unit: "", feature: false };
      chooser("time-y", "time", "ty", "left", data.pairs.conditions[0], [lane]);
    }
    if (data.roots.sky) showAnglesWithin360(model("sky").below[0]);
    for (const name of Object.keys(data.roots)) onHover(model(name), tip.show);
    source.selected.properties.indices.change.connect(showSelection);
    $("number")?.addEventListener("input", () => {
      const n = numbers[Number($("number").value)];
      if (n !== shownNumber) setLabels(data.partitions[n].slice(), n);
    });
    $("search").addEventListener("input", applyFilter);
    $("search").addEventListener("keydown", (event) => {
      if (event.key === "Enter" && $("search").value.trim()) select(table.shown);
    });
    $("only").addEventListener("change", applyFilter);
    $("move").addEventListener("click", move);
    $("clear").addEventListener("click", () => select([]));
    $("undo").addEventListener("click", () => {
      const last = past.pop();
      if (!last) return;
      [labels, shownNumber] = last;
      showLabels();
    });
    $("reset").addEventListener("click", () => setLabels(data.labels.slice(), data.n_groups));
    $("download").addEventListener("click", () =>
      downloadLabels(data.archive, values("obs_id"), labels),
    );
    const desk = document.querySelector(".desk");
    new ResizeObserver(() => {
      $("explorer").style.setProperty("--desk", `${desk.offsetHeight}px`);
    }).observe(desk);
    document.addEventListener("obscluster:theme", () => {
      showTheme();
      showLabels();
    });
    showTheme();
    // The page comes with the colours of light pages; thousands of points are not drawn twice.
    if (isDark()) showColours();
    showGroups();
    showSelection();
    applyFilter();
    $("explorer").dataset.ready = "true";
  }
  const roots = Object.fromEntries(Object.entries(data.roots).map(([name, id]) => [id, `plot-${name}`]));
  const items = [{ docid: "explorer", roots, root_ids: Object.values(data.roots) }];
  Bokeh.embed.embed_items({ explorer: data.document }, items).then(start);
})();
