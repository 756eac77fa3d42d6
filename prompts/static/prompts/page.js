// The page of one template: its variables, its preview, and a trial.

import { Declarations } from "./declarations.js";
import { Preview } from "./preview.js";
import { keepInView } from "./room.js";
import { Trial } from "./trial.js";

const bench = document.querySelector("#prompt-bench");
const content = document.querySelector("#id_content");
const preview = new Preview(bench, content ? editable() : saved());
const trial = new Trial(bench, preview, () => document.querySelector("#id_name")?.value ?? bench.dataset.name);

keepInView(bench);
preview.look();
trial.findModels();

// What is in the form.
function editable() {
  const variables = document.querySelector("#id_variables");
  const declarations = new Declarations(variables, document.querySelector("#prompt-declaration"));
  for (const field of [content, variables]) field.addEventListener("input", () => preview.refresh());
  return {
    get content() {
      return content.value;
    },
    get json() {
      return declarations.json;
    },
    tell: (unused) => declarations.tell(unused),
    declare: variables.hidden ? (variable) => declarations.declare(variable) : null,
  };
}

// What those see who may look only.
function saved() {
  const read = (id) => JSON.parse(document.querySelector(id)?.textContent ?? '""');
  return {
    content: read("#prompt-saved-content"),
    json: JSON.stringify(read("#prompt-saved-variables")),
    tell() {},
  };
}
