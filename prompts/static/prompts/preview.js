// What the text says with these values. The server fills it in, by the same code that fills it in for clients.

import { element, later } from "./elements.js";
import { ask, complaint } from "./server.js";
import { Values } from "./values.js";

const PAUSE_MS = 250;

export class Preview {
  // `source` has `content` and `json`, as they are now.
  constructor(bench, source) {
    this.url = bench.dataset.previewUrl;
    this.source = source;
    this.values = new Values(bench.querySelector("#prompt-values"), () => this.refresh());
    this.text = bench.querySelector("#prompt-text");
    this.problems = bench.querySelector("#prompt-problems");
    this.count = bench.querySelector("#prompt-count");
    this.refresh = later(PAUSE_MS, () => this.look());
  }

  // The account of what is there now, as prompts/admin/preview.py gives it; null if a later look was faster.
  async look() {
    this.looking?.abort();
    const looking = (this.looking = new AbortController());
    try {
      const body = { content: this.source.content, variables: this.source.json, values: this.values.all };
      const response = await ask("POST", this.url, { body, signal: looking.signal });
      const isJson = response.headers.get("Content-Type")?.startsWith("application/json");
      if (!response.ok || !isJson) throw new Error(response.ok ? "Please log in again." : await complaint(response));
      const account = await response.json();
      if (looking.signal.aborted) return null;
      this.#show(account);
      return account;
    } catch (error) {
      if (looking.signal.aborted) return null;
      this.#tell([{ message: `There is no preview: ${error.message}` }], "bad");
      this.text.classList.add("is-stale");
      return { is_complete: false };
    }
  }

  #show(account) {
    const wrong = {};
    for (const problem of account.problems) {
      if (problem.at.startsWith("values.")) wrong[problem.at.slice("values.".length)] = problem.message;
    }
    if (account.variables.length || account.text !== null) this.values.show(account.variables, account.missing, wrong);
    this.source.tell(account.unused);
    this.text.classList.toggle("is-stale", account.text === null);
    if (account.text !== null) this.text.replaceChildren(...marked(account.text, Object.keys(wrong)));
    this.count.textContent = account.text === null ? "" : counted(account);
    this.#tell(account.problems, "bad");
    this.#tellNames(account);
  }

  #tell(problems, tone) {
    this.problems.replaceChildren(...problems.map((problem) => element("li", { className: tone }, problem.message)));
  }

  #tellNames({ undeclared, unused, variables }) {
    for (const name of undeclared) {
      const item = element("li", { className: "info" }, `“${name}” is not declared: it will be a text variable. `);
      if (this.source.declare) {
        const button = element("button", { type: "button", className: "admin-link" }, `Declare “${name}”`);
        button.addEventListener("click", () => this.source.declare(variables.find((each) => each.name === name)));
        item.append(button);
      }
      this.problems.append(item);
    }
    for (const name of unused) {
      this.problems.append(element("li", { className: "warning" }, `“${name}” is declared, but the text does not use it.`));
    }
  }
}

function counted({ characters, tokens }) {
  return `${characters.toLocaleString("en")} characters, about ${tokens.toLocaleString("en")} tokens`;
}

// Where a value is missing or wrong, the text has ⟨name⟩.
function marked(text, names) {
  if (!names.length) return [text];
  const gap = new RegExp(`(⟨(?:${names.join("|")})⟩)`);
  return text.split(gap).map((piece, at) => (at % 2 ? element("mark", {}, piece) : piece));
}
