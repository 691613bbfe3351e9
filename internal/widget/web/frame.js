// The chat itself: a notice with the first message, then the conversation.
const page = document.documentElement;
const settings = new URLSearchParams(location.hash.slice(1));
const lang = (settings.get('lang') || navigator.language).toLowerCase().startsWith('fr') ? 'fr' : 'en';
const t = texts[lang];
const $ = (id) => document.getElementById(id);
const kept = new Kept(`counterfoil.${page.dataset.key}`);
const maxMessage = 4096; // bytes
const region = navigator.language.startsWith(lang) ? navigator.language : lang;
const clock = new Intl.DateTimeFormat(region, { hour: '2-digit', minute: '2-digit' });
const calendar = new Intl.DateTimeFormat(region, { weekday: 'long', day: 'numeric', month: 'long' });

let port; // to the website's launcher, once
let shown = window.parent === window;
let unread = 0;
let chat; // the running conversation

/* ---- Words and colours ---- */

function dress() {
  page.lang = lang;
  document.title = t.title;
  const accent = settings.get('accent');
  if (/^#[0-9a-f]{6}$/i.test(accent)) {
    page.style.setProperty('--accent', accent);
    page.style.setProperty('--on-accent', textOn(accent));
  }
  const label = (id, name) => $(id).setAttribute('aria-label', name);
  const say = (id, ...what) => $(id).replaceChildren(...what);
  const optional = (word) => [word, ' ', make('small', { textContent: t.optional })];
  say('hello', t.hello);
  if (page.dataset.terms) inform(page.dataset.notice, JSON.parse(page.dataset.terms));
  say('name-label', ...optional(t.name));
  say('email-label', ...optional(t.email));
  say('first-label', t.first);
  $('first').placeholder = t.firstHint;
  say('start', t.start);
  say('agree', t.agree);
  say('composer-label', t.compose);
  $('composer').placeholder = t.compose;
  label('send', t.send);
  label('close', t.close);
  label('log', t.log);
  say('end', t.end);
  label('end', t.endName);
  say('your-data', t.yourData);
  say('ask-text', t.endAsk);
  label('ask', t.endAsk);
  say('ask-yes', t.endYes);
  say('ask-no', t.endNo);
  say('again', t.again);
  say('gone', t.gone);
  $('close').hidden = shown;
}

// inform shows the notice that is accepted by starting the chat.
function inform(version, terms) {
  page.dataset.notice = version;
  $('terms').replaceChildren(...terms[lang].map(([term, meaning]) => make('div', {}, ...(term ? [make('dt', { textContent: `${term} ` })] : []), make('dd', { textContent: meaning }))));
  $('version').textContent = `${t.version} ${version}`;
}

/* ---- Which of the three pages is seen ---- */

function show(which) {
  for (const id of ['notice', 'talk', 'own', 'gone']) $(id).hidden = id !== which;
  $('end').hidden = which !== 'talk' || chat?.over;
  $('your-data').hidden = which !== 'talk';
  if (which === 'notice' || which === 'gone') heading(t.title, '');
  settle();
}

function heading(title, ...presence) {
  $('agent').textContent = title;
  $('presence').replaceChildren(...presence);
  $('presence').hidden = presence.join('') === '';
}

// settle puts the focus where the visitor goes on.
function settle() {
  if (!shown) return;
  // On a touch screen a focused field brings the keyboard up, over the notice that is to be read first.
  const first = matchMedia('(pointer: coarse)').matches ? 'hello' : 'first';
  const to = [first, 'composer', 'again'].map($).find((e) => e.checkVisibility());
  to?.focus({ preventScroll: true });
}

// trouble holds what is wrong now; the gravest is shown.
const trouble = { offline: false, unavailable: false, lost: false, busy: false };
function setTrouble(change) {
  Object.assign(trouble, change);
  const worst = chat && !chat.over && Object.keys(trouble).find((name) => trouble[name]);
  const text = worst ? t[worst] : '';
  if ($('status').textContent !== text) $('status').textContent = text;
}

/* ---- Before the conversation ---- */

let opening; // the request whose answer is not known yet: repeated as it was, it cannot open a second conversation

function complain(field, text) {
  for (const id of ['first', 'email']) $(id).removeAttribute('aria-invalid');
  $('problem').textContent = text;
  if (!field) return;
  field.setAttribute('aria-invalid', 'true');
  field.focus();
}

