"use strict";
(() => {
  const all = (query, root = document) => [...root.querySelectorAll(query)];
  const pictures = JSON.parse(document.getElementById("ta-pictures").textContent);
  const source = (row) => (pictures[row] ? "data:image/jpeg;base64," + pictures[row] : "");

  // Each picture is in the file once; places that show it take it from there when they come into view.
  const fill = (img) => {
    const found = source(img.dataset.row);
    if (found) img.src = found;
    else {
      const button = img.closest(".thumb");
      button.classList.add("missing");
      button.disabled = true;
    }
  };
  const watch = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      watch.unobserve(entry.target);
      fill(entry.target);
    }
  }, { rootMargin: "800px" });
  all("img[data-row]").forEach((img) => watch.observe(img));
  addEventListener("beforeprint", () => {
    // What few read stays folded: on paper it would be many pages.
    all("details[data-printed]").forEach((part) => (part.open = true));
    all("img[data-row]:not([src])").filter((img) => !img.closest("details:not([open])")).forEach(fill);
  });

  // Enlarge, with the neighbours one key away.
  const viewer = document.getElementById("ta-viewer");
  let shown = [], at = 0;
  const show = (i) => {
    at = (i + shown.length) % shown.length;
    const thumb = shown[at];
    viewer.querySelector("img").src = source(thumb.dataset.row);
    const text = thumb.closest("figure").querySelector("figcaption").cloneNode(true);
    viewer.querySelector("figcaption").replaceWith(text);
    viewer.querySelector(".place").textContent = `${at + 1} of ${shown.length}`;
  };
  document.addEventListener("click", (event) => {
    const thumb = event.target.closest(".thumb");
    if (thumb && !thumb.disabled) {
      shown = all(".thumb:not([disabled])", thumb.closest(".gallery, .strip"));
      show(shown.indexOf(thumb));
      viewer.showModal();
    } else if (event.target === viewer || event.target.closest("[data-close]")) viewer.close();
    else if (event.target.closest("[data-turn]")) show(at + Number(event.target.closest("[data-turn]").dataset.turn));
  });
  viewer.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") show(at - 1);
    if (event.key === "ArrowRight") show(at + 1);
  });

  // A cell of a matrix shows its pictures.
  for (const box of all(".confusion")) {
    const panel = box.querySelector(".panel"), cells = all(".matrix td button", box);
    const groups = new Map(all("template", box).map((group) => [group.dataset.key, group]));
    const open = (key, bring) => {
      const group = groups.get(key);
      if (!group) return;
      for (const cell of cells) {
        const own = cell.dataset.key === key;
        if (own) cell.setAttribute("aria-current", "true");
        else cell.removeAttribute("aria-current");
        if (own) focusable(cell);
      }
      panel.hidden = false;
      panel.querySelector("h3").textContent = group.dataset.title;
      panel.querySelector("p").textContent = group.dataset.note;
      panel.querySelector(".gallery").replaceChildren(group.content.cloneNode(true));
      all("img[data-row]", panel).forEach(fill);
      const top = panel.getBoundingClientRect().top;
      if (bring && (top < 50 || top > innerHeight - 160)) panel.scrollIntoView({ block: "nearest" });
    };
    const focusable = (cell) => cells.forEach((other) => (other.tabIndex = other === cell ? 0 : -1));
    const mark = (cell, on) => {
      const td = cell.closest("td");
      td.parentElement.firstElementChild.classList.toggle("on", on);
      td.closest("table").tHead.rows[0].cells[td.cellIndex].classList.toggle("on", on);
    };
    const neighbour = (cell, key) => {
      const td = cell.closest("td"), row = td.parentElement;
      const line = key === "ArrowLeft" || key === "ArrowRight"
        ? [...row.cells] : [...row.parentElement.rows].map((other) => other.cells[td.cellIndex]);
      const order = key === "ArrowLeft" || key === "ArrowUp" ? line.slice(0, line.indexOf(td)).reverse() : line.slice(line.indexOf(td) + 1);
      return order.map((other) => other.querySelector("button")).find(Boolean);
    };
    for (const cell of cells) {
      cell.addEventListener("click", () => open(cell.dataset.key, true));
      for (const name of ["pointerenter", "focus"]) cell.addEventListener(name, () => mark(cell, true));
      for (const name of ["pointerleave", "blur"]) cell.addEventListener(name, () => mark(cell, false));
      cell.addEventListener("keydown", (event) => {
        if (!event.key.startsWith("Arrow")) return;
        event.preventDefault();
        const next = neighbour(cell, event.key);
        if (next) { focusable(next); next.focus(); }
      });
      cell.dataset.n = cell.textContent;
    }
    const first = cells.find((cell) => !cell.disabled);
    if (first) focusable(first);
    open(box.dataset.first, false);
    all(".opens", box).forEach((link) => link.addEventListener("click", () => open(link.dataset.key, true)));

    const short = cells.length && box.querySelector(".size-l, .size-xl");
    const fraction = (share) => {
      if (share < 0.005) return short ? "0" : "<0.01";
      const text = Number(share).toFixed(2);
      return short ? (text === "1.00" ? "1" : text.slice(1)) : text;
    };
    const choice = box.querySelector(".switch");
    choice.hidden = false;
    for (const button of all("button", choice)) button.addEventListener("click", () => {
      all("button", choice).forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
      const share = button.dataset.show === "share";
      cells.forEach((cell) => (cell.textContent = share ? fraction(cell.dataset.s) : cell.dataset.n));
    });
  }

  // Tables sorted by a click on a column's head.
  const key = (row, i) => row.cells[i].dataset.v === undefined ? row.cells[i].textContent.trim() : Number(row.cells[i].dataset.v);
  const order = (a, b) => typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), undefined, { numeric: true });
  for (const table of all("table.sortable")) {
    [...table.tHead.rows[0].cells].forEach((head, i) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const rows = [...table.tBodies[0].rows].sort((a, b) => order(key(a, i), key(b, i)) * (down ? -1 : 1));
        table.tBodies[0].append(...rows);
      });
    });
  }

  // The values of a chart, under it.
  for (const hit of all(".hit")) {
    const say = hit.closest("figure").querySelector("output");
    for (const name of ["pointerenter", "pointerdown"]) hit.addEventListener(name, () => (say.textContent = hit.dataset.say));
    hit.addEventListener("pointerleave", () => (say.textContent = ""));
  }

  // A command breaks between its words, not within "--out".
  for (const code of all(".code code, .data td code").filter((one) => !one.textContent.includes("\n"))) {
    code.replaceChildren(...code.textContent.split(/( +)/).map((word) => {
      if (!word.trim()) return word;
      const span = document.createElement("span");
      span.className = "word";
      span.textContent = word;
      return span;
    }));
  }

  // Copy.
  for (const button of all(".copy")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      const code = button.parentElement.querySelector("code");
      try {
        await navigator.clipboard.writeText(code.textContent);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(code);
        button.textContent = "Selected";
      }
      setTimeout(() => (button.textContent = "Copy"), 1500);
    });
  }

  // Light, dark, or as the system has it.
  const toggle = document.getElementById("ta-theme"), root = document.documentElement;
  const choices = ["auto", "light", "dark"];
  const name = () => root.dataset.theme || "auto";
  const label = () => (toggle.textContent = "Theme: " + name());
  toggle.hidden = false;
  label();
  toggle.addEventListener("click", () => {
    const next = choices[(choices.indexOf(name()) + 1) % 3];
    if (next === "auto") delete root.dataset.theme;
    else root.dataset.theme = next;
    try { localStorage.setItem("tellapart-theme", next); } catch { /* not kept, still followed */ }
    label();
  });
})();
