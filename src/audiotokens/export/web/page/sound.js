// Sound as arrays of channels: WAV files read and written, rates changed, versions played.

// Reads a WAV file sample by sample, so that it gives the numbers that Python reads; null: it is something else.
export function readWav(buffer) {
  const view = new DataView(buffer);
  const word = (at) => (at + 4 <= view.byteLength ? String.fromCharCode(...new Uint8Array(buffer, at, 4)) : "");
  if (word(0) !== "RIFF" || word(8) !== "WAVE") return null;
  let format = null;
  for (let at = 12; at + 8 <= view.byteLength; ) {
    const size = view.getUint32(at + 4, true);
    if (word(at) === "fmt " && size >= 16) format = wavFormat(view, at + 8, size);
    if (word(at) === "data") {
      const read = format && READERS[`${format.kind} ${format.bits}`];
      return read ? wavSamples(view, at + 8, size, format, read) : null;
    }
    at += 8 + size + (size % 2);
  }
  return null;
}

const READERS = {
  "1 8": (view, at) => (view.getUint8(at) - 128) / 128,
  "1 16": (view, at) => view.getInt16(at, true) / 32768,
  "1 24": (view, at) => (view.getUint16(at, true) + view.getInt8(at + 2) * 65536) / 8388608,
  "1 32": (view, at) => view.getInt32(at, true) / 2147483648,
  "3 32": (view, at) => view.getFloat32(at, true),
  "3 64": (view, at) => view.getFloat64(at, true),
};

function wavFormat(view, at, size) {
  const kind = view.getUint16(at, true);
  // 0xFFFE: the kind is the beginning of a longer name.
  return {
    kind: kind === 0xfffe && size >= 40 ? view.getUint16(at + 24, true) : kind,
    channels: view.getUint16(at + 2, true),
    rate: view.getUint32(at + 4, true),
    bits: view.getUint16(at + 14, true),
  };
}

function wavSamples(view, begin, size, { channels, rate, bits }, read) {
  const bytes = bits / 8;
  const length = Math.floor(Math.min(size, view.byteLength - begin) / (bytes * channels));
  const rows = Array.from({ length: channels }, () => new Float32Array(length));
  rows.forEach((row, channel) => {
    for (let i = 0; i < length; i++) row[i] = read(view, begin + (i * channels + channel) * bytes);
  });
  return { rate, rows };
}

// A WAV file of 16 bits.
export function writeWav(rows, rate) {
  const view = new DataView(new ArrayBuffer(44 + 2 * rows.length * rows[0].length));
  const words = { 0: "RIFF", 8: "WAVE", 12: "fmt ", 36: "data" };
  for (const [at, text] of Object.entries(words)) [...text].forEach((letter, i) => view.setUint8(Number(at) + i, letter.charCodeAt(0)));
  view.setUint32(4, view.byteLength - 8, true);
  view.setUint32(16, 16, true);
  [1, rows.length].forEach((value, i) => view.setUint16(20 + 2 * i, value, true));
  [rate, 2 * rows.length * rate].forEach((value, i) => view.setUint32(24 + 4 * i, value, true));
  [2 * rows.length, 16].forEach((value, i) => view.setUint16(32 + 2 * i, value, true));
  view.setUint32(40, view.byteLength - 44, true);
  rows.forEach((row, channel) =>
    row.forEach((sample, i) => view.setInt16(44 + 2 * (i * rows.length + channel), Math.round(Math.max(-32768, Math.min(32767, sample * 32768))), true)),
  );
  return view.buffer;
}

// The sound of a file at a rate: WAV of this rate as it is, anything else as the browser decodes it.
export async function readSound(buffer, rate, channels) {
  const wav = readWav(buffer);
  if (wav && wav.rate === rate) return mixed(wav.rows, channels);
  let decoded;
  try {
    decoded = await new OfflineAudioContext(1, 1, rate).decodeAudioData(buffer.slice(0));
  } catch (error) {
    throw new Error("This browser cannot decode the file; WAV, MP3, FLAC and M4A usually work.");
  }
  return mixed(Array.from({ length: decoded.numberOfChannels }, (_, channel) => decoded.getChannelData(channel)), channels);
}

// The mean makes mono, mono is repeated, and of more channels the first ones are taken.
export function mixed(rows, channels) {
  if (rows.length === channels) return rows;
  if (channels === 1) return [rows[0].map((_, i) => rows.reduce((sum, row) => sum + row[i], 0) / rows.length)];
  return Array.from({ length: channels }, (_, channel) => rows[Math.min(channel, rows.length - 1)]);
}