async function begin(event) {
  event.preventDefault();
  if ($('start').disabled) return;
  const [text, name, email] = ['first', 'name', 'email'].map((id) => clean($(id).value));
  if (!text) return complain($('first'), t.needMessage);
  if (bytes(text) > maxMessage) return complain($('first'), t.tooLong);
  if (!$('email').checkValidity()) return complain($('email'), t.badEmail);
  complain(null, '');
  const ask = { text, language: lang, notice_version: page.dataset.notice, ...(name && { name }), ...(email && { email }) };
  const same = JSON.stringify(ask);
  if (opening?.same !== same) opening = { same, id: crypto.randomUUID() };
  $('start').disabled = true;
  $('start').textContent = t.starting;
  const { status, body } = await post(`/v1/widgets/${page.dataset.key}/conversations`, { client_id: opening.id, ...ask });
  $('start').disabled = false;
  $('start').textContent = t.start;
  if (status !== 200 && status !== 201) {
    if (status === 404) return show('gone');
    if (body.code === 'notice-outdated') return renew();
    return complain(null, status === 429 ? t.startBusy : status === 413 ? t.tooLong : t.startFailed);
  }
  kept.set({ token: body.token, conversation: body.conversation, expires: body.expires_at, handle: body.handle });
  const first = { id: opening.id, text };
  opening = undefined;
  $('notice').reset();
  converse(first);
}

// renew shows a notice that has changed since the frame was opened; what was typed stays.
async function renew() {
  const { status, body } = await ask(`/v1/widgets/${page.dataset.key}/notice`);
  if (status !== 200) return complain(null, t.startFailed);
  inform(body.version, body.terms);
  complain(null, t.noticeChanged);
  $('hello').focus();
  $('hello').scrollIntoView();
}

/* ---- The conversation ---- */

class Chat {
  constructor(first) {
    this.names = new Map(); // an agent's handle to the name shown for it
    this.mine = new Map(); // id of an own message to its element
    this.over = false;
    this.loose = false; // the visitor has scrolled away from the end
    $('log').replaceChildren();
    $('log').setAttribute('aria-live', 'off'); // history is not news
    $('typing').replaceChildren();
    $('write').hidden = false;
    $('over').hidden = true;
    $('ask').hidden = true;
    this.note = make('p', { className: 'pending-note' }, `${t.soon} ${t.as} `, make('span', { className: 'ref', textContent: kept.value.handle }), '.');
    $('log').append(this.note);
    this.note.hidden = !first; // of a chat that goes on it is not known yet whether somebody has joined
    heading(t.title, first ? t.waiting : t.connecting);
    if (first) this.draft(first);
    for (const item of kept.value.pending ?? []) this.draft(item);
    const { token } = kept.value;
    this.outbox = new Outbox(kept, token, {
      sent: (id, seq) => this.acknowledged(id, seq),
      failed: (id, status) => this.refused(id, status),
      state: (name) => setTrouble({ [name]: true }),
    });
    this.follow = new Follow(token, { event: (name, data) => this.event(name, data), state: (name) => this.connection(name) });
  }

  stop() {
    this.follow.stop();
    this.outbox.stop();
    clearTimeout(this.typingEnds);
  }

  connection(name) {
    if (name === 'gone') this.finish(t.expired);
    else if (name === 'ready') {
      this.live = true;
      setTrouble({ lost: false, unavailable: false });
      this.outbox.kick();
      if (this.caughtUp) return;
      this.caughtUp = true;
      if (this.names.size === 0) {
        this.note.hidden = false;
        heading(t.title, t.waiting);
      }
      this.down();
      requestAnimationFrame(() => $('log').setAttribute('aria-live', 'polite'));
    } else {
      this.live = false;
      setTrouble({ [name]: true });
    }
  }

  event(name, data) {
    if (name === 'message') this.message(data);
    else if (name === 'agent.joined') this.joined(data);
    else if (name === 'agent.left') this.left(data);
    else if (name === 'typing') this.types();
    else if (name === 'closed') this.finish(data.by === 'visitor' ? t.closedByVisitor : t.closedByAgent);
  }

  message({ seq, by, client_id: id, text, at, agent }) {
    const own = by === 'visitor';
    let e = own && this.mine.get(id);
    if (!e) {
      e = this.element(own, text, at, own ? '' : this.names.get(agent) || agent || '');
      if (own) this.mine.set(id, e);
    }
    e.dataset.at = at;
    this.place(e, seq);
    if (own) this.mark(e, 'sent');
    else {
      this.quiet();
      this.clearSent();
      if (!shown && this.caughtUp) tell({ unread: ++unread });
    }
  }

  element(own, text, at, who) {
    const e = make('div', { className: `message ${own ? 'mine' : 'theirs'}` },
      make('p', { className: 'meta' }),
      linked(make('p', { className: 'text' }, make('span', { className: 'hidden', textContent: `${own ? t.you : who}: ` })), text),
      make('p', { className: 'mark' }));
    e.dataset.at = at;
    e.dataset.who = who;
    return e;
  }

