/**
 * `lifeboat backup` on a host that has an agent's file and no key of the tenant: it makes recovery points as any host does, and reads none.
 * The oracle is qemu-img: a copy of the suspended machine's disk.
 */
import { copyFileSync, existsSync, mkdirSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { MiB } from '@lifeboat/foundation/units';
import type { CaptureSummary } from '@lifeboat/engine/verbs';
import { lifeboat, start, type Ended, type Running } from '../support/lifeboat-command.ts';
import { difference, TestHost, type TinyMachine, verbContext } from '../support/test-host.ts';

const AGENT = 'host-7';

/** Whose repository it is. */
let office: TestHost;
let machine: TinyMachine;
let up: Running;

/** The agent's host: the same libvirt, another state root, and nothing in its environment that opens the tenant. */
const onHost = (): Record<string, string> => ({
  LIFEBOAT_STATE: office.path('host'),
  LIFEBOAT_REPOSITORY: office.path('repository'),
  LIFEBOAT_AGENT_FILE: office.path('host-7.agent'),
});
const asAgent = (...args: readonly string[]): Promise<Ended> => lifeboat(args, onHost());
const asTenant = (...args: readonly string[]): Promise<Ended> => lifeboat(args, { LIFEBOAT_STATE: office.root });

beforeAll(async () => {
  office = await TestHost.open('agent');
  const random = [{ offsetBytes: 8 * MiB, lengthBytes: 8 * MiB }];
  machine = await office.machine({ name: 'web', disks: [{ sizeBytes: 64 * MiB, random }], start: true });
  mkdirSync(office.path('host'), { mode: 0o711 });
  copyFileSync(office.path('kvm-probe.json'), office.path('host', 'kvm-probe.json'));
  const file = office.path('host-7.agent');
  // By its id: there is no recovery point yet that says its name.
  const enrolled = await asTenant('repo', 'agents', 'enrol', AGENT, '--machine', machine.id, '--out', file);
  if (enrolled.code !== 0) throw new Error(enrolled.stderr);
  up = start(['up'], onHost());
  await up.shows(/Ctrl-C stops it/);
});
afterAll(async () => {
  up?.child.kill('SIGTERM');
  await up?.ended;
  await office?.close();
});

async function backUp(): Promise<CaptureSummary> {
  const ended = await asAgent('backup', machine.name, '--json');
  expect([ended.code, ended.stderr]).toEqual([0, expect.anything()]);
  return (ended.json as { capture: CaptureSummary }).capture;
}

test('with an agent’s file alone a machine is backed up; who has the keys lists, checks, links and restores it', async () => {
  const full = await backUp();
  expect(full.disks).toMatchObject([{ name: 'vda', method: 'full' }]);
  machine.write(0, 20 * MiB, MiB);
  const [copy = ''] = machine.copies('second');
  const second = await backUp();
  // What it sealed itself it cannot open any more; the audit compares ids.
  expect(second.disks).toMatchObject([{ method: 'incremental', reason: '', changedBytes: MiB }]);
  expect(second.disks[0]?.auditedChunks).toBeGreaterThan(0);
  expect(existsSync(office.path('host', 'keys'))).toBe(false);

  const restored = await asAgent('restore', machine.name, '--to', office.path('stolen'), '--name', 'copy');
  expect([restored.code, restored.stderr]).toEqual([1, expect.stringContaining('[repository.not-permitted]')]);
  const pruned = await asAgent('repo', 'prune');
  expect([pruned.code, pruned.stderr]).toEqual([1, expect.stringContaining('[repository.not-permitted]')]);

  const points = await asTenant('points', machine.name, '--json');
  const ids = [second.pointId, full.pointId];
  expect(points.json).toMatchObject({ points: ids.map((pointId) => ({ pointId, machineId: machine.id })) });
  const checked = await asTenant('repo', 'check', '--level', 'content', '--json', '--quiet');
  expect(checked).toMatchObject({
    code: 0,
    json: {
      points: [{ sound: true }, { sound: true }],
      chains: ids.toReversed().map((pointId) => ({ kind: 'point-unlinked', isLoss: false, pointId })),
    },
  });
  const linked = await asTenant('repo', 'prune');
  expect(linked.stdout).toContain('taken into the chains of 1 machines: 2 points that were in no link');
  const target = { kind: 'directory', directory: office.path('restored'), name: 'copy' } as const;
  const opId = office.op('restore');
  const { disks } = await office.engine.restoreDisks(
    { opId, machine: machine.name, pointId: second.pointId, target },
    verbContext(),
  );
  expect(disks.map(({ path }) => difference(path, copy))).toEqual([undefined]);
});

test('a revoked agent is refused, with what to do about it; what it made before stays', async () => {
  const revoked = await asTenant('repo', 'agents', 'revoke', AGENT, '--reason', 'stolen');
  expect(revoked.stdout).toContain('2 of its recovery points go on counting');
  const ended = await asAgent('backup', machine.name);
  expect(ended.code).toBe(1);
  expect(ended.stderr).toContain('[repository.agent-revoked]');
  expect(ended.stderr).toMatch(/^ {2}Cause: +\S.*\n {2}Impact: +\S.*\n {2}Next: +\S/m);
  expect(machine.hasJob()).toBe(false);
  expect(machine.checkpoints()).toHaveLength(1);
  const points = await asTenant('points', machine.name, '--json');
  expect(points.json).toMatchObject({ points: [{ machineId: machine.id }, { machineId: machine.id }] });
});
