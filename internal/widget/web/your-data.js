// What is kept of the visitor: he sees it, gets it, corrects it, and says what may be done with it. It is loaded when he asks for it.
const texts = {
  en: {
    title: 'Your data',
    lead: (handle) => `This is what is kept of you here, as ${handle}. The chat in this tab is what shows that it is you: a chat you had in another tab or on another day is not part of it.`,
    back: 'Back to the chat',
    kept: 'What is kept',
    name: 'Name',
    email: 'Email',
    none: 'not given',
    since: (when) => `since ${when}`,
    save: 'Save',
    saved: 'Saved. What was kept before is gone.',
    badEmail: 'Please check the email address, or leave it out.',
    messages: 'Messages',
    messagesKept: 'what was written in this chat, encrypted',
    keptFor: 'For how long',
    keptLonger: 'Longer only while a law or a dispute demands it, and shorter if you have it erased.',
    shown: 'Who was shown it',
    shownLead: 'The newest first. People appear by handles: their names are theirs.',
    nobody: 'Nobody yet.',
    outcome: { masked: 'masked', deny: 'refused' },
    more: 'There is more in your file.',
    file: 'Your file',
    fileLead: 'Everything above and all messages, with every time that something was shown.',
    page: 'To read (HTML)',
    data: 'For programs (JSON)',
    use: 'What may be done with it',
    free: 'It is shown to whoever answers you.',
    restricted: 'Restricted: it is kept and shown to nobody but you. So nobody can answer you here.',
    restrict: 'Restrict',
    lift: 'Allow again',
    object: 'Object',
    objectLead: 'Until your objection is answered it is restricted.',
    erase: 'Ask for erasure',
    eraseLead: 'Somebody looks at it within 30 days. Then your name, email and messages cannot be read by anybody any more.',
    sure: 'Are you sure?',
    yes: 'Yes',
    no: 'No',
    asked: 'What you asked',
    due: (when) => `to be answered by ${when}`,
    done: 'Done.',
    failed: 'This cannot be done right now. Please try again in a moment.',
    busy: 'One moment: too many requests at once.',
    gone: 'Nothing is kept of you any more.',
    loading: 'Loading…',
  },
  fr: {
    title: 'Vos données',
    lead: (handle) => `Voici ce qui est conservé de vous ici, sous ${handle}. La discussion de cet onglet atteste que c’est vous : une discussion d’un autre onglet ou d’un autre jour n’en fait pas partie.`,
    back: 'Revenir à la discussion',
    kept: 'Ce qui est conservé',
    name: 'Nom',
    email: 'E-mail',
    none: 'non donné',
    since: (when) => `depuis le ${when}`,
    save: 'Enregistrer',
    saved: 'Enregistré. Ce qui était conservé avant a disparu.',
    badEmail: 'Merci de vérifier l’adresse e-mail, ou de ne pas l’indiquer.',
    messages: 'Messages',
    messagesKept: 'ce qui a été écrit dans cette discussion, chiffré',
    keptFor: 'Pour combien de temps',
    keptLonger: 'Plus longtemps seulement si une loi ou un litige l’exige, et moins longtemps si vous le faites effacer.',
    shown: 'À qui cela a été montré',
    shownLead: 'Les plus récents d’abord. Les personnes apparaissent sous des références : leurs noms leur appartiennent.',
    nobody: 'À personne pour l’instant.',
    outcome: { masked: 'masqué', deny: 'refusé' },
    more: 'La suite est dans votre dossier.',
    file: 'Votre dossier',
    fileLead: 'Tout ce qui précède et tous les messages, avec chaque affichage.',
    page: 'À lire (HTML)',
    data: 'Pour programmes (JSON)',
    use: 'Ce qui peut en être fait',
    free: 'Elles sont montrées à qui vous répond.',
    restricted: 'Limitées : elles sont conservées et ne sont montrées qu’à vous. Personne ne peut donc vous répondre ici.',
    restrict: 'Limiter',
    lift: 'Autoriser à nouveau',
    object: 'S’opposer',
    objectLead: 'Jusqu’à la réponse à votre opposition, elles sont limitées.',
    erase: 'Demander l’effacement',
    eraseLead: 'Quelqu’un l’examine sous 30 jours. Ensuite, plus personne ne peut lire votre nom, votre e-mail ni vos messages.',
    sure: 'Êtes-vous sûr ?',
    yes: 'Oui',
    no: 'Non',
    asked: 'Ce que vous avez demandé',
    due: (when) => `réponse due le ${when}`,
    done: 'C’est fait.',
    failed: 'Ce n’est pas possible pour le moment. Merci de réessayer dans un instant.',
    busy: 'Un instant : trop de demandes à la fois.',
    gone: 'Plus rien n’est conservé de vous.',
    loading: 'Chargement…',
  },
};

