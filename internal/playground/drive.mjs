// Drives the playground's page as an agent and the widget's API as a visitor.
import { chromium } from 'playwright-core';
import { randomUUID } from 'node:crypto';

const key = process.argv[2];
const base = 'http://127.0.0.1:8080';
const step = (s) => console.log(`drive: ${s}`);
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});
const until = async (what, f, ms = 30000) => {
  for (const end = Date.now() + ms; Date.now() < end;) {
    const v = await f();
    if (v) return v;
    await new Promise((r) => setTimeout(r, 150));
  }
  throw new Error(`not seen: ${what}`);
};
let page;
try {
  page = await browser.newPage({ viewport: { width: 1440, height: 900 } });
  await page.route('**/*cdn.office.net/**', (r) => r.abort());
  await page.goto('http://127.0.0.1:56150/', { waitUntil: 'domcontentloaded' });
  await page.waitForTimeout(2000);
  step('install by opening the team channel');
  await page.getByText('General', { exact: true }).first().click();
  await page.waitForTimeout(1500);

  step('visitor writes');
  const frame = await (await fetch(`${base}/widget/${key}/frame`)).text();
  const notice = /data-notice="([^"]*)"/.exec(frame)[1];
  const opened = await (await fetch(`${base}/v1/widgets/${key}/conversations`, {
    method: 'POST', headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ client_id: randomUUID(), text: 'Hello from the website', language: 'en', notice_version: notice, name: 'Vera Visitor', email: 'vera@example.org' }),
  })).json();
  const seen = [];
  (async () => {
    const r = await fetch(`${base}/v1/conversation/events`, { headers: { Authorization: `Bearer ${opened.token}` } });
    let buffer = '';
    for await (const chunk of r.body.pipeThrough(new TextDecoderStream())) {
      buffer += chunk;
      for (let at; (at = buffer.indexOf('\n\n')) >= 0; buffer = buffer.slice(at + 2)) {
        const lines = buffer.slice(0, at).split('\n');
        const event = lines.find((l) => l.startsWith('event: '))?.slice(7);
        const data = lines.find((l) => l.startsWith('data: '))?.slice(6);
        if (event && data) seen.push([event, JSON.parse(data)]);
      }
    }
  })().catch(() => {});

  step('join from the card');
  await page.getByRole('button', { name: 'Join' }).first().click({ timeout: 30000 });
  const joined = await until('agent.joined', () => seen.find(([e]) => e === 'agent.joined'));
  if (joined[1].name !== 'Alex Wilber') throw new Error('the visitor does not see the agent\'s name');
  await page.getByText('Alex Wilber').first().waitFor();

  step('answer in the 1:1 chat');
  await page.getByText('Personal Chat').first().click();
  await page.getByText('Hello from the website').first().waitFor({ timeout: 30000 });
  await page.getByText('Vera Visitor').first().waitFor();
  const box = page.locator('[role=textbox][data-lexical-editor]').first();
  await box.click();
  await box.pressSequentially('Answer from the playground');
  await box.press('Enter');
  await until('the answer', () => seen.find(([e, d]) => e === 'message' && d.by === 'agent' && d.text === 'Answer from the playground'));

  step('end');
  await page.getByRole('button', { name: 'End', exact: true }).last().click();
  await until('closed', () => seen.find(([e, d]) => e === 'closed' && d.by === 'agent'));
  step('done');
} catch (e) {
  await page?.screenshot({ path: process.env.SHOT || 'failed.png' });
  console.log(await page?.locator('body').innerText().catch(() => ''));
  console.error(e);
  process.exitCode = 1;
} finally {
  await browser.close();
  process.exit(process.exitCode ?? 0); // the visitor's stream would keep it open
}
