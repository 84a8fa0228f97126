// Runs exported pages in headless Chromium, with a WAV file as the microphone too, and prints what they gave as JSON.
"use strict";
const fs = require("fs");
const { chromium } = require("playwright-core");

const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
  "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"];

async function opened(browser, url, log, size = { width: 1180, height: 900 }) {
  const context = await browser.newContext({ viewport: size, permissions: ["microphone"], acceptDownloads: true });
  const tab = await context.newPage();
  tab.on("console", (message) => log.push(`${message.type()}: ${message.text()}`));
  tab.on("pageerror", (error) => log.push(`error: ${error.message}`));
  context.on("request", (request) => request.url().startsWith("http") && !request.url().startsWith(url) && log.push(`request: ${request.url()}`));
  await tab.goto(url);
  await tab.evaluate(() => window.audiotokens.ready);
  return tab;
}

const bytes = (file) => fs.readFileSync(file).toString("base64");
const figures = async (tab) => Object.fromEntries(await tab.$$eval(".figures .big", (all) => all.map((each) => [(each.querySelector("[id]") ?? each).id, parseFloat(each.textContent)])));
const colours = (tab, id) => tab.$eval(id, (canvas) => new Set(new Uint32Array(canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.buffer)).size);

// Files as input: the tokens of a short one; those of another, and what the first book and all books decode to.
async function file(tab, short, wav) {
  const found = await tab.evaluate(async ([less, text]) => {
    const coded = (rows) => {
      const all = new Uint8Array(Float32Array.from(rows.flatMap((row) => [...row])).buffer);
      return btoa(all.reduce((letters, byte) => letters + String.fromCharCode(byte), ""));
    };
    const buffer = (letters) => Uint8Array.from(atob(letters), (letter) => letter.charCodeAt(0)).buffer;
    const brief = await window.audiotokens.encodeFile(buffer(less));
    const tokens = await window.audiotokens.encodeFile(buffer(text), "given.wav");
    return { brief, tokens, few: coded(await window.audiotokens.decode(1)), all: coded(await window.audiotokens.decode(Object.values(tokens.streams).reduce((sum, { codes }) => sum + codes.length, 0))) };
  }, [bytes(short), bytes(wav)]);
  await tab.waitForSelector('[data-state="done"]');
  await tab.hover("#stage", { position: { x: 300, y: 5 } });
  const saved = await Promise.all([tab.waitForEvent("download"), tab.click("#save-tokens")]);
  const page = { figures: await figures(tab), readout: await tab.textContent("#readout"), drawn: [await colours(tab, "#spectrogram"), await colours(tab, "#codes")] };
  return { ...found, ...page, saved: JSON.parse(fs.readFileSync(await saved[0].path(), "utf8")), name: saved[0].suggestedFilename() };
}

// From the microphone, until a second is encoded while the recording goes on.
async function microphone(tab) {
  await tab.click("#record");
  await tab.waitForSelector('[data-state="recording"]');
  await tab.waitForFunction(() => Number(document.querySelector("#frames").textContent) > 50);
  const live = await figures(tab);
  await tab.click("#record");
  await tab.waitForSelector('[data-state="done"]');
  return { live, tokens: await tab.evaluate(() => window.audiotokens.last()) };
}

// What the page and its worker get from elsewhere.
const foreign = (tab, url) =>
  Promise.all([tab, ...tab.workers()].map((place) => place.evaluate((address) => fetch(address, { mode: "no-cors" }).then(() => "sent", () => "refused"), url)));

// The modules by themselves: WAV files of all kinds, and a resampled one.
const modules = (tab, wavs, rate) =>
  tab.evaluate(
    async ([texts, target]) => {
      const { readWav, Resampler } = await import(new URL("sound.js", location.href).href);
      const read = texts.map((text) => readWav(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer));
      const [{ rate: source, rows }] = read;
      const resampler = new Resampler(source, target);
      const pieces = [];
      for (let at = 0, size = 1; at < rows[0].length; at += size, size = (size * 7) % 501) pieces.push(resampler.push(rows[0].slice(at, at + size)));
      pieces.push(resampler.finish());
      return { read: read.map(({ rows }) => rows.map((row) => [...row])), resampled: pieces.flatMap((piece) => [...piece]) };
    },
    [wavs.map(bytes), rate],
  );

async function main(executable, { pages, voice, elsewhere }) {
  const browser = await chromium.launch({ executablePath: executable, args: [...FLAGS, `--use-file-for-fake-audio-capture=${voice}`] });
  const result = {};
  for (const { name, url, short, wav, live, wavs, rate } of pages) {
    const log = [];
    const tab = await opened(browser, url, log);
    result[name] = { ...(await file(tab, short, wav)), recorded: live ? await microphone(tab) : null, modules: wavs ? await modules(tab, wavs, rate) : null };
    result[name].log = [...log];
    result[name].foreign = await foreign(tab, elsewhere);
    await tab.setViewportSize({ width: 360, height: 700 });
    result[name].width = await tab.evaluate(() => document.documentElement.scrollWidth);
    await tab.setInputFiles("#file", { name: "words.mp3", mimeType: "audio/mpeg", buffer: Buffer.from("these are words") });
    await tab.waitForSelector('[data-state="error"]');
    result[name].status = await tab.textContent("#status");
    await tab.close();
  }
  await browser.close();
  console.log(JSON.stringify(result));
}

main(process.argv[2], JSON.parse(process.argv[3]));
