// What can be chosen to be drawn, and the groups as a file.
"use strict";

const titleOf = (column) => (column.unit ? `${column.label} [${column.unit}]` : column.label);

function fillChooser(select, columns, extra) {
  const conditions = [...extra, ...columns.filter((column) => !column.feature)];
  const features = columns.filter((column) => column.feature);
  for (const [text, list] of [["conditions", conditions], ["features", features]]) {
    if (list.length === 0) continue;
    const group = document.createElement("optgroup");
    group.label = text;
    for (const column of list) group.append(new Option(titleOf(column), column.key));
    select.append(group);
  }
}

function downloadLabels(archive, ids, labels) {
  const lines = [
    "# Groups of runs, from the explorer of a report by obscluster. They are taken back by:",
    "#   obscluster group ARCHIVE --labels FILE --output RESULTS",
    `# archive: ${archive.replace(/\s+/g, " ")}`,
    "# -1 is no group",
    "OBS_ID,label",
    ...labels.map((label, row) => `${ids[row]},${label}`),
  ];
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([`${lines.join("\n")}\n`], { type: "text/csv" }));
  link.download = "labels.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
