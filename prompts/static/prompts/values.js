// A field for each variable of the text. What was typed stays while the text around it changes.

import { element } from "./elements.js";

export class Values {
  constructor(form, changed) {
    this.form = form;
    this.fields = new Map();
    form.addEventListener("input", changed);
    form.addEventListener("submit", (event) => event.preventDefault());
  }

  get all() {
    return Object.fromEntries([...this.fields].map(([name, field]) => [name, valueOf(field.input)]));
  }

  // `missing`: names; `wrong`: messages by name.
  show(variables, missing, wrong) {
    const former = this.fields;
    this.fields = new Map(variables.map((variable) => [variable.name, fieldFor(variable, former.get(variable.name))]));
    const labels = [...this.fields.values()].map((field) => field.label);
    if (labels.some((label, at) => this.form.children[at] !== label) || this.form.children.length !== labels.length) {
      const focused = document.activeElement;
      this.form.replaceChildren(...labels);
      if (this.form.contains(focused)) focused.focus();
    }
    for (const [name, field] of this.fields) {
      const message = missing.includes(name) ? "needed" : (wrong[name] ?? "");
      field.told.textContent = message;
      field.input.setAttribute("aria-invalid", String(Boolean(message)));
    }
  }
}

function fieldFor(variable, former) {
  const shape = JSON.stringify([variable.type, variable.choices, variable.default, variable.required, variable.help]);
  if (former?.shape === shape) return former;
  const input = inputFor(variable);
  if (former && input.type !== "checkbox" && former.input.type !== "checkbox") input.value = former.input.value;
  const told = element("span", { className: "prompt-told" });
  const name = element("span", { className: "prompt-name" }, variable.name, variable.required ? " *" : "", told);
  const label = element("label", { className: `is-${variable.type}`, title: variable.help }, name, input);
  return { shape, input, told, label };
}

function inputFor(variable) {
  const hint = variable.default === "" ? variable.help : String(variable.default);
  switch (variable.type) {
    case "long_text":
      return element("textarea", { rows: 2, placeholder: hint });
    case "choice": {
      const none = element("option", { value: "" }, variable.default === "" ? "–" : `${variable.default} (default)`);
      return element("select", {}, none, ...variable.choices.map((choice) => element("option", { value: choice }, choice)));
    }
    case "boolean":
      return element("input", { type: "checkbox", checked: String(variable.default) === "true" });
    case "number":
      return element("input", { type: "text", inputMode: "decimal", placeholder: hint, autocomplete: "off" });
    default:
      return element("input", { type: "text", placeholder: hint, autocomplete: "off" });
  }
}

function valueOf(input) {
  return input.type === "checkbox" ? input.checked : input.value;
}
