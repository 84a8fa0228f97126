"use strict";
// The players of the report: recordings on a shelf, versions of each, pictures to point at.
(() => {
  const player = document.querySelector(".player");
  if (!player) return;
  const examples = [...player.querySelectorAll(".example")];
  const shelf = [...player.querySelectorAll(".shelf li button")];
  const chooser = player.querySelector("select");
  const state = { example: 0, shown: 0, before: 0 };
  const deck = new Deck(render);
  deck.follow(move);

  const current = () => examples[state.example];
  const duration = () => Number(current().dataset.seconds);
  const buttons = () => [...current().querySelectorAll(".versions button")];

  function choose(version) {
    const all = buttons();
    if (version < 0 || version >= all.length || version === deck.version) return;
    state.before = deck.version;
    if (version > 0) state.shown = version;
    if (all.includes(document.activeElement)) all[version].focus();
    deck.choose(version);
  }

  function open(example) {
    if (example < 0 || example >= examples.length || (example === state.example && deck.ids.length)) return;
    const focused = shelf.includes(document.activeElement);
    state.example = example;
    const last = buttons().length - 1;
    state.shown = Math.min(state.shown || Number(current().dataset.shown), last);
    state.before = Math.min(state.before, last);
    if (focused) shelf[example].focus();
    const ids = buttons().map((_, v) => `audio-${example}-${v}`);
    deck.load(ids, duration(), Math.min(deck.version, last));
  }

  function render() {
    const one = current();
    examples.forEach((example) => example.classList.toggle("current", example === one));
    shelf.forEach((button, i) => button.setAttribute("aria-current", String(i === state.example)));
    chooser.selectedIndex = state.example;
    one.classList.toggle("playing", deck.playing);
    one.querySelector(".play").setAttribute("aria-label", deck.playing ? "Pause" : "Play");
    buttons().forEach((button, v) => button.setAttribute("aria-pressed", String(v === deck.version)));
    one.querySelectorAll(".stage.chosen img").forEach((img, i) => (img.hidden = i + 1 !== state.shown));
    const chosen = one.querySelector(".stage.chosen .chip");
    if (chosen) {
      chosen.textContent = buttons()[state.shown].dataset.label;
      chosen.classList.toggle("heard", deck.version > 0);
    }
    one.querySelector(".stage.original .chip").classList.toggle("heard", deck.version === 0);
    if (deck.failed) one.querySelector(".readout").textContent = "This browser cannot decode the embedded audio.";
    move();
  }

  function move() {
    const one = current();
    const now = deck.position();
    one.querySelector(".tracks").style.setProperty("--at", String(now / duration()));
    const slider = one.querySelector(".seek");
    slider.value = String(now);
    slider.setAttribute("aria-valuetext", `${now.toFixed(1)} of ${duration().toFixed(1)} seconds`);
    one.querySelector(".clock b").textContent = Deck.clock(now);
  }

  function describe(stage, event) {
    const box = stage.getBoundingClientRect();
    const x = Math.min(Math.max((event.clientX - box.left) / box.width, 0), 0.9999);
    const y = Math.min(Math.max(1 - (event.clientY - box.top) / box.height, 0), 0.9999);
    const parts = [`${(x * duration()).toFixed(2)} s`];
    if (stage.classList.contains("codes")) {
      const grid = gridOf(state.example);
      const row = Math.floor(y * grid.labels.length);
      const code = grid.values[row][Math.floor(x * grid.values[row].length)];
      parts.push(`book ${grid.labels[row]}`, code < 0 ? "no frame" : `code ${code} of ${grid.sizes[row]}`);
    } else {
      const nyquist = Number(current().dataset.rate) / 2;
      const hertz = 600 * Math.sinh(y * Math.asinh(nyquist / 600));
      parts.push(hertz < 1000 ? `${Math.round(hertz / 10) * 10} Hz` : `${(hertz / 1000).toFixed(1)} kHz`);
    }
    current().querySelector(".readout").textContent = parts.join(" · ");
  }

  const grids = new Map();
  function gridOf(example) {
    if (!grids.has(example)) grids.set(example, JSON.parse(document.getElementById(`codes-${example}`).textContent));
    return grids.get(example);
  }

  examples.forEach((example) => {
    example.querySelector(".play").addEventListener("click", () => deck.toggle());
    example.querySelectorAll(".versions button").forEach((button, v) => button.addEventListener("click", () => choose(v)));
    example.querySelector(".seek").addEventListener("input", (event) => deck.seek(Number(event.target.value)));
    example.querySelectorAll(".stage").forEach((stage) => {
      stage.addEventListener("pointermove", (event) => describe(stage, event));
      stage.addEventListener("pointerleave", () => (example.querySelector(".readout").textContent = ""));
      stage.addEventListener("click", (event) => {
        const box = stage.getBoundingClientRect();
        deck.seek(((event.clientX - box.left) / box.width) * duration());
      });
    });
  });
  shelf.forEach((button, i) => button.addEventListener("click", () => open(i)));
  chooser.addEventListener("change", () => open(chooser.selectedIndex));
  player.querySelector(".previous").addEventListener("click", () => open(state.example - 1));
  player.querySelector(".next").addEventListener("click", () => open(state.example + 1));

  const keys = {
    ArrowRight: () => open(state.example + 1),
    ArrowLeft: () => open(state.example - 1),
    j: () => choose(deck.version + 1),
    k: () => choose(deck.version - 1),
    b: () => choose(state.before),
    ",": () => deck.seek(deck.position() - 1),
    ".": () => deck.seek(deck.position() + 1),
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("select, textarea, input:not(.seek), .table, [role=tab]")) return;
    const pressed = event.target.closest("button, summary, a");
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (/^[1-9]$/.test(key)) choose(Number(key) - 1);
    else if (key === " " && !(pressed && pressed.matches(":not([aria-pressed=true], [aria-current=true])"))) deck.toggle();
    else if (keys[key] && !(key.startsWith("Arrow") && event.target.closest(".seek"))) keys[key]();
    else return;
    event.preventDefault();
  });

  state.shown = Number(current().dataset.shown);
  open(0);
})();
