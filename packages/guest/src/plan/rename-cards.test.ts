import { expect, it } from 'vitest';
import { loadHardwareProfile } from '../profile/shipped-profiles.ts';
import { renameCards } from './rename-cards.ts';

const ahci = await loadHardwareProfile('ahci');
const [A, B, C, D] = ['52:54:00:00:00:0a', '52:54:00:00:00:0b', '52:54:00:00:00:0c', '52:54:00:00:00:0d'] as const;
const use = (path: string, line: number, mac: string, text = mac) => ({ path, line, mac, text });

function renamed(uses: Parameters<typeof renameCards>[0], macs?: readonly string[]) {
  const warnings: string[] = [];
  const edits = renameCards(uses, macs === undefined ? ahci : { ...ahci, macs }, warnings);
  return { edits: edits.map(({ path, names }) => ({ path, names })), warnings };
}

it('one card gets the address of the one there is, wherever and however it is written', () => {
  const found = renamed([use('/a', 3, A), use('/a', 9, A), use('/b', 1, A, '52-54-00-00-00-0A')], [B]);
  expect(found.warnings).toEqual([]);
  expect(found.edits).toEqual([
    {
      path: '/a',
      names: [
        { line: 3, from: A, to: B },
        { line: 9, from: A, to: B },
      ],
    },
    { path: '/b', names: [{ line: 1, from: '52-54-00-00-00-0A', to: '52-54-00-00-00-0B' }] },
  ]);
});

it('several are paired in their order, one that is there already stays, and what is left over is told', () => {
  const found = renamed([use('/a', 1, A), use('/a', 2, B), use('/a', 3, C)], [B, D]);
  expect(found.edits).toEqual([{ path: '/a', names: [{ line: 1, from: A, to: D }] }]);
  expect(found.warnings.join(' ')).toMatch(/no network card for 52:54:00:00:00:0c.*0a becomes 52:54:00:00:00:0d/);
});

it('without the addresses of the new hardware nothing is changed, and that is said', () => {
  const found = renamed([use('/etc/netplan/a.yaml', 1, A)]);
  expect(found.edits).toEqual([]);
  expect(found.warnings).toEqual([expect.stringContaining('/etc/netplan/a.yaml')]);
  expect(renamed([], [A])).toEqual({ edits: [], warnings: [] });
});
