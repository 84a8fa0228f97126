// The codec in its own thread, so that the page stays smooth. Commands come one after the other; each belongs to
// a job, and those of an older job are dropped.
import { Codec, Encoding, cut, decode } from "./codec.js";
import { Analyser } from "./pictures.js";
import { Resampler, mixed } from "./sound.js";

const YIELD = 30; // milliseconds of work after which newer commands are looked for
let codec = null;
let current = 0; // newest job
let newest = 0; // newest request to decode
let running = null; // {job, encoding, analyser, resampler, levels, codes, times}
let queue = Promise.resolve();

const commands = { load, start, push, finish, encode, decode: decodeBooks };

self.onmessage = ({ data }) => {
  current = Math.max(current, data.job);
  newest = Math.max(newest, data.request ?? 0);
  queue = queue.then(async () => {
    if (old(data)) return;
    try {
      await commands[data.command](data);
    } catch (error) {
      if (!(error instanceof Dropped)) tell({ event: "failed", job: data.job, reason: error.message || String(error) });
    }
  });
};

const old = ({ job, request = newest }) => job < current || request < newest;
const tell = (message, transfer = []) => self.postMessage(message, transfer);

class Dropped extends Error {}

// Lets messages in from time to time, and ends what a newer command has overtaken.
function breather(command, reached) {
  let last = performance.now();
  const channel = new MessageChannel();
  return async (...progress) => {
    if (performance.now() - last < YIELD) return;
    reached(...progress);
    await new Promise((resolve) => {
      channel.port1.onmessage = resolve;
      channel.port2.postMessage(0);
    });
    last = performance.now();
    if (old(command)) throw new Dropped();
  };
}

// Fetches everything once; `sizes` are the bytes of each file, for the progress.
async function load({ job, base, sizes }) {
  const total = Object.values(sizes).reduce((sum, size) => sum + size, 0);
  let loaded = 0;
  const bytes = async (name) => {
    const response = await fetch(new URL(name, base)).catch(() => null);
    if (!response?.ok) throw new Error(`${name} is not to be had (${response?.status ?? "no answer"}): is the folder complete?`);
    const pieces = [];
    for (const reader = response.body.getReader(); ; ) {
      const { done, value } = await reader.read();
      if (done) break;
      pieces.push(value);
      loaded += value.length;
      tell({ event: "loading", job, loaded, total });
    }
    return new Uint8Array(await new Blob(pieces).arrayBuffer());
  };
  const json = async (name) => JSON.parse(new TextDecoder().decode(await bytes(name)));
  const ort = await import(new URL("onnxruntime/ort.wasm.min.mjs", base).href);
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = new URL("onnxruntime/", base).href;
  ort.env.wasm.wasmBinary = (await bytes("onnxruntime/ort-wasm-simd-threaded.wasm")).buffer;
  const [config, graphs] = [await json("model/config.json"), await json("model/graphs.json")];
  const names = Codec.fileNames(graphs);
  const files = new Map(await Promise.all(names.map(async (name) => [name, await bytes(`model/${name}`)])));
  tell({ event: "loading", job, loaded: total, total });
  codec = new Codec(ort, config, graphs, files);
  await codec.prepare();
  const { spec, streams, streaming } = codec;
  tell({ event: "loaded", job, spec, streams, streaming, hop: graphs.hop, fingerprint: graphs.fingerprint });
}

// Begins a recording that comes in pieces of another rate.
function start({ job, rate }) {
  const found = { job, levels: [], codes: empty(), times: [], analyser: new Analyser(codec.spec.sample_rate), heard: [] };
  found.resampler = rate ? new Resampler(rate, codec.spec.sample_rate) : null;
  found.encoding = new Encoding(codec, (codes, milliseconds) => {
    for (const [name, books] of Object.entries(codes)) books.forEach((row, book) => found.codes[name][book].push(...row));
    found.times.push(milliseconds);
    return found.paused?.();
  });
  running = found;
}

const empty = () => Object.fromEntries(codec.streams.map(({ name, sizes }) => [name, sizes.map(() => [])]));

// Samples of the microphone; `sent` is the time at which they were there, in milliseconds since 1970.
async function push({ job, samples, sent }) {
  const piece = running.resampler.push(samples);
  running.heard.push(piece);
  await take(mixed([piece], codec.spec.channels));
  flush(job, sent);
}

async function finish({ job }) {
  const piece = running.resampler.finish();
  running.heard.push(piece);
  await take(mixed([piece], codec.spec.channels));
  const length = running.heard.reduce((sum, { length }) => sum + length, 0);
  const row = new Float32Array(length);
  running.heard.reduce((at, samples) => (row.set(samples, at), at + samples.length), 0);
  await end(job, mixed([row], codec.spec.channels));
}

// A whole recording at the codec's rate.
async function encode({ job, rows }) {
  start({ job });
  const length = rows[0].length;
  running.paused = breather({ job }, () => flush(job, null, length));
  const piece = codec.spec.sample_rate;
  for (let at = 0; at < length; at += piece) await take(cut(rows, at, at + piece));
  await end(job, rows);
}

async function take(rows) {
  if (!rows[0].length) return;
  running.levels.push(...running.analyser.push(rows[0]));
  await running.encoding.push(rows);
}

async function end(job, rows) {
  if (rows[0].length < 1) throw new Error("There is no sound in it.");
  await running.encoding.finish();
  running.levels.push(...running.analyser.finish());
  flush(job);
  tell({ event: "encoded", job, codes: running.encoding.codes, samples: rows[0].length, rows });
}

// Sends what is new to the page.
function flush(job, sent = null, total = null) {
  const { levels, codes, times, encoding } = running;
  tell({ event: "codes", job, levels: Uint8Array.from(levels), codes, times, sent, total, samples: encoding.samples });
  Object.assign(running, { levels: [], codes: empty(), times: [] });
}

async function decodeBooks({ job, books, request }) {
  const { codes, samples } = running.encoding;
  const paused = breather({ job, request }, (done, all) => tell({ event: "decoding", job, request, done, all }));
  const made = await decode(codec, codes, samples, books, paused);
  tell({ event: "decoded", job, request, books, ...made });
}
