// What a browser with scripts has more than one without: local times, keyboard shortcuts, and records that open beside their list.
'use strict';
(() => {
  const one = (selector, within = document) => within.querySelector(selector);
  const every = (selector, within = document) => [...within.querySelectorAll(selector)];
  const setting = (name) => localStorage.getItem('counterfoil.' + name);

  // Times are written in UTC; here they are told in the zone of the browser, with UTC on hover.
  const lang = document.documentElement.lang;
  const clock = new Intl.DateTimeFormat(lang, { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' });
  const calendar = new Intl.DateTimeFormat(lang, { dateStyle: 'medium' });
  const zone = new Intl.DateTimeFormat(lang, { timeZoneName: 'short' }).formatToParts(new Date()).find((p) => p.type === 'timeZoneName').value;
  const local = () => setting('times') !== 'utc';
  const tell = (time) => {
    time.dataset.utc ??= time.textContent;
    const at = new Date(time.dateTime);
    time.title = time.dateTime.slice(0, 19).replace('T', ' ') + ' UTC';
    if (!local() || Number.isNaN(at.valueOf())) {
      time.textContent = time.dataset.utc;
      return;
    }
    const day = Math.round((Date.UTC(at.getFullYear(), at.getMonth(), at.getDate()) - Date.UTC(at.getUTCFullYear(), at.getUTCMonth(), at.getUTCDate())) / 864e5);
    time.textContent = time.dataset.time === 'clock' ? clock.format(at) + (day ? (day > 0 ? ' +' : ' −') + '1' : '') : calendar.format(at) + ', ' + clock.format(at) + ' ' + zone;
  };
  const tellAll = (within = document) => {
    every('time[data-time]', within).forEach(tell);
    every('[data-zone]', within).forEach((e) => { e.textContent = local() ? zone : 'UTC'; });
  };
  const settings = () => every('[data-set]').forEach((b) => {
    const now = setting(b.dataset.set) ?? { times: 'local', keys: 'on' }[b.dataset.set];
    b.setAttribute('aria-pressed', String(now === b.dataset.to));
  });
  every('.scripted').forEach((e) => { e.hidden = false; });
  tellAll();
  settings();
  document.addEventListener('htmx:after:swap', () => tellAll());
  new MutationObserver((changes) => {
    for (const c of changes) for (const n of c.addedNodes) if (n instanceof Element) tellAll(n);
  }).observe(document.body, { childList: true, subtree: true });

  // On a narrow screen the menu is folded away.
  const sections = one('.side details');
  const narrow = matchMedia('(max-width: 1023px)');
  const fold = () => { if (sections) sections.open = !narrow.matches; };
  fold();
  narrow.addEventListener('change', fold);

  document.addEventListener('click', (e) => {
    const set = e.target.closest('[data-set]');
    if (set) {
      localStorage.setItem('counterfoil.' + set.dataset.set, set.dataset.to);
      settings();
      tellAll();
    }
    if (e.target.closest('[data-close]')) close();
    if (e.target.closest('[data-help]')) one('#help')?.showModal();
    const menu = one('.menu[open]');
    if (menu && !menu.contains(e.target)) menu.open = false;
  });

  // A record opens beside the list it stands in; the list keeps its place, and the focus comes back to it.
  const drawer = one('#drawer');
  let opener = null;
  const close = () => {
    if (!drawer || drawer.hidden) return false;
    drawer.hidden = true;
    drawer.replaceChildren();
    document.body.classList.remove('beside');
    every('tr[aria-selected]').forEach((r) => r.removeAttribute('aria-selected'));
    opener?.focus();
    return true;
  };
  if (drawer) {
    document.addEventListener('htmx:before:request', (e) => {
      const from = e.detail.ctx?.sourceElement ?? e.target;
      if (!drawer.contains(from)) opener = from;
    });
    new MutationObserver(() => {
      if (!drawer.firstElementChild) return;
      drawer.hidden = false;
      document.body.classList.add('beside');
      const open = one('[data-seq]', drawer)?.dataset.seq;
      every('tr[data-seq]').forEach((r) => r.toggleAttribute('aria-selected', false));
      one('tr[data-seq="' + open + '"]')?.setAttribute('aria-selected', 'true');
      one('h1, h2', drawer)?.focus();
    }).observe(drawer, { childList: true });
  }

  // A live tail keeps the newest rows; while it is paused, what comes waits unseen, so that nothing is lost.
  const tail = one('#tail');
  if (tail) {
    const state = one('#state');
    const button = one('#pause');
    let paused = false;
    let over = false;
    const say = () => {
      const waiting = every('[data-seq][hidden]', tail).length;
      state.textContent = over ? state.dataset.over : paused ? state.dataset.paused + (waiting ? ' · ' + waiting + ' ' + state.dataset.waiting : '') : state.dataset.running;
      button.textContent = paused ? button.dataset.paused : button.dataset.running;
      button.hidden = over;
    };
    button.addEventListener('click', () => {
      paused = !paused;
      if (!paused) every('[hidden]', tail).forEach((e) => { e.hidden = false; });
      say();
    });
    tail.addEventListener('end', () => { over = true; say(); });
    new MutationObserver((changes) => {
      const added = changes.flatMap((c) => [...c.addedNodes]).filter((n) => n instanceof Element);
      if (!added.length) return;
      one('.empty', tail)?.remove();
      if (paused) added.forEach((e) => { e.hidden = true; });
      every('[data-seq]:not([hidden])', tail).slice(500).forEach((e) => e.remove());
      say();
    }).observe(tail, { childList: true });
  }

  if (location.hash === '#export' && one('#export')) one('#export').open = true;
  const typing = (e) => e.target.closest('input, textarea, select, [contenteditable]');
  const rows = () => every('[data-row]').filter((r) => r.checkVisibility());
  const step = (by) => {
    const all = rows();
    const at = all.findIndex((r) => r === document.activeElement || r.contains(document.activeElement) || r.closest('tr')?.contains(document.activeElement));
    all[Math.min(Math.max(at + by, 0), all.length - 1)]?.focus();
  };
  const keys = {
    '/': () => one('#filter')?.focus(),
    j: () => step(1),
    k: () => step(-1),
    o: () => document.activeElement?.matches('[data-row]') && document.activeElement.click(),
    t: () => { location.href = '/live' + (one('#filter')?.value ? '?q=' + encodeURIComponent(one('#filter').value) : ''); },
    e: () => { const files = one('#export'); if (files) { files.open = true; one('a', files).focus(); } else go('/events#export'); },
    '?': () => one('#help')?.showModal(),
  };
  const go = (to) => { location.href = to; };
  // Each single key can be another one: what somebody chose stands for what it is called here.
  const chosen = () => {
    try {
      const all = JSON.parse(setting('keymap'));
      return all && typeof all === 'object' ? all : {};
    } catch { return {}; }
  };
  const keyOf = (name) => { const k = chosen()[name]; return typeof k === 'string' && [...k].length === 1 ? k : name; };
  const called = (key) => [...Object.keys(keys), 'g'].find((name) => keyOf(name) === key);
  const tellKeys = () => every('[data-key]').forEach((k) => { k.textContent = keyOf(k.dataset.key); });
  const keysSaid = one('#keys-said');
  let changing = null;
  const sayKeys = (text) => { keysSaid.textContent = text; keysSaid.hidden = !text; };
  tellKeys();
  one('#help')?.addEventListener('click', (e) => {
    const button = e.target.closest('[data-change]');
    if (button) {
      changing = button.dataset.change;
      sayKeys(button.getAttribute('aria-label') + '. ' + keysSaid.dataset.press);
    }
    if (e.target.closest('[data-keys-reset]')) {
      localStorage.removeItem('counterfoil.keymap');
      changing = null;
      sayKeys(keysSaid.dataset.done);
      tellKeys();
    }
  });
  one('#help')?.addEventListener('keydown', (e) => {
    if (changing === null || e.ctrlKey || e.metaKey || e.altKey || e.key === 'Tab' || e.key === 'Shift') return;
    e.preventDefault();
    e.stopPropagation();
    if (e.key === 'Escape') { changing = null; sayKeys(''); return; }
    if ([...e.key].length !== 1 || e.key === ' ' || (called(e.key) ?? changing) !== changing) { sayKeys(keysSaid.dataset.taken); return; }
    localStorage.setItem('counterfoil.keymap', JSON.stringify({ ...chosen(), [changing]: e.key }));
    changing = null;
    sayKeys(keysSaid.dataset.done);
    tellKeys();
  });
  one('#help')?.addEventListener('cancel', (e) => { if (changing !== null) e.preventDefault(); });
  one('#help')?.addEventListener('close', () => { changing = null; sayKeys(''); });
  // After g comes the part of the console to go to.
  const parts = { o: '/', e: '/events', l: '/live', s: '/people', w: '/who', p: '/policy', i: '/integrity', a: '/approvals' };
  let leading = 0;
  document.addEventListener('keydown', (e) => {
    if (e.key === 'Escape' && !one('dialog[open]')) {
      const menu = one('.menu[open]');
      if (menu) { menu.open = false; one('summary', menu).focus(); } else close();
      return;
    }
    if (e.ctrlKey || e.metaKey || e.altKey || setting('keys') === 'off' || typing(e) || one('dialog[open]')) return;
    const led = Date.now() - leading < 1500;
    const name = called(e.key);
    leading = !led && name === 'g' ? Date.now() : 0;
    if (led && Object.hasOwn(parts, e.key)) {
      e.preventDefault();
      go(parts[e.key]);
    } else if (!led && name !== undefined && name !== 'g') {
      e.preventDefault();
      keys[name]();
    }
  });
})();
