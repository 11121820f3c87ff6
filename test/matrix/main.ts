/**
 * `npm run matrix`: moves real Debian guests onto every shipped model and starts them there; see docs/support-matrix.md.
 *
 * Rows that passed are not run again, so a run that was stopped goes on. Each row takes one to two minutes under software emulation.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { parseArgs } from 'node:util';
import { addResult, readResults, type RowResult } from './results.ts';
import { allRows, guestId, rowId, targetClass, type Row } from './rows.ts';
import { runGuest } from './run-guest.ts';
import { withLinuxPart } from './support-matrix.ts';

const DOCUMENT = join(import.meta.dirname, '../../docs/support-matrix.md');
const USAGE = `Usage: npm run matrix -- [--only TEXT] [--limit ROWS] [--jobs GUESTS] [--again] [--list]

  --only   rows whose name holds the text, as 'uefi' or 'bookworm/dracut/lvm' or '>nvme'; may be given more than once
  --limit  stop after so many rows
  --jobs   guests at once (1): more only where there are two processors for each
  --again  also rows that passed
  --list   print the rows and what they came to, and run none
`;

const { values } = parseArgs({
  options: {
    only: { type: 'string', multiple: true, default: [] },
    limit: { type: 'string', default: '100000' },
    jobs: { type: 'string', default: '1' },
    again: { type: 'boolean', default: false },
    list: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});

const git = (...args: string[]): string =>
  execFileSync('git', args, { encoding: 'utf8', cwd: import.meta.dirname }).trim();

function commit(): string {
  const changed = git('status', '--porcelain', '--untracked-files=no').split('\n');
  // The results themselves change as rows are done.
  const others = changed.filter((line) => line !== '' && !/results\.jsonl$|support-matrix\.md$/.test(line));
  return `${git('rev-parse', '--short', 'HEAD')}${others.length > 0 ? '+' : ''}`;
}

async function main(): Promise<number> {
  if (values.help) {
    process.stdout.write(USAGE);
    return 0;
  }
  const results = readResults();
  const wanted = allRows().filter((row) => values.only.every((text) => rowId(row).includes(text)));
  if (values.list) {
    for (const row of wanted) process.stdout.write(`${results.get(rowId(row))?.outcome ?? '-'}\t${rowId(row)}\n`);
    return 0;
  }
  const open = wanted
    .filter((row) => values.again || results.get(rowId(row))?.outcome !== 'passed')
    .slice(0, Number(values.limit));
  let failed = 0;
  const done = (found: Omit<RowResult, 'date' | 'commit'>): void => {
    const result = { ...found, date: new Date().toISOString(), commit: commit() };
    addResult(result);
    results.set(result.row, result);
    if (result.outcome === 'failed') failed += 1;
    const { row, outcome, before = 'not tried', after = '', seconds, problem = '' } = result;
    process.stdout.write(`  ${outcome} ${row}: before ${before}, after ${after}, ${seconds} s ${problem}\n`);
    writeFileSync(DOCUMENT, withLinuxPart(readFileSync(DOCUMENT, 'utf8'), results));
  };
  const guests = [...Map.groupBy(open, guestId)];
  const work = async (host: string): Promise<void> => {
    for (let next = guests.shift(); next; next = guests.shift()) {
      const [guest, rows] = next;
      process.stdout.write(`${guest}: ${rows.length} rows\n`);
      await runGuest(rows[0] as Row, rows, { host, shown: shownBefore(guest, results), done });
    }
  };
  await Promise.all(Array.from({ length: Number(values.jobs) }, (_, job) => work(`matrix${job}`)));
  const left = wanted.filter((row) => results.get(rowId(row))?.outcome !== 'passed').length - failed;
  process.stdout.write(`${open.length - failed} of ${open.length} rows passed; ${left} are still to be run\n`);
  return failed > 0 ? 1 : 0;
}

/** Classes of targets on which an earlier row of the guest was seen not to start by itself. */
function shownBefore(guest: string, results: ReturnType<typeof readResults>): Set<string> {
  const rows = allRows().filter((row) => guestId(row) === guest);
  return new Set(
    rows
      .filter((row) => !values.again && results.get(rowId(row))?.before !== undefined)
      .map(({ target }) => targetClass(target)),
  );
}

process.exitCode = await main();
