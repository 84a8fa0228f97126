// The two pictures over one time axis: spectrogram and codes.

export const BANDS = 96;
const CORNER = 600; // Hz: the frequency axis is asinh(f / CORNER)
const RANGE = 75; // decibels from the darkest colour to the lightest
const HALF_DECIBELS = 2;
const FLOOR = -120; // decibels: level 0

const height = (frequency, rate) => Math.asinh(frequency / CORNER) / Math.asinh(rate / 2 / CORNER);

// Band levels of sound that comes in pieces: one column each 10 ms, in half decibels above FLOOR.
export class Analyser {
  constructor(rate) {
    this.size = 2 ** Math.round(Math.log2(0.032 * rate));
    this.hop = Math.round(rate / 100);
    this.window = Float64Array.from({ length: this.size }, (_, n) => 0.5 - 0.5 * Math.cos((2 * Math.PI * (n + 1)) / (this.size + 1)));
    this.scale = 1 / this.window.reduce((sum, value) => sum + value, 0);
    this.bands = bandWeights(this.size, rate);
    this.kept = new Float32Array(this.size / 2); // the first column is centred on the first sample
  }

  // Columns of BANDS bytes, one after the other.
  push(samples) {
    const all = new Float32Array(this.kept.length + samples.length);
    all.set(this.kept);
    all.set(samples, this.kept.length);
    const columns = Math.max(Math.floor((all.length - this.size) / this.hop) + 1, 0);
    const levels = new Uint8Array(columns * BANDS);
    for (let column = 0; column < columns; column++) this.#column(all.subarray(column * this.hop), levels.subarray(column * BANDS));
    this.kept = all.slice(columns * this.hop);
    return levels;
  }

  finish() {
    return this.push(new Float32Array(this.size / 2));
  }

  #column(samples, levels) {
    const real = this.window.map((value, n) => value * samples[n]);
    const imaginary = new Float64Array(this.size);
    transform(real, imaginary);
    this.bands.forEach(([first, weights], band) => {
      let power = 0;
      weights.forEach((weight, i) => (power += weight * (real[first + i] ** 2 + imaginary[first + i] ** 2)));
      const decibels = 10 * Math.log10(power * this.scale ** 2 + 1e-30);
      levels[band] = Math.max(0, Math.min(255, Math.round((decibels - FLOOR) * HALF_DECIBELS)));
    });
  }
}

// Triangles, equally wide on the frequency axis and at least one line of the spectrum wide.
function bandWeights(size, rate) {
  const axis = Float64Array.from({ length: size / 2 + 1 }, (_, line) => height((line * rate) / size, rate));
  return Array.from({ length: BANDS }, (_, band) => {
    const centre = (band + 0.5) / BANDS;
    const line = Math.max(axis.findIndex((value) => value > centre), 1);
    const width = Math.max(1 / BANDS, axis[line] - axis[line - 1]);
    const weights = axis.map((value) => Math.max(0, 1 - Math.abs(value - centre) / width));
    const sum = weights.reduce((total, weight) => total + weight, 0);
    const first = weights.findIndex((weight) => weight > 0);
    return [first, weights.filter((weight) => weight > 0).map((weight) => weight / sum)];
  });
}

// The discrete Fourier transform in place, for lengths that are powers of two (Cooley and Tukey 1965).
function transform(real, imaginary) {
  const length = real.length;
  for (let i = 1, j = 0; i < length; i++) {
    let bit = length >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) {
      [real[i], real[j]] = [real[j], real[i]];
      [imaginary[i], imaginary[j]] = [imaginary[j], imaginary[i]];
    }
  }
  for (let size = 2; size <= length; size *= 2) {
    for (let k = 0; k < size / 2; k++) {
      const cosine = Math.cos((2 * Math.PI * k) / size);
      const sine = -Math.sin((2 * Math.PI * k) / size);
      for (let i = k; i < length; i += size) {
        const j = i + size / 2;
        const re = cosine * real[j] - sine * imaginary[j];
        const im = cosine * imaginary[j] + sine * real[j];
        [real[j], imaginary[j]] = [real[i] - re, imaginary[i] - im];
        [real[i], imaginary[i]] = [real[i] + re, imaginary[i] + im];
      }
    }
  }
}

