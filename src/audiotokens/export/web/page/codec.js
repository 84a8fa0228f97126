// A tokenizer folder with graphs, run hop by hop with explicit state; graphs.json says what the graphs are.
//
// Sound and latents are arrays of rows (channels or dimensions), each a Float32Array over time. Codes are
// {stream: [one array of numbers per book]}.

export class Codec {
  // The runtime `ort`, what config.json and graphs.json say, and the graphs and their data as bytes by name.
  constructor(ort, config, graphs, files) {
    Object.assign(this, { ort, graphs, files, sessions: new Map() });
    const spec = (this.spec = config.spec);
    this.streams = spec.streams.map(({ name, codebook_sizes, frame_rate }) => ({ name, sizes: codebook_sizes, rate: fraction(frame_rate) }));
    this.books = this.streams.reduce((sum, { sizes }) => sum + sizes.length, 0);
    this.streaming = Boolean(graphs.encoder.middle);
  }

  // The names of all files that a codec needs.
  static fileNames(graphs) {
    const found = new Set(graphs.external);
    const visit = (value) => {
      if (value && typeof value === "object") Object.values(value).forEach(visit);
      if (typeof value?.file === "string") found.add(value.file);
    };
    visit(graphs);
    return [...found];
  }

  // The net of the decoder for so many books; few families have several.
  decoderNet(books) {
    const several = this.graphs.decoder.by_codebooks;
    if (!several) return this.graphs.decoder;
    const counts = Object.keys(several).map(Number).sort((a, b) => a - b);
    return several[counts.find((count) => count >= books) ?? counts.at(-1)];
  }

  // Codes and samples that so many input samples become.
  hops(samples) {
    return Math.ceil(Math.max(samples, this.spec.min_samples) / this.graphs.hop);
  }

  outputLength(samples) {
    return Math.ceil((samples * this.spec.output_sample_rate) / this.spec.sample_rate);
  }

  // Makes the sessions now, so that the first sound does not wait for them.
  async prepare() {
    const { encoder, quantizer } = this.graphs;
    const nets = [encoder, this.decoderNet(this.books)].flatMap((net) => (net.middle ? [net.first, net.middle, net.last] : [net.offline]));
    for (const graph of [...nets, quantizer.encode, quantizer.decode]) await this.session(graph.file);
  }

  session(file) {
    if (!this.sessions.has(file)) {
      const externalData = this.graphs.external.map((path) => ({ path, data: this.files.get(path) }));
      this.sessions.set(file, this.ort.InferenceSession.create(this.files.get(file), { executionProviders: ["wasm"], externalData, logSeverityLevel: 3 }));
    }
    return this.sessions.get(file);
  }

  // Runs a graph of a net on rows; `state` are the tensors that the run before it gave.
  async step(graph, rows, state) {
    const session = await this.session(graph.file);
    const feeds = { x: this.tensor(rows) };
    for (const name of session.inputNames) feeds[name] ??= state[name.replace("state", "next")];
    const made = await session.run(feeds);
    return [unpacked(made.y), made];
  }

  tensor(rows) {
    const joined = new Float32Array(rows.length * rows[0].length);
    rows.forEach((row, index) => joined.set(row, index * row.length));
    return new this.ort.Tensor("float32", joined, [1, rows.length, rows[0].length]);
  }

  async quantize(latents) {
    const session = await this.session(this.graphs.quantizer.encode.file);
    const made = await session.run({ [session.inputNames[0]]: this.tensor(latents) });
    return Object.fromEntries(this.streams.map(({ name }) => [name, unpacked(made[name]).map((row) => Array.from(row, Number))]));
  }

  // Latents of codes, of which the first so many books (over the streams in order) are used.
  async dequantize(codes, books) {
    const session = await this.session(this.graphs.quantizer.decode.file);
    const feeds = { num_codebooks: new this.ort.Tensor("int64", BigInt64Array.of(BigInt(books)), [1]) };
    this.streams.forEach(({ name, sizes }) => {
      const length = codes[name][0].length;
      const all = new BigInt64Array(sizes.length * length);
      codes[name].forEach((row, book) => row.forEach((code, frame) => (all[book * length + frame] = BigInt(code))));
      feeds[name] = new this.ort.Tensor("int64", all, [1, sizes.length, length]);
    });
    return unpacked((await session.run(feeds))[session.outputNames[0]]);
  }
}

// One net, running: whole pieces go through it as they come, and `finish` takes the rest.
class Stepper {
  constructor(codec, net, rows) {
    Object.assign(this, { codec, net, state: null, received: 0, waiting: Array.from({ length: rows }, () => new Float32Array(0)) });
  }

