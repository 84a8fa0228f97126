// The page: it takes sound, hands it to the worker, and shows and plays what comes back.
import { Pictures, frequencyTicks } from "./pictures.js";
import { Player, readSound, writeWav } from "./sound.js";

const LONGEST = 600; // seconds of one recording
const SIGHT = 6; // seconds in sight while a recording goes on
const RECENT = 50; // steps whose mean time is shown
const OVERTAKEN = "Another recording came in its place.";
const find = (id) => document.getElementById(id);
const base = new URL(".", location.href);
let job = 0;
let request = 0;
let codec = null; // facts of the loaded tokenizer
let incoming = null; // of the recording that comes in: {name, times, computing}
let recording = null; // of the one that is whole: that, and {codes, samples, rows, reconstruction}
let microphone = null;
let pictures = null;
let player = null;
let settings = null; // of page.json
const waiting = new Map(); // "job event" or "request event" -> {resolve, reject}

// A worker made of a blob stands under this page's policy; one made of an address does not, and is the way out where
// a browser refuses the former.
const address = new URL("worker.js", base).href;
const blob = URL.createObjectURL(new Blob([`import ${JSON.stringify(address)};`], { type: "text/javascript" }));
let worker = null;

function begin(address, otherwise) {
  const broken = (error) => failed({ reason: error.message || "The worker did not start." });
  worker = new Worker(address, { type: "module" });
  worker.onmessage = ({ data }) => {
    worker.onerror = broken;
    if (data.job === job) events[data.event](data);
  };
  worker.onerror = otherwise ?? broken;
  send("load", { base: base.href, sizes: settings.sizes });
}

const send = (command, more = {}, transfer = []) => worker.postMessage({ command, job, ...more }, transfer);
const promised = (key) => new Promise((resolve, reject) => waiting.set(key, { resolve, reject }));
const settle = (key, how, value) => {
  waiting.get(key)?.[how](value);
  waiting.delete(key);
};

function state(name, text, progress = null) {
  document.body.dataset.state = name;
  document.body.classList.toggle("error", name === "error");
  document.body.classList.toggle("busy", progress !== null);
  find("progress").value = progress ?? 0;
  if (find("status").textContent !== text) find("status").textContent = text;
  const live = name === "recording";
  ["open", "sample"].forEach((id) => (find(id).disabled = !codec || live));
  find("record").disabled = !codec;
  find("record").querySelector(".word").textContent = live ? "Stop" : "Record";
  ["play", "seek", "original", "save-tokens"].forEach((id) => (find(id).disabled = !recording));
  ["reconstruction", "save-sound"].forEach((id) => (find(id).disabled = !recording?.reconstruction));
}

function failed({ reason, job: number }) {
  settle(`job ${number}`, "reject", new Error(reason));
  state("error", reason);
}

const events = {
  loading: ({ loaded, total }) => state("loading", `Loading ${(loaded / 1e6).toFixed(1)} of ${(total / 1e6).toFixed(1)} MB, once`, loaded / total),
  loaded: ready,
  codes: show,
  encoded: finished,
  decoding: ({ done, all, request: number }) => number === request && state("working", "Decoding", done / all),
  decoded,
  failed,
};

async function load() {
  const reply = await fetch(new URL("page.json", base));
  settings = await reply.json();
  begin(blob, () => begin(address));
}

function ready(facts) {
  codec = facts;
  const rows = codec.streams.flatMap(({ name, sizes, rate }) => sizes.map((size, book) => ({ stream: name, book, size, rate })));
  const colours = Uint8Array.from(settings.colours.match(/../g), (pair) => parseInt(pair, 16));
  document.documentElement.style.setProperty("--rows", rows.length);
  pictures = new Pictures(find("spectrogram"), find("codes"), colours, rows, codec.spec.sample_rate);
  const rate = find("rate");
  rate.max = codec.spec.legal_prefixes.length - 1;
  rate.value = rate.max;
  rate.disabled = false;
  ticks(find("frequencies"), frequencyTicks(codec.spec.sample_rate).map(([f, share]) => [f < 1000 ? "0.5" : `${f / 1000}${f * 2 >= codec.spec.sample_rate ? " kHz" : ""}`, share]), "bottom");
  ticks(find("books"), rows.map((_, row) => [rows.length <= 16 || row % 4 === 3 ? row + 1 : "", (row + 0.5) / rows.length]), "bottom");
  chosen();
  counters();
  state("ready", codec.streaming ? "Ready. A file can also be dropped here." : "Ready. This tokenizer reads whole recordings: tokens come when a recording ends.");
  settle("ready", "resolve");
  requestAnimationFrame(frame);
}

