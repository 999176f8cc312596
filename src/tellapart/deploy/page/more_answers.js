"use strict";
// What a server adds to an answer: why it was given, and a place to say what the picture really is.

/** Called with each answer on the page, its list item and the picture's file. */
function extend(item, file, answer) {
  if (answer.problem) return;
  const buttons = made("div", "", "buttons small");
  const parts = [];
  if (model.explains) parts.push(disclosure(buttons, "Why?", (part) => explain(part, file)));
  if (model.keeps && answer.stored_as) {
    parts.push(disclosure(buttons, "Wrong? Say what it is", (part) => askForLabels(part, answer)));
  }
  item.lastElementChild.append(buttons);
  item.append(...parts);
}

/** A button that opens and closes a part below the answer; what is inside is made when it is first opened. */
function disclosure(buttons, title, fill) {
  const part = made("div", "", "more");
  const button = made("button", title);
  part.id = `more-${extend.n = (extend.n || 0) + 1}`;
  part.hidden = true;
  button.type = "button";
  button.setAttribute("aria-controls", part.id);
  button.setAttribute("aria-expanded", "false");
  button.onclick = () => {
    part.hidden = !part.hidden;
    button.setAttribute("aria-expanded", String(!part.hidden));
    if (!part.hidden && !part.hasChildNodes()) fill(part);
  };
  buttons.append(button);
  return part;
}

async function explain(part, file) {
  const state = made("p", "Looking for the reasons. The first time takes up to a minute …", "note");
  state.setAttribute("role", "status");
  part.append(state);
  try {
    const why = await askUntilReady("v1/explain", { "Content-Type": "application/octet-stream" }, file);
    state.remove();
    part.append(...reasons(why));
  } catch (error) {
    state.textContent = error.message;
  }
}

function reasons(why) {
  const shown = why.notes.map((note) => made("p", note, "note"));
  if (why.maps.length) {
    shown.push(made("h3", "What speaks for it"), made("p", `Warm colours mark what the answer rests on (${why.method}).`, "note"));
    const first = figure(why.picture, "As the network sees it");
    shown.push(row([first, ...why.maps.map((map) => figure(map.picture, [`For ${map.label}`, map.note].filter(Boolean).join(". ")))]));
  }
  if (why.alike.length) {
    shown.push(made("h3", "The most similar training pictures"));
    shown.push(row(why.alike.map((other) => figure(other.picture, `${other.labels.join(", ") || "no label"}, ${share(Math.max(0, other.similarity))} alike`)), "alike"));
  }
  return shown;
}

function row(figures, name = "") {
  const list = made("div", "", `figures ${name}`);
  list.append(...figures);
  return list;
}

function figure(address, caption) {
  const shown = made("figure");
  const picture = made("img");
  picture.src = address;
  picture.alt = "";
  shown.append(picture, made("figcaption", caption));
  return shown;
}

function askForLabels(part, answer) {
  const form = made("form");
  const choice = model.multilabel ? checkboxes(answer) : selection();
  const state = made("p", "", "note");
  state.setAttribute("role", "status");
  const send = made("button", "Save", "main");
  form.append(choice.element, send, state);
  form.onsubmit = async (event) => {
    event.preventDefault();
    const labels = choice.labels();
    if (labels === null) {
      state.textContent = "Choose a class first.";
      return;
    }
    const body = JSON.stringify({ stored_as: answer.stored_as, labels });
    try {
      await askUntilReady("v1/correction", { "Content-Type": "application/json" }, body);
      state.textContent = `Saved: ${labels.join(", ") || "none of these"}. Thank you.`;
    } catch (error) {
      state.textContent = error.message;
    }
  };
  part.append(form);
}

function selection() {
  const label = made("label", "It is ");
  const select = made("select");
  select.append(new Option("choose …", ""));
  model.names.forEach((name, i) => select.append(new Option(model.classes[i], String(i))));
  select.append(new Option("none of these", "none"));
  label.append(select);
  const labels = () => (select.value === "" ? null : select.value === "none" ? [] : [model.names[Number(select.value)]]);
  return { element: label, labels };
}

function checkboxes(answer) {
  const group = made("fieldset");
  group.append(made("legend", "It shows"));
  const boxes = model.names.map((name, i) => {
    const label = made("label");
    const box = made("input");
    box.type = "checkbox";
    box.checked = answer.chosen.includes(name);
    label.append(box, ` ${model.classes[i]}`);
    group.append(label);
    return box;
  });
  return { element: group, labels: () => model.names.filter((_, i) => boxes[i].checked) };
}

/** Sends a request, again after the time that the server names while it is busy. */
async function askUntilReady(address, headers, body) {
  for (let tries = 0; ; tries++) {
    const response = await fetch(address, { method: "POST", headers, body }).catch(() => {
      throw new Error("The server does not answer.");
    });
    const wait = Number(response.headers.get("Retry-After"));
    if (wait && tries < 60) {
      await new Promise((proceed) => setTimeout(proceed, 1000 * wait));
      continue;
    }
    const answer = await response.json();
    if (!response.ok) throw new Error(answer.error);
    return answer;
  }
}

if (model.keeps) element("drop").append(made("p", model.privacy, "soft")); // said before a picture is sent
