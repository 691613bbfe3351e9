import { el, markdown, drawCard } from "/assets/card.js";
import { t, language, setLanguage } from "/assets/words.js";

const $ = (id) => document.getElementById(id);
const url = new URL(location.href);
let me = url.searchParams.get("as") ?? "";
let channel = 0;
let view = null;
let events = null;
let drawn = new Map(); // what stands on the page, by key: { raw, node }

async function ask(path, body) {
  try {
    const res = await fetch(`/api/${path}`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ as: me, ...body }) });
    if (!res.ok) say(t("failed", { why: (await res.json()).error }));
    else say("");
    return res.ok;
  } catch {
    say(t("lost"));
    return false;
  }
}

const say = (line) => { $("link").textContent = line; };

function connect() {
  events?.close();
  drawn = new Map();
  $("threads").replaceChildren();
  $("messages").replaceChildren();
  events = new EventSource(`/api/events?as=${encodeURIComponent(me)}`);
  events.onopen = () => say("");
  events.onerror = () => say(t("lost"));
  events.onmessage = (e) => { view = JSON.parse(e.data); draw(); };
}

function become(short) {
  me = short;
  url.searchParams.set("as", short);
  history.replaceState(null, "", url);
  connect();
}

// keep returns the node for key and draws it anew only when raw differs, so that what is typed into a card stays.
function keep(key, raw, make) {
  const old = drawn.get(key);
  if (old?.raw === raw) return old.node;
  const node = make();
  drawn.set(key, { raw, node });
  return node;
}

// place makes nodes the children of box without touching those that stand right already.
function place(box, nodes) {
  for (const child of [...box.children]) if (!nodes.includes(child)) child.remove();
  nodes.forEach((node, i) => { if (box.children[i] !== node) box.insertBefore(node, box.children[i] ?? null); });
}

function atEnd(box) { return box.scrollHeight - box.scrollTop - box.clientHeight < 80; }

function draw() {
  me = view.me;
  const my = view.people.find((p) => p.short === me);
  document.title = `${my.name} · ${view.team}`;
  $("team").textContent = view.team;
  drawPeople();
  $("install-box").hidden = view.installed;
  drawFaults();
  const feed = view.channels[channel];
  place($("channels"), view.channels.map((c, i) => {
    const tab = keep(`tab ${c.id}`, c.name, () => el("button", { type: "button", onclick: () => { channel = i; draw(); $("threads").scrollTop = $("threads").scrollHeight; } }, c.name));
    tab.setAttribute("aria-pressed", String(i === channel));
    return tab;
  }));
  fill($("threads"), feed.threads.length ? feed.threads.map(drawThread) : [drawEmpty("channel", "emptyChannel", "emptyChannel2", {})]);
  $("chat-title").textContent = view.bot;
  const chat = view.chat.posts.map((p) => drawPost(p, "chat"));
  fill($("messages"), chat.length ? chat : [drawEmpty("chat", "emptyChat", "emptyChat2", { name: my.given, bot: view.bot })]);
  drawTyping();
  const unread = my.unread;
  $("chat-badge").hidden = unread === 0;
  $("chat-badge").textContent = String(unread);
  see();
}

function fill(box, nodes) {
  const stay = atEnd(box);
  place(box, nodes);
  if (stay) box.scrollTop = box.scrollHeight;
}

// see tells that the person has looked at the chat, once it is in view.
function see() {
  const last = view?.chat.posts.at(-1);
  const my = view?.people.find((p) => p.short === me);
  if (last && my.unread > 0 && document.visibilityState === "visible" && $("chat").checkVisibility()) ask("seen", { activity: last.id });
}

function initials(name) {
  const parts = name.split(/\s+/);
  return [parts[0], parts.at(-1)].map((p) => [...p][0]).join("").toUpperCase();
}

function avatar(short, name) {
  const i = view.people.findIndex((p) => p.short === short);
  return el("span", { class: "avatar", "data-hue": i < 0 ? "bot" : String(i), "aria-hidden": "true" }, i < 0 ? "C" : initials(name));
}

// drawPeople keeps the focus on a person whose entry is drawn anew, and the chosen one in view.
function drawPeople() {
  const focused = document.activeElement?.dataset.member;
  place($("people"), view.people.map(drawPerson));
  if (focused) document.querySelector(`[data-member="${CSS.escape(focused)}"]`)?.focus();
  const chosen = document.querySelector("#people [aria-current]");
  if (chosen.dataset.member !== inView) chosen.scrollIntoView({ block: "nearest", inline: "center" });
  inView = chosen.dataset.member;
}

