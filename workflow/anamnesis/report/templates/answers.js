// The table of changed answers: filters, shares, what lost answers became. Texts are set as text, never as markup.
const PAGE = 12;
const ALL = "all";

function element(name, content = "", attributes = {}) {
  const made = document.createElement(name);
  if (Array.isArray(content)) made.append(...content);
  else made.textContent = content;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function unique(values) {
  return [...new Set(values)];
}

function percent(part, whole) {
  return whole ? `${((100 * part) / whole).toFixed(1)} %` : "–";
}

class Browser {
  constructor(place) {
    this.data = JSON.parse(place.querySelector("script").textContent);
    const { texts } = this.data;
    this.rows = this.data.rows.map(([set, asked, method, order, seed, kind, question, target, answers, right, guided, guidedRight, vector]) => ({
      set: texts[set], asked: texts[asked], method: texts[method], order: String(order), seed: String(seed), kind,
      question: texts[question], target: texts[target], answers: answers.map((k) => texts[k]), right,
      guided: guided === null ? null : texts[guided], guidedRight, vector,
    }));
    this.shares = this.data.shares.map(([set, asked, method, order, seed, n, ...counts]) => ({
      set, asked, method, order: String(order), seed: String(seed), n,
      counts: Object.fromEntries(Object.keys(this.data.kinds).map((kind, k) => [kind, counts[k]])),
    }));
    this.filters = new Map();
    this.shown = PAGE;
    const form = element("form", this.selects(), { class: "filters", "aria-label": "Filter the answers" });
    form.addEventListener("input", () => this.refresh());
    form.addEventListener("submit", (event) => event.preventDefault());
    this.status = element("p", "", { role: "status", class: "status" });
    this.instruction = element("p", "", { class: "note" });
    this.counted = element("div", [], { class: "scroll", tabindex: "0", role: "region", "aria-label": "What lost answers became" });
    this.table = element("div", [], { class: "scroll answers-table", tabindex: "0", role: "region", "aria-label": "Changed answers" });
    this.more = element("button", "", { type: "button" });
    this.more.addEventListener("click", () => this.refresh(this.shown + PAGE));
    place.append(form, this.status, this.instruction, this.counted, this.table, this.more);
    place.hidden = false;
    this.refresh();
  }

  selects() {
    const values = (key) => unique(this.shares.map((row) => row[key]));
    const kinds = Object.keys(this.data.kinds).filter((kind) => this.rows.some((row) => row.kind === kind));
    const named = kinds.map((kind) => [kind, `${this.data.kinds[kind][0]}: ${this.data.kinds[kind][1]}`]);
    const { start } = this.data;
    const made = [
      this.select("set", "Set", values("set"), start.set),
      this.select("asked", "Asked as", values("asked"), start.asked),
      this.select("method", "Method", values("method"), start.method),
      this.select("order", "Order of tasks", values("order")),
      this.select("seed", "Seed", values("seed")),
      this.select("kind", "Change", named, start.kind),
    ];
    const text = element("input", "", { type: "search", name: "text" });
    this.filters.set("text", text);
    return [...made.filter(Boolean), element("label", [element("span", "Contains"), text])];
  }

  select(key, label, values, chosen = ALL) {
    if (key === "order" && values.length < 2) return null;
    const options = [[ALL, ALL], ...values.map((value) => (Array.isArray(value) ? value : [value, value.replaceAll("_", " ")]))];
    const made = element("select", options.map(([value, text]) => element("option", text, { value })), { name: key });
    made.value = chosen;
    this.filters.set(key, made);
    return element("label", [element("span", label), made]);
  }

  chosen(key) {
    return this.filters.get(key)?.value ?? ALL;
  }

  passes(row, keys) {
    return keys.every((key) => this.chosen(key) === ALL || row[key] === this.chosen(key));
  }

  refresh(shown = PAGE) {
    this.shown = shown;
    const chain = ["set", "asked", "method", "order", "seed"];
    const text = this.chosen("text").toLowerCase();
    const contains = (row) => !text || [row.question, row.target, ...row.answers].some((part) => part.toLowerCase().includes(text));
    const rows = this.rows.filter((row) => this.passes(row, [...chain, "kind"]) && contains(row));
    const shares = this.shares.filter((row) => this.passes(row, chain));
    const total = shares.reduce((sum, row) => sum + row.n, 0);
    const parts = Object.entries(this.data.kinds).map(
      ([kind, [name]]) => `${name} ${percent(shares.reduce((sum, row) => sum + row.counts[kind], 0), total)}`,
    );
    const left = this.data.left_out ? ` This page holds the first of them; ${this.data.left_out} more are in the CSV.` : "";
    const none = total ? "" : "No question is asked in this way. ";
    this.status.textContent = none || `${rows.length} changed answer${rows.length === 1 ? "" : "s"} shown. Of ${total} answers: ${parts.join(", ")}.${left}`;
    this.instruction.textContent = this.about();
    this.counted.replaceChildren(...this.counts());
    this.table.replaceChildren(this.answers(rows.slice(0, shown)));
    this.more.hidden = rows.length <= shown;
    this.more.textContent = `Show ${Math.min(PAGE, rows.length - shown)} more of ${rows.length - shown}`;
  }

  about() {
    const set = this.chosen("set");
    const instruction = this.data.instructions[set];
    const parts = instruction ? [`Instruction: ${instruction}`] : [];
    const vector = this.data.vector[`${set}|${this.chosen("method")}`];
    if (vector) parts.push(`Zero-shot accuracy after training ${vector[0]}, with the instruction vector added ${vector[1]}.`);
    return parts.join(" ");
  }

  counts() {
    const [set, asked, method] = ["set", "asked", "method"].map((key) => this.chosen(key));
    if ([set, asked, method].includes(ALL)) return [];
    const rows = this.data.counts.filter((row) => row[0] === set && row[1] === asked && row[2] === method);
    const most = rows.length <= 6 ? rows : rows.filter((row) => row[7] > 0).slice(0, 5);
    if (!most.length) return [];
    const header = ["Answer", "is right", "given before", "given after", `of ${most[0][8]} lost answers became it`];
    const shownOf = most.length < rows.length ? `, the ${most.length} that most lost answers became` : "";
    const body = most.map((row) => [row[3] || "(empty)", ...row.slice(4, 8)]);
    return [this.plainTable(`Answers of all chains${shownOf}`, header, body, "numbers")];
  }

  plainTable(caption, header, rows, kind) {
    const head = element("thead", [element("tr", header.map((cell) => element("th", cell, { scope: "col" })))]);
    const body = rows.map((row) =>
      element("tr", row.map((cell, k) => (k ? element("td", String(cell)) : element("th", String(cell), { scope: "row" })))),
    );
    return element("table", [element("caption", caption), head, element("tbody", body)], { class: kind });
  }

  answers(rows) {
    const order = this.data.orders[Number(this.chosen("order")) - 1] ?? (this.data.orders.length === 1 ? this.data.orders[0] : []);
    const stages = Array.from({ length: this.data.stages }, (_, k) => `After ${k + 1}${order[k] ? ` ${order[k]}` : ""}`);
    const guided = rows.some((row) => row.guided !== null);
    const vector = rows.some((row) => row.vector !== null);
    const header = ["Question", "Right answer", "Before", ...stages, ...(guided ? ["With guidance"] : []), ...(vector ? ["With the vector"] : [])];
    const cells = (row) => [
      element("td", row.target),
      ...row.answers.map((answer, k) => this.answer(answer, row.right[k])),
      ...(guided ? [this.answer(row.guided ?? "", row.guided === null ? null : row.guidedRight)] : []),
      ...(vector ? [this.answer(null, row.vector)] : []),
    ];
    const label = (made, k) => {
      made.dataset.label = header[k];
      return made;
    };
    const body = rows.map((row) => {
      const about = [
        ["set", row.set.replaceAll("_", " ")],
        ["asked", row.asked],
        ["method", row.method],
        ["seed", `seed ${row.seed}`],
        ["kind", this.data.kinds[row.kind][0]],
      ].filter(([key]) => this.chosen(key) === ALL).map(([, text]) => text);
      const question = element("th", [element("span", row.question), element("small", about.join(" · "))], { scope: "row" });
      return element("tr", [question, ...cells(row)].map(label));
    });
    const head = element("thead", [element("tr", header.map((cell) => element("th", cell, { scope: "col" })))]);
    return element("table", [element("caption", "Changed answers, question by question"), head, element("tbody", body)], { class: "text" });
  }

  answer(text, right) {
    if (right === null) return element("td", "–");
    const mark = element("span", right ? "✓" : "✗", { role: "img", "aria-label": right ? "right:" : "wrong:" });
    return element("td", text === null ? [mark] : [mark, `\u00a0${text || "(empty)"}`], { class: right ? "right" : "wrong" });
  }
}

for (const place of document.querySelectorAll(".answers")) new Browser(place);
