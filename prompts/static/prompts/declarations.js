// The variables of a template as rows to edit. The truth is the JSON in the form's textarea, which they rewrite when
// a person changes them, and only then: what was stored stays as it was, to the byte.

import { element } from "./elements.js";

export class Declarations {
  constructor(textarea, template) {
    this.textarea = textarea;
    this.template = template;
    this.rows = element("div", { className: "prompt-declarations" });
    this.none = element("p", { className: "admin-note" }, "None yet. Those that the text uses are added as texts.");
    const add = element("button", { type: "button", className: "admin-button" }, "Add a variable");
    add.addEventListener("click", () => this.declare({}, true));
    const box = element("div", { className: "prompt-declarations-box" }, this.none, this.rows, add);
    const read = parsed(textarea.value);
    if (!read) return; // left as it is, for a person to mend
    textarea.hidden = true;
    textarea.after(box);
    this.label = document.querySelector(`label[for="${textarea.id}"]`);
    this.label?.removeAttribute("for");
    for (const variable of read) this.#addRow(variable);
    this.#showWhetherNone();
  }

  get json() {
    return this.textarea.value;
  }

  declare(variable, focus = false) {
    const row = this.#addRow(variable);
    this.#write();
    if (focus) row.part("name").focus();
  }

  // Marks the rows of those that the text does not use.
  tell(unused) {
    for (const row of this.#all()) {
      const isUnused = unused.includes(row.part("name").value.trim());
      row.part("told").textContent = isUnused ? "The text does not use it." : "";
    }
  }

  #all() {
    return [...this.rows.children].map((child) => child.row);
  }

  #addRow(variable) {
    const fieldset = this.template.content.firstElementChild.cloneNode(true);
    const row = new Row(fieldset, variable);
    fieldset.row = row;
    fieldset.addEventListener("input", () => {
      row.showParts();
      this.#write();
    });
    row.part("remove").addEventListener("click", () => this.#remove(fieldset));
    this.rows.append(fieldset);
    return row;
  }

  #remove(fieldset) {
    const next = fieldset.nextElementSibling ?? fieldset.previousElementSibling;
    fieldset.remove();
    this.#write();
    (next?.row.part("remove") ?? this.rows.nextElementSibling).focus();
  }

  #write() {
    this.textarea.value = JSON.stringify(this.#all().map((row) => row.declaration()), null, 2);
    this.textarea.dispatchEvent(new Event("input", { bubbles: true }));
    this.#showWhetherNone();
  }

  #showWhetherNone() {
    this.none.hidden = this.rows.childElementCount > 0;
  }
}

class Row {
  constructor(fieldset, variable) {
    this.fieldset = fieldset;
    this.given = { name: "", type: "text", required: false, default: "", choices: [], help: "", ...variable };
    this.part("name").value = this.given.name;
    this.part("type").value = this.given.type;
    this.part("required").checked = this.given.required;
    this.part("choices").value = this.given.choices.join("\n");
    this.part("help").value = this.given.help;
    for (const part of ["default", "long_default", "boolean_default"]) this.part(part).value = String(this.given.default);
    this.showParts();
  }

  part(name) {
    return this.fieldset.querySelector(`[data-part=${name}]`);
  }

  showParts() {
    const type = this.part("type").value;
    for (const label of this.fieldset.querySelectorAll("[data-shown-for]")) {
      label.hidden = !label.dataset.shownFor.split(" ").includes(type);
    }
    const name = this.part("name").value.trim();
    this.fieldset.querySelector("legend").textContent = name ? `Variable ${name}` : "New variable";
  }

  declaration() {
    const type = this.part("type").value;
    return {
      name: this.part("name").value.trim(),
      type,
      required: this.part("required").checked,
      default: this.#default(type),
      choices: type === "choice" ? this.#choices() : [],
      help: this.part("help").value.trim(),
    };
  }

  #default(type) {
    const text = this.part({ long_text: "long_default", boolean: "boolean_default" }[type] ?? "default").value;
    if (type === this.given.type && text === String(this.given.default)) return this.given.default;
    if (type === "boolean") return text === "" ? "" : text === "true";
    return type === "number" && text !== "" && String(Number(text)) === text ? Number(text) : text;
  }

  #choices() {
    const text = this.part("choices").value;
    if (text === this.given.choices.join("\n")) return this.given.choices;
    return text.split("\n").map((choice) => choice.trim()).filter(Boolean);
  }
}

function parsed(json) {
  try {
    const variables = JSON.parse(json || "[]");
    return Array.isArray(variables) && variables.every(isDeclaration) ? variables : null;
  } catch {
    return null;
  }
}

function isDeclaration(variable) {
  return variable !== null && typeof variable === "object" && Array.isArray(variable.choices ?? []);
}
