// The line to the server: requests up, one resumable stream down.

// Kept is the little that outlives a reload of the page: this tab's session, in the frame's own sessionStorage, which
// neither the website nor another tab can read. Where storage is refused it lives in memory only.
class Kept {
  constructor(name) {
    this.name = name;
    try {
      this.value = JSON.parse(sessionStorage.getItem(name)) ?? {};
    } catch {
      this.value = {};
    }
  }

  set(change) {
    this.value = change === null ? {} : { ...this.value, ...change };
    try {
      if (change === null) sessionStorage.removeItem(this.name);
      else sessionStorage.setItem(this.name, JSON.stringify(this.value));
    } catch { /* refused: memory has it */ }
  }
}

const wait = (ms, signal) => new Promise((done) => {
  const timer = setTimeout(done, ms);
  signal?.addEventListener('abort', () => { clearTimeout(timer); done(); }, { once: true });
});

// post sends JSON, and ask asks without; they answer {status, body, after}; status 0 is "no answer", after is Retry-After in milliseconds.
const ask = (path, token) => post(path, undefined, token);
async function post(path, body, token) {
  const headers = body ? { 'Content-Type': 'application/json' } : {};
  if (token) headers.Authorization = `Bearer ${token}`;
  try {
    const answer = await fetch(path, {
      method: body ? 'POST' : 'GET', headers, body: body && JSON.stringify(body), cache: 'no-store', credentials: 'omit', redirect: 'error', signal: AbortSignal.timeout(15000),
    });
    const after = 1000 * (Number.parseInt(answer.headers.get('Retry-After'), 10) || 0);
    return { status: answer.status, body: await answer.json().catch(() => ({})), after };
  } catch {
    return { status: 0, body: {}, after: 0 };
  }
}

// Follow keeps a stream open until it is stopped and hands out every numbered event once and in order. In any doubt (a
// gap, silence, an error) it drops the connection and asks again from the last number it has.
class Follow {
  static silence = 45000; // the server says something every 20 s; this long without is a dead connection

  constructor(token, { event, state }) {
    this.token = token;
    this.event = event;
    this.state = state;
    this.last = 0;
    this.failures = 0;
    this.retry = 3000;
    this.gaps = 0;
    this.stopped = false;
    this.run();
  }

  stop() {
    this.stopped = true;
    this.connection?.abort();
    this.pause?.abort();
  }

  // kick ends a pause and has a silent connection proved: the network or the page has just come back.
  kick() {
    this.failures = 0;
    if (this.pause) this.pause.abort();
    else if (performance.now() - this.heard > 25000) this.connection?.abort();
  }

  async run() {
    while (!this.stopped) {
      const again = await this.connect();
      if (this.stopped) return;
      this.pause = new AbortController();
      await wait(again, this.pause.signal);
      this.pause = undefined;
    }
  }

  // connect follows one connection to its end and answers how long to wait before the next.
  async connect() {
    const connection = this.connection = new AbortController();
    const watch = () => {
      this.heard = performance.now();
      clearTimeout(this.watchdog);
      this.watchdog = setTimeout(() => connection.abort(), Follow.silence);
    };
    watch();
    this.drained = false;
    try {
      const answer = await fetch('/v1/conversation/events', {
        headers: { Authorization: `Bearer ${this.token}`, 'Last-Event-ID': String(this.last), Accept: 'text/event-stream' },
        cache: 'no-store', credentials: 'omit', redirect: 'error', signal: connection.signal,
      });
      if (answer.status === 401 || answer.status === 404) {
        this.stopped = true;
        this.state('gone');
        return 0;
      }
      if (!answer.ok) {
        this.state(answer.status === 503 ? 'unavailable' : 'lost');
        return this.backoff(1000 * (Number.parseInt(answer.headers.get('Retry-After'), 10) || 0));
      }
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = '';
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        watch();
        const parts = (rest + value).split('\n\n');
        rest = parts.pop();
        for (const part of parts) if (!this.take(part)) throw new Error('start over');
      }
    } catch { /* every end is the same: come back with the last number */ } finally {
      clearTimeout(this.watchdog);
      connection.abort();
    }
    if (this.drained) return Math.random() * this.retry;
    if (!this.stopped) this.state('lost');
    return this.backoff(0);
  }

  backoff(least) {
    const ceiling = Math.min(15000, 500 * 2 ** this.failures++);
    return least + ceiling / 2 + Math.random() * ceiling / 2;
  }

  // take reads one event and answers whether to go on.
  take(part) {
    let name = '';
    let data = '';
    let id = 0;
    for (const line of part.split('\n')) {
      const [field, value] = line.split(/: ?(.*)/s, 2);
      if (field === 'event') name = value;
      else if (field === 'data') data = value;
      else if (field === 'id') id = Number(value);
      else if (field === 'retry') this.retry = Number(value) || this.retry;
    }
    if (!name) return true;
    if (name === 'drain') {
      this.drained = true;
      return false;
    }
    if (name === 'unavailable') {
      this.state('unavailable');
      return true;
    }
    if (id) {
      if (id <= this.last) return true;
      // A number is missing. Asking again brings it; if it does not, three times over, it is not for us.
      if (id > this.last + 1 && this.gaps++ < 3) return false;
      this.last = id;
      this.gaps = 0;
    }
    this.failures = 0;
    const value = JSON.parse(data);
    if (name === 'ready') this.state('ready');
    this.event(name, value);
    if (name === 'closed') this.stop();
    return !this.stopped;
  }
}

// Outbox sends messages one after the other, each under the id it was given when it was written, until the server has
// said that it keeps them. An answer that got lost is asked for again under the same id.
class Outbox {
  constructor(kept, token, { sent, failed, state }) {
    Object.assign(this, { kept, token, sent, failed, state });
    this.failures = 0;
    this.run();
  }

  get items() {
    return this.kept.value.pending ?? [];
  }

  add(item) {
    this.kept.set({ pending: [...this.items, item] });
    this.run();
  }

  stop() {
    this.stopped = true;
    this.pause?.abort();
  }

  kick() {
    this.pause?.abort();
    this.run();
  }

  async run() {
    if (this.running) return;
    this.running = true;
    while (!this.stopped && this.items.length > 0) {
      const [item] = this.items;
      const { status, body, after } = await post('/v1/conversation/messages', { client_id: item.id, text: item.text }, this.token);
      if (this.stopped) break;
      if (status === 200 || (status >= 400 && status < 500 && status !== 429 && status !== 408)) {
        this.kept.set({ pending: this.items.filter(({ id }) => id !== item.id) });
        this.failures = 0;
        if (status === 200) this.sent(item.id, body.seq);
        else this.failed(item.id, status);
        continue;
      }
      if (status === 503) this.state('unavailable');
      if (status === 429) this.state('busy');
      const ceiling = Math.min(15000, 500 * 2 ** Math.min(this.failures++, 6));
      this.pause = new AbortController();
      await wait(Math.max(after, ceiling / 2 + Math.random() * ceiling / 2), this.pause.signal);
      this.pause = undefined;
    }
    this.running = false;
  }
}
