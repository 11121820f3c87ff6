/** The part on Linux of docs/support-matrix.md, from the results. */
import { diskControllers } from '@lifeboat/guest/profile/hardware-profile';
import type { RowResult } from './results.ts';
import { allRows, rowId, UEFI_CONTROLLERS, type Row } from './rows.ts';

export const BEGIN = '<!-- linux: begin, written by `npm run matrix` -->';
export const END = '<!-- linux: end -->';

/** The document with its part on Linux written anew; what stands around it stays. */
export function withLinuxPart(document: string, results: ReadonlyMap<string, RowResult>): string {
  const begin = document.indexOf(BEGIN);
  const end = document.indexOf(END);
  if (begin < 0 || end < begin) throw new Error(`the document lacks '${BEGIN}' and '${END}'`);
  return `${document.slice(0, begin + BEGIN.length)}\n\n${linuxPart(results)}\n${document.slice(end)}`;
}

function linuxPart(results: ReadonlyMap<string, RowResult>): string {
  const rows = allRows();
  const of = (row: Row): RowResult | undefined => results.get(rowId(row));
  const count = (outcome: RowResult['outcome']): number => rows.filter((row) => of(row)?.outcome === outcome).length;
  const passed = count('passed');
  const failed = count('failed');
  return `${rows.length} rows: ${passed} passed, ${failed} failed, ${rows.length - passed - failed} not run yet.

### From one controller to another

Debian 12, ext4, initramfs-tools. Down: the controller whose driver alone is in the initial RAM disk. Across: where it was moved to and
started. ✓ started there, ✗ did not, · not run yet, – the same.

BIOS:

${controllerTable(rows, 'bios', of)}
UEFI:

${controllerTable(rows, 'uefi', of)}
### Releases, generators, roots

From AHCI. Every two values of two columns are together in at least one row.

| release | generator | root | firmware | table | onto | before | after | date | commit |
|---|---|---|---|---|---|---|---|---|---|
${rows
  .filter(({ part }) => part === 'pairwise')
  .map((row) => {
    const { release, initramfs, root, firmware, layout, target } = row;
    const { before = '', after = '', date = '', commit = '', problem = '' } = of(row) ?? {};
    const found = after === '' && problem !== '' ? problem.replaceAll('|', '/').slice(0, 80) : after;
    return `| ${[release, initramfs, root, firmware, layout, target, before, found, date.slice(0, 10), commit].join(' | ')} |`;
  })
  .join('\n')}
`;
}

function controllerTable(
  rows: readonly Row[],
  firmware: Row['firmware'],
  of: (row: Row) => RowResult | undefined,
): string {
  const controllers = firmware === 'uefi' ? UEFI_CONTROLLERS : diskControllers;
  const plain = rows.filter((row) => row.part === 'controllers' && row.firmware === firmware);
  const lines = controllers.map((source) => {
    const cells = controllers.map((target) => {
      const row = plain.find((candidate) => candidate.source === source && candidate.target === target);
      const outcome = row && of(row)?.outcome;
      return row === undefined ? '–' : outcome === undefined ? '·' : outcome === 'passed' ? '✓' : '✗';
    });
    return `| ${[source, ...cells].join(' | ')} |`;
  });
  return `| | ${controllers.join(' | ')} |\n|---${'|---'.repeat(controllers.length)}|\n${lines.join('\n')}\n`;
}
