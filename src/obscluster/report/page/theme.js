// Light or dark: as the system has it, until somebody chooses.
(() => {
  "use strict";
  const root = document.documentElement;
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const button = document.getElementById("theme");
  let chosen = null;
  try {
    chosen = window.localStorage.getItem("obscluster-theme");
  } catch {
    // A page from disk may be denied a store; the choice then lasts as long as the page.
  }
  function show() {
    const dark = chosen === null ? system.matches : chosen === "dark";
    root.dataset.theme = dark ? "dark" : "light";
    button.textContent = dark ? "Light" : "Dark";
    button.setAttribute("aria-label", `Switch to ${dark ? "light" : "dark"} colours`);
    document.dispatchEvent(new CustomEvent("obscluster:theme"));
  }
  button.hidden = false;
  button.addEventListener("click", () => {
    chosen = root.dataset.theme === "dark" ? "light" : "dark";
    try {
      window.localStorage.setItem("obscluster-theme", chosen);
    } catch {
      // See above.
    }
    show();
  });
  system.addEventListener("change", show);
  show();
})();