// What is drawn: band levels and codes of one recording, and the part of it that is in sight.
export class Pictures {
  // `colours` are three bytes each, dark to light; `rows` are the books: {stream, book, size, rate}.
  constructor(spectrogram, codes, colours, rows, rate) {
    Object.assign(this, { spectrogram, codes, colours, rows, rate });
    this.clear();
  }

  clear() {
    Object.assign(this, { levels: [], tokens: {}, columns: 0, top: (-50 - FLOOR) * HALF_DECIBELS, from: 0, to: 6, stale: true });
    for (const { stream } of this.rows) this.tokens[stream] ??= [];
    for (const { stream, book } of this.rows) this.tokens[stream][book] = [];
  }

  add(levels, codes) {
    if (levels.length) this.levels.push(levels);
    for (const level of levels) if (level > this.top) this.top = level;
    for (const [stream, books] of Object.entries(codes)) books.forEach((row, book) => this.tokens[stream][book].push(...row));
    this.stale = true;
  }

  show(from, to) {
    Object.assign(this, { from, to, stale: true });
  }

  // The code at a time in a row, counted from the bottom; undefined where there is none.
  codeAt(seconds, row) {
    const { stream, book, rate } = this.rows[row];
    return this.tokens[stream][book][Math.floor(seconds * rate)];
  }

  // Draws if anything changed; only the first `used` books are in full colour.
  draw(used) {
    if (!this.stale && used === this.used) return;
    Object.assign(this, { stale: false, used });
    this.#drawSpectrogram();
    this.#drawCodes(used);
  }

  #drawSpectrogram() {
    const width = pixels(this.spectrogram);
    const image = new ImageData(width, BANDS);
    const all = this.#joined();
    const count = all.length / BANDS;
    const colours = this.colours.length / 3;
    for (let x = 0; x < width; x++) {
      const [first, last] = this.#span(x, width, 100, count);
      for (let band = 0; band < BANDS && first < last; band++) {
        let level = 0;
        for (let column = first; column < last; column++) level = Math.max(level, all[column * BANDS + band]);
        const share = (level - this.top) / HALF_DECIBELS / RANGE + 1;
        const colour = 3 * Math.round(Math.max(0, Math.min(1, share)) * (colours - 1));
        image.data.set([this.colours[colour], this.colours[colour + 1], this.colours[colour + 2], 255], 4 * ((BANDS - 1 - band) * width + x));
      }
    }
    paint(this.spectrogram, image);
  }

  #drawCodes(used) {
    const width = pixels(this.codes);
    const image = new ImageData(width, this.rows.length);
    const colours = this.colours.length / 3;
    this.rows.forEach(({ stream, book, size, rate }, row) => {
      const line = this.tokens[stream][book];
      const y = this.rows.length - 1 - row;
      for (let x = 0; x < width; x++) {
        const code = line[Math.floor((this.from + ((x + 0.5) / width) * (this.to - this.from)) * rate)];
        if (code === undefined) continue;
        const colour = 3 * Math.round((code / Math.max(size - 1, 1)) * (colours - 1));
        image.data.set([this.colours[colour], this.colours[colour + 1], this.colours[colour + 2], row < used ? 255 : 70], 4 * (y * width + x));
      }
    });
    paint(this.codes, image);
  }

  // Columns (so many per second) behind one pixel: at least one, as far as there are any.
  #span(x, width, perSecond, count) {
    const time = (pixel) => Math.floor((this.from + (pixel / width) * (this.to - this.from)) * perSecond);
    const first = time(x);
    return [first, Math.min(Math.max(time(x + 1), first + 1), count)];
  }

  #joined() {
    if (this.levels.length > 1) {
      const all = new Uint8Array(this.levels.reduce((sum, levels) => sum + levels.length, 0));
      let at = 0;
      for (const levels of this.levels) {
        all.set(levels, at);
        at += levels.length;
      }
      this.levels = [all];
    }
    return this.levels[0] ?? new Uint8Array(0);
  }
}

const pixels = (canvas) => Math.max(Math.round(canvas.clientWidth * Math.min(devicePixelRatio, 2)), 1);

// The style sheet stretches the canvas to its place.
function paint(canvas, image) {
  canvas.width = image.width;
  canvas.height = image.height;
  canvas.getContext("2d").putImageData(image, 0, 0);
}

// Where frequencies stand, as shares of the height from below.
export const frequencyTicks = (rate) =>
  [500, 1000, 2000, 4000, 8000, 16000].filter((frequency) => frequency <= rate / 2).map((frequency) => [frequency, height(frequency, rate)]);