let inView = "";

function drawPerson(p) {
  return keep(`person ${p.short}`, JSON.stringify([p, p.short === me, language()]), () => el("li", {},
    el("button", { type: "button", "data-member": p.short, "aria-current": p.short === me ? "true" : undefined, onclick: () => become(p.short) },
      avatar(p.short, p.name), el("span", { class: "who" }, el("span", { class: "full" }, p.name), el("span", { class: "given" }, p.given), el("small", {}, p.email)),
      p.unread && p.short !== me ? el("span", { class: "badge", "aria-label": t("unread", { n: p.unread }) }, String(p.unread)) : null)));
}

function drawEmpty(where, one, two, fillWith) {
  return keep(`empty ${where}`, `${me} ${language()}`, () => el("div", { class: "empty" }, el("p", {}, t(one, fillWith)), el("p", {}, t(two, fillWith))));
}

function drawThread(thread) {
  const node = keep(`thread ${thread.id}`, language(), () => el("article", { class: "thread", "data-thread": thread.id }, el("div", { class: "posts" }), el("p", { class: "typing" }), replyBox(thread.id)));
  place(node.querySelector(".posts"), thread.posts.map((p) => drawPost(p, "thread")));
  return node;
}

function replyBox(thread) {
  const text = el("textarea", { rows: "1", "aria-label": t("replyLabel"), autocomplete: "off" });
  const mention = el("input", { type: "checkbox" });
  mention.checked = true;
  const form = el("form", { class: "reply", hidden: true },
    text,
    el("div", { class: "row" },
      el("label", { class: "check" }, mention, ` ${t("mention", { bot: view.bot })} `, el("small", {}, t("mentionWhy"))),
      el("button", { type: "button", class: "quiet", onclick: () => close() }, t("cancel")),
      el("button", { type: "submit" }, t("send"))));
  const open = el("button", { type: "button", class: "quiet", onclick: () => { form.hidden = false; open.hidden = true; text.focus(); } }, t("reply"));
  const close = () => { form.hidden = true; open.hidden = false; open.focus(); };
  sendOnEnter(form, text, (line) => { ask("say", { thread, text: line, mention: mention.checked }); close(); });
  return el("div", { class: "replying" }, open, form);
}

function sendOnEnter(form, text, send) {
  text.addEventListener("keydown", (e) => {
    if (e.key === "Enter" && !e.shiftKey && !e.isComposing) { e.preventDefault(); form.requestSubmit(); }
  });
  text.addEventListener("input", () => grow(text));
  form.addEventListener("submit", (e) => {
    e.preventDefault();
    const line = text.value.trim();
    if (!line) return;
    text.value = "";
    grow(text);
    send(line);
  });
}

const tallest = 160;

function grow(text) {
  text.style.height = "auto";
  const wanted = text.scrollHeight + 2; // with both borders
  text.style.height = `${Math.min(wanted, tallest)}px`;
  text.classList.toggle("tall", wanted > tallest);
}

function drawPost(p, where) {
  const mine = p.author === me && where === "chat";
  return keep(`post ${p.id}`, JSON.stringify([p, language()]), () => {
    const at = new Date(p.at);
    const head = el("div", { class: "head" },
      el("strong", {}, p.name), p.author ? null : el("span", { class: "tag" }, t("app")),
      el("time", { datetime: at.toISOString() }, at.toLocaleTimeString(language(), { timeStyle: "short" })),
      p.edited ? el("span", { class: "subtle" }, t("edited")) : null);
    const body = el("div", { class: "content" }, head);
    if (p.deleted) body.append(el("p", { class: "subtle" }, t("deleted")));
    if (p.text) body.append(el("p", { class: "said" }, ...said(p)));
    for (const card of p.cards ?? []) body.append(drawCard(card, (button, inputs, node) => press(p.id, button, inputs, node)));
    if (p.notice) body.append(el("p", { class: "notice", "data-error": p.notice.error, role: "status" }, p.notice.text));
    if (p.delivery === "sending" || p.delivery === "undelivered" || p.delivery === "refused")
      body.append(el("p", { class: "delivery", "data-delivery": p.delivery }, t(p.delivery)));
    return el("div", { class: mine ? "post mine" : "post", "data-activity": p.id }, avatar(p.author, p.name), body);
  });
}

