import { describe, expect, it } from 'vitest';
import { decodeQR } from 'qr/decode.js';
import type { PrintedKey } from '@lifeboat/runtime/repository-admin';
import { keyPageHtml, keyPageText } from './key-page.ts';

const SCALE = 4;
const page: PrintedKey = {
  repositoryId: '00112233445566778899aabbccddeeff',
  place: 's3://backups/site',
  tenantId: 'ffeeddccbbaa99887766554433221100',
  tenantName: 'default',
  epoch: 3,
  slotId: '9f86d081884c7d65',
  label: '<b>safe</b>',
  createdMs: Date.UTC(2026, 10, 24),
  lines: [
    '1: 0123-4567-89AB-CDEF-GHJK',
    '2: MNPQ-RSTV-WXYZ-0123-4567',
    '3: 89AB-CDEF-GHJK-MNPQ-RSTV',
    '4: WXYZ-0123-4567-89AB-CDEF',
  ],
};

describe('the page of a key on paper', () => {
  it('says what it opens, the key, and what to do with it', () => {
    const lines = keyPageText(page);
    const text = lines.join('\n');
    for (const fact of [page.repositoryId, page.tenantId, page.slotId, page.place, '2026-11-24', 'recovery.md'])
      expect(text).toContain(fact);
    expect(lines.filter((line) => /^ *[1-4]: /.test(line)).map((line) => line.trim())).toEqual(page.lines);
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(89);
  });

  it('as HTML holds the same key as a code, and nothing that comes from elsewhere', () => {
    const html = keyPageHtml(page);
    expect(html).toContain(`<pre class="key">${page.lines.join('\n')}</pre>`);
    expect(html).toContain('&lt;b&gt;safe&lt;/b&gt;');
    expect(html.replaceAll('http://www.w3.org/2000/svg', '')).not.toMatch(/https?:|<script|<link|<img/);
    expect(decodeQR(rastered(html))).toBe(page.lines.join('\n'));
  });
});

/** Pixels of the code, which is drawn as one path of unit squares: four each way, with a margin that every reader expects. */
function rastered(html: string): { width: number; height: number; data: Uint8Array } {
  const [, side = '0', path = ''] = /<svg viewBox="0 0 (\d+) \d+"[^>]*><path d="([^"]+)"/.exec(html) ?? [];
  const pixels = Number(side) * SCALE;
  const data = new Uint8Array(pixels * pixels * 4).fill(255);
  let [x, y] = [0, 0];
  for (const [, move, a, b] of path.matchAll(/([Mm])(-?\d+)[ ,]?(-?\d+)h1v1/g)) {
    [x, y] = move === 'M' ? [Number(a), Number(b)] : [x + Number(a), y + Number(b)];
    for (let i = 0; i < SCALE * SCALE; i++) {
      const at = (y * SCALE + Math.floor(i / SCALE)) * pixels + x * SCALE + (i % SCALE);
      data.fill(0, at * 4, at * 4 + 3);
    }
  }
  return { width: pixels, height: pixels, data };
}