// open fills the section; back is called when the visitor wants to go on with the chat.
export function open(section, { lang, region, token, make, post, ask, clean, back }) {
  const t = texts[lang];
  const day = new Intl.DateTimeFormat(region, { dateStyle: 'medium' });
  const moment = new Intl.DateTimeFormat(region, { dateStyle: 'medium', timeStyle: 'short' });
  const el = (tag, text, props, ...children) => make(tag, { textContent: text, ...props }, ...children);
  const status = make('p', { className: 'own-status' });
  status.setAttribute('role', 'status');
  const title = el('h2', t.title, { tabIndex: -1 });
  const body = make('div', { className: 'own-body' });
  const leave = el('button', t.back, { type: 'button', className: 'quiet' });
  leave.addEventListener('click', back);
  section.replaceChildren(title, status, body, leave);
  section.setAttribute('aria-busy', 'true');
  title.focus({ preventScroll: true });
  section.scrollTop = 0;

  const say = (text) => { status.textContent = text; };
  const failure = (code) => (code === 410 ? t.gone : code === 429 ? t.busy : t.failed);

  async function load(then) {
    if (then === undefined) say(t.loading);
    const { status: code, body: own } = await ask(`/v1/your-data?lang=${lang}`, token);
    section.removeAttribute('aria-busy');
    if (code !== 200) return say(failure(code));
    say(then ?? '');
    draw(own);
  }

  async function send(path, what, then, focus) {
    const { status: code } = await post(`/v1/your-data/${path}`, { language: lang, ...what }, token);
    if (code !== 204) return say(failure(code));
    await load(then);
    (focus ?? title).focus({ preventScroll: true });
  }

  // download fetches the file with the token in a header, so that no address leads to it.
  async function download(as) {
    say(t.loading);
    try {
      const answer = await fetch(`/v1/your-data/file?as=${as}&lang=${lang}`, {
        headers: { Authorization: `Bearer ${token}` }, cache: 'no-store', credentials: 'omit', redirect: 'error',
      });
      if (!answer.ok) return say(failure(answer.status));
      const address = URL.createObjectURL(await answer.blob());
      const a = make('a', { href: address, download: `your-data.${as}` });
      section.append(a);
      a.click();
      a.remove();
      setTimeout(() => URL.revokeObjectURL(address), 60000);
      say(t.done);
    } catch {
      say(t.failed);
    }
  }

  const button = (text, act, className = 'plain') => {
    const b = el('button', text, { type: 'button', className });
    b.addEventListener('click', () => act(b));
    return b;
  };

  // twice asks once more before something is done that reaches far.
  const twice = (text, act) => button(text, (b) => {
    const yes = button(t.yes, act);
    const no = button(t.no, () => { group.replaceWith(b); b.focus(); });
    const group = make('span', { className: 'own-sure' }, `${t.sure} `, yes, ' ', no);
    group.setAttribute('role', 'group');
    group.setAttribute('aria-label', `${text}. ${t.sure}`);
    b.replaceWith(group);
    no.focus();
  });

  function draw(own) {
    const value = (field) => own.values.find((v) => v.field === field);
    const fields = { name: value('visitor_display_name'), email: value('visitor_email') };
    const inputs = {};
    const rows = Object.entries(fields).map(([name, v]) => {
      inputs[name] = make('input', { type: name === 'email' ? 'email' : 'text', value: v?.value ?? '', maxLength: name === 'email' ? 254 : 120, placeholder: t.none, autocomplete: name });
      const since = v ? el('small', t.since(day.format(new Date(v.since)))) : '';
      return make('label', {}, make('span', {}, `${t[name]} `, since), inputs[name]);
    });
    const form = make('form', { noValidate: true }, ...rows, el('button', t.save, { className: 'plain' }));
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      if (!inputs.email.checkValidity()) {
        inputs.email.setAttribute('aria-invalid', 'true');
        inputs.email.focus();
        return say(t.badEmail);
      }
      return send('correct', { name: clean(inputs.name.value), email: clean(inputs.email.value) }, t.saved);
    });
    const shown = own.shown.map((s) => make('li', {},
      make('span', {}, el('b', s.to), `: ${s.what}${t.outcome[s.outcome] ? ` (${t.outcome[s.outcome]})` : ''}`), make('br'), el('small', `${s.why} · ${moment.format(new Date(s.at))}`)));
    const requests = own.requests.map((r) => make('li', {},
      `${r.what}: ${r.state} `, el('small', r.open ? t.due(day.format(new Date(r.due_at))) : moment.format(new Date(r.received_at)))));
    body.replaceChildren(
      el('p', t.lead(own.handle)),
      el('h3', t.kept), form, make('p', {}, el('span', `${t.messages}: `), t.messagesKept),
      el('h3', t.keptFor), make('ul', { className: 'own-kept-for' }, ...own.kept_for.map((k) => make('li', {}, `${k.what}: ${k.how_long}`))), el('p', t.keptLonger, { className: 'small' }),
      el('h3', t.shown), el('p', t.shownLead, { className: 'small' }), shown.length ? make('ol', {}, ...shown) : el('p', t.nobody), ...(own.more ? [el('p', t.more)] : []),
      el('h3', t.file), el('p', t.fileLead, { className: 'small' }), make('p', { className: 'own-row' }, button(t.page, () => download('html')), button(t.data, () => download('json'))),
      el('h3', t.use), el('p', own.restricted ? t.restricted : t.free),
      make('p', { className: 'own-row' }, ...(own.restricted
        ? [button(t.lift, () => send('requests', { kind: 'lift' }, t.done))]
        : [button(t.restrict, () => send('requests', { kind: 'restriction' }, t.done)), twice(t.object, () => send('requests', { kind: 'objection' }, t.done))])),
      ...(own.restricted ? [] : [el('p', t.objectLead, { className: 'small' })]),
      make('p', { className: 'own-row' }, twice(t.erase, () => send('requests', { kind: 'erasure' }, t.done))),
      el('p', t.eraseLead, { className: 'small' }),
      ...(requests.length ? [el('h3', t.asked), make('ul', {}, ...requests)] : []),
    );
  }

  load();
}
