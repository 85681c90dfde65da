// Numbers, hours and dates as text.
"use strict";

const obsclusterText = (() => {
  const plural = (n, word) => `${n.toLocaleString("en").replaceAll(",", " ")} ${word}${n === 1 ? "" : "s"}`;
  function time(hours) {
    return hours >= 0.95 || hours === 0 ? `${hours.toFixed(1)} h` : `${(60 * hours).toFixed(0)} min`;
  }
  function number(value) {
    if (!Number.isFinite(value)) return "–";
    const size = Math.abs(value);
    if (size !== 0 && (size >= 1e5 || size < 1e-3)) return value.toExponential(3).replace("e+", "e");
    return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(4)));
  }
  function percent(part) {
    const value = 100 * part;
    return value < 0.05 ? "less than 0.1 %" : `${value < 10 ? value.toFixed(1) : value.toFixed(0)} %`;
  }
  function date(ms) {
    return Number.isFinite(ms) ? new Date(ms).toISOString().slice(0, 16).replace("T", " ") : "–";
  }
  return { plural, time, number, percent, date };
})();
