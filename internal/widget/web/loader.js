// The launcher on the website's page. It is all that runs in that page: it draws a button and, once the visitor has
// pressed it, a frame of the chat's own origin. Until then nothing is stored, fetched or connected. The page cannot read
// what is written in the frame, and the page's policy (nonces, strict-dynamic, Trusted Types) is met: elements are made
// by code and the style sheet is a constructed one.
(() => {
  'use strict';
  const script = document.currentScript;
  const key = script?.dataset.widget;
  if (!key || !/^[\w-]{1,64}$/.test(key)) return;
  const origin = new URL(script.src).origin;
  const accent = /^#[0-9a-f]{6}$/i.test(script.dataset.accent ?? '') ? script.dataset.accent : '';
  const wanted = document.documentElement.lang || navigator.language || 'en';
  const lang = /^fr\b/i.test(wanted) ? 'fr' : 'en';
  const text = {
    en: { open: 'Chat', name: 'Chat with us', unread: 'new messages', close: 'Close', loading: 'Opening the chat…', failed: 'The chat cannot be reached right now. Please try again later.' },
    fr: { open: 'Discuter', name: 'Discuter avec nous', unread: 'nouveaux messages', close: 'Fermer', loading: 'Ouverture de la discussion…', failed: 'La discussion est injoignable pour le moment. Merci de réessayer plus tard.' },
  }[lang];

  // Text on the accent is black or white, whichever stands out more (WCAG 2.2, 1.4.3: one of the two always passes).
  const ink = (hex) => {
    const [r, g, b] = [1, 3, 5].map((i) => {
      const c = parseInt(hex.slice(i, i + 2), 16) / 255;
      return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 ? '#000' : '#fff';
  };

  const css = `
:host { all: initial !important; color-scheme: light dark !important; }
* { box-sizing: border-box; }
button { font: 600 16px/20px system-ui, -apple-system, "Segoe UI", sans-serif; cursor: pointer; border: 0; }
button:focus-visible { outline: 2px solid #fff; outline-offset: 0; box-shadow: 0 0 0 4px #111; }
.launch { position: fixed; right: max(20px, env(safe-area-inset-right)); bottom: max(20px, env(safe-area-inset-bottom)); z-index: 2147483000;
  display: flex; align-items: center; gap: 8px; height: 48px; padding: 0 20px 0 16px; border-radius: 24px;
  color: var(--on); background: var(--accent); box-shadow: 0 1px 2px #0003, 0 6px 20px #0003; transition: transform 120ms; }
.launch:hover { transform: translateY(-1px); }
.launch svg { width: 22px; height: 22px; fill: none; stroke: currentColor; stroke-width: 1.75; stroke-linecap: round; stroke-linejoin: round; }
.count { min-width: 20px; height: 20px; padding: 0 6px; border-radius: 10px; font-size: 12px; background: var(--on); color: var(--accent); font-variant-numeric: tabular-nums; }
.panel { position: fixed; right: 20px; bottom: 20px; z-index: 2147483000; width: 392px; height: min(720px, calc(100dvh - 40px));
  border-radius: 16px; overflow: hidden; background: light-dark(#fff, #15191b); color: light-dark(#16201f, #e8edec);
  border: 1px solid light-dark(#00000024, #ffffff2b); box-shadow: 0 2px 6px #0000001a, 0 16px 48px #00000038; }
.panel iframe { position: absolute; inset: 0; width: 100%; height: 100%; border: 0; visibility: hidden; }
.panel.ready iframe { visibility: visible; }
.wait { position: absolute; inset: 0; display: grid; place-content: center; justify-items: center; gap: 16px; padding: 32px; text-align: center; font: 14px/20px system-ui, sans-serif; }
.wait button { min-height: 40px; padding: 0 16px; border-radius: 8px; color: inherit; background: none; border: 1px solid currentColor; }
.ready .wait { display: none; }
[hidden] { display: none !important; }
@media (max-width: 480px) { .panel { inset: 0; width: 100%; height: 100dvh; border: 0; border-radius: 0; } }
@media (prefers-reduced-motion: reduce) { .launch { transition: none; } }`;

  const make = (tag, props, ...children) => {
    const e = Object.assign(document.createElement(tag), props);
    e.append(...children);
    return e;
  };

  function start() {
    const host = document.createElement('div');
    const root = host.attachShadow({ mode: 'closed' });
    const sheet = new CSSStyleSheet();
    const colours = accent ? `:host{--accent:${accent};--on:${ink(accent)}}` : ':host{--accent:light-dark(#0d5c5a,#7cc9c2);--on:light-dark(#fff,#05201f)}';
    sheet.replaceSync(colours + css);
    root.adoptedStyleSheets = [sheet];

    const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
    svg.setAttribute('viewBox', '0 0 24 24');
    svg.setAttribute('aria-hidden', 'true');
    const path = document.createElementNS(svg.namespaceURI, 'path');
    path.setAttribute('d', 'M5 4.5h14a1.5 1.5 0 0 1 1.5 1.5v9.5A1.5 1.5 0 0 1 19 17h-7.5L7 20.5V17H5a1.5 1.5 0 0 1-1.5-1.5V6A1.5 1.5 0 0 1 5 4.5ZM8 9h8M8 12.5h5');
    svg.append(path);

    const count = make('span', { className: 'count', hidden: true });
    const launch = make('button', { className: 'launch', type: 'button', lang }, svg, text.open, count);
    launch.setAttribute('aria-expanded', 'false');
    launch.setAttribute('aria-label', text.name);
    const said = make('p', { textContent: text.loading });
    const leave = make('button', { type: 'button', textContent: text.close });
    const panel = make('div', { className: 'panel', lang, hidden: true }, make('div', { className: 'wait' }, said, leave));
    root.append(launch, panel);
    document.body.append(host);

    let frame, port;

    // The port goes to the frame once, and only if the frame is of the chat's origin (the target origin sees to that);
    // the frame takes it only from a site it knows. Nothing but "open", "close" and a number ever passes.
    function connect() {
      const channel = new MessageChannel();
      port = channel.port1;
      port.onmessage = ({ data }) => {
        if (data?.ready) {
          panel.classList.add('ready');
          port.postMessage({ open: true });
        }
        if (data?.close) close();
        if (Number.isInteger(data?.unread)) {
          count.textContent = String(data.unread);
          count.hidden = data.unread === 0;
          launch.setAttribute('aria-label', data.unread ? `${text.name} (${data.unread} ${text.unread})` : text.name);
        }
      };
      frame.contentWindow.postMessage({ counterfoil: 1 }, origin, [channel.port2]);
    }

    function open() {
      panel.hidden = false;
      launch.hidden = true;
      launch.setAttribute('aria-expanded', 'true');
      fit();
      if (frame) {
        port?.postMessage({ open: true });
        if (panel.classList.contains('ready')) frame.focus();
        return;
      }
      frame = make('iframe', { title: text.name, referrerPolicy: 'no-referrer' });
      frame.setAttribute('sandbox', 'allow-scripts allow-forms allow-same-origin allow-popups allow-downloads');
      frame.setAttribute('allow', '');
      frame.addEventListener('load', connect, { once: true });
      frame.src = `${origin}/widget/${key}/frame#${new URLSearchParams({ lang, accent })}`;
      panel.append(frame);
      leave.focus();
      setTimeout(() => { said.textContent = text.failed; }, 12000);
    }

    function close() {
      panel.hidden = true;
      launch.hidden = false;
      launch.setAttribute('aria-expanded', 'false');
      port?.postMessage({ open: false });
      if (!panel.classList.contains('ready')) { // it never answered: the next press starts afresh
        frame.remove();
        frame = port = undefined;
        said.textContent = text.loading;
      }
      launch.focus();
    }

    // An on-screen keyboard covers the page without changing its layout: a full-screen panel follows what is visible.
    const seen = window.visualViewport;
    function fit() {
      const full = matchMedia('(max-width: 480px)').matches && seen;
      panel.style.height = full ? `${seen.height}px` : '';
      panel.style.top = full ? `${seen.offsetTop}px` : '';
    }
    seen?.addEventListener('resize', fit);
    seen?.addEventListener('scroll', fit);

    launch.addEventListener('click', open);
    leave.addEventListener('click', close);
    root.addEventListener('keydown', (e) => { if (e.key === 'Escape' && !panel.hidden) close(); });
  }

  if (document.body) start();
  else document.addEventListener('DOMContentLoaded', start, { once: true });
})();