  // draft shows an own message that the server has not confirmed yet.
  draft({ id, text }) {
    const e = this.element(true, text, new Date().toISOString(), '');
    this.mine.set(id, e);
    this.note.before(e);
    this.group(e);
    setTimeout(() => { if (!e.dataset.seq && !e.dataset.mark) this.mark(e, 'sending'); }, 600);
    this.down();
  }

  acknowledged(id, seq) {
    setTrouble({ busy: false, ...(this.live && { unavailable: false }) }); // while the stream is held back, it says when it is not
    const e = this.mine.get(id);
    if (e.dataset.seq) return;
    this.place(e, seq);
    this.mark(e, 'sent');
  }

  refused(id, status) {
    this.mark(this.mine.get(id), 'failed');
    if (status === 401 || status === 404) this.finish(t.expired);
  }

  mark(e, mark) {
    if (mark === 'sent') this.clearSent();
    e.dataset.mark = mark;
    const line = e.querySelector('.mark');
    line.dataset.mark = mark;
    line.textContent = t[mark];
  }

  // clearSent: only the newest own message says that it was sent.
  clearSent() {
    for (const line of $('log').querySelectorAll('.mark[data-mark="sent"]')) line.textContent = '';
  }

  joined({ seq, agent, name, at }) {
    const who = name || agent;
    this.names.set(agent, who);
    this.place(make('div', { className: 'step' }, make('span', {}, make('b', { textContent: t.joined(who) }), ` · ${clock.format(new Date(at))}`)), seq);
    this.note.hidden = true;
    heading(who, make('span', { className: 'ref', textContent: agent }), ` · ${t.since(clock.format(new Date(at)))}`);
    if (!shown && this.caughtUp) tell({ unread: ++unread });
  }

  left({ seq, agent }) {
    this.quiet();
    this.place(make('div', { className: 'step' }, make('span', { textContent: t.gaveBack(this.names.get(agent) || agent) })), seq);
    this.note.hidden = false;
    heading(t.title, t.waiting);
  }

  // place puts an element where its number belongs: after everything lower, before what has no number yet.
  place(e, seq) {
    const stay = this.atEnd() || e.classList.contains('mine');
    e.dataset.seq = seq;
    let before = this.note;
    for (let p = before.previousElementSibling; p; p = p.previousElementSibling) {
      if (p === e) continue;
      if (p.dataset.seq && Number(p.dataset.seq) < seq) break;
      before = p;
    }
    if (e.nextElementSibling !== before) before.before(e);
    this.group(e);
    if (before !== this.note) this.group(before);
    if (stay) this.down();
  }

  // group gives a message its line with name and time when it does not simply go on from the one before.
  group(e) {
    if (!e.classList.contains('message')) return;
    const p = e.previousElementSibling;
    const [now, then] = [new Date(e.dataset.at), p?.dataset.at ? new Date(p.dataset.at) : null];
    const goesOn = p?.classList.contains('message') && p.className.includes('mine') === e.className.includes('mine')
      && p.dataset.who === e.dataset.who && now - then < 300000;
    const newDay = now.toDateString() !== (then ?? new Date()).toDateString();
    e.querySelector('.day')?.remove();
    if (newDay) {
      const label = now.toDateString() === new Date().toDateString() ? t.today : calendar.format(now);
      e.prepend(make('p', { className: 'day', textContent: label }));
    }
    e.classList.toggle('opens', !goesOn);
    const parts = [e.dataset.who && make('b', { textContent: e.dataset.who }), e.dataset.who && ' ', clock.format(now)].filter(Boolean);
    e.querySelector('.meta').replaceChildren(...(goesOn && !newDay ? [] : parts));
  }

  types() {
    if (this.over) return;
    if (!$('typing').hasChildNodes()) {
      const who = [...this.names.values()].at(-1) ?? '';
      $('typing').replaceChildren(make('i'), make('i'), make('i'), t.typing(who));
    }
    clearTimeout(this.typingEnds);
    this.typingEnds = setTimeout(() => this.quiet(), 6000);
  }

  quiet() {
    clearTimeout(this.typingEnds);
    $('typing').replaceChildren();
  }

  say(text) {
    const item = { id: crypto.randomUUID(), text };
    this.draft(item);
    this.outbox.add(item);
  }

  finish(text) {
    if (this.over) return;
    this.over = true;
    this.stop();
    kept.set({ pending: [] });
    this.quiet();
    setTrouble({ lost: false, unavailable: false, busy: false });
    this.note.hidden = true;
    for (const e of this.mine.values()) if (!e.dataset.seq) this.mark(e, 'failed');
    $('presence').textContent = '';
    $('presence').hidden = true;
    for (const id of ['write', 'ask', 'end']) $(id).hidden = true;
    $('over').hidden = false;
    $('over-text').textContent = text;
    $('log').setAttribute('aria-live', 'polite');
    this.down();
    settle();
  }

