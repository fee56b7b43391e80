"use strict";
(() => {
  const root = document.documentElement;
  const all = (selector, from = document) => Array.from(from.querySelectorAll(selector));
  root.classList.add("js");

  // Theme: the system's until the button is used. The choice is stored where the browser allows storage.
  const button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (root.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
  const said = () => { if (button) { button.textContent = dark() ? "Light" : "Dark"; button.setAttribute("aria-label", `${button.textContent} theme`); } };
  try { const kept = localStorage.getItem("theme"); if (kept === "dark" || kept === "light") root.dataset.theme = kept; } catch {}
  if (button) button.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    try { localStorage.setItem("theme", root.dataset.theme); } catch {}
    said();
  });
  system.addEventListener("change", said);
  said();

  for (const copy of all("button.copy")) copy.addEventListener("click", async () => {
    const code = copy.parentElement.querySelector("code");
    try {
      await navigator.clipboard.writeText(code.textContent);
      copy.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code);
      copy.textContent = document.execCommand("copy") ? "Copied" : "Selected";
    }
    setTimeout(() => { copy.textContent = "Copy"; }, 1500);
  });

  // Each plot can be saved as it is shown, with its legend: as SVG, or by the print dialog as PDF.
  const DRAWN = ["fill", "fill-opacity", "stroke", "stroke-width", "stroke-dasharray", "stroke-linecap", "stroke-linejoin", "paint-order", "opacity", "font-size", "font-weight", "font-family"];
  const dressed = (shown) => {
    const copy = shown.cloneNode(true);
    const from = [shown, ...all("*", shown)];
    [copy, ...all("*", copy)].forEach((one, index) => {
      const style = getComputedStyle(from[index]);
      if (!["svg", "g", "title", "desc"].includes(one.tagName)) for (const key of DRAWN) one.setAttribute(key, style.getPropertyValue(key));
      one.removeAttribute("class");
    });
    return copy;
  };
  const make = (tag, attributes, ...inside) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...inside);
    return made;
  };
  const saved = (plot) => {
    const { width, height } = plot.viewBox.baseVal;
    const rows = all(".key li", plot.closest(".plots") || plot).filter((item) => plot.querySelector(`[data-row="${CSS.escape(item.dataset.row)}"]`));
    const columns = Math.max(1, Math.floor(width / 180));
    const total = height + Math.ceil(rows.length / columns) * 18 + 8;
    const { backgroundColor, color, fontFamily } = getComputedStyle(plot);
    const copy = dressed(plot);
    for (const [key, value] of Object.entries({ xmlns: "http://www.w3.org/2000/svg", viewBox: `0 0 ${width} ${total}`, width, height: total })) copy.setAttribute(key, value);
    copy.prepend(make("rect", { width, height: total, fill: backgroundColor }));
    rows.forEach((item, index) => copy.append(make("g", { transform: `translate(${6 + (index % columns) * 180} ${height + Math.floor(index / columns) * 18})` },
      ...dressed(item.querySelector("svg")).childNodes, make("text", { x: 36, y: 11, fill: color, "font-size": 11.5, "font-family": fontFamily }, item.textContent.trim()))));
    return new XMLSerializer().serializeToString(copy);
  };
  for (const plot of all("svg.plot")) {
    const frame = document.createElement("div");
    const title = plot.querySelector("title").textContent;
    const press = (text, act) => {
      const one = document.createElement("button");
      Object.assign(one, { type: "button", textContent: text });
      one.setAttribute("aria-label", `Save as ${text}: ${title}`);
      one.addEventListener("click", act);
      return one;
    };
    const svg = press("SVG", () => {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([saved(plot)], { type: "image/svg+xml" }));
      link.download = `${title.toLowerCase().replace(/[^a-z0-9]+/g, "-")}.svg`;
      link.click();
      URL.revokeObjectURL(link.href);
    });
    const pdf = press("PDF", () => {
      root.classList.add("one");
      frame.classList.add("printed");
      print();
      root.classList.remove("one");
      frame.classList.remove("printed");
    });
    frame.className = "shot";
    plot.replaceWith(frame);
    frame.append(plot, svg, pdf);
  }

  // A link to a record opens the record.
  const open = () => {
    const found = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
    if (found && found.matches("details")) { found.open = true; found.scrollIntoView(); }
  };

  const skip = document.querySelector(".skip");
  if (skip) skip.addEventListener("click", (event) => {
    event.preventDefault();  // the fragment stores the state
    document.getElementById("main").focus();
  });

  const data = document.getElementById("sections");
  if (!data) { open(); addEventListener("hashchange", open); return; }

  const entries = JSON.parse(data.textContent);
  const form = document.getElementById("switches");
  const first = { section: entries[0].id, sort: "iqm", dir: "descending", filter: "", hide: "", group: "" };
  let state = { ...first };

  const read = () => {
    const hash = location.hash.slice(1);
    if (entries.some((entry) => entry.id === hash)) return { ...first, section: hash };
    const given = new URLSearchParams(hash);
    const next = { ...first };
    for (const key of Object.keys(first)) if (given.has(key)) next[key] = given.get(key);
    if (!entries.some((entry) => entry.id === next.section)) next.section = first.section;
    return next;
  };
  const write = (change) => {
    state = { ...state, ...change };
    const given = new URLSearchParams();
    for (const key of Object.keys(first)) if (state[key] !== first[key]) given.set(key, state[key]);
    history.replaceState(null, "", given.size ? `#${given}` : location.pathname + location.search);
    show();
  };

  // Both tables of a section have the order of the first. Groups follow their best row.
  const arrange = (section, grouped) => {
    const order = all("table.board tbody.rows tr[data-row]", section);
    const groups = [...new Set(order.map((row) => row.dataset.group))];
    if (grouped) order.sort((a, b) => groups.indexOf(a.dataset.group) - groups.indexOf(b.dataset.group));
    for (const table of all("table.board, table.heat", section)) {
      for (const head of all("tr.group", table)) head.remove();
      const lines = new Map(all("tbody.rows tr", table).map((row) => [row.dataset.row, row]));
      let last = "";
      for (const { dataset } of order) {
        const line = lines.get(dataset.row);
        if (!line) continue;
        if (grouped && dataset.group !== last) {
          const head = document.createElement("tr");
          head.className = "group";
          head.dataset.group = last = dataset.group;
          head.append(document.createElement("th"), document.createElement("td"));
          head.firstChild.scope = "rowgroup";
          head.firstChild.textContent = dataset.group;
          head.lastChild.colSpan = line.children.length - 1;
          line.parentElement.append(head);
        }
        line.parentElement.append(line);
      }
    }
  };

  const sort = (table, key, direction) => {
    const heads = all("thead tr:last-child > th", table);
    let column = heads.findIndex((head) => head.dataset.key === key);
    if (column < 0) return;
    const sign = direction === "ascending" ? 1 : -1;
    const body = table.querySelector("tbody.rows");
    const value = (row) => {
      const cell = row.children[column];
      if (cell.dataset.v) return cell.dataset.v;
      const [found] = cell.textContent.replace("\u2212", "-").replaceAll(",", "").match(/^-?[\d.]+/) || [];
      return found;
    };
    const lines = all("tr[data-row]", body).sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);  // rows without a value come last
      return sign * (key === "name" ? (x < y ? -1 : x > y ? 1 : 0) : Number(x) - Number(y));
    });
    body.append(...lines);
    heads.forEach((head, index) => {
      if (index === column) head.setAttribute("aria-sort", direction);
      else head.removeAttribute("aria-sort");
    });
  };

  const filter = (section, wanted) => {
    const rows = all("table.board tbody.rows tr[data-row]", section);
    const words = wanted.toLowerCase().split(/\s+/).filter(Boolean);
    const out = new Set();
    for (const row of rows) if (!words.every((word) => row.dataset.name.includes(word))) out.add(row.dataset.row);
    for (const row of all("tbody.rows tr[data-row]", section)) row.hidden = out.has(row.dataset.row);
    const kept = new Set(rows.filter((row) => !row.hidden).map((row) => row.dataset.group));
    for (const head of all("tr.group", section)) head.hidden = !kept.has(head.dataset.group);
    for (const mark of all(".plots [data-row]", section)) mark.classList.toggle("off", out.has(mark.dataset.row));
    section.querySelector("output").textContent = words.length ? `${rows.length - out.size} of ${rows.length} rows` : "";
  };

  const show = () => {
    const entry = entries.find((one) => one.id === state.section);
    for (const section of all("main > .section")) section.classList.toggle("shown", section.id === state.section);
    for (const input of all("input", form)) input.checked = entry[input.name] === input.value;
    const section = document.getElementById(state.section);
    const field = section.querySelector(".filter");
    if (field.value !== state.filter) field.value = state.filter;
    sort(section.querySelector("table.board"), state.sort, state.dir);
    arrange(section, state.group === "mechanism");
    for (const box of all(".grouped", section)) box.checked = state.group === "mechanism";
    filter(section, state.filter);
    const hidden = state.hide.split(",");
    for (const box of all("input[data-group]", section)) {
      box.checked = !hidden.includes(box.dataset.group);
      section.querySelector("table.board").classList.toggle(`hide-${box.dataset.group}`, !box.checked);
    }
  };

  // Show the section with the chosen value that shares most other settings with the current one.
  form.addEventListener("change", (event) => {
    const { name, value } = event.target;
    const now = entries.find((entry) => entry.id === state.section);
    const alike = (entry) => Object.keys(now).filter((key) => entry[key] === now[key]).length;
    const [next] = entries.filter((entry) => entry[name] === value).sort((a, b) => alike(b) - alike(a));
    write({ section: next.id });
  });
  // Cells have the group of their column. The page does not repeat it, to be small.
  for (const table of all("table.board")) {
    const kinds = all("thead tr:last-child > th", table).map((head) => head.className);
    for (const line of all("tbody tr", table)) Array.from(line.children).slice(1).forEach((cell, index) => cell.classList.add(kinds[index + 1]));
  }
  for (const head of all("table.board th[data-key]")) head.querySelector("button").disabled = false;
  for (const head of all("table.board th[data-key]")) head.querySelector("button").addEventListener("click", () => {
    const now = head.getAttribute("aria-sort");
    const other = { ascending: "descending", descending: "ascending" };
    write({ sort: head.dataset.key, dir: other[now] || head.dataset.first || "descending" });
  });
  for (const field of all(".filter")) field.addEventListener("input", () => write({ filter: field.value }));
  for (const box of all(".grouped")) box.addEventListener("change", () => write({ group: box.checked ? "mechanism" : "" }));
  for (const section of all("main > .section")) for (const box of all("input[data-group]", section)) box.addEventListener("change", () => {
    write({ hide: all("input[data-group]", section).filter((one) => !one.checked).map((one) => one.dataset.group).join(",") });
  });

  // Pointing at a row in the legend highlights it in every plot.
  const point = (row) => {
    if (row === null) { filter(document.getElementById(state.section), state.filter); return; }
    for (const mark of all(".section.shown .plots svg [data-row]")) mark.classList.toggle("off", mark.dataset.row !== row);
  };
  for (const item of all(".key li")) {
    item.addEventListener("pointerenter", () => point(item.dataset.row));
    item.addEventListener("pointerleave", () => point(null));
  }

  addEventListener("hashchange", () => { state = read(); show(); });
  state = read();
  show();
})();
