import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { styleFor } from '../text/style.ts';
import { columns } from '../text/width.ts';
import { consoleExcerpt } from './console-excerpt.ts';
import { escapeHtml, html } from '../text/html.ts';
import { reportHtml } from './report-html.ts';
import { reportText } from './report-text.ts';
import { badReport, goodReport } from './report.fixture.ts';
import { headline, verdictOf, type Report } from './report.ts';

const plain = styleFor({}, { LANG: 'C.UTF-8' });
const HOSTILE = `</pre><script>alert('x')</script>"><img src=http://evil.example/x onerror=1>\u001b[31m\u0000`;

/** The skeleton of a page: elements with class or id, in order. */
function skeleton(page: string): string[] {
  return [...page.matchAll(/<(h1|h2|h3|section|table|figure|pre|li)\b([^>]*)>/g)].map(([, tag, rest]) => {
    const name = /(?:class|id)="([^"]*)"/.exec(rest ?? '');
    return name ? `${tag}.${name[1]}` : (tag ?? '');
  });
}

describe('verdict', () => {
  it('is good only when something was claimed and every claim held', () => {
    expect(verdictOf(goodReport)).toBe('good');
    expect(verdictOf(badReport)).toBe('bad');
    expect(verdictOf({ ...goodReport, steps: goodReport.steps.map((step) => ({ ...step, checks: [] })) })).toBe(
      'incomplete',
    );
    expect(verdictOf({ ...goodReport, brokenOff: 'Ctrl-C' })).toBe('incomplete');
    expect(verdictOf({ ...badReport, brokenOff: 'Ctrl-C' })).toBe('bad');
    const failed = goodReport.steps.map((step) => ({ ...step, state: 'failed' as const }));
    expect(verdictOf({ ...goodReport, steps: failed })).toBe('incomplete');
    expect(headline(badReport)).toMatch(/^Not proven/);
  });

  it('says what was left out, and nothing of it when nothing was', () => {
    const proven = 'Recovery proven: the machine came back on virtio-scsi.';
    expect(headline(goodReport)).toBe(`${proven} Left out: The same restore without injection.`);
    const steps = goodReport.steps.map((step) => ({ ...step, state: 'done' as const }));
    expect(headline({ ...goodReport, steps })).toBe(proven);
  });
});

describe('report as HTML', () => {
  it('has its parts in order', () => {
    expect(skeleton(reportHtml(goodReport))).toEqual([
      'section.verdict good',
      'h1',
      'li',
      'li',
      'li',
      'li',
      'h2',
      'table.points',
      'h2',
      'section.step',
      'h3',
      'section.step',
      'h3',
      'li.good',
      'section.step',
      'h3',
      'li.good',
      'pre',
      'figure',
      'section.step',
      'h3',
      'li.good',
      'li.good',
      'pre',
      'section.step',
      'h3',
      'h2',
      'table',
      'h2',
      'pre',
      'h2',
      'h2',
    ]);
  });

  it('needs nothing from outside and runs nothing', () => {
    const page = reportHtml(goodReport);
    expect(page).toContain(`content="default-src 'none'; img-src data:; style-src 'unsafe-inline'"`);
    expect(page).not.toMatch(/<script|<link|https?:|url\(|@import/);
    for (const [, source] of page.matchAll(/src="([^"]*)"/g)) expect(source).toMatch(/^data:image\/png;base64,/);
  });

  it('shows a claim that did not hold at the top', () => {
    const page = reportHtml(badReport);
    const top = page.slice(0, page.indexOf('What was done'));
    expect(top).toContain('verdict bad');
    expect(top).toContain('<strong>Did not hold:</strong> The newest point starts.');
    expect(top).toContain('Stopped in the GRUB rescue shell');
    expect(page).not.toContain('every one held');
  });

  it('escapes text from everywhere', () => {
    const hostile: Report = JSON.parse(
      JSON.stringify(goodReport, (key, value: unknown) => (key === 'png' ? undefined : value)),
      (key, value: unknown) => (typeof value === 'string' && !['state', 'kind', 'id'].includes(key) ? HOSTILE : value),
    ) as Report;
    const steps = hostile.steps.map((step) => ({
      ...step,
      evidence: [{ kind: 'console' as const, title: HOSTILE, text: HOSTILE }],
    }));
    const page = reportHtml({ ...hostile, steps, brokenOff: HOSTILE });
    expect(page).not.toMatch(/<script|<img/);
    expect(page).not.toContain('\u0000');
    expect(page).not.toContain('\u001b');
    expect(page.split('&lt;script&gt;').length).toBeGreaterThan(30);
    expect(skeleton(page).filter((part) => part === 'pre').length).toBe(goodReport.steps.length + 2);
  });

  it('escapes any text reversibly, except controls', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        const escaped = html`<p title="${text}">${text}</p>`.text;
        expect(escaped).toBe(`<p title="${escapeHtml(text)}">${escapeHtml(text)}</p>`);
        expect(escapeHtml(text)).not.toMatch(/[<>"']/);
      }),
    );
    expect(escapeHtml(`&<>"'`)).toBe('&amp;&lt;&gt;&quot;&#39;');
  });
});

describe('report on the terminal', () => {
  it('says verdict, numbers, claims, and how to go on', () => {
    const lines = reportText(goodReport, { style: plain, width: 80, htmlPath: '/r.html' });
    expect(lines.filter(Boolean)[0]).toBe(headline(goodReport));
    expect(lines).toContain('  RTO measured     1 min 11 s  from the order to restore to the machine answering');
    expect(lines).toContain('  ✓ The newest point starts.');
    expect(lines).toContain('Report: /r.html');
    expect(lines.at(-1)).toBe('  npm run demo -- --keep');
  });

  it('names what did not hold, without colour too', () => {
    const text = reportText(badReport, { style: plain, width: 80 }).join('\n');
    expect(text).toContain('✗ Did not hold: The newest point starts.');
  });

  it('wraps the claims to the width', () => {
    const lines = reportText(goodReport, { style: plain, width: 40 });
    const claims = lines.slice(
      lines.findIndex((line) => line.includes('✓')),
      lines.indexOf('Report'),
    );
    expect(claims.length).toBeGreaterThan(8);
    expect(claims.filter((line) => columns(line) > 40)).toEqual([]);
  });
});

describe('console excerpt', () => {
  it('is what a person saw last', () => {
    const log = 'early\r\n\u001b[1mGRUB loading\u001b[0m\rGRUB done\r\n\r\n[ 0.1] kernel\r\nlogin: ';
    expect(consoleExcerpt(log, 3)).toBe('GRUB done\n[ 0.1] kernel\nlogin:');
    expect(consoleExcerpt('x'.repeat(500), 5)).toHaveLength(201);
    expect(consoleExcerpt('', 5)).toBe('');
  });
});