  // Calls `made(rows, milliseconds)` for what each step gives.
  async push(rows, made) {
    this.waiting = joined(this.waiting, rows);
    this.received += rows[0].length;
    let start = 0;
    for (;;) {
      const graph = this.state ? this.net.middle : this.net.first;
      if (!graph || this.waiting[0].length - start < graph.size) break;
      await this.#run(graph, cut(this.waiting, start, start + graph.size), made);
      start += graph.size;
    }
    this.waiting = cut(this.waiting, start);
  }

  // `missing` says whether anything is due that did not come yet; shorter input than `least` is padded.
  async finish(made, { missing, least = 1 }) {
    const length = this.waiting[0].length;
    if (this.state && (length || missing)) await this.#run(this.net.last, this.waiting, made);
    else if (!this.state && length) await this.#run(this.net.offline, padded(this.waiting, Math.max(length, least)), made);
  }

  async #run(graph, rows, made) {
    const begin = performance.now();
    const [result, state] = await this.codec.step(graph, rows, this.state);
    this.state = state;
    await made(result, begin);
  }
}

// A running encoder; `heard(codes, milliseconds)` is called for the codes of each step.
export class Encoding {
  constructor(codec, heard) {
    const codes = Object.fromEntries(codec.streams.map(({ name, sizes }) => [name, sizes.map(() => [])]));
    Object.assign(this, { codec, heard, codes, hops: 0, samples: 0 });
    this.stepper = new Stepper(codec, codec.graphs.encoder, codec.spec.channels);
  }

  async push(rows) {
    this.samples += rows[0].length;
    await this.stepper.push(rows, (latents, begin) => this.#quantize(latents, begin));
  }

  async finish() {
    const missing = this.hops < this.codec.hops(this.samples);
    await this.stepper.finish((latents, begin) => this.#quantize(latents, begin), { missing, least: this.codec.spec.min_samples });
  }

  async #quantize(latents, begin) {
    if (!latents[0].length) return;
    const codes = await this.codec.quantize(latents);
    const milliseconds = performance.now() - begin;
    this.hops += Math.ceil(latents[0].length / this.codec.graphs.frames_per_hop);
    this.codec.streams.forEach(({ name }) => codes[name].forEach((row, book) => this.codes[name][book].push(...row)));
    await this.heard(codes, milliseconds);
  }
}

// Decodes the codes of so many samples with the first `books` books; `paused` is awaited after each step.
export async function decode(codec, codes, samples, books, paused = async () => {}) {
  const stepper = new Stepper(codec, codec.decoderNet(books), codec.graphs.latent);
  const due = codec.outputLength(samples);
  const pieces = [];
  let returned = 0;
  const made = (rows) => {
    pieces.push(rows);
    returned += rows[0].length;
  };
  const times = [];
  const hops = codec.hops(samples);
  for (let hop = 0; hop < hops; hop++) {
    const begin = performance.now();
    const latents = await codec.dequantize(hopOf(codec, codes, hop, hops), books);
    await stepper.push(latents, made);
    times.push(performance.now() - begin);
    await paused(hop, hops);
  }
  await stepper.finish(made, { missing: returned < due });
  const rows = pieces.length ? joined(...pieces) : [new Float32Array(0)];
  return { rows: padded(cut(rows, 0, due), due), times };
}

// The codes of one hop: every stream has a whole number of frames in it.
function hopOf(codec, codes, hop, hops) {
  return Object.fromEntries(
    codec.streams.map(({ name }) => {
      const frames = codes[name][0].length / hops;
      return [name, codes[name].map((row) => row.slice(hop * frames, (hop + 1) * frames))];
    }),
  );
}

export const fraction = (text) => {
  const [over, under = "1"] = String(text).split("/");
  return Number(over) / Number(under);
};

const unpacked = (tensor) => {
  const [, rows, length] = tensor.dims;
  return Array.from({ length: rows }, (_, row) => tensor.data.slice(row * length, (row + 1) * length));
};

export const cut = (rows, start, end) => rows.map((row) => row.slice(start, end));

export const joined = (...pieces) =>
  pieces[0].map((_, row) => {
    const result = new Float32Array(pieces.reduce((sum, piece) => sum + piece[row].length, 0));
    let at = 0;
    for (const piece of pieces) {
      result.set(piece[row], at);
      at += piece[row].length;
    }
    return result;
  });

const padded = (rows, length) => rows.map((row) => (row.length < length ? joined([row], [new Float32Array(length - row.length)])[0] : row));
