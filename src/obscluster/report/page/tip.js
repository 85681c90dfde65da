// What the pointer is over, as text beside it.
"use strict";

function makeTip(tip, plots, describe) {
  let pointer = { x: 0, y: 0 };

  function show(rows) {
    if (rows.length === 0) {
      tip.hidden = true;
      return;
    }
    const [title, facts] = describe(rows);
    const list = document.createElement("dl");
    for (const [name, text] of facts) {
      const [term, value] = [document.createElement("dt"), document.createElement("dd")];
      term.textContent = name;
      value.textContent = text;
      list.append(term, value);
    }
    tip.replaceChildren(title, list);
    tip.hidden = false;
    const room = document.documentElement.clientWidth - tip.offsetWidth - 12;
    const left = Math.max(Math.min(pointer.x + 16, room), 4);
    const fits = pointer.y + tip.offsetHeight + 20 < window.innerHeight;
    const top = fits ? pointer.y + 16 : Math.max(pointer.y - tip.offsetHeight - 12, 4);
    tip.style.left = `${left + window.scrollX}px`;
    tip.style.top = `${top + window.scrollY}px`;
  }

  plots.addEventListener("pointermove", (event) => {
    pointer = { x: event.clientX, y: event.clientY };
  });
  plots.addEventListener("pointerleave", () => show([]));
  window.addEventListener("scroll", () => show([]), { passive: true });
  return { show };
}
