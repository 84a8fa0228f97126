"use strict";
(() => {
  if (matchMedia("(max-width: 620px)").matches) {
    document.querySelectorAll("details.numbers").forEach((details) => (details.open = false));
  }
  const FADE = 0.012; // seconds: short enough to feel instant, long enough not to click
  const player = document.querySelector(".player");
  if (!player) return;
  document.documentElement.classList.add("js");
  const examples = [...player.querySelectorAll(".example")];
  const shelf = [...player.querySelectorAll(".shelf li button")];
  const chooser = player.querySelector("select");
  const state = { example: 0, version: 0, shown: 0, playing: false, position: 0, startedAt: 0 };
  const decoded = new Map();
  let context = null;
  let sources = [];
  let gains = [];
  let ticket = 0;

  const current = () => examples[state.example];
  const duration = () => Number(current().dataset.seconds);
  const buttons = () => [...current().querySelectorAll(".versions button")];
  const clockText = (seconds) => {
    const tenths = Math.round(seconds * 10);
    return `${Math.floor(tenths / 600)}:${String(Math.floor(tenths / 10) % 60).padStart(2, "0")}.${tenths % 10}`;
  };
  const position = () => {
    if (!state.playing) return state.position;
    return Math.min(Math.max(context.currentTime - state.startedAt, 0), duration());
  };

  function bytes(id) {
    const text = atob(document.getElementById(id).textContent.trim());
    return Uint8Array.from(text, (letter) => letter.charCodeAt(0)).buffer;
  }

  function buffersOf(example) {
    if (!decoded.has(example)) {
      const count = examples[example].querySelectorAll(".versions button").length;
      const all = Array.from({ length: count }, (_, v) => context.decodeAudioData(bytes(`audio-${example}-${v}`)));
      decoded.set(example, Promise.all(all));
      if (decoded.size > 3) decoded.delete([...decoded.keys()].find((key) => key !== example));
    }
    return decoded.get(example);
  }

  // All versions run side by side and only one is audible: switching cannot lose the position.
  function start(buffers) {
    const at = context.currentTime + 0.02;
    const offset = Math.min(state.position, duration());
    sources = [];
    gains = buffers.map((buffer, version) => {
      const source = new AudioBufferSourceNode(context, { buffer });
      const gain = new GainNode(context, { gain: version === state.version ? 1 : 0 });
      source.connect(gain).connect(context.destination);
      source.start(at, offset);
      sources.push(source);
      return gain;
    });
    state.startedAt = at - offset;
    state.playing = true;
    render();
    requestAnimationFrame(follow);
  }

  function stop() {
    ticket += 1;
    state.position = position();
    state.playing = false;
    sources.forEach((source) => source.stop());
    sources = [];
    gains = [];
    render();
  }

  async function play() {
    const mine = (ticket += 1);
    try {
      context = context || new AudioContext();
      await context.resume();
      const buffers = await buffersOf(state.example);
      if (mine !== ticket) return;
      if (state.position >= duration() - 0.05) state.position = 0;
      start(buffers);
    } catch (error) {
      decoded.delete(state.example);
      current().querySelector(".readout").textContent = "This browser cannot decode the embedded audio.";
    }
  }

  const toggle = () => (state.playing ? stop() : play());

  function seek(seconds) {
    const resume = state.playing;
    if (resume) stop();
    state.position = Math.min(Math.max(seconds, 0), duration());
    render();
    if (resume) play();
  }

  function choose(version) {
    const all = buttons();
    if (version < 0 || version >= all.length) return;
    state.version = version;
    if (version > 0) state.shown = version;
    gains.forEach((gain, v) => gain.gain.setTargetAtTime(v === version ? 1 : 0, context.currentTime, FADE / 3));
    if (all.includes(document.activeElement)) all[version].focus();
    render();
  }

  function open(example) {
    if (example < 0 || example >= examples.length || example === state.example) return;
    const resume = state.playing;
    if (resume) stop();
    ticket += 1;
    const focused = shelf.includes(document.activeElement);
    state.example = example;
    state.position = 0;
    state.version = Math.min(state.version, buttons().length - 1);
    state.shown = Math.min(state.shown || Number(current().dataset.shown), buttons().length - 1);
    if (focused) shelf[example].focus();
    render();
    if (resume) play();
  }

  function render() {
    const one = current();
    examples.forEach((example) => example.classList.toggle("current", example === one));
    shelf.forEach((button, i) => button.setAttribute("aria-current", String(i === state.example)));
    chooser.selectedIndex = state.example;
    one.classList.toggle("playing", state.playing);
    one.querySelector(".play").setAttribute("aria-label", state.playing ? "Pause" : "Play");
    buttons().forEach((button, v) => button.setAttribute("aria-pressed", String(v === state.version)));
    one.querySelectorAll(".stage.chosen img").forEach((img, i) => (img.hidden = i + 1 !== state.shown));
    const chosen = one.querySelector(".stage.chosen .chip");
    if (chosen) {
      chosen.textContent = buttons()[state.shown].dataset.label;
      chosen.classList.toggle("heard", state.version > 0);
    }
    one.querySelector(".stage.original .chip").classList.toggle("heard", state.version === 0);
    move();
  }

  function move() {
    const one = current();
    const now = position();
    one.querySelector(".tracks").style.setProperty("--at", String(now / duration()));
    const slider = one.querySelector(".seek");
    slider.value = String(now);
    slider.setAttribute("aria-valuetext", `${now.toFixed(1)} of ${duration().toFixed(1)} seconds`);
    one.querySelector(".clock b").textContent = clockText(now);
  }

  function follow() {
    if (!state.playing) return;
    if (position() >= duration()) {
      stop();
      state.position = 0;
      render();
      return;
    }
    move();
    requestAnimationFrame(follow);
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
    example.querySelector(".play").addEventListener("click", toggle);
    example.querySelectorAll(".versions button").forEach((button, v) => button.addEventListener("click", () => choose(v)));
    example.querySelector(".seek").addEventListener("input", (event) => seek(Number(event.target.value)));
    example.querySelectorAll(".stage").forEach((stage) => {
      stage.addEventListener("pointermove", (event) => describe(stage, event));
      stage.addEventListener("pointerleave", () => (example.querySelector(".readout").textContent = ""));
      stage.addEventListener("click", (event) => {
        const box = stage.getBoundingClientRect();
        seek(((event.clientX - box.left) / box.width) * duration());
      });
    });
  });
  shelf.forEach((button, i) => button.addEventListener("click", () => open(i)));
  chooser.addEventListener("change", () => open(chooser.selectedIndex));
  player.querySelector(".previous").addEventListener("click", () => open(state.example - 1));
  player.querySelector(".next").addEventListener("click", () => open(state.example + 1));

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("select, textarea, input:not(.seek)")) return;
    const pressed = event.target.closest("button, summary, a");
    const slider = event.target.closest(".seek");
    if (/^[1-9]$/.test(event.key)) choose(Number(event.key) - 1);
    else if (event.key === " " && !(pressed && pressed.matches(":not([aria-pressed=true], [aria-current=true])"))) toggle();
    else if (event.key === "ArrowRight" && !slider) open(state.example + 1);
    else if (event.key === "ArrowLeft" && !slider) open(state.example - 1);
    else if (event.key === ",") seek(position() - 1);
    else if (event.key === ".") seek(position() + 1);
    else return;
    event.preventDefault();
  });

  state.shown = Number(current().dataset.shown);
  render();
})();