function ticks(place, labels, side) {
  const made = labels.map(([text, share]) => {
    const label = document.createElement("span");
    label.textContent = text;
    label.style[side] = `${100 * share}%`;
    return label;
  });
  place.replaceChildren(...made);
}

const books = () => codec.spec.legal_prefixes[Number(find("rate").value)];
const kilobits = () => pictures.rows.slice(0, books()).reduce((sum, { size, rate }) => sum + Math.log2(size) * rate, 0) / 1000;
const clock = (seconds) => {
  const tenths = Math.round(seconds * 10);
  return `${Math.floor(tenths / 600)}:${String(Math.floor(tenths / 10) % 60).padStart(2, "0")}.${tenths % 10}`;
};

function chosen() {
  find("chosen").textContent = `${books()} of ${pictures.rows.length} books: ${kilobits().toFixed(2)} kbit/s`;
  find("bitrate").textContent = kilobits().toFixed(1);
  find("used").textContent = `${books()} ${books() === 1 ? "book" : "books"} of codes`;
}

// What the counters say of the recording so far; `computing` are milliseconds from the microphone's samples to their
// codes, `times` and `decoding` those of the steps.
function counters(samples = 0, { times, computing } = { times: [], computing: null }, decoding = []) {
  const { sample_rate: rate, lookahead } = codec.spec;
  const budget = (1000 * codec.hop) / rate;
  const mean = (values) => {
    const recent = values.slice(1).slice(-RECENT); // the first step finds nothing prepared
    return recent.reduce((sum, value) => sum + value, 0) / recent.length;
  };
  find("frames").textContent = Math.max(0, ...pictures.rows.map(({ stream, book }) => pictures.tokens[stream][book].length));
  find("length").textContent = samples ? `in ${(samples / rate).toFixed(1)} s of sound` : "no sound yet";
  find("step").textContent = times.length > 1 && codec.streaming ? mean(times).toFixed(1) : "–";
  find("budget").textContent = `of ${budget.toFixed(0)} ms to encode${decoding.length > 1 ? `; ${mean(decoding).toFixed(1)} ms to decode` : ""}`;
  const waits = (1000 * (codec.hop + lookahead)) / rate;
  find("latency").textContent = codec.streaming ? (waits + (computing ?? 0)).toFixed(0) : "–";
  find("waits").textContent = `${waits.toFixed(0)} ms of sound${computing === null ? "" : `, ${computing.toFixed(0)} ms of computing`}`;
}

// A new recording: what belongs to the old one is dropped, in the worker too.
function fresh(name) {
  settle(`job ${job}`, "reject", new Error(OVERTAKEN));
  job += 1;
  recording = null;
  player ??= new Player(new AudioContext(), moved);
  player.clear();
  pictures.clear();
  incoming = { name, times: [], computing: null };
  find("heard").textContent = name;
  counters();
  moved();
}

function show({ levels, codes, times, sent, total, samples }) {
  pictures.add(levels, codes);
  incoming.times.push(...times);
  if (sent && times.length) {
    const took = Date.now() - sent;
    incoming.computing = (incoming.computing ?? took) + 0.1 * (took - (incoming.computing ?? took));
  }
  const seconds = samples / codec.spec.sample_rate;
  if (total) pictures.show(0, total / codec.spec.sample_rate);
  else if (microphone) pictures.show(Math.max(seconds - SIGHT, 0), Math.max(seconds, SIGHT));
  counters(samples, incoming);
  if (total) state("working", "Encoding", samples / total);
}

function finished({ codes, samples, rows }) {
  recording = { ...incoming, codes, samples, rows, reconstruction: null };
  pictures.show(0, samples / codec.spec.sample_rate);
  player.set("original", rows, codec.spec.sample_rate);
  counters(samples, recording);
  find("seek").max = player.seconds;
  decode();
  moved();
  settle(`job ${job}`, "resolve", tokens());
}