// Changes the rate of sound that comes in pieces, by a windowed sinc of 24 zero crossings on each side:
//
//     y[m] = sum_n x[n] c h(c (m a / b - n)),   h(t) = sinc(t) cos^2(pi t / 48),   c = 0.95 min(1, b / a)
//
// for the rates a and b. The fractional part of m a / b takes few values, so each filter is made once.
export class Resampler {
  constructor(from, to) {
    const divisor = common(from, to);
    this.up = to / divisor;
    this.down = from / divisor;
    this.cutoff = 0.95 * Math.min(1, to / from);
    this.reach = Math.ceil(24 / this.cutoff);
    this.filters = new Map();
    this.kept = new Float32Array(this.reach);
    this.before = -this.reach; // number of the first kept sample
    this.received = 0;
    this.returned = 0;
  }

  push(samples) {
    if (this.up === this.down) return samples;
    this.received += samples.length;
    return this.#made(samples, Math.floor(((this.received - this.reach - 1) * this.up) / this.down));
  }

  finish() {
    if (this.up === this.down) return new Float32Array(0);
    return this.#made(new Float32Array(this.reach + 1), Math.ceil((this.received * this.up) / this.down));
  }

  // Appends samples, and gives the results up to the one of number `end`.
  #made(samples, end) {
    const kept = new Float32Array(this.kept.length + samples.length);
    kept.set(this.kept);
    kept.set(samples, this.kept.length);
    const result = new Float32Array(Math.max(end - this.returned, 0));
    for (let i = 0; i < result.length; i++, this.returned++) {
      const whole = Math.floor((this.returned * this.down) / this.up);
      const filter = this.#filter((this.returned * this.down) % this.up);
      const first = whole - this.reach + 1 - this.before;
      let sum = 0;
      for (let k = 0; k < filter.length; k++) sum += filter[k] * kept[first + k];
      result[i] = sum;
    }
    const start = Math.max(Math.floor((this.returned * this.down) / this.up) - this.reach - this.before, 0);
    this.kept = kept.slice(start);
    this.before += start;
    return result;
  }

  #filter(phase) {
    if (!this.filters.has(phase)) {
      const taps = Float64Array.from({ length: 2 * this.reach }, (_, k) => {
        const time = this.cutoff * (phase / this.up - (k - this.reach + 1));
        if (Math.abs(time) >= 24) return 0;
        return (time ? Math.sin(Math.PI * time) / (Math.PI * time) : 1) * Math.cos((Math.PI * time) / 48) ** 2 * this.cutoff;
      });
      this.filters.set(phase, taps);
    }
    return this.filters.get(phase);
  }
}

const common = (a, b) => (b ? common(b, a % b) : a);

// Plays one of several versions of a recording; all of them run side by side, so that switching keeps the position.
export class Player {
  static FADE = 0.012; // seconds: short enough to feel instant, long enough not to click

  constructor(context, changed) {
    Object.assign(this, { context, changed, versions: {}, version: "reconstruction", running: {}, playing: false, at: 0, startedAt: 0, seconds: 0 });
  }

  clear() {
    this.stop();
    Object.assign(this, { versions: {}, at: 0, seconds: 0 });
  }

  // A version that changes while it sounds is replaced in place.
  set(name, rows, rate) {
    const buffer = new AudioBuffer({ numberOfChannels: rows.length, length: Math.max(rows[0].length, 1), sampleRate: rate });
    rows.forEach((row, channel) => buffer.copyToChannel(row, channel));
    this.versions[name] = buffer;
    if (name === "original") this.seconds = rows[0].length / rate;
    if (this.playing) this.#run(name, this.context.currentTime + 0.02);
  }

  choose(name) {
    this.version = name;
    for (const [other, { gain }] of Object.entries(this.running)) {
      gain.gain.setTargetAtTime(other === name ? 1 : 0, this.context.currentTime, Player.FADE / 3);
    }
    this.changed();
  }

  position() {
    return this.playing ? Math.min(Math.max(this.context.currentTime - this.startedAt, 0), this.seconds) : this.at;
  }

  async play() {
    await this.context.resume();
    if (this.playing) return;
    if (this.at >= this.seconds - 0.05) this.at = 0;
    const begin = this.context.currentTime + 0.02;
    this.startedAt = begin - this.at;
    this.playing = true;
    Object.keys(this.versions).forEach((name) => this.#run(name, begin));
    this.changed();
  }

  stop() {
    this.at = this.position();
    this.playing = false;
    Object.values(this.running).forEach(({ source }) => source.stop());
    this.running = {};
    this.changed();
  }

  seek(seconds) {
    const resume = this.playing;
    if (resume) this.stop();
    this.at = Math.min(Math.max(seconds, 0), this.seconds);
    if (resume) this.play();
    this.changed();
  }

  #run(name, begin) {
    this.running[name]?.source.stop(begin);
    const source = new AudioBufferSourceNode(this.context, { buffer: this.versions[name] });
    const gain = new GainNode(this.context, { gain: name === this.version ? 1 : 0 });
    source.connect(gain).connect(this.context.destination);
    source.start(begin, begin - this.startedAt);
    this.running[name] = { source, gain };
  }
}