  atEnd() {
    const { scrollHeight, scrollTop, clientHeight } = $('log');
    return scrollHeight - scrollTop - clientHeight < 80;
  }

  down() {
    $('log').scrollTop = $('log').scrollHeight;
  }
}

function converse(first) {
  chat?.stop();
  chat = new Chat(first);
  setTrouble({ offline: !navigator.onLine, lost: false, unavailable: false, busy: false });
  show('talk');
  measure();
}

function another() {
  chat?.stop();
  chat = undefined;
  kept.set(null);
  setTrouble({});
  show('notice');
}

async function end() {
  $('ask').hidden = true;
  settle();
  const { status } = await post('/v1/conversation/end', {}, kept.value.token);
  if (status === 200 || status === 409) chat.finish(t.closedByVisitor);
  else if (status === 401 || status === 404) chat.finish(t.expired);
  else setTrouble({ [status === 503 ? 'unavailable' : 'lost']: true });
}

// own shows the visitor what is kept of him, in the place of the chat, which goes on.
async function own() {
  const { token } = kept.value;
  try {
    const { open } = await import(page.dataset.own);
    show('own');
    open($('own'), { lang, region, token, make, post, ask, clean, back: () => show('talk') });
  } catch {
    setTrouble({ lost: true });
  }
}

/* ---- Writing ---- */

let typedAt = -Infinity;

// measure fits the composer to its text and says how much room is left when little is.
function measure() {
  const box = $('composer');
  box.style.height = 'auto';
  box.style.height = `${Math.min(144, box.scrollHeight + 2)}px`;
  if (!chat?.loose) chat?.down();
  const text = clean(box.value);
  const room = maxMessage - bytes(text);
  $('left').textContent = room < 512 ? t.left(room) : '';
  $('left').classList.toggle('over', room < 0);
  $('send').setAttribute('aria-disabled', String(room < 0 || text === ''));
}

function write(event) {
  event.preventDefault();
  if ($('send').getAttribute('aria-disabled') === 'true' || !chat || chat.over) return;
  chat.say(clean($('composer').value));
  $('composer').value = '';
  typedAt = -Infinity;
  measure();
  $('composer').focus();
}

function typing() {
  measure();
  const now = performance.now();
  if (now - typedAt < 3000 || clean($('composer').value) === '') return;
  typedAt = now;
  post('/v1/conversation/typing', {}, kept.value.token); // may be lost
}

/* ---- Around it ---- */

function tell(what) {
  port?.postMessage(what);
}

// The launcher hands over a port, once, and only from a site that may show this widget.
function greet(event) {
  const known = page.dataset.unknown !== undefined || page.dataset.sites.split(' ').includes(event.origin);
  if (port || event.source !== window.parent || !known || event.data?.counterfoil !== 1 || event.ports.length !== 1) return;
  [port] = event.ports;
  port.onmessage = ({ data }) => {
    shown = data?.open === true;
    if (!shown) return;
    unread = 0;
    tell({ unread });
    chat?.follow.kick();
    requestAnimationFrame(settle); // a frame that was hidden has to be drawn first
  };
  tell({ ready: true });
}

function escape(event) {
  if (event.key !== 'Escape' || event.isComposing) return;
  if (!$('own').hidden) show('talk');
  else if (!$('ask').hidden) {
    $('ask').hidden = true;
    settle();
  } else tell({ close: true });
}

function kick() {
  setTrouble({ offline: !navigator.onLine });
  if (document.hidden || !chat || chat.over) return;
  chat.follow.kick();
  chat.outbox.kick();
}

dress();
window.addEventListener('message', greet);
window.addEventListener('online', kick);
window.addEventListener('offline', kick);
window.addEventListener('pageshow', kick);
document.addEventListener('visibilitychange', kick);
document.addEventListener('keydown', escape);
$('notice').addEventListener('submit', begin);
$('write').addEventListener('submit', write);
$('composer').addEventListener('input', typing);
$('composer').addEventListener('keydown', (event) => {
  if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) write(event);
});
$('your-data').addEventListener('click', own);
$('close').addEventListener('click', () => tell({ close: true }));
$('end').addEventListener('click', () => {
  $('ask').hidden = false;
  $('ask-no').focus();
});
$('ask-no').addEventListener('click', () => {
  $('ask').hidden = true;
  settle();
});
$('ask-yes').addEventListener('click', end);
$('again').addEventListener('click', another);
new ResizeObserver(() => { if (!chat?.loose) chat?.down(); }).observe($('log'));
$('log').addEventListener('scroll', () => { if (chat) chat.loose = !chat.atEnd(); }, { passive: true });

if (page.dataset.unknown !== undefined) show('gone');
else if (kept.value.token && new Date(kept.value.expires) > new Date()) converse();
else {
  kept.set(null);
  show('notice');
}
