"use strict";
// The page: pictures come in by a button, the camera, the clipboard or a drop, and wait in line for their answers.

const BARS = 5;
const element = (id) => document.getElementById(id);
const model = JSON.parse(element("model").textContent);
const answered = []; // {name, answer} of what is on the page, for the table
const waiting = [];
let classify = null;
let busy = false;

function made(tag, text = "", className = "") {
  const node = document.createElement(tag);
  node.textContent = text;
  if (className) node.className = className;
  return node;
}

function describe() {
  element("title").textContent = model.title;
  element("subtitle").textContent = model.subtitle;
  element("privacy").textContent = model.privacy;
  for (const [term, fact] of model.facts) element("facts").append(made("dt", term), made("dd", fact));
}

const say = (text) => { element("state").textContent = text; };

async function begin() {
  describe();
  say("The classifier is loading …");
  try {
    classify = await openEngine(model);
  } catch (error) {
    console.error(error);
    say("The classifier cannot run in this browser. A newer Firefox, Chrome, Edge or Safari can run it.");
    return;
  }
  for (const id of ["choose", "photo"]) element(id).disabled = false;
  say("Ready.");
  answerNext();
}

function add(files) {
  waiting.push(...files);
  answerNext();
}

async function answerNext() {
  if (busy || !classify || !waiting.length) return;
  busy = true;
  const n = waiting.length;
  say(n > 1 ? `${n} pictures to go …` : "Looking …");
  const file = waiting.shift();
  let answer;
  try {
    await new Promise(requestAnimationFrame); // lets the line above be seen
    answer = await classify(file);
  } catch (error) {
    answer = { problem: error.message };
  }
  show(file, answer);
  busy = false;
  if (waiting.length) answerNext();
  else say(answered.length === 1 ? "1 picture answered." : `${answered.length} pictures answered.`);
}

function headline(answer) {
  if (answer.problem) return [answer.problem];
  if (answer.unknown || !answer.chosen.length) return ["None of these"];
  const of = new Map(answer.labels);
  return answer.chosen.flatMap((name, i) => [i ? ", " : "", name, " ", made("span", share(of.get(name)), "sure")]);
}

function show(file, answer) {
  const name = file.name || "picture";
  answered.push({ name, answer });
  const item = made("li", "", answer.problem || answer.unknown ? "answer doubtful" : "answer");
  const picture = made("img");
  picture.alt = `The picture ${name}`;
  picture.src = URL.createObjectURL(file);
  picture.onerror = () => picture.remove();
  const text = made("div");
  const said = made("p", "", "said");
  said.append(...headline(answer));
  text.append(made("p", name, "name"), said);
  if (!answer.problem) text.append(bars(answer));
  if (answer.unknown) text.append(made("p", answer.unknown, "note"));
  else if (answer.candidates && answer.candidates.length > 1) {
    text.append(made("p", `With ${share(model.set.coverage)} safety it is one of: ${answer.candidates.join(", ")}.`, "note"));
  }
  item.append(picture, text);
  if (typeof extend === "function") extend(item, file, answer); // what a server adds
  element("list").prepend(item);
  element("history").hidden = false;
}

function bars(answer) {
  const list = made("div", "", "bars");
  for (const [name, probability] of answer.labels.slice(0, Math.max(BARS, answer.chosen.length))) {
    const row = made("div", "", answer.chosen.includes(name) ? "picked" : "");
    const track = made("div", "", "track");
    const fill = made("div", "", "fill");
    fill.style.width = `${100 * probability}%`;
    track.append(fill);
    row.append(made("span", name), track, made("span", share(probability), "share"));
    list.append(row);
  }
  return list;
}

/** A cell of a CSV file. A leading = + - @ would be a formula in a spreadsheet. */
function cell(text) {
  const safe = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

function saveTable() {
  const rows = answered.map(({ name, answer }) => {
    const label = answer.problem ? "" : answer.unknown ? "unknown" : answer.chosen.join(", ") || "none";
    return [name, label, answer.problem ? "" : answer.certainty.toFixed(4), answer.problem || answer.unknown || ""];
  });
  const table = [["file_name", "label", "certainty", "note"], ...rows].map((row) => row.map(cell).join(",")).join("\r\n");
  const link = made("a");
  link.href = URL.createObjectURL(new Blob(["\uFEFF", table, "\r\n"], { type: "text/csv" }));
  link.download = "answers.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

function clearAnswers() {
  for (const picture of element("list").querySelectorAll("img")) URL.revokeObjectURL(picture.src);
  element("list").replaceChildren();
  answered.length = 0;
  element("history").hidden = true;
  say("Ready.");
  element("choose").focus();
}

async function openCamera() {
  try {
    element("view").srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    element("camera").hidden = false;
    element("shoot").focus();
  } catch {
    say("No camera can be used here. Take a photo with another program, and choose it.");
  }
}

function closeCamera() {
  for (const track of element("view").srcObject?.getTracks() ?? []) track.stop();
  element("view").srcObject = null;
  element("camera").hidden = true;
  element("photo").focus();
}

async function shoot() {
  const view = element("view");
  const canvas = new OffscreenCanvas(view.videoWidth, view.videoHeight);
  canvas.getContext("2d").drawImage(view, 0, 0);
  add([new File([await canvas.convertToBlob({ type: "image/png" })], `photo ${answered.length + 1}.png`)]);
}

element("choose").onclick = () => element("files").click();
element("files").onchange = (event) => { add(event.target.files); event.target.value = ""; };
element("photo").onclick = openCamera;
element("shoot").onclick = shoot;
element("stop").onclick = closeCamera;
element("save").onclick = saveTable;
element("clear").onclick = clearAnswers;
document.addEventListener("paste", (event) => add(event.clipboardData.files));
document.addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("over"); });
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  add(event.dataTransfer.files);
});
begin();
