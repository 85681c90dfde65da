// What bokeh's plots call. Bokeh takes functions of ours; what it takes as text, it would run by eval,
// which the policy of this page does not allow.
"use strict";

function onHover(plot, show) {
  for (const tool of plot.toolbar.tools) {
    if (tool.type !== "HoverTool") continue;
    tool.callback = (_, found) => show([...(found.index?.indices ?? [])]);
  }
}

// A map around 0 h goes from 361 to 359 deg.
function showAnglesWithin360(axis) {
  class Angles extends axis.formatter.constructor {
    doFormat(ticks) {
      return ticks.map((tick) => String(Math.round((((tick % 360) + 360) % 360) * 1e4) / 1e4));
    }
  }
  axis.formatter = new Angles();
}
