// Elements and text. Everything a person wrote becomes text nodes; the only markup is made here.
function make(tag, props, ...children) {
  const e = Object.assign(document.createElement(tag), props);
  e.append(...children);
  return e;
}

const linkPattern = /https?:\/\/[^\s<>"'`]+/gi;

// linked appends text to a node, with http and https addresses as links.
function linked(node, text) {
  let at = 0;
  for (const match of text.matchAll(linkPattern)) {
    // Punctuation at the end belongs to the sentence; a closing bracket too unless the address opened one.
    let raw = match[0].replace(/[.,;:!?…»”’]+$/, '');
    if (raw.endsWith(')') && !raw.includes('(')) raw = raw.slice(0, -1);
    const url = URL.parse ? URL.parse(raw) : tryURL(raw);
    if (!url || !/^https?:$/.test(url.protocol) || url.username || url.password) continue;
    node.append(text.slice(at, match.index), make('a', { href: url.href, textContent: raw, target: '_blank', rel: 'noopener noreferrer nofollow' }));
    at = match.index + raw.length;
  }
  node.append(text.slice(at));
  return node;
}

function tryURL(raw) {
  try {
    return new URL(raw);
  } catch {
    return null;
  }
}

// clean drops what the server refuses: control characters and overrides of the direction of writing.
const clean = (text) => text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g, '').trim();

const encoder = new TextEncoder();
const bytes = (text) => encoder.encode(text).length;

// textOn gives black or white, whichever is easier to read on a colour (WCAG 2.2, relative luminance).
function textOn(hex) {
  const [r, g, b] = [1, 3, 5].map((i) => {
    const c = parseInt(hex.slice(i, i + 2), 16) / 255;
    return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 ? '#000000' : '#ffffff';
}
