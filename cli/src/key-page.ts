/** The page of a way in on paper: for a person who has nothing else left, perhaps in ten years, perhaps without Lifeboat. */
import { encodeQR } from 'qr';
import type { PrintedKey } from '@lifeboat/runtime/repository-admin';
import { html, Html } from './text/html.ts';
import { formatInstant } from './text/instant.ts';
import { fields } from './text/table.ts';
import { printable } from './text/width.ts';

const TITLE = 'A key of Lifeboat, on paper';
const WARNING = [
  'Whoever reads this page can read every recovery point of the tenant below, as long as',
  'its key slot exists. Keep it like cash, and not where the backups are.',
];
const HOW_IT_IS_TYPED = [
  'There is no I, L, O or U in it: what looks like them is 1 or 0. Case, spaces and hyphens',
  'do not matter. The last four digits of a line check the line, so that a typing error is',
  'found, and found in its line.',
];

/** Lines of plain text that fit a sheet in a type of fixed width, but for names that are longer. */
export function keyPageText(page: PrintedKey): string[] {
  return [
    TITLE,
    '='.repeat(TITLE.length),
    '',
    ...WARNING,
    '',
    ...fields(facts(page)),
    '',
    ...page.lines.map((line) => `    ${line}`),
    '',
    ...HOW_IT_IS_TYPED,
    '',
    ...steps(page).flatMap(({ text, commands }, i) => [
      `${i + 1}. ${text}`,
      ...commands.map((command) => `     ${command}`),
    ]),
  ];
}

/** One file that needs no other, with the four lines in a QR code as well. */
export function keyPageHtml(page: PrintedKey): string {
  const code = new Html(encodeQR(page.lines.join('\n'), 'svg', { ecc: 'quartile' }));
  return html`<!doctype html>
    <html lang="en">
      <meta charset="utf-8" />
      <title>${TITLE}</title>
      <style>
        body {
          font: 11pt/1.4 serif;
          max-width: 17cm;
          margin: 1cm auto;
        }
        pre {
          font: 10pt/1.5 monospace;
          white-space: pre-wrap;
          overflow-wrap: anywhere;
        }
        pre.key {
          font-size: 15pt;
        }
        svg {
          width: 5cm;
          height: 5cm;
        }
      </style>
      <h1>${TITLE}</h1>
      <p>${WARNING.join(' ')}</p>
      <pre>${fields(facts(page)).join('\n')}</pre>
      <pre class="key">${page.lines.join('\n')}</pre>
      ${code}
      <p>${HOW_IT_IS_TYPED.join(' ')} The code holds the same four lines.</p>
      <ol>
        ${steps(page).map(
          ({ text, commands }) =>
            html`<li>
              ${text}
              <pre>${commands.join('\n')}</pre>
            </li>`,
        )}
      </ol>
    </html> `.text;
}

function facts(page: PrintedKey): [string, string][] {
  return [
    ['repository', page.repositoryId],
    ['place', printable(page.place)],
    ['tenant', printable(`${page.tenantName} ${page.tenantId}`)],
    ['key slot', printable(`${page.slotId} (${page.label})`)],
    ['epoch', `${page.epoch}; those that follow open with it as well`],
    ['printed', formatInstant(page.createdMs)],
  ];
}

function steps(page: PrintedKey): { text: string; commands: string[] }[] {
  return [
    {
      text: 'Type the four lines into a file that nobody else can read.',
      commands: ['umask 077; editor paper.txt'],
    },
    {
      text: 'Open the repository: with Lifeboat, or without it as docs/recovery.md says.',
      commands: [
        'LIFEBOAT_REPOSITORY=… LIFEBOAT_PAPER_FILE=paper.txt lifeboat points',
        'python3 recover.py REPOSITORY --paper-file paper.txt list',
      ],
    },
    {
      text: 'Make another way in, delete what was typed, and remove this one: it was seen.',
      commands: [
        'LIFEBOAT_PAPER_FILE=paper.txt lifeboat repo keys add --label new --key-file new.key',
        `LIFEBOAT_KEY_FILE=new.key lifeboat repo keys remove ${page.slotId}`,
      ],
    },
  ];
}
