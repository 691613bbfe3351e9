// Records over time, drawn so that one can look closer: with the pointer over a stretch, or with the keyboard. Without scripts the drawing of the page stays.
'use strict';
(() => {
  const figure = document.querySelector('.strip[data-counts]');
  const drawn = figure?.querySelector('svg');
  const data = figure && JSON.parse(figure.dataset.counts);
  if (!data || data.n < 2) return;
  const { start, step, n } = data;
  const times = Array.from({ length: n }, (_, i) => start + i * step);
  // What lies above is the sum of what lies below, and is drawn first.
  const sums = [];
  for (const s of data.series) sums.push(s.n.map((k, i) => k + (sums.at(-1)?.[i] ?? 0)));
  const order = data.series.map((_, i) => data.series.length - 1 - i);
  const names = data.series.map((s) => figure.querySelector('.legend .chip.' + s.outcome)?.textContent ?? s.outcome);
  const probe = document.createElementNS('http://www.w3.org/2000/svg', 'rect'); // so that the colours are those of the style sheet, whatever scheme is on
  drawn.append(probe);
  const fill = (outcome) => { probe.setAttribute('class', outcome); return getComputedStyle(probe).fill; };
  const quiet = () => getComputedStyle(figure.querySelector('figcaption')).color;
  const line = () => { probe.setAttribute('class', 'none'); return getComputedStyle(probe).fill; };
  const utc = () => localStorage.getItem('counterfoil.times') === 'utc';
  const lang = document.documentElement.lang;
  const tell = (t) => new Intl.DateTimeFormat(lang, { dateStyle: 'medium', timeStyle: step < 86400 ? 'short' : undefined, timeZone: utc() || step >= 86400 ? 'UTC' : undefined }).format(t * 1000);
  const day = (t, apart, i) => new Intl.DateTimeFormat(lang, { ...(apart >= 86400 || !i ? { day: 'numeric', month: 'short' } : {}), ...(apart < 86400 ? { hour: '2-digit', minute: '2-digit', hourCycle: 'h23' } : {}), timeZone: utc() || step >= 86400 ? 'UTC' : undefined }).format(t * 1000);
  const count = new Intl.NumberFormat(lang);

  const box = document.createElement('div');
  box.className = 'chart';
  box.tabIndex = 0;
  box.setAttribute('role', 'group');
  box.setAttribute('aria-label', figure.dataset.label);
  box.setAttribute('aria-describedby', 'chart-help');
  const said = document.createElement('output');
  said.className = 'said-of-chart';
  const help = document.createElement('p');
  help.id = 'chart-help';
  help.className = 'chart-help';
  help.textContent = figure.dataset.help;
  drawn.before(box);
  box.after(said, help);
  drawn.toggleAttribute('hidden', true);
  figure.classList.add('charted');

  const closer = (from, to) => {
    location.href = '/events?' + new URLSearchParams({ q: figure.dataset.q, readings: figure.dataset.readings, from: Math.round(from), to: Math.round(to) });
  };
  const font = '12px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif';
  const bars = uPlot.paths.bars({ align: 1, size: [0.9] });
  const axis = { font, stroke: quiet, grid: { stroke: line, width: 1 }, ticks: { show: false } };
  const height = 144;
  const plot = new uPlot({
    width: box.clientWidth, height, padding: [8, 24, 0, 0],
    legend: { show: false },
    cursor: { y: false, points: { show: false }, drag: { x: true, y: false, setScale: false, dist: 4 } },
    tzDate: (t) => utc() || step >= 86400 ? uPlot.tzDate(new Date(t * 1000), 'Etc/UTC') : new Date(t * 1000),
    scales: { x: { range: () => [start, start + n * step] }, y: { range: (_, min, max) => [0, Math.max(max, 1) * 1.05] } },
    axes: [{ ...axis, size: 28, space: 72, grid: { show: false }, values: (_, all, __, ___, apart) => all.map((t, i) => day(t, apart, i)) }, { ...axis, size: 56, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6], values: (_, all) => all.map((v) => count.format(v)) }],
    series: [{}, ...order.map((i) => ({ fill: () => fill(data.series[i].outcome), width: 0, paths: bars, points: { show: false } }))],
    hooks: {
      setCursor: [(u) => { if (u.cursor.left >= 0) read(Math.floor((u.posToVal(u.cursor.left, 'x') - start) / step)); }],
      setSelect: [(u) => {
        if (u.select.width < 1) return;
        const from = u.posToVal(u.select.left, 'x');
        const to = u.posToVal(u.select.left + u.select.width, 'x');
        const at = (t, up) => start + step * (up ? Math.ceil((t - start) / step) : Math.floor((t - start) / step));
        if (!keyed) closer(at(from, false), at(to, true));
      }],
    },
  }, [times, ...order.map((i) => sums[i])], box);

  let at = null;
  let anchor = null;
  let keyed = false; // what is selected, is by the keyboard
  const read = (i) => {
    if (i < 0 || i >= n) return;
    const parts = data.series.map((s, k) => [s.n[i], names[k]]).filter(([k]) => k).map(([k, name]) => count.format(k) + ' ' + name);
    const span = anchor === null || anchor === at ? tell(times[i]) : tell(times[Math.min(anchor, at)]) + ' – ' + tell(times[Math.max(anchor, at)] + step);
    said.textContent = span + ': ' + (parts.join(', ') || '0');
  };
  const mark = () => {
    keyed = true;
    const [a, b] = anchor === null ? [at, at] : [Math.min(anchor, at), Math.max(anchor, at)];
    const left = plot.valToPos(times[a], 'x');
    plot.setSelect({ left, top: 0, width: plot.valToPos(times[b] + step, 'x') - left, height: plot.over.clientHeight }, false);
    read(at);
  };
  const drop = () => { at = anchor = null; keyed = false; plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false); said.textContent = ''; };
  box.addEventListener('pointerdown', drop);
  box.addEventListener('keydown', (e) => {
    if (e.ctrlKey || e.metaKey || e.altKey) return;
    const by = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -n, End: n }[e.key];
    if (by !== undefined) {
      if (e.shiftKey) anchor ??= at ?? 0; else anchor = null;
      at = Math.min(Math.max((at ?? (by > 0 ? -1 : n)) + by, 0), n - 1);
      mark();
    } else if (e.key === 'Enter' && at !== null) {
      closer(times[Math.min(anchor ?? at, at)], times[Math.max(anchor ?? at, at)] + step);
    } else if (e.key === 'Escape' && at !== null) {
      drop();
      e.stopPropagation();
    } else return;
    e.preventDefault();
  });
  new ResizeObserver(() => { if (box.clientWidth !== plot.width) { plot.setSize({ width: box.clientWidth, height }); if (at !== null) mark(); } }).observe(box);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => plot.redraw(true, true));
})();