function decode() {
  request += 1;
  recording.reconstruction = null;
  state("working", "Decoding", 0);
  send("decode", { books: books(), request });
}

function decoded({ rows, times: spent, books: used, request: number }) {
  if (number !== request) return;
  recording.reconstruction = rows;
  player.set("reconstruction", rows, codec.spec.output_sample_rate);
  counters(recording.samples, recording, spent);
  state("done", `${recording.name}: ${(recording.samples / codec.spec.sample_rate).toFixed(1)} s`);
  settle(`decode ${used}`, "resolve", rows);
}

// The codes of the chosen books, as they are saved.
function tokens() {
  let left = books();
  const streams = codec.streams.map(({ name, sizes }, index) => {
    const count = Math.min(sizes.length, left);
    left -= count;
    const { frame_rate } = codec.spec.streams[index];
    return [name, { frame_rate, codebook_sizes: sizes.slice(0, count), codes: recording.codes[name].slice(0, count) }];
  });
  return {
    format: "audiotokens codes 1",
    tokenizer: codec.spec.name,
    fingerprint: codec.fingerprint,
    sample_rate: codec.spec.sample_rate,
    channels: codec.spec.channels,
    num_samples: recording.samples,
    streams: Object.fromEntries(streams.filter(([, { codes }]) => codes.length)),
  };
}

// Takes a file; resolves to its tokens. What cannot be read leaves the recording before it as it is.
async function encodeFile(buffer, name = "file") {
  await window.audiotokens.ready;
  state("working", "Reading the file", 0);
  try {
    const rows = await readSound(buffer, codec.spec.sample_rate, codec.spec.channels);
    const seconds = rows[0].length / codec.spec.sample_rate;
    if (seconds > LONGEST) throw new Error(`${name} has ${(seconds / 60).toFixed(1)} minutes; at most ${LONGEST / 60} are taken here.`);
    if (!seconds) throw new Error(`There is no sound in ${name}.`);
    fresh(name);
    const result = promised(`job ${job}`);
    send("encode", { rows });
    return await result;
  } catch (error) {
    if (error.message !== OVERTAKEN) state("error", error.message);
    throw error;
  }
}

const took = (blob, name) => blob.arrayBuffer().then((buffer) => encodeFile(buffer, name)).catch(() => {});

async function record() {
  find("record").disabled = true;
  try {
    if (!navigator.mediaDevices) throw new Error("Recording needs https or localhost.");
    const constraints = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    const stream = await navigator.mediaDevices.getUserMedia({ audio: constraints });
    fresh("Recording");
    const { context } = player;
    await context.resume();
    await context.audioWorklet.addModule(new URL("recorder.js", base));
    const node = new AudioWorkletNode(context, "recorder", { numberOfOutputs: 0 });
    const source = new MediaStreamAudioSourceNode(context, { mediaStream: stream });
    microphone = { stream, node, source, timer: setTimeout(stop, LONGEST * 1000) };
    send("start", { rate: context.sampleRate });
    node.port.onmessage = ({ data }) => microphone && send("push", { samples: data, sent: Date.now() }, [data.buffer]);
    source.connect(node);
    state("recording", codec.streaming ? "Listening" : "Listening; the tokens come when you stop");
  } catch (error) {
    const known = { NotAllowedError: "The browser did not allow the microphone.", NotFoundError: "There is no microphone." };
    state("error", known[error.name] ?? error.message);
  }
}

async function stop() {
  const { stream, node, source, timer } = microphone;
  microphone = null;
  clearTimeout(timer);
  source.disconnect();
  node.port.onmessage = null;
  stream.getTracks().forEach((track) => track.stop());
  state("working", "Encoding", 0);
  const result = promised(`job ${job}`);
  send("finish");
  return result.catch(() => {});
}

function moved() {
  document.body.classList.toggle("playing", player.playing);
  find("play").setAttribute("aria-label", player.playing ? "Pause" : "Play");
  ["original", "reconstruction"].forEach((name) => find(name).setAttribute("aria-pressed", String(player.version === name)));
  find("of").textContent = clock(player.seconds);
  place();
}