function said(p) {
  const plain = (text) => (p.plain ? [text] : markdown(text));
  let rest = p.text;
  const out = [];
  for (const m of p.mentions ?? []) {
    const i = rest.indexOf(m.text);
    if (i < 0) continue;
    out.push(...plain(rest.slice(0, i)), el("span", { class: "mention" }, m.name));
    rest = rest.slice(i + m.text.length);
  }
  return [...out, ...plain(rest)];
}

async function press(activity, button, inputs, node) {
  node.setAttribute("aria-busy", "true");
  node.disabled = true;
  const { type, verb, title, data, fallback } = button;
  await ask("click", { activity, inputs, button: { type, verb, title, data, fallback } });
  node.removeAttribute("aria-busy");
  node.disabled = false;
  // A card that was replaced took the focus with it; the keyboard goes on from its list.
  if (document.activeElement === document.body) document.querySelector(`[data-activity="${CSS.escape(activity)}"]`)?.closest(".log").focus({ preventScroll: true });
}

const typingLasts = 6000;

function drawTyping() {
  if (!view) return;
  const line = (at) => (Date.now() - at < typingLasts ? t("typing", { bot: view.bot }) : "");
  const set = (node, text) => { if (node && node.textContent !== text) node.textContent = text; };
  set($("typing"), line(view.chat.typing));
  for (const thread of view.channels[channel].threads)
    set(drawn.get(`thread ${thread.id}`)?.node.querySelector(".typing"), line(thread.typing));
}
setInterval(drawTyping, 1000);

function drawFaults() {
  const f = view.faults;
  $("fault-state").textContent = f.calls ? t("armed", { n: f.calls, kind: t(f.kind) }) : t("calm");
  $("faults").dataset.armed = String(f.calls > 0 || f.duplicate || f.latency > 0 || f.oldClient || f.blocked);
  if (document.activeElement !== $("fault-latency")) $("fault-latency").value = String(f.latency);
  $("fault-duplicate").checked = f.duplicate;
  $("fault-old").checked = f.oldClient;
  $("fault-blocked").checked = f.blocked;
}

const fault = (faults) => ask("faults", { faults });
$("fault-form").addEventListener("submit", (e) => {
  e.preventDefault();
  fault({ kind: $("fault-kind").value, calls: $("fault-calls").valueAsNumber || 1 });
});
$("fault-latency").addEventListener("change", (e) => fault({ latency: Number(e.target.value) }));
$("fault-duplicate").addEventListener("change", (e) => fault({ duplicate: e.target.checked }));
$("fault-old").addEventListener("change", (e) => fault({ oldClient: e.target.checked }));
$("fault-blocked").addEventListener("change", (e) => fault({ blocked: e.target.checked }));
$("install").addEventListener("click", () => ask("install", {}));

let lastTyping = 0;
$("composer").addEventListener("input", () => {
  if ($("composer").value.trim() && Date.now() - lastTyping > 4000) { lastTyping = Date.now(); ask("typing", {}); }
});
sendOnEnter($("compose"), $("composer"), (text) => { lastTyping = 0; ask("say", { text }); });

function showPane(name) {
  document.body.dataset.pane = name;
  for (const b of document.querySelectorAll("[data-pane-to]")) b.setAttribute("aria-pressed", String(b.dataset.paneTo === name));
  for (const box of [$("threads"), $("messages")]) box.scrollTop = box.scrollHeight;
  see();
}
for (const b of document.querySelectorAll("[data-pane-to]")) b.addEventListener("click", () => showPane(b.dataset.paneTo));

function translate() {
  const bot = view?.bot ?? "Counterfoil";
  document.documentElement.lang = language();
  for (const n of document.querySelectorAll("[data-t]")) n.textContent = t(n.dataset.t, { bot });
  for (const n of document.querySelectorAll("[data-label]")) n.setAttribute("aria-label", t(n.dataset.label));
  for (const n of document.querySelectorAll("[data-hint]")) n.placeholder = t(n.dataset.hint, { bot });
  for (const b of document.querySelectorAll("[data-lang]")) b.setAttribute("aria-pressed", String(b.dataset.lang === language()));
}
for (const b of document.querySelectorAll("[data-lang]")) b.addEventListener("click", () => { setLanguage(b.dataset.lang); translate(); if (view) draw(); });
document.addEventListener("visibilitychange", see);

translate();
showPane("channel");
connect();
