"use strict";
(async () => {
  const get = (id) => document.getElementById(id);
  const make = (tag, text, attributes = {}) => {
    const element = Object.assign(document.createElement(tag), attributes);
    if (text !== undefined) element.textContent = text;
    return element;
  };
  // Control characters as pictures of themselves, so that a name is seen whole.
  const visible = (text) => text.replace(/[\u0000-\u001f]/g, (c) => String.fromCharCode(0x2400 + c.charCodeAt(0)));
  const named = (labels) => labels.map(visible).join(", ") || "no label";
  const same = (a, b) => a.length === b.length && a.every((name) => b.includes(name));

  const about = await (await fetch("about")).json();
  const { items, classes, multilabel } = about;
  let decisions = about.decisions, version = about.version, at = 0, chosen = [], busy = false, left = [];

  document.title = `Review: ${about.title}`;
  get("title").textContent = about.title;
  get("question").textContent = multilabel ? "Which labels does it have?" : "What is it?";
  get("given-name").textContent = multilabel ? "Labels" : "Label";

  const KEYS = [
    [multilabel ? "Enter" : "Space", multilabel ? "save the labels as they are marked" : "keep the label"],
    ["1 – 9", multilabel ? "mark or unmark a label" : "relabel"],
    ["A", "take the model's answer"],
    ["/", "type a class"],
    ["X", "exclude the picture"],
    ["U", "unsure"],
    ["Z", "undo the last decision"],
    ["← →", "look at another picture"],
  ];
  for (const [key, what] of KEYS) {
    const dt = make("dt");
    dt.append(make("kbd", key));
    get("keys").append(dt, make("dd", what));
  }

  const ACTIONS = [
    ["keep", multilabel ? "Save" : "Keep", multilabel ? "Enter" : "Space", "main"],
    ["accept", "As the model says", "A", ""],
    ["exclude", "Exclude", "X", ""],
    ["unsure", "Unsure", "U", ""],
    ["undo", "Undo", "Z", ""],
  ];
  for (const [name, text, key, look] of ACTIONS) {
    const button = make("button", text, { type: "button", className: look, id: `do-${name}` });
    button.append(make("kbd", key));
    button.addEventListener("click", () => act(name));
    get("actions").append(button);
  }

  // With more classes than digits, those that this picture may well be.
  const offered = (item) => {
    if (classes.length <= 9) return classes;
    const likely = [item.labels, item.suggested, ...item.near.map((other) => other.labels)].flat();
    return [...new Set([...[...new Set(likely)].slice(0, 9), ...chosen])];
  };

  const told = { keep: "Kept", exclude: "Excluded", unsure: "Unsure" };
  const standing = (i) => {
    const found = decisions[i];
    return found && (found.decision === "relabel" ? `Now ${named(found.to)}` : told[found.decision]);
  };

  const progress = () => {
    const n = Object.keys(decisions).length;
    get("count").textContent = `${n} of ${items.length}`;
    get("bar").style.width = `${(100 * n) / Math.max(1, items.length)}%`;
    const bar = document.querySelector(".progress");
    bar.setAttribute("aria-valuemax", items.length);
    bar.setAttribute("aria-valuenow", n);
    get("standing").hidden = !standing(at);
    get("standing").textContent = standing(at) || "";
    return n;
  };

  const showClasses = () => {
    const item = items[at];
    get("classes").replaceChildren(...offered(item).map((name, i) => {
      const button = make("button", undefined, { type: "button", className: item.suggested.includes(name) && !item.labels.includes(name) ? "guess" : "" });
      button.append(...(i < 9 ? [make("kbd", String(i + 1))] : []), make("bdi", visible(name)));
      button.setAttribute("aria-pressed", String(chosen.includes(name)));
      button.addEventListener("click", () => choose(name));
      return button;
    }));
  };

  const show = (i) => {
    at = i;
    const item = items[at], found = decisions[at];
    get("review").hidden = false;
    get("done").hidden = true;
    chosen = found && found.decision === "relabel" ? [...found.to] : [...item.labels];
    const image = get("picture");
    image.hidden = false;
    get("broken").hidden = true;
    image.src = `picture/large/${item.row}`;
    image.alt = item.file;
    get("given").textContent = named(item.labels);
    get("suggested").textContent = item.chance === null ? "–" : named(item.suggested);
    get("chance").textContent = item.chance === null ? "" : item.chance;
    get("reason").textContent = item.reason;
    get("file").textContent = item.file;
    get("near").replaceChildren(...item.near.map((other) => {
      const figure = make("figure");
      figure.append(make("img", undefined, { src: `picture/small/${other.row}`, alt: "" }), make("figcaption", named(other.labels)));
      return figure;
    }));
    get("do-accept").hidden = item.chance === null || same(item.suggested, item.labels);
    get("do-keep").hidden = !multilabel && item.labels.length === 0;
    get("trouble").hidden = true;
    showClasses();
    progress();
    const next = items[at + 1];
    if (next) new Image().src = `picture/large/${next.row}`;
  };
  get("picture").addEventListener("error", async () => {
    const answer = await fetch(get("picture").src).catch(() => null);
    get("picture").hidden = true;
    get("broken").hidden = false;
    get("broken").textContent = answer ? await answer.text() : "The review's server has stopped.";
  });

  const MOST_LINKS = 100;  // changes that the last page lists
  const finish = () => {
    get("review").hidden = true;
    get("done").hidden = false;
    progress();
    const sums = { kept: 0, relabelled: 0, excluded: 0, unsure: 0 };
    const name = { keep: "kept", relabel: "relabelled", exclude: "excluded", unsure: "unsure" };
    for (const found of Object.values(decisions)) sums[name[found.decision]] += 1;
    get("sums").replaceChildren(...Object.entries(sums).map(([what, n]) => {
      const box = make("div");
      box.append(make("dt", what), make("dd", String(n)));
      return box;
    }));
    get("log").textContent = `Every decision is written in ${about.log}.`;
    get("next").hidden = !about.after || !(sums.relabelled + sums.excluded);
    // It breaks between its words, not within "--out".
    get("command").replaceChildren(...about.after.split(/( +)/).map((word) => (word.trim() ? make("span", word, { className: "word" }) : word)));
    const made = Object.entries(decisions).filter(([, one]) => ["relabel", "exclude"].includes(one.decision));
    get("made").hidden = !made.length;
    get("links").replaceChildren(...made.slice(0, MOST_LINKS).map(([i, one]) => {
      const line = make("li"), link = make("button", visible(items[i].file), { type: "button", className: "link" });
      link.addEventListener("click", () => show(Number(i)));
      line.append(link, make("span", one.decision === "exclude" ? ": excluded" : `: ${named(items[i].labels)} → ${named(one.to)}`, { className: "soft" }));
      return line;
    }), ...(made.length > MOST_LINKS ? [make("li", `and ${made.length - MOST_LINKS} more`, { className: "soft" })] : []));
    get("open-left").hidden = !sums.unsure;
    get("report").hidden = !about.report;
    get("changed").hidden = !about.changed.length;
    get("changed").replaceChildren(make("h2", "What the corrections changed"), ...about.changed.map((text) => make("p", text)));
  };

  const onward = () => {
    if (left.length) return show(left.shift());
    for (let step = 1; step <= items.length; step += 1) {
      const i = (at + step) % items.length;
      if (!decisions[i]) return show(i);
    }
    return finish();
  };

  const take = (state) => { decisions = state.decisions; version = state.version; };
  const trouble = (text) => { get("trouble").hidden = false; get("trouble").textContent = text; };
  const send = async (where, body) => {
    busy = true;
    try {
      const answer = await fetch(where, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
      const state = await answer.json();
      if (!answer.ok) { trouble(state.error); return null; }
      take(state);
      return state;
    } catch {
      trouble("Not saved: the review's server has stopped. Start it again and reload this page; what was decided before is kept.");
      return null;
    } finally { busy = false; }
  };
  const decide = async (decision, to = []) => {
    if (await send("decide", { item: at, decision, to })) onward();
  };
  // One after the other: no key is lost while an earlier decision is being written.
  let chain = Promise.resolve();
  const inTurn = (work) => (chain = chain.then(work, work));
  const act = (name) => inTurn(() => perform(name));
  const choose = (name) => inTurn(() => mark(name));
  const perform = async (name) => {
    if (name === "undo") {
      const state = await send("undo", {});
      if (state && state.item !== null) show(state.item);
      else if (state) progress();
    } else if (get("review").hidden) return;
    else if (name === "accept") { if (!get("do-accept").hidden) await decide("relabel", items[at].suggested); }
    else if (name === "keep" && multilabel) await decide("relabel", chosen);
    else if (name === "keep") { if (items[at].labels.length) await decide("keep"); }
    else await decide(name);
  };
  const mark = (name) => {
    if (!multilabel) return decide("relabel", [name]);
    chosen = chosen.includes(name) ? chosen.filter((other) => other !== name) : [...chosen, name];
    return showClasses();
  };

  // Type a class.
  const find = get("find"), list = get("found");
  let marked = 0;
  const matches = () => {
    const text = find.value.trim().toLowerCase();
    if (!text) return [];
    const starts = classes.filter((name) => name.toLowerCase().startsWith(text));
    return [...starts, ...classes.filter((name) => !starts.includes(name) && name.toLowerCase().includes(text))].slice(0, 20);
  };
  const offer = () => {
    const found = matches();
    marked = Math.max(0, Math.min(marked, found.length - 1));
    list.hidden = !found.length;
    list.replaceChildren(...found.map((name, i) => {
      const line = make("li", visible(name));
      line.setAttribute("role", "option");
      line.setAttribute("aria-selected", String(i === marked));
      line.addEventListener("mousedown", (event) => { event.preventDefault(); pick(name); });
      return line;
    }));
  };
  const pick = (name) => {
    find.value = "";
    offer();
    find.blur();
    choose(name);
  };
  find.addEventListener("input", () => { marked = 0; offer(); });
  find.addEventListener("blur", () => (list.hidden = true));
  find.addEventListener("keydown", (event) => {
    event.stopPropagation();
    const found = matches();
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      marked += event.key === "ArrowDown" ? 1 : -1;
      event.preventDefault();
      offer();
    } else if (event.key === "Enter" && found.length) { event.preventDefault(); pick(found[marked]); }
    else if (event.key === "Escape") { find.value = ""; offer(); find.blur(); }
  });

  get("copy").addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(get("command").textContent);
      get("copy").textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(get("command"));
      get("copy").textContent = "Selected";
    }
    setTimeout(() => (get("copy").textContent = "Copy"), 1500);
  });

  const open = get("help");
  get("help-button").addEventListener("click", () => open.showModal());
  // A button that hides with its click keeps the focus for a moment: the next key would be taken for a press of it.
  get("again").addEventListener("click", (event) => { event.currentTarget.blur(); show(0); });
  get("open-left").addEventListener("click", (event) => {
    event.currentTarget.blur();
    left = items.map((_, i) => i).filter((i) => decisions[i] && decisions[i].decision === "unsure");
    onward();
  });

  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.metaKey || open.open || (event.ctrlKey && event.key !== "z")) return;
    const key = event.key.toLowerCase(), inside = !get("review").hidden;
    // A button that has the focus is pressed by these keys itself.
    if ((key === " " || key === "enter") && event.target.closest("button, pre")) return;
    const by = { [multilabel ? "enter" : " "]: "keep", a: "accept", x: "exclude", u: "unsure", z: "undo" };
    if (by[key]) { event.preventDefault(); if (!event.repeat) act(by[key]); }
    else if (key === "?") open.showModal();
    else if (!inside) return;
    else if (key === "/") { event.preventDefault(); find.focus(); }
    else if (key === "arrowright") show((at + 1) % items.length);
    else if (key === "arrowleft") show((at + items.length - 1) % items.length);
    else if (/^[1-9]$/.test(key)) {
      const place = Number(key) - 1;
      if (!event.repeat) inTurn(() => (place < offered(items[at]).length ? mark(offered(items[at])[place]) : null));
    }
  });

  // Other tabs, and other reviews of the same pictures, write to the same log.
  const agree = async () => {
    if (busy || document.hidden) return;
    const before = version;
    const state = await fetch("state").then((answer) => (answer.ok ? answer.json() : null)).catch(() => null);
    // An answer that a decision of this tab has overtaken is older than what is shown.
    if (!state || busy || version !== before || state.version === version) return;
    take(state);
    if (get("review").hidden) onward();  // one may have been taken back
    else progress();
  };
  setInterval(agree, 1000);
  document.addEventListener("visibilitychange", agree);

  const first = items.findIndex((_, i) => !decisions[i]);
  if (first >= 0) show(first);
  else finish();
})();
