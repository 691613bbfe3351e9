// Draws the part of Adaptive Cards that the product uses. Foreign text only ever becomes text nodes.
import { t } from "/assets/words.js";

export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "class") node.className = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((c) => c !== null && c !== undefined));
  return node;
}

const entities = { "&amp;": "&", "&lt;": "<", "&gt;": ">", "&quot;": '"', "&#39;": "'", "&#x27;": "'", "&nbsp;": "\u00a0" };
const inline = /\\([\\`*_{}[\]()#+\-.!>~|<&])|\*\*(.+?)\*\*|(?<![\p{L}\p{N}])_(?!\s)(.+?)(?<!\s)_(?![\p{L}\p{N}])|\*(?!\s)(.+?)(?<!\s)\*|`([^`]+)`|\[([^\]]*)\]\(([^)\s]*)\)|(&(?:amp|lt|gt|quot|nbsp|#39|#x27);)/gu;

// markdown draws the inline marks that Teams knows. A link shows where it leads and leads nowhere.
export function markdown(text) {
  const out = [];
  let at = 0;
  for (const m of text.matchAll(inline)) {
    if (m.index > at) out.push(text.slice(at, m.index));
    at = m.index + m[0].length;
    if (m[1] !== undefined) out.push(m[1]);
    else if (m[2] !== undefined) out.push(el("strong", {}, ...markdown(m[2])));
    else if (m[3] !== undefined || m[4] !== undefined) out.push(el("em", {}, ...markdown(m[3] ?? m[4])));
    else if (m[5] !== undefined) out.push(el("code", {}, m[5]));
    else if (m[6] !== undefined) out.push(el("span", { class: "link" }, ...markdown(m[6])), ` (${m[7]})`);
    else out.push(entities[m[8]]);
  }
  if (at < text.length) out.push(text.slice(at));
  return out;
}

// drawCard calls press(action, inputs, button) for a button that Teams would send to the bot.
export function drawCard(card, press) {
  return el("div", { class: "card" }, drawInner(card, [], press));
}

function drawInner(card, around, press) {
  const scope = { inputs: [...around], press, shown: null };
  const body = el("div", { class: "stack" }, ...(card.body ?? []).map((e) => drawElement(e, scope)));
  if (card.actions?.length) body.append(drawActions(card.actions, scope));
  return body;
}

function drawElement(e, scope) {
  const node = drawers[e.type]?.(e, scope) ?? el("p", { class: "subtle" }, t("unsupported", { type: String(e.type) }));
  if (e.separator) node.classList.add("separated");
  if (e.spacing) node.dataset.spacing = e.spacing.toLowerCase();
  if (e.isVisible === false) node.hidden = true;
  return node;
}

const drawers = {
  TextBlock: (e) => el("p", {
    class: "text", "data-size": e.size?.toLowerCase(), "data-weight": e.weight?.toLowerCase(), "data-color": e.color?.toLowerCase(),
    "data-subtle": e.isSubtle, "data-nowrap": !e.wrap, "data-align": e.horizontalAlignment?.toLowerCase(),
  }, ...markdown(String(e.text ?? ""))),
  // Unlike a TextBlock, a RichTextBlock shows its text as it is: no Markdown is read in it.
  RichTextBlock: (e) => el("p", { class: "text", "data-align": e.horizontalAlignment?.toLowerCase() },
    ...(e.inlines ?? []).map((r) => typeof r === "string" ? r : el("span", {
      class: "text", "data-size": r.size?.toLowerCase(), "data-weight": r.weight?.toLowerCase(), "data-color": r.color?.toLowerCase(), "data-subtle": r.isSubtle,
    }, String(r.text ?? "")))),
  FactSet: (e) => el("dl", { class: "facts" }, ...(e.facts ?? []).flatMap((f) => [
    el("dt", {}, ...markdown(String(f.title ?? ""))), el("dd", {}, ...markdown(String(f.value ?? ""))),
  ])),
  Container: (e, scope) => el("div", { class: "stack", "data-style": e.style?.toLowerCase() }, ...(e.items ?? []).map((i) => drawElement(i, scope))),
  ColumnSet: (e, scope) => el("div", { class: "columns" }, ...(e.columns ?? []).map((c) => drawElement({ type: "Column", ...c }, scope))),
  Column: (e, scope) => {
    const node = el("div", { class: "stack column", "data-width": typeof e.width === "string" ? e.width : undefined, "data-valign": e.verticalContentAlignment?.toLowerCase() },
      ...(e.items ?? []).map((i) => drawElement(i, scope)));
    if (Number(e.width) > 0) node.style.flexGrow = String(Number(e.width));
    return node;
  },
  ActionSet: (e, scope) => drawActions(e.actions ?? [], scope),
  "Input.Text": (e, scope) => drawInput(e, scope, el(e.isMultiline ? "textarea" : "input", {
    placeholder: e.placeholder, maxlength: e.maxLength, rows: e.isMultiline ? 2 : undefined, type: e.isMultiline ? undefined : "text", autocomplete: "off",
  })),
  "Input.ChoiceSet": (e, scope) => drawInput(e, scope, el("select", {},
    e.value ? null : el("option", { value: "" }, e.placeholder ?? t("choose")),
    ...(e.choices ?? []).map((c) => el("option", { value: c.value }, String(c.title ?? ""))))),
};

let serial = 0;

function drawInput(e, scope, field) {
  const id = `input-${++serial}`;
  const error = el("span", { class: "error", id: `${id}-error`, hidden: true }, e.errorMessage || t("required"));
  field.id = id;
  field.setAttribute("data-input", e.id ?? "");
  field.setAttribute("aria-describedby", error.id);
  if (!e.label) field.setAttribute("aria-label", e.placeholder ?? e.id ?? "");
  if (e.value !== undefined) field.value = e.value;
  if (e.isRequired) field.setAttribute("aria-required", "true");
  scope.inputs.push({ id: e.id, field, error, required: e.isRequired === true });
  return el("div", { class: "field" }, e.label ? el("label", { for: id }, e.label, e.isRequired ? " *" : null) : null, field, error);
}

function drawActions(actions, scope) {
  const box = el("div", { class: "actions" });
  const row = el("div", { class: "buttons" });
  box.append(row);
  for (const action of actions) {
    const style = { positive: "primary", destructive: "danger" }[action.style] ?? "";
    if (action.type === "Action.ShowCard") {
      const inner = el("div", { class: "inner", hidden: true }, drawInner(action.card ?? {}, scope.inputs, scope.press));
      const toggle = el("button", { type: "button", class: style, "aria-expanded": "false", onclick: () => {
        const open = inner.hidden;
        scope.shown?.(); // one inner card at a time, as in Teams
        inner.hidden = !open;
        toggle.setAttribute("aria-expanded", String(open));
        scope.shown = open ? () => { inner.hidden = true; toggle.setAttribute("aria-expanded", "false"); } : null;
        if (open) inner.querySelector("input, textarea, select")?.focus();
      } }, action.title ?? "");
      row.append(toggle);
      box.append(inner);
      continue;
    }
    if (action.type !== "Action.Execute" && action.type !== "Action.Submit") {
      row.append(el("span", { class: "subtle" }, t("unsupported", { type: String(action.type) })));
      continue;
    }
    const button = el("button", { type: "button", class: style, title: action.tooltip, disabled: action.isEnabled === false, onclick: () => {
      const inputs = {};
      let missing = null;
      for (const i of scope.inputs) {
        const empty = i.required && i.field.value.trim() === "";
        i.error.hidden = !empty;
        i.field.setAttribute("aria-invalid", String(empty));
        if (empty) missing ??= i.field;
        if (i.id) inputs[i.id] = i.field.value;
      }
      if (missing) missing.focus();
      else scope.press(action, inputs, button);
    } }, action.title ?? "");
    row.append(button);
  }
  return box;
}
