"use strict";
// The blind test. What is behind the sides stays coded until the end; votes outlive a reload in localStorage.
(() => {
  const HEARD = 0.3; // seconds of a side before it may be judged
  const find = (selector) => document.querySelector(selector);
  const coded = Deck.bytes("plan");
  const plan = JSON.parse(new TextDecoder().decode(coded.map((byte, i) => byte ^ ((i * 73 + 41) & 255))));
  const sides = plan.form === "abx" ? ["a", "x", "b"] : ["a", "b"];
  const allowed = plan.form === "abx" ? ["a", "b"] : ["a", "same", "b"];
  const shelf = `audiotokens-votes-${plan.page}`;
  const fresh = () => ({ listener: crypto.getRandomValues(new Uint32Array(2)).join("-"), name: "", begun: null, ended: null, votes: [], draft: null });
  let session = restored() || fresh();
  let kept = true; // whether this browser keeps votes
  let audible = null; // the side that sounds, and since when
  const deck = new Deck(render, { loop: true });
  deck.follow(move);

  const trial = () => plan.trials[session.votes.length];
  const draft = () => (session.draft = session.draft || { vote: null, seconds: zeros(), plays: zeros() });
  const zeros = () => Object.fromEntries(sides.map((side) => [side, 0]));
  const now = () => new Date().toISOString();

  function restored() {
    try {
      const found = JSON.parse(localStorage.getItem(shelf));
      return found && Array.isArray(found.votes) ? found : null;
    } catch (error) {
      return null;
    }
  }

  function keep() {
    try {
      localStorage.setItem(shelf, JSON.stringify(session));
    } catch (error) {
      kept = false;
    }
  }

  // Adds the time since the last look to the side that sounds.
  function account() {
    const time = deck.playing ? deck.context.currentTime : 0;
    if (audible && deck.playing) draft().seconds[audible.side] += Math.max(time - audible.since, 0);
    audible = deck.playing ? { side: sides[deck.version], since: time } : null;
  }

  function listen(side) {
    const version = sides.indexOf(side);
    if (version < 0 || !trial() || find("#test").hidden) return;
    account();
    if (!deck.playing || deck.version !== version) draft().plays[side] += 1;
    deck.choose(version);
    if (deck.playing) account();
    else deck.play();
    keep();
  }

  function pause() {
    if (deck.playing) {
      account();
      deck.stop();
      audible = null;
      keep();
    } else listen(sides[deck.version]);
  }

  const missing = () => sides.filter((side) => draft().seconds[side] < HEARD);

  function vote(choice) {
    if (!allowed.includes(choice) || !trial() || find("#test").hidden) return;
    account();
    if (missing().length) return hint(`Listen first: ${missing().map((side) => side.toUpperCase()).join(", ")}.`);
    draft().vote = choice;
    keep();
    render();
  }

  function next() {
    account();
    const open = draft();
    if (!open.vote) return hint("Vote first; you can change your mind until you go on.");
    if (deck.playing) deck.stop();
    audible = null;
    const { recording, x, systems } = trial();
    const rounded = Object.fromEntries(sides.map((side) => [side, Math.round(open.seconds[side] * 100) / 100]));
    session.votes.push({ trial: session.votes.length, recording, a: systems[0], b: systems[1], x, vote: open.vote, seconds: rounded, plays: open.plays });
    session.draft = null;
    if (!trial()) session.ended = now();
    keep();
    show();
  }

  function start() {
    session.name = find("#name").value.trim();
    session.begun = session.begun || now();
    keep();
    show();
  }

  function show() {
    const screen = !session.begun ? "begin" : trial() ? "test" : "end";
    ["begin", "test", "end"].forEach((id) => (find(`#${id}`).hidden = id !== screen));
    if (screen === "test") {
      const { clips, seconds } = trial();
      deck.load(sides.map((side) => clips[side]), seconds);
    }
    if (screen === "end") reveal();
    scrollTo(0, 0);
    render();
  }

  function render() {
    if (!trial() || find("#test").hidden) return;
    const done = session.votes.length;
    find("#count").textContent = `Trial ${done + 1} of ${plan.trials.length}`;
    find("#recording").textContent = trial().recording;
    find("#done").value = done / plan.trials.length;
    find("#test").classList.toggle("playing", deck.playing);
    find(".play").setAttribute("aria-label", deck.playing ? "Pause" : "Play");
    document.querySelectorAll(".sides button").forEach((button) => {
      const side = button.dataset.side;
      button.setAttribute("aria-pressed", String(deck.playing && side === sides[deck.version]));
      button.classList.toggle("heard", draft().seconds[side] >= HEARD);
    });
    document.querySelectorAll(".votes button").forEach((button) => {
      button.setAttribute("aria-pressed", String(draft().vote === button.dataset.vote));
      button.classList.toggle("early", missing().length > 0);
    });
    find("#next").classList.toggle("early", !draft().vote);
    find(".seek").max = String(trial().seconds);
    find(".clock span").textContent = Deck.clock(trial().seconds);
    if (deck.failed) hint("This browser cannot decode the embedded audio.");
    else if (!kept) hint("This browser keeps nothing: finish and save without a reload.");
    else hint(missing().length ? "Listen to every side; switching keeps the position." : draft().vote ? "" : "Now vote.");
    move();
  }

  function hint(text) {
    if (find("#hint").textContent !== text) find("#hint").textContent = text;
  }

  function move() {
    const waiting = missing().length;
    if (deck.playing) account();
    if (missing().length !== waiting) render();
    find(".seek").value = String(deck.position());
    find(".seek").setAttribute("aria-valuetext", `${deck.position().toFixed(1)} seconds`);
    find(".clock b").textContent = Deck.clock(deck.position());
  }

  const words = { a: "A", b: "B", same: "no difference" };
  function reveal() {
    const abx = plan.form === "abx";
    const head = ["Trial", "A", "B", ...(abx ? ["X was", "You said"] : ["You preferred"]), "Recording"];
    fill(find("#end thead tr"), "th", head);
    find("#end tbody").replaceChildren(
      ...session.votes.map(({ trial: index, recording, a, b, x, vote: choice }) => {
        const verdict = abx ? [words[x], `${words[choice]}, ${choice === x ? "right" : "wrong"}`] : [choice === "same" ? words.same : choice === "a" ? a : b];
        return fill(document.createElement("tr"), "td", [String(index + 1), a, b, ...verdict, recording]);
      }),
    );
    const right = session.votes.filter((one) => one.vote === one.x).length;
    const undecided = session.votes.filter((one) => one.vote === "same").length;
    const count = session.votes.length;
    find("#summary").textContent = abx ? `${right} of ${count} right; guessing gets half of them right.` : `${count} votes, ${undecided} of them "no difference".`;
  }

  function fill(row, tag, texts) {
    row.replaceChildren(...texts.map((text) => Object.assign(document.createElement(tag), { textContent: text })));
    return row;
  }

  function save() {
    const { listener, name, begun, ended, votes } = session;
    const { page, title, form, seed, trials } = plan;
    const ballot = { format: "audiotokens votes 1", page, title, form, seed, trials: trials.length, listener, name, begun, ended, votes };
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([`${JSON.stringify(ballot, null, 1)}\n`], { type: "application/json" }));
    link.download = `votes-${page}-${listener}.json`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  function again() {
    if (!confirm("Have the votes been saved? They are removed from this browser now.")) return;
    session = fresh();
    find("#name").value = "";
    keep();
    show();
  }

  document.querySelectorAll(".sides button").forEach((button) => button.addEventListener("click", () => listen(button.dataset.side)));
  document.querySelectorAll(".votes button").forEach((button) => button.addEventListener("click", () => vote(button.dataset.vote)));
  document.querySelectorAll("button.save").forEach((button) => button.addEventListener("click", save));
  find(".play").addEventListener("click", pause);
  find(".seek").addEventListener("input", (event) => {
    account();
    audible = null;
    deck.seek(Number(event.target.value));
  });
  find("#start").addEventListener("click", start);
  find("#next").addEventListener("click", next);
  find("#save").addEventListener("click", save);
  find("#again").addEventListener("click", again);

  const keys = {
    a: () => listen("a"),
    b: () => listen("b"),
    x: () => listen("x"),
    1: () => vote("a"),
    2: () => vote("b"),
    0: () => vote("same"),
    ArrowLeft: () => vote("a"),
    ArrowRight: () => vote("b"),
    ArrowDown: () => vote("same"),
    " ": () => pause(),
    Enter: () => next(),
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if ([" ", "Enter"].includes(key) && event.target.closest("button")) return;
    if (!find("#begin").hidden) {
      if (key === "Enter") start();
      else return;
    } else if (!find("#end").hidden) {
      if (key === "s") save();
      else return;
    } else if (keys[key] && !(key.startsWith("Arrow") && event.target.closest(".seek"))) keys[key]();
    else return;
    event.preventDefault();
  });

  // A button that was clicked gives the keys back; one that was reached by Tab keeps Space and Enter.
  document.addEventListener("click", (event) => event.detail && event.target.closest("button")?.blur());
  addEventListener("pagehide", () => {
    if (deck.playing) account();
    keep();
  });
  find("#name").value = session.name;
  show();
})();