function place() {
  const seconds = player?.position() ?? 0;
  find("at").textContent = clock(seconds);
  find("seek").value = seconds;
  find("seek").setAttribute("aria-valuetext", `${seconds.toFixed(1)} seconds`);
  const share = (seconds - pictures.from) / (pictures.to - pictures.from);
  for (const head of document.querySelectorAll(".head")) {
    head.hidden = !recording;
    head.style.left = `${100 * Math.min(Math.max(share, 0), 1)}%`;
  }
}

// Once for every picture of the screen.
function frame() {
  const key = `${pictures.from} ${pictures.to}`;
  if (find("times").dataset.key !== key) {
    const step = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100].find((size) => (pictures.to - pictures.from) / size <= 8) ?? 200;
    const labels = [];
    for (let n = Math.ceil(pictures.from / step - 1e-9); n * step <= pictures.to - 0.02 * (pictures.to - pictures.from); n++) {
      labels.push([`${Number((n * step).toFixed(1))} s`, (n * step - pictures.from) / (pictures.to - pictures.from)]);
    }
    ticks(find("times"), labels, "left");
    find("times").dataset.key = key;
  }
  pictures.draw(books());
  if (player?.playing) {
    if (player.position() >= player.seconds) {
      player.stop();
      player.seek(0);
    } else place();
  }
  requestAnimationFrame(frame);
}

function point(event) {
  const { left, top, width, height } = find("stage").getBoundingClientRect();
  const seconds = pictures.from + ((event.clientX - left) / width) * (pictures.to - pictures.from);
  const row = Math.floor((1 - (event.clientY - top) / height) * pictures.rows.length);
  const code = pictures.rows[row] && pictures.codeAt(seconds, row);
  if (code === undefined) return (find("readout").textContent = "point at a cell to read its code");
  const { stream, book, size, rate } = pictures.rows[row];
  const name = codec.streams.length > 1 ? `${stream}, book ${book + 1}` : `book ${book + 1}`;
  find("readout").textContent = `${seconds.toFixed(2)} s · frame ${Math.floor(seconds * rate)} · ${name} · code ${code} of ${size}`;
}

function save(content, type, ending) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type }));
  link.download = `${recording.name.replace(/\.[^.]*$/, "")}.${ending}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

function listen() {
  find("record").onclick = () => (microphone ? stop() : record());
  find("open").onclick = () => find("file").click();
  find("file").onchange = ({ target }) => {
    if (target.files[0]) took(target.files[0], target.files[0].name);
    target.value = "";
  };
  find("sample").onclick = async () => took(await (await fetch(new URL("sample.wav", base))).blob(), "Sample");
  find("play").onclick = () => (player.playing ? player.stop() : player.play());
  find("seek").oninput = ({ target }) => player.seek(Number(target.value));
  ["original", "reconstruction"].forEach((name) => (find(name).onclick = () => player.choose(name)));
  find("rate").oninput = chosen;
  find("rate").onchange = () => recording && decode();
  find("save-tokens").onclick = () => save(JSON.stringify(tokens()), "application/json", "tokens.json");
  find("save-sound").onclick = () => save(writeWav(recording.reconstruction, codec.spec.output_sample_rate), "audio/wav", "reconstruction.wav");
  ["pointermove", "pointerdown"].forEach((name) => find("stage").addEventListener(name, point));
  addEventListener("resize", () => (pictures ? pictures.show(pictures.from, pictures.to) : null));
  addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("over");
  });
  addEventListener("dragleave", () => document.body.classList.remove("over"));
  addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("over");
    const [file] = event.dataTransfer.files;
    if (file && codec && !microphone) took(file, file.name);
  });
}

// For tests and for other scripts on this page: `ready`, then `encodeFile(arrayBuffer)` gives the tokens of a sound
// file, and `decode(books)` the samples of the last one.
window.audiotokens = {
  ready: promised("ready"),
  encodeFile,
  decode: async (count) => {
    find("rate").value = codec.spec.legal_prefixes.indexOf(count);
    chosen();
    const result = promised(`decode ${count}`);
    decode();
    return result;
  },
  last: () => recording && tokens(),
};

listen();
load().catch((error) => failed({ reason: `The page did not load: ${error.message}` }));
